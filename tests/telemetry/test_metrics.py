"""The figures of an invocation, in OpenTelemetry and in Prometheus."""

from __future__ import annotations

import asyncio
import builtins
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from apps import client, eventually, run
from collecting import Collector, Make
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.types import Message

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.asgi.endpoints import metrics
from starlette_wasm.telemetry import conventions, prometheus
from starlette_wasm.telemetry.bulk import Bulk, Series
from starlette_wasm.telemetry.conventions import METRICS, Attribute
from starlette_wasm.telemetry.observation import Observation

SHORT = {"short": {"executionTimeoutMs": 50}, "narrow": {"maxConcurrency": 1}}
SEEN = {"faas.trigger": "http", "faas.name": "echo", "faas.version": "1", "http.route": "/echo/{key}",
        "starlette_wasm.route.variant": "stable"}  # fmt: skip


async def get(runtime: WasmRuntime, *paths: str) -> None:
    async with client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
        await asyncio.gather(*(http.get(path) for path in paths))


def test_a_warm_invocation_adds_to_five_metrics(make: Make, collector: Collector) -> None:
    async def main() -> None:
        async with make({"/echo/{key}": "echo"}) as runtime:
            await get(runtime, "/echo/1", "/echo/2")
        metrics = collector.metrics()
        used = {"faas.invoke_duration", "faas.cpu_usage", "faas.mem_usage", "faas.invocations"}
        assert {name for name in metrics if name.startswith("faas.")} == used
        for name in used:
            (point,) = metrics[name].data.data_points
            assert dict(point.attributes) == SEEN, name
            assert (point.value if name == "faas.invocations" else point.count) == 2
        duration = metrics["faas.invoke_duration"].data.data_points[0]
        assert duration.explicit_bounds == conventions.SECONDS
        assert duration.explicit_bounds[0] == 50e-6
        assert 0 < duration.sum < 60  # seconds
        memory = metrics["faas.mem_usage"].data.data_points[0]
        assert memory.min % 65536 == 0
        assert memory.explicit_bounds == conventions.BYTES

    run(main())


def test_exemplars_lead_to_the_functions_span(make: Make, collector: Collector) -> None:
    async def main() -> None:
        async with make({"/echo/{key}": "echo"}) as runtime:
            await get(runtime, "/echo/1")
            # Before the runtime closes: that flushes the providers, and an exemplar is handed out once.
            (point,) = collector.metrics()["faas.invoke_duration"].data.data_points
        context = collector.span("echo").context
        assert context is not None
        assert [(each.trace_id, each.span_id) for each in point.exemplars] == [(context.trace_id, context.span_id)]

    run(main())


@pytest.mark.parametrize(("guest", "error"), [("spin", "execution-timeout"), ("exit3", "function-exit")])
def test_a_failure_has_the_error_type_of_its_span(make: Make, collector: Collector, guest: str, error: str) -> None:
    async def main() -> None:
        async with make({"/x": {"functionName": guest, "policy": "short"}}, policies=SHORT) as runtime:
            await get(runtime, "/x")
        metrics = collector.metrics()
        for name in ("faas.errors", "faas.invoke_duration"):
            (point,) = metrics[name].data.data_points
            assert point.attributes["error.type"] == error
        assert (collector.span(guest).attributes or {})["error.type"] == error
        assert ("faas.timeouts" in metrics) == (guest == "spin")
        assert "faas.invocations" not in metrics

    run(main())


def test_a_cold_start_and_a_wait_are_measured(make: Make, collector: Collector) -> None:
    async def main() -> None:
        rule = {"functionName": "sleep_ms", "policy": "narrow"}
        runtime = make({"/sleep": rule}, policies=SHORT)
        await get(runtime, "/sleep?ms=5")
        await get(runtime, "/sleep?ms=20", "/sleep?ms=20")
        await runtime.close()
        metrics = collector.metrics()
        (coldstarts,) = metrics["faas.coldstarts"].data.data_points
        (init,) = metrics["faas.init_duration"].data.data_points
        (wait,) = metrics["starlette_wasm.queue.wait"].data.data_points
        assert (coldstarts.value, init.count, wait.count) == (1, 1, 1)
        assert init.sum > 0
        assert wait.sum > 5e-3

    run(main())


def test_every_instrument_is_as_the_conventions_list_it(make: Make, collector: Collector) -> None:
    """All of them at once, with no other attribute than those that are listed."""

    async def main() -> None:
        async with make(functions=["echo"]) as runtime:
            telemetry = runtime.telemetry
            assert telemetry.active
            assert telemetry.metrics
            seen = Observation("echo", "1", "http", "GET", "/echo", "stable", ran=True, cold=True, waited=0.1)
            telemetry.metrics.record(seen)
            seen.error = conventions.ErrorType.EXECUTION_TIMEOUT
            telemetry.metrics.record(seen)
            telemetry.violation("echo", conventions.FS_WRITE, 2)
            telemetry.canary_weight("echo", "1", 30)
            telemetry.canary_overdue("echo", "1", True)
            telemetry.function_healthy("echo", "1", False)
            telemetry.reload_refused(True)
            telemetry.tenant_request("acme", "served")
            telemetry.tenant_cpu("acme", 0.5)
            for metric in conventions.PIPELINES:
                telemetry.of_pipeline(metric, "echo", "1")
        metrics = collector.metrics()
        for metric in METRICS:
            found = metrics[metric.name]
            assert (found.unit, found.description) == (metric.unit, metric.description)
            listed = {str(name) for name in metric.attributes}
            attributes = {name for point in found.data.data_points for name in point.attributes}
            assert attributes == listed, metric.name
        assert set(metrics) - {"otel.sdk.span.started", "otel.sdk.span.live"} == {metric.name for metric in METRICS}

    run(main())


