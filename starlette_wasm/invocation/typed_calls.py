"""Calls of the functions that a component exports, with Python values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..components.exported import named
from ..components.module import ComponentModule
from ..components.python_types import python_name
from ..components.typed import TypedCall, are_small, arguments
from ..components.values import Err, Ok, ValueMismatchError
from ..exceptions import ExportNotFound, ResultError
from ..functions.target import Target
from ..messages import EdgeRequest
from ..telemetry.conventions import Attribute
from .invoker import Invoker
from .off_loop import off_loop
from .options import CallOptions


async def call(invoker: Invoker, target: Target, export: str, given: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Call an export of a target, as any invocation of it: its policy, deadline, bulkhead and telemetry hold.

    Raises ExportNotFound, TypeError and ValueError for arguments that do not fit, ResultError for the error of a
    result, and what Invoker.call() raises.
    """
    prepared = partial(prepare, target, export, given, keywords)
    small = are_small([*given, *keywords.values()])  # a client may have sent them to the app
    name, typed = prepared() if small else await off_loop(target.tenant, prepared)
    options = CallOptions(typed=typed, attributes={Attribute.EXPORT.value: name})
    await invoker.call(target, EdgeRequest(method="POST", path=f"/{name}"), options)
    module, kind = target.function.module, typed.function.type
    assert isinstance(module, ComponentModule)
    if kind.result is None:
        return None
    work = partial(module.python_types.to_python, kind.result, typed.value)
    value = await off_loop(target.tenant, work) if typed.may_be_large else work()
    if isinstance(value, Err):
        raise ResultError(target.name, target.version, export=name, value=value.value)
    return value.value if isinstance(value, Ok) else value


def prepare(target: Target, export: str, given: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[str, TypedCall]:
    """Return the full name of an export, and the call. Raises ExportNotFound, TypeError and ValueError."""
    name = find(target, export)
    module = target.function.module
    assert isinstance(module, ComponentModule)
    function = module.functions[name]
    where = f"{target} {name}: "
    try:
        return name, TypedCall(function, arguments(function.type, given, keywords))
    except ValueMismatchError as error:
        raise ValueError(f"{where}{error}") from None
    except TypeError as error:
        raise TypeError(f"{where}{error}") from None


def find(target: Target, export: str) -> str:
    """Return the full name of an export. Raises ExportNotFound."""
    module = target.function.module
    if not isinstance(module, ComponentModule):
        raise ExportNotFound(target.name, target.version, export=export, hint="only components have typed functions")
    found = named(module.functions, export)
    if len(found) != 1:
        raise ExportNotFound(target.name, target.version, export=export, known=tuple(found or module.functions))
    return found[0]


class TypedInterface:
    """The functions of an interface as methods, with names as Python writes them. Looked up at each call."""

    def __init__(self, find_target: Callable[[], Target], invoker: Invoker, interface: str) -> None:
        self._find_target = find_target
        self._invoker = invoker
        self._prefix = f"{interface}#" if interface else ""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("__"):
            raise AttributeError(name)

        async def method(*given: Any, **keywords: Any) -> Any:
            target = self._find_target()
            return await call(self._invoker, target, self._prefix + self._wit_name(target, name), given, keywords)

        return method

    def _wit_name(self, target: Target, name: str) -> str:
        """Return the name in WIT of a method: ``get_all`` is ``get-all``."""
        module = target.function.module
        if isinstance(module, ComponentModule):
            for each in module.functions:
                bare = each.rpartition("#")[2]
                if python_name(bare) == name and named({each: module.functions[each]}, self._prefix + bare):
                    return bare
        return name
