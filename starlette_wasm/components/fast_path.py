"""``ComponentFastPath``: answers an ASGI request with a component, if its guest ends without a wait.

One call of component_path.c does all of it, with an instance that was used before. Without one, and at the first thing
that this leaves, Python takes the same steps, each in C: it has written what the guest reads, calls it (edge_call.py,
http_call.py) and reads its answer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from ..engine import layout
from ..engine.capi import EngineError
from ..engine.engine import OutOfInstances
from ..engine.fast_path import NOT_TAKEN, Called, Completed, Encoded, FastPath, NotTaken, Speech, Started, completed
from ..engine.native.component_state import ComponentPathState, Span
from ..engine.native.library import native
from ..sync import copies
from .bound import FREE_US, ComponentPlan
from .instance import CoreInstances
from .invocation import ComponentInvocation
from .restore import Kept


class ComponentFastPath(FastPath):
    """A FastPath for components. What is not ended at once goes on as any invocation does."""

    __slots__ = ("_answer_in_c", "_component_plan", "_dispatch_in_c", "_is_packed", "_lent", "_path")

    def __init__(self, plan: ComponentPlan, speech: Speech, environ: tuple[bytes, ...]) -> None:
        super().__init__(plan, speech, environ)
        assert native is not None
        component = plan.component
        self._component_plan = plan
        self._is_packed = speech.protocol == "http"
        in_c = component.makes_edge_calls or component.makes_http_calls
        self.dispatches = speech.complete and in_c and not component.unresolved  # calls of other functions have spans
        self._lent: Kept | None = None
        """The instance that C uses, if nobody else does."""
        given = component.quick_calls.of_handler if component.makes_http_calls else (0, 0)
        arguments = Span(copies.place_of(plan.args), len(plan.args))
        self._path = ComponentPathState(ctypes.addressof(self._memory), None, arguments, FREE_US * 1000, *given)
        at = ctypes.addressof(self._path)
        self._dispatch_in_c = native.bound("dispatch_component", at)
        self._answer_in_c = native.bound("answer_component", at)
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
        """Dispatch as FastPath does; what begins in a thread is not taken."""
        given = scope, path, params, body, region, traceparent, tracestate
        found = self._begun(self._dispatch_in_c, *given)
        return self._try(*given) if found is None else completed(found)

    def _settled(self, found: tuple[Any, ...]) -> tuple[Any, ...] | Started:
        """Settle as FastPath does; also the guest that answer() has left."""
        if len(found) == 1:
            started: Started = found[0]
            return started
        return self._left(*found) if len(found) == 5 else super()._settled(found)

    def _left(self, how: int, request_id: str, message: bytes, environ: bytes, body: bytes | None) -> Started:
        """Go on with a guest that C has left."""
        kept, self._lent = self._lent, None
        assert kept is not None, "C had it"
        self._component_plan.component.keeper.hand_out(kept)
        scratch = self._engine.detach()
        content = (body or b"") if self._is_packed else None
        return Started(ComponentInvocation.left(kept, scratch, how, message, environ, content), request_id)

    def _lend(self) -> bool:
        """Give C what it lacks, the ticker or an instance. Return False if it lacked neither."""
        plan = self._component_plan
        woke, lent = super()._lend(), self._lent
        if not plan.restores or (lent is not None and lent.is_free):
            return woke
        if not self._engine.state.scratch:  # C runs a guest for the event loop of another thread, with what it was lent
            return False
        self._lent = kept = plan.component.keeper.find(plan)
        self._path.kept = None if kept is None else kept.at
        if kept is not None:
            self._prepare(kept.cores)
        return kept is not None

    def _prepare(self, cores: CoreInstances) -> None:
        """Have the entry of an instance called by C: it may have had typed calls alone."""
        entry = self._component_plan.component.entry
        assert entry is not None
        if self._is_packed:
            cores.prepare_http(entry.function)
        else:
            cores.prepare_edge(entry.function)

    def call(self, request: object, region: str) -> Called | Started | NotTaken:
        """Leave calls from Python to the slow path."""
        return NOT_TAKEN

    def encode(
        self,
        scope: Mapping[str, Any],
        path: str,
        params: Mapping[str, object],
        body: bytes,
        region: str,
        traceparent: str | None = None,
        tracestate: str | None = None,
        request_id: str | None = None,
    ) -> Encoded | None:
        """Encode as FastPath does; for a handler of ``wasi:http``, which is given a message later, Python does."""
        if self._is_packed:
            return None
        return super().encode(scope, path, params, body, region, traceparent, tracestate, request_id)

    def _answer(
        self,
        scope: Mapping[str, Any],
        path: str,
        params: Mapping[str, object],
        body: bytes | None,
        region: str,
        traceparent: str | None,
        tracestate: str | None,
        *server: object,
    ) -> tuple[Any, ...] | None:
        # An answer that is for ASGI goes to every server.
        if self._is_late:
            return None
        begin = self._dispatch_in_c if self._late else self._answer_in_c  # the latter does not know whose is late
        given = scope, path, params, body, region, traceparent, tracestate
        answered = self._asked(begin, *given)
        if answered is not None:
            return answered
        found = self._try(*given)
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
        invocation.content = body or b""
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
        if plan.slow or plan.loop_time.spent or self._is_late:
            return False
        self._engine.ticker.ensure_armed()
        return not self._engine.dead
