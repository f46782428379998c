"""This package with its telemetry removed, with the OpenTelemetry API alone, and with an SDK."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from starlette.applications import Starlette
from starlette.middleware import Middleware

from starlette_wasm import EdgeRequest, WasmMiddleware, WasmRuntime
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.invocation.context import context_of
from starlette_wasm.telemetry import IDLE_WATCH, NO_TELEMETRY, CallTelemetry, PickedBy, RequestTelemetry, Telemetry

from .calls import Loop, time_awaits
from .ours import config


class _Removed(Telemetry):
    """Looks for nobody who listens: what is left are calls of empty methods."""

    def exchange(self, *_: Any, **__: Any) -> RequestTelemetry:
        return NO_TELEMETRY

    def watch(self, *_: Any, **__: Any) -> CallTelemetry:
        return IDLE_WATCH


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def make_runtime(kind: str) -> WasmRuntime:
    if kind in ("dropped", "sampled"):
        provider = TracerProvider(sampler=ALWAYS_OFF if kind == "dropped" else ALWAYS_ON)
        provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
        trace.set_tracer_provider(provider)
    runtime = WasmRuntime(config())
    if kind == "removed":
        runtime.telemetry = _Removed()
    return runtime


def make_app() -> Starlette:
    return Starlette(middleware=[Middleware(WasmMiddleware, runtime=make_runtime(os.environ["BENCH_TELEMETRY"]))])


def __getattr__(name: str) -> Any:
    if name == "app":
        return make_app()
    raise AttributeError(name)


class InProcess:
    """``runtime.invoke`` of the small guest, under one kind of telemetry."""

    def __init__(self, kind: str) -> None:
        self._loop = Loop()
        self._runtime = make_runtime(kind)
        self._loop.run(self._runtime.start())

    async def _invoke(self) -> object:
        return await self._runtime.invoke("job", EdgeRequest(), policy="bench")

    def round(self, calls: int) -> dict[str, float]:
        return self._loop.run(time_awaits(self._invoke, calls))  # type: ignore[no-any-return]

    def calls(self, count: int) -> dict[str, float]:
        """Return the microseconds of the telemetry's calls for an invocation, and for an HTTP request."""
        # As Invoker.call makes them, and WasmMiddleware on the short way.
        telemetry, target = self._runtime.telemetry, self._runtime.target("job", policy="bench")
        request = EdgeRequest()
        context = request.context = context_of(self._runtime.request_settings, target, {}, cold=False)
        outcome = Outcome(End.OK)
        scope = {"type": "http", "method": "GET", "path": "/job", "headers": []}

        def watched() -> None:
            with telemetry.watch(target, request, exchange=None, since=0, attempt=None) as watch:
                watch.executing(request, context)
                watch.executed(outcome, None)
                watch.answered(200)

        async def send(message: Any) -> None:
            raise AssertionError(message)

        begin = time.perf_counter()
        for _ in range(count):
            watched()
        invoked = time.perf_counter()
        for _ in range(count):
            exchange = telemetry.exchange(scope, "/job", since=0)
            assert exchange is NO_TELEMETRY
            exchange.picked(PickedBy.WEIGHT, 100)
            exchange.send(send)
        done = time.perf_counter()
        return {"invoke": (invoked - begin) * 1e6 / count, "request": (done - invoked) * 1e6 / count}
