"""Runs components of the tests, here and with wasmtime's own component API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any
from unittest.mock import patch

import wasmtime
from wasmtime import component as oracle

from starlette_wasm.components import compile as compile_
from starlette_wasm.components import module as module_
from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.calls import Await, Imports, Request
from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.flat_plan import FlatPlan, ImportedFunction, LiftedFunction
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.components.module import ComponentModule
from starlette_wasm.components.types import Resource
from starlette_wasm.components.values import Value
from starlette_wasm.components.wasi import Offer, find_offers
from starlette_wasm.engine import capi
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.invocation import Host
from starlette_wasm.engine.outcome import Outcome
from starlette_wasm.engine.plan import Limits

HostFunctions = dict[str, Callable[..., Value]]


@cache
def engine() -> Engine:
    return Engine.shared(EngineConfig(max_instances=50))


@cache
def compiled(component: bytes) -> ComponentModule:
    with patch.object(compile_, "find_offers", _offers_of), patch.object(module_, "find_offers", _offers_of):
        return ComponentModule(engine(), *compile_component(engine().ptr, component))


def _offers_of(plan: FlatPlan) -> dict[ImportedFunction, Offer]:
    """What is offered to a component of a test: the tests give functions that its world imports themselves."""
    return find_offers(plan) if all(each.interface for each in plan.imports) else {}


def assembled(text: str) -> ComponentModule:
    return compiled(capi.assemble(text))


def ask(
    module: ComponentModule,
    request: str = "{}",
    limits: Limits | None = None,
    seconds: float = 30,
    host: Host | None = None,
) -> Outcome:
    """One invocation of a component of the world edge."""
    plan = ComponentPlan(module, limits or Limits())
    invocation = ComponentInvocation(plan, request.encode())
    return asyncio.run(invocation.run(time.monotonic() + seconds, nullcontext, host))


class _Host:
    def __init__(self, functions: HostFunctions) -> None:
        self.functions = functions
        self.dropped: list[Any] = []

    def call(self, function: ImportedFunction, values: Sequence[Value]) -> Value | Await:
        return self.functions[function.name](*values)

    def drop(self, resource: Resource, rep: Any) -> None:
        self.dropped.append(rep)


class Typed(ComponentInvocation):
    """Calls exports with values, one after the other, in one instance."""

    __slots__ = ("_given", "calls_of", "handles_left", "values")

    def __init__(
        self, module: ComponentModule, calls: Sequence[tuple[str, Sequence[Value]]], functions: HostFunctions
    ) -> None:
        super().__init__(ComponentPlan(module, Limits()), b"")
        self.calls_of = calls
        self.values: list[Value] = []
        self._given = _Host(functions)
        self.handles_left = 0

    def _imports(self) -> Imports:
        super()._imports()
        return self._given

    def _answer_request(self) -> Generator[Request | None, Any, bytes]:
        for name, values in self.calls_of:
            function = self.plan.component.flat.exports[name][1]
            assert isinstance(function, LiftedFunction)
            self.values.append((yield from self._calls.lifted(function, values)))
        self.handles_left = self._calls.handles()
        return b""


def run_typed(invocation: Typed, seconds: float = 30) -> Outcome:
    return asyncio.run(invocation.run(time.monotonic() + seconds, nullcontext))


def call(
    module: ComponentModule, *calls: tuple[str, Sequence[Value]], functions: HostFunctions | None = None
) -> tuple[Outcome, Typed]:
    """Call exports of one instance; what came of it, and the invocation with the values."""
    invocation = Typed(module, calls, functions or {})
    return run_typed(invocation), invocation


class Oracle:
    """The same component in wasmtime's own component API."""

    _engine = wasmtime.Engine()

    def __init__(self, component: bytes, functions: HostFunctions | None = None) -> None:
        self.store = wasmtime.Store(self._engine)
        linker = oracle.Linker(self._engine)
        with linker.root() as root:
            for name, function in (functions or {}).items():
                root.add_func(name, lambda _store, *values, function=function: function(*values))
        self.instance = linker.instantiate(self.store, oracle.Component(self._engine, component))

    def call(self, name: str, *values: Any) -> Any:
        function = self.instance.get_func(self.store, name)
        assert function is not None
        result = function(self.store, *values)
        function.post_return(self.store)
        return result