def test_no_more_is_said_of_a_version_that_is_gone_than_before(make: Make, collector: Collector) -> None:
    async def main() -> None:
        async with make(functions=["echo"]) as runtime:
            assert runtime.telemetry.active
            runtime.telemetry.function_healthy("echo", "8", False)
            for version in ("8", "9"):
                runtime.telemetry.function_gone("echo", version)

    run(main())
    points = collector.metrics()["starlette_wasm.function.healthy"].data.data_points
    told = {point.attributes["faas.version"]: point.value for point in points}
    assert told == {"1": 1, "8": 1}  # of 8 only that it alarms no more


def samples(text: str, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
    families = text_string_to_metric_families(text)
    found = [(each.labels, each.value) for family in families for each in family.samples if each.name == name]
    return [(each, value) for each, value in found if labels.items() <= each.items()]


def test_metrics_are_served_as_prometheus_text(make: Make) -> None:
    async def main() -> None:
        rules = {"/prom/{key}": "hello", "/exit": "exit3"}
        fails = {"function": "exit3", "retries": 1, "backoffMs": 0, "fallback": {"answer": {"body": "x"}}}
        pipelines = {"pipelines": [{"path": "/fails", "steps": [fails]}], "circuitBreaker": {"minimumCalls": 2}}
        async with make(rules, exposeEndpoints=True, **pipelines) as runtime:
            await get(runtime, "/prom/1", "/prom/2", "/exit", "/fails")
            async with client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
                response = await http.get("/metrics")
                assert (await http.post("/metrics")).status_code == 405
                accept = {"accept": "application/openmetrics-text; version=1.0.0"}
                openmetrics = (await http.get("/metrics", headers=accept)).text
        assert response.headers["content-type"].startswith("text/plain; version=")
        text = response.text
        assert samples(text, "starlette_wasm_function_healthy", faas_name="hello", faas_version="1")[0][1] == 1
        route = {"http_route": "/prom/{key}"}
        ((labels, count),) = samples(text, "faas_invocations_total", **route)
        assert count == 2
        assert labels == {key.replace(".", "_"): value for key, value in SEEN.items()} | route | {"faas_name": "hello"}
        assert samples(text, "faas_invoke_duration_seconds_count", **route)[0][1] == 2
        assert samples(text, "faas_invoke_duration_seconds_bucket", le="5e-05", **route)
        assert samples(text, "faas_mem_usage_bytes_count", **route)[0][1] == 2
        assert samples(text, "faas_errors_total", http_route="/exit", error_type="function-exit")[0][1] == 1
        for metric in conventions.PIPELINES:
            assert samples(text, prometheus.name_of(metric), faas_name="exit3", faas_version="1")[0][1] == 1
        assert samples(text, "starlette_wasm_running", faas_name="hello")[0][1] == 0
        assert '# {span_id="' in openmetrics or '# {trace_id="' in openmetrics

    run(main())


def ordinary(function: str, number: int) -> Observation:
    draw = random.Random(number)
    seen = Observation(function, "1", "http", "GET", "/bulk", "stable", ran=True, status=200)
    seen.duration, seen.cpu, seen.memory = draw.expovariate(500), draw.expovariate(5000), 65536 * draw.randint(1, 99)
    return seen


def figures(text: str, function: str) -> list[tuple[str, dict[str, str], float]]:
    """All samples of a function but when they were created, its name left out."""
    families = text_string_to_metric_families(text)
    found = [each for family in families for each in family.samples if each.labels.get("faas_name") == function]
    return [
        (each.name, {name: value for name, value in each.labels.items() if name != "faas_name"}, each.value)
        for each in found
        if not each.name.endswith("_created")
    ]


def test_prometheus_figures_in_bulk_are_those_one_by_one() -> None:
    recorder = prometheus.recorder()
    assert recorder is not None
    for turn in range(3):
        for number in range(100 * turn, 100 * turn + 100):
            recorder.record(ordinary("bulk", number))
            recorder.record_alone(ordinary("alone", number))
        text = prometheus.text("")[0].decode()
        in_bulk = figures(text, "bulk")
        assert len(in_bulk) > 40
        for (name, labels, value), other in zip(in_bulk, figures(text, "alone"), strict=True):
            assert (name, labels, pytest.approx(value)) == other
    recorder.record(ordinary("bulk", 300))
    only = generate_latest(REGISTRY.restricted_registry(["faas_invocations_total"])).decode()  # type: ignore[arg-type]
    assert ("faas_invocations_total", 301.0) in [(name, value) for name, _, value in figures(only, "bulk")]


def test_another_prometheus_client_gets_each_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = prometheus.recorder()
    assert recorder is not None

    def other(*given: object) -> None:
        raise LookupError

    monkeypatch.setattr(prometheus._Point, "__init__", other)
    for number in range(5):
        seen = ordinary("other", number)
        recorder.record(seen)
        assert not recorder.bulk.add(seen.key, False, 1.0, 1.0, 1)
    text = prometheus.text("")[0].decode()
    assert samples(text, "faas_invocations_total", faas_name="other")[0][1] == 5


def test_figures_that_others_read_are_handed_over_in_a_moment() -> None:
    async def main() -> None:
        bulk, counted = prometheus._SharedFigures(), []
        seen = ordinary("shared", 1)
        bulk.begin(seen.key, lambda: Series(counted.append, *(Bulk((), ()) for _ in range(3))))
        for _ in range(3):
            assert bulk.add(seen.key, False, seen.duration, seen.cpu, seen.memory)
        assert counted == []
        await eventually(lambda: counted)
        assert counted == [3]
        bulk.later.delays = False  # the process may end at any time
        bulk.add(seen.key, False, seen.duration, seen.cpu, seen.memory)
        assert counted == [3, 1]

    run(main())


def test_prometheus_has_every_metric_of_the_conventions() -> None:
    assert prometheus.recorder() is not None
    known = {family.name for family in REGISTRY.collect()}
    assert {prometheus.name_of(metric).removesuffix("_total") for metric in METRICS} <= known


def test_without_prometheus_client_the_answer_says_what_to_install(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    imports = builtins.__import__

    def importing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ImportError(name)
        return imports(name, *args, **kwargs)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def main() -> None:
        async with make() as runtime:
            await metrics(runtime, {"type": "http", "method": "GET", "headers": []}, send)
        assert sent[0]["status"] == 501
        assert b"pip install 'starlette-wasm[prometheus]'" in sent[1]["body"]

    monkeypatch.setattr(builtins, "__import__", importing)
    assert prometheus.recorder.__wrapped__() is None
    run(main())


WORKER = """
import sys
from starlette_wasm.telemetry import prometheus
from starlette_wasm.telemetry.observation import Observation
recorder = prometheus.recorder()
for _ in range(int(sys.argv[1])):
    recorder.enter("many")
    recorder.leave("many")
    recorder.record(Observation("many", "1", "http", "GET", "/many", "stable", duration=0.01, ran=True))
recorder.enter("many")
print("ready", flush=True)
sys.stdin.read()
"""
READER = "from starlette_wasm.telemetry import prometheus; print(prometheus.text('')[0].decode())"


def test_all_workers_answer_for_all_and_the_dead_run_nothing(tmp_path: Path) -> None:
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "figures")}

    def read() -> str:
        return subprocess.run(
            [sys.executable, "-c", READER], env=environ, check=True, capture_output=True
        ).stdout.decode()

    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(count)], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for count in (3, 4)
    ]
    try:
        for worker in workers:
            assert worker.stdout
            assert worker.stdout.readline() == b"ready\n"
        text = read()
        assert samples(text, "faas_invocations_total", faas_name="many")[0][1] == 7
        assert samples(text, "faas_invoke_duration_seconds_count", faas_name="many")[0][1] == 7
        assert samples(text, "starlette_wasm_running", faas_name="many")[0][1] == 2
        workers[0].kill()
        workers[0].wait()
        text = read()
        assert samples(text, "faas_invocations_total", faas_name="many")[0][1] == 7
        assert samples(text, "starlette_wasm_running", faas_name="many")[0][1] == 1
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


