"""What the options of lifting and lowering must be for a type: the rules of validation that the ABI relies on.

Taken of the async ABI are all built-ins but threads and error contexts.
"""

from __future__ import annotations

from . import definitions as d
from .errors import ComponentError, UnsupportedComponentError
from .types import FuncType, ValueType, async_signature, signature

_REFUSED = {
    "backpressure.set": "it has given way to backpressure.inc and backpressure.dec",
    "error-context.new": "no tool uses error contexts",
    "error-context.debug-message": "no tool uses error contexts",
    "error-context.drop": "no tool uses error contexts",
}
"""Built-ins that are not taken, and why."""
OFFERED = (
    "task.return and cancel, context.get and set, subtask.*, waitable.join, waitable-set.*, stream.*, future.*, "
    "thread.yield, backpressure.inc and dec"
)
"""Those that are."""
_HINT = f"offered of the async ABI are {OFFERED}"
_CONTEXT_SLOTS = 2
_I32 = 0x7F


def check_lift(kind: FuncType, options: d.Options) -> None:
    """Raise ComponentError."""
    if options.callback is not None and not options.is_async:
        raise ComponentError(f"{kind} has a callback, and is not lifted as async")
    form = signature(kind, lowered=False)
    into_guest = form.params_spilled or any(each.has_pointers for _, each in kind.params)
    out_of_guest = not options.is_async and (form.result_spilled or _has_pointers(kind.result))
    _require(f"{kind} is lifted", options, memory=into_guest or out_of_guest, realloc=into_guest)


def check_lower(kind: FuncType, options: d.Options) -> None:
    """Raise ComponentError."""
    if options.post_return is not None or options.callback is not None:
        raise ComponentError("a lowered function has a post-return or a callback")
    form = async_signature(kind, lowered=True) if options.is_async else signature(kind, lowered=True)
    into_guest = _has_pointers(kind.result)
    out_of_guest = form.params_spilled or form.result_spilled or any(each.has_pointers for _, each in kind.params)
    _require(f"{kind} is lowered", options, memory=into_guest or out_of_guest, realloc=into_guest)


def check_builtin(item: d.AsyncBuiltin) -> None:
    """Raise ComponentError for a built-in of the async ABI that is not taken."""
    reason = _REFUSED.get(item.name)
    if reason is not None:
        raise UnsupportedComponentError(f"it uses {item.name} of the async ABI, which is not run: {reason}", _HINT)
    if item.name.startswith("context.") and (item.kind != _I32 or item.slot >= _CONTEXT_SLOTS):
        raise UnsupportedComponentError(
            f"it uses {item.name} of slot {item.slot} with the core type 0x{item.kind:02x}, which is not run",
            f"there are {_CONTEXT_SLOTS} slots, of i32",
        )


def _has_pointers(kind: ValueType | None) -> bool:
    return kind is not None and kind.has_pointers


def _require(what: str, options: d.Options, *, memory: bool, realloc: bool) -> None:
    if memory and options.memory is None:
        raise ComponentError(f"{what} without a memory")
    if realloc and options.realloc is None:
        raise ComponentError(f"{what} without a realloc")
