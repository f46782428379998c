"""``FastPathRunner``: whether a request may take the fast path, the call, and its telemetry."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import overload

from starlette.types import Scope

from ..engine.fast_path import NOT_TAKEN, Called, Completed, NotTaken, Started
from ..functions.target import Target
from ..messages import EdgeContext, EdgeRequest, EdgeResponse
from ..telemetry import NO_TELEMETRY, RequestTelemetry
from ..telemetry.idle import Trace
from .context import trusted_region
from .execution import EncodedRequest
from .runtime_state import RuntimeState

COLD = "starlette_wasm.cold"
"""Set in the scope of a request that had to wait for the runtime to start: since when, in ns since the epoch."""

_MOST_TWICE = 64 << 10
"""Bytes of the longest body that is written twice on the event loop."""
Headers = list[tuple[bytes, bytes]]
Answered = tuple[int, Headers, bytes]
"""Status, headers and body, for ASGI."""
Written = tuple[int, None, bytes]
"""The status, and what is written to a client of HTTP/1.1."""
TraceAndServer = tuple[str | None, str | None, dict[int, bytes], Headers]
"""A Trace, and the status lines and the own headers of a server of HTTP/1.1, which takes an answer as bytes."""


class FastPathRunner:
    """Runs requests of one runtime as far as that goes without waiting, and without objects made for each."""

    def __init__(self, runtime: RuntimeState, counts: Counter[str]) -> None:
        """Take ``counts``, the runtime's, of how invocations ended."""
        self._runtime = runtime
        self._counts = counts

    @overload
    def answer(
        self, target: object, scope: Scope, path: str, params: dict[str, str], body: bytes | None, region: str,
        trace: Trace, route: str = "",
    ) -> Answered | Started | NotTaken: ...  # fmt: skip

    @overload
    def answer(
        self, target: object, scope: Scope, path: str, params: dict[str, str], body: bytes | None, region: str,
        trace: TraceAndServer,
    ) -> Answered | Written | Started | NotTaken: ...  # fmt: skip

    def answer(
        self,
        target: object,
        scope: Scope,
        path: str,
        params: dict[str, str],
        body: bytes | None,
        region: str,
        trace: Trace | TraceAndServer,
        route: str = "",
    ) -> Answered | Written | Started | NotTaken:
        """Do what run() does, if nobody listens. ``trace`` is that of the RequestTelemetry.

        With None for the body the request may have none: it is not taken if it has one.
        """
        if type(target) is not Target or COLD in scope or not self._runtime.is_open:
            return NOT_TAKEN
        fast_path, bulkhead = target.fast_path, target.bulkhead
        if fast_path is None or not fast_path.dispatches:
            return NOT_TAKEN
        if bulkhead.active >= bulkhead.limit or (body is not None and len(body) > target.max_body):
            return NOT_TAKEN
        if route and route != target.route and target.protocol.name == "cgi":  # whose variables hold the route
            return NOT_TAKEN
        tally = target.tally
        begin = 0.0 if tally is None else time.monotonic()
        try:
            found = fast_path.answer(scope, path, params, body, region, *trace)
        except MemoryError as error:
            return fast_path.without_memory(error)
        if found is None:
            return NOT_TAKEN
        if len(found) != 3:
            settled = fast_path.settled(found)
            if isinstance(settled, Started):
                return settled
            found = settled[:3]
        self._counts["ok"] += 1
        if tally is not None:
            tally.answered(time.monotonic() - begin, found[0])
        return found

    def run(
        self,
        target: object,
        scope: Scope,
        path: str,
        params: dict[str, str],
        body: bytes,
        region: str,
        exchange: RequestTelemetry,
        route: str = "",
    ) -> Completed | Started | NotTaken:
        """Run one invocation of ``target`` for a request whose body is there; ``route`` is as in CallOptions.

        A guest that has started must be handed to Invoker.call() at once.
        """
        if type(target) is not Target or COLD in scope:
            return NOT_TAKEN
        fast_path = target.fast_path
        if fast_path is None or not fast_path.dispatches:
            return NOT_TAKEN
        bulkhead = target.bulkhead
        if bulkhead.active >= bulkhead.limit or not self._runtime.is_open or len(body) > target.max_body:
            return NOT_TAKEN
        idle = exchange.idle
        if not idle and (exchange.is_retry or (exchange.records and _calls(target))):  # it has spans of its own
            return NOT_TAKEN
        if route and route != target.route and target.protocol.name == "cgi":  # whose variables hold the route
            return NOT_TAKEN
        tally = target.tally
        if tally is None and idle:
            found = fast_path.dispatch(scope, path, params, body, region, *exchange.trace)
            if type(found) is Completed:
                self._counts["ok"] += 1
            return found
        begin = time.monotonic()
        trace = exchange.begin_warm(target)
        found = fast_path.dispatch(scope, path, params, body, region, *trace)
        if type(found) is Completed:
            self._counts["ok"] += 1
            took = time.monotonic() - begin
            self._runtime.telemetry.record_fast(exchange, target, found, took)
            if tally is not None:
                tally.answered(took, found.status)
        elif isinstance(found, Started):
            exchange.told_warm()
        return found

    def call(self, target: Target, request: EdgeRequest) -> EdgeResponse | Started | NotTaken:
        """Call as run() does, from Python, if nobody listens; ``request.context`` is filled in."""
        fast_path, bulkhead, settings = target.fast_path, target.bulkhead, self._runtime.request_settings
        if fast_path is None or not fast_path.dispatches or bulkhead.active >= bulkhead.limit:
            return NOT_TAKEN
        if self._runtime.telemetry.active:
            return NOT_TAKEN
        region = settings.region
        if settings.trust_region_header:
            region = trusted_region(settings, request.headers.get("x-region"))
        begin = time.monotonic()
        found = fast_path.call(request, region)
        if not isinstance(found, Called):
            return found
        context = EdgeContext(found.request_id, region, False, target.name, target.version, target.deadline_ms)
        if found.traceparent is not None:
            context.traceparent, context.tracestate = found.traceparent, request.headers.get("tracestate")
        request.context = context
        self._counts["ok"] += 1
        if target.tally is not None:
            target.tally.answered(time.monotonic() - begin, found.status)
        return EdgeResponse.of_guest(found.status, found.headers, found.body, found.declared)

    def encode(
        self,
        target: object,
        scope: Scope,
        path: str,
        params: dict[str, str],
        body: bytes,
        region: str,
        exchange: RequestTelemetry,
        route: str = "",
    ) -> EncodedRequest | None:
        """Write what a guest reads, for Invoker.answer(), which does in steps what run() does at once.

        None if that is for Python. If somebody listens it is written again, once the guest's span has begun.
        """
        if type(target) is not Target or not target.encodes or COLD in scope:
            return None
        # Calls of other hosts are watched if there is a trace, sampled or not.
        watched = not exchange.idle or (exchange is not NO_TELEMETRY and target.grants is not None)
        if watched and len(body) > _MOST_TWICE:
            return None
        if len(body) > target.max_body or (route and route != target.route and target.protocol.name == "cgi"):
            return None
        assert target.fast_path is not None
        encode = target.fast_path.encode
        encoded = encode(scope, path, params, body, region, *exchange.trace)
        if encoded is None:
            return None
        return EncodedRequest(encoded, partial(encode, scope, path, params, body, region) if watched else None)


def _calls(target: Target) -> bool:
    """Return whether a guest may call the host, sleep or use directories, which is under its execute span."""
    plan = target.plan
    return plan.module.calls_host or bool(plan.preopens)