FORKING = """
import os
from starlette_wasm.telemetry import prometheus
from starlette_wasm.telemetry.observation import Observation
recorder = prometheus.recorder()
def record(count):
    for _ in range(count):
        recorder.record(Observation("many", "1", "http", "GET", "/many", "stable", duration=0.01, ran=True))
class Never:
    delays = True
    def schedule(self): "What is added stays there until the fork."
    def forget(self): pass
recorder.bulk.later = Never()
record(6)
recorder.bulk._lock.acquire()  # as a thread of the parent may have
child = os.fork()
if not child:
    record(2)
    recorder.hand_over(delay=False)
    os._exit(0)
recorder.bulk._lock.release()
assert os.waitpid(child, 0)[1] == 0
recorder.hand_over(delay=False)
print(prometheus.text("")[0].decode())
"""


def test_a_forked_child_counts_nothing_of_its_parent(tmp_path: Path) -> None:
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "figures")}
    text = subprocess.run(
        [sys.executable, "-c", FORKING], env=environ, check=True, capture_output=True, timeout=120
    ).stdout.decode()
    for name in ("faas_invocations_total", "faas_invoke_duration_seconds_count", "faas_cpu_usage_seconds_count"):
        assert samples(text, name, faas_name="many")[0][1] == 8, name


def test_attributes_of_metrics_are_known_attributes() -> None:
    assert {str(name) for metric in METRICS for name in metric.attributes} <= {each.value for each in Attribute}
