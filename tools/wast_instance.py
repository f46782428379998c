"""An instance of a component whose exports are called one after the other, as the files of the tests do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from starlette_wasm.components.awaited import Await
from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.calls import Imports, Request
from starlette_wasm.components.errors import CanonicalTrap
from starlette_wasm.components.flat_plan import ImportedFunction, LiftedFunction
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.components.module import ComponentModule
from starlette_wasm.components.types import Resource
from starlette_wasm.components.values import Value
from starlette_wasm.engine.capi import EngineError
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits

SECONDS = 5
"""What one instance may take in all: a guest that waits for ever is ended then."""
_PAGES = 16_384
HostFunctions = Mapping[str, Callable[..., Value]]


class Trapped(Exception):
    """The guest has ended; the message says why."""


class _Host:
    """The functions that the tests import."""

    def __init__(self, functions: HostFunctions) -> None:
        self._functions = functions

    def call(self, function: ImportedFunction, values: Sequence[Value]) -> Value | Await:
        found = self._functions.get(function.name)
        if found is None:
            raise CanonicalTrap(f"nothing answers {function}")
        return found(*values)

    def drop(self, resource: Resource, rep: Any) -> None:
        """Forget it: the resources of the host are numbers."""


class LiveInstance(ComponentInvocation):
    """To be made on an event loop, and closed."""

    __slots__ = ("_asked_for", "_functions", "_running", "_taken")

    def __init__(self, module: ComponentModule, functions: HostFunctions) -> None:
        super().__init__(ComponentPlan(module, Limits(memory_pages=_PAGES, restore=False)), b"")
        self._functions = functions
        self._asked_for: asyncio.Queue[tuple[LiftedFunction, Sequence[Value], asyncio.Future[Value]]] = asyncio.Queue()
        self._taken: tuple[LiftedFunction, Sequence[Value], asyncio.Future[Value]] | None = None
        self._running = asyncio.create_task(self.run(time.monotonic() + SECONDS, nullcontext))

    def _imports(self) -> Imports:
        super()._imports()
        return _Host(self._functions)

    def _answer_request(self) -> Generator[Request | None, Any, bytes]:
        while True:
            yield Await(self._take)
            assert self._taken is not None
            function, values, answer = self._taken

            def give(value: Value, answer: asyncio.Future[Value] = answer) -> None:
                answer.get_loop().call_soon_threadsafe(_resolve, answer, value)

            if function.type.is_async:
                yield from self._calls.tasks.lifted(function, values, give)
            else:
                give((yield from self._calls.lifted(function, values)))

    async def _take(self) -> Value:
        self._taken = await self._asked_for.get()
        return None

    async def made(self) -> None:
        """Wait until its start functions have run. Raises Trapped if that fails."""
        while self._asked_for.empty() and not self._running.done() and not self._waits:
            await asyncio.sleep(0.001)
        if self._running.done():
            raise Trapped(self._reason())

    @property
    def _waits(self) -> bool:
        """Whether it waits for the first call."""
        return bool(self._asked_for._getters)  # type: ignore[attr-defined]

    async def ask(self, name: str, values: Callable[[LiftedFunction], Sequence[Value]]) -> Value:
        """Call an export. ``values`` gives the arguments for the function that it is. Raises Trapped."""
        function = self.plan.component.functions[name]
        if self._running.done():
            raise Trapped("cannot enter component instance")
        answer: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._asked_for.put_nowait((function, values(function), answer))
        await asyncio.wait({answer, self._running}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise Trapped(self._reason())

    def _reason(self) -> str:
        try:
            outcome: Outcome = self._running.result()
        except EngineError as error:
            return str(error)
        return outcome.reason if outcome.end is End.TRAP else outcome.end.name.lower()

    async def end(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


def _resolve(answer: asyncio.Future[Value], value: Value) -> None:
    if not answer.done():
        answer.set_result(value)
