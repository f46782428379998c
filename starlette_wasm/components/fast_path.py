"""``ComponentFastPath``: answers an ASGI request with a component, if its guest ends without a wait.

C writes what the guest reads, calls it (edge_call.py, http_call.py) and reads its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine import layout
from ..engine.capi import EngineError
from ..engine.engine import OutOfInstances
from ..engine.fast_path import NOT_TAKEN, Called, Completed, FastPath, NotTaken, Speech, Started
from .bound import ComponentPlan
from .invocation import ComponentInvocation


class ComponentFastPath(FastPath):
    """A FastPath for components. What is not ended at once goes on as any invocation does."""

    __slots__ = ("_component_plan", "_is_packed")

    def __init__(self, plan: ComponentPlan, speech: Speech, environ: tuple[bytes, ...]) -> None:
        super().__init__(plan, speech, environ)
        component = plan.component
        self._component_plan = plan
        self._is_packed = speech.protocol == "http"
        in_c = component.makes_edge_calls or component.makes_http_calls
        self.dispatches = speech.complete and in_c and not component.unresolved  # calls of other functions have spans
        self.answer = self._answer

    def dispatch(
        self,
        scope: Mapping[str, Any],
        path: str,
        params: Mapping[str, object],
        body: bytes,
        region: str,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> Completed | Started | NotTaken:
        """Dispatch as FastPath does; what begins in a thread is not taken, nor a handler's request with a body."""
        if body and self._is_packed:
            return NOT_TAKEN
        return self._try(scope, path, params, body, region, traceparent, tracestate)

    def settled(self, found: tuple[Any, ...]) -> Completed | Started:
        """Return the guest that answer() has left."""
        started: Started = found[0]
        return started

    def call(self, request: object, region: str) -> Called | Started | NotTaken:
        """Leave calls from Python to the slow path."""
        return NOT_TAKEN

    def _answer(
        self,
        scope: Mapping[str, Any],
        path: str,
        params: Mapping[str, object],
        body: bytes | None,
        region: str,
        traceparent: str | None,
        tracestate: str | None,
    ) -> tuple[Any, ...] | None:
        if body and self._is_packed:
            return None
        found = self._try(scope, path, params, body, region, traceparent, tracestate)
        if isinstance(found, NotTaken):
            return None
        return found[:3] if isinstance(found, Completed) else (found,)

    def _try(
        self,
        scope: Mapping[str, Any],
        path: str,
        params: Mapping[str, object],
        body: bytes | None,
        region: str,
        traceparent: str | None,
        tracestate: str | None,
    ) -> Completed | Started | NotTaken:
        if not self._may_begin:
            return NOT_TAKEN
        encoded = self._encode(scope, path, params, body, region, traceparent, tracestate)
        if encoded is None:
            return NOT_TAKEN
        stdin, variables, arguments, request_id, told = encoded
        at = arguments or len(variables)
        invocation = ComponentInvocation(self._component_plan, stdin, variables[:at], variables[at:])
        invocation.is_packed = self._is_packed
        try:
            ended = invocation.try_at_once()
        except (OutOfInstances, EngineError, OSError, MemoryError):
            return NOT_TAKEN  # what is wrong comes up again, and is reported
        answer = invocation.answered if ended else None
        found = None if answer is None else self._decode(answer, request_id, scope["method"])
        if found is None:
            return Started(invocation, request_id)
        outcome = invocation.finish()
        invocation.book()
        status, headers, content = found
        pages = outcome.memory_bytes // layout.PAGE
        return Completed(status, headers, content, int(invocation.cpu * 1e9), pages, told, False, 0)

    @property
    def _may_begin(self) -> bool:
        """Whether a guest may begin on the event loop."""
        plan = self._plan
        if plan.slow or plan.loop_time.spent or plan.tenant in self._late:
            return False
        self._engine.ticker.ensure_armed()
        return not self._engine.dead
