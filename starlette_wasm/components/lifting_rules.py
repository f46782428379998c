"""What the options of lifting and lowering must be for a type: the rules of validation that the ABI relies on."""

from __future__ import annotations

from . import definitions as d
from .errors import ComponentError, UnsupportedComponentError
from .types import AsyncValueType, FuncType, ListType, RecordType, ValueType, VariantType, signature

NOT_ASYNC = "build it for WASI 0.2, without async functions (componentize-qjs --sync)"


def check_lift(kind: FuncType, options: d.Options) -> None:
    """Raises ComponentError."""
    _check_sync(kind, options)
    form = signature(kind, lowered=False)
    into_guest = form.params_spilled or any(each.has_pointers for _, each in kind.params)
    out_of_guest = form.result_spilled or (kind.result is not None and kind.result.has_pointers)
    _require(kind, options, memory=into_guest or out_of_guest, realloc=into_guest)


def check_lower(kind: FuncType, options: d.Options) -> None:
    """Raises ComponentError."""
    _check_sync(kind, options)
    if options.post_return is not None:
        raise ComponentError("a lowered function has a post-return")
    form = signature(kind, lowered=True)
    into_guest = kind.result is not None and kind.result.has_pointers
    out_of_guest = form.params_spilled or form.result_spilled or any(each.has_pointers for _, each in kind.params)
    _require(kind, options, memory=into_guest or out_of_guest, realloc=into_guest)


def _require(kind: FuncType, options: d.Options, *, memory: bool, realloc: bool) -> None:
    if memory and options.memory is None:
        raise ComponentError(f"{kind} is lifted or lowered without a memory")
    if realloc and options.realloc is None:
        raise ComponentError(f"{kind} is lifted or lowered without a realloc")


def _check_sync(kind: FuncType, options: d.Options) -> None:
    if kind.is_async or options.is_async or options.callback is not None:
        raise UnsupportedComponentError(
            f"{kind} is lifted or lowered as async (WASI 0.3), which is not run yet", NOT_ASYNC
        )
    parts = [each for _, each in kind.params] + ([] if kind.result is None else [kind.result])
    if any(has_async(each) for each in parts):
        raise UnsupportedComponentError(
            f"{kind} has streams, futures or error contexts, which are not run yet", NOT_ASYNC
        )


def has_async(kind: ValueType) -> bool:
    """Whether a value of it may hold a stream, a future or an error context."""
    seen: set[int] = set()

    def visit(each: ValueType) -> bool:
        if id(each) in seen:
            return False
        seen.add(id(each))
        match each:
            case AsyncValueType():
                return True
            case ListType():
                return visit(each.element)
            case RecordType():
                return any(visit(part) for _, _, part in each.fields)
            case VariantType():
                return any(part is not None and visit(part) for _, part in each.cases)
        return False

    return visit(kind)
