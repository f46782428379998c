"""What it costs if nobody listens."""

from __future__ import annotations

import subprocess
import sys
import timeit
from pathlib import Path

from apps import run
from collecting import Make
from opentelemetry.sdk.trace import TracerProvider

from starlette_wasm import EdgeRequest
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.invocation.context import context_of
from starlette_wasm.telemetry import NO_TELEMETRY, PickedBy, Telemetry

ROOT = Path(__file__).parent.parent.parent


def test_a_request_that_nobody_watches_pays_next_to_nothing(make: Make) -> None:
    """Half a microsecond, as measured; the bound leaves room for a busy machine, and for what measures coverage."""

    async def send(message: object) -> None:
        raise AssertionError

    async def main() -> None:
        async with make(functions=["echo"], telemetry=Telemetry()) as runtime:
            telemetry, target, request = runtime.telemetry, runtime.target("echo"), EdgeRequest()
            context, outcome = context_of(runtime.request_settings, target, {}, cold=False), Outcome(End.OK)
            scope = {"type": "http", "method": "GET", "path": "/", "headers": []}

            def one() -> None:
                with telemetry.exchange(scope, "/echo") as exchange:
                    exchange.picked(PickedBy.WEIGHT, 100)
                    exchange.send(send)
                    with telemetry.watch(target, request, exchange=exchange) as watch:
                        watch.executing(request, context)
                        watch.executed(outcome, None)
                        watch.answered(200)

            assert telemetry.exchange(scope, "/echo") is NO_TELEMETRY
            cost = min(timeit.repeat(one, number=10_000, repeat=10)) / 10_000
            assert cost < 50e-6

    run(main())


def test_a_provider_that_comes_later_is_found() -> None:
    """In a process of its own: a global provider is set once."""
    code = """
from opentelemetry import trace, metrics
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.metrics import MeterProvider
from starlette_wasm.telemetry import Telemetry
telemetry = Telemetry()
assert not telemetry.active
metrics.set_meter_provider(MeterProvider())
assert telemetry.active and telemetry.metrics and not telemetry.tracer
trace.set_tracer_provider(TracerProvider())
assert telemetry.active and telemetry.metrics and telemetry.tracer
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_public_getters_do_where_the_private_names_are_gone() -> None:
    code = """
from starlette_wasm.telemetry import Telemetry
from starlette_wasm.telemetry import telemetry as module
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
module._trace_globals, module._metrics_globals = {}, {}
telemetry = Telemetry()
assert not telemetry.active
trace.set_tracer_provider(TracerProvider())
assert telemetry.active
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_an_sdk_that_is_disabled_listens_to_nothing() -> None:
    code = """
import os
os.environ["OTEL_SDK_DISABLED"] = "true"
from opentelemetry import trace, metrics
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.metrics import MeterProvider
from starlette_wasm.telemetry import Telemetry
trace.set_tracer_provider(TracerProvider())
metrics.set_meter_provider(MeterProvider())
assert not Telemetry().active
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_given_provider_counts(make: Make) -> None:
    assert Telemetry(tracer_provider=TracerProvider()).active
