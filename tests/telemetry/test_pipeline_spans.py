"""The trace of a pipeline says what ran, what was tried again, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from apps import JSON, add_function, client, run
from collecting import Collector, Make
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette

from starlette_wasm import EdgeRequest, FunctionTrapped, WasmMiddleware

COUNTED = {"counted": {"kvNamespaces": ["calls"]}, "none": {}}
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def pipeline(folder: Path, *steps: JSON, **keys: Any) -> JSON:
    for name in ("a", "b", "c"):
        add_function(folder, name, "stage")
    return {"pipelines": [{"path": "/p/{key}", "steps": list(steps), **keys}], "policies": COUNTED}


def step(function: str, **keys: Any) -> JSON:
    return {"function": function, "backoffMs": 0, **keys}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def attempts(collector: Collector) -> list[tuple[Any, ...]]:
    """Function, step, attempt, role, cause and error of each attempt, in the order in which they began."""
    spans = sorted(collector.spans, key=lambda span: span.start_time or 0)
    keys = ("pipeline.step", "attempt", "attempt.role", "attempt.cause")
    return [
        (
            span.name,
            *(attributes(span).get(f"starlette_wasm.{key}") for key in keys),
            attributes(span).get("error.type"),
        )
        for span in spans
        if "starlette_wasm.attempt" in attributes(span)
    ]


def ask(make: Make, config: JSON, query: str = "", method: str = "GET") -> Any:
    """One request, and its response."""
    answered: list[Any] = []

    async def main() -> None:
        async with make(**config) as runtime, client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
            answered.append(await http.request(method, f"/p/7?{query}", headers={"traceparent": CALLER}))

    run(main())
    return answered[0]


def test_all_steps_are_under_one_server_span(make: Make, collector: Collector, tmp_path: Path) -> None:
    assert ask(make, pipeline(tmp_path, step("a"), step("b", name="second"))).text == "b(a())"
    assert collector.tree() == ["GET /p/{key}", ["a", ["wasm execute"]], ["b", ["wasm execute"]]]
    server = collector.span("GET /p/{key}")
    assert f"{server.context.trace_id:032x}" == CALLER[3:35]
    assert attributes(server)["http.route"] == "/p/{key}"
    assert attributes(server)["starlette_wasm.route.reason"] == "pipeline"
    assert "starlette_wasm.route.weight" not in attributes(server)
    assert attributes(collector.span("b")).items() >= {
        "starlette_wasm.attempt": 1,
        "starlette_wasm.pipeline.step": "second",
        "starlette_wasm.pipeline.step_index": 1,
    }.items()  # fmt: skip
    assert "starlette_wasm.attempt.role" not in attributes(collector.span("b"))
    ids = {attributes(span)["faas.invocation_id"] for span in collector.spans if span.name in "ab"}
    assert len(ids) == 1


def test_a_retry_tells_its_cause_and_leaves_the_server_span_well(
    make: Make, collector: Collector, tmp_path: Path
) -> None:
    config = pipeline(tmp_path, step("a", policy="counted", retries=3), step("b"))
    assert ask(make, config, "a=trap:1").status_code == 200
    assert attempts(collector) == [
        ("a", "a", 1, None, None, "wasm-trap"),
        ("a", "a", 2, "retry", "wasm-trap", None),
        ("b", "b", 1, None, None, None),
    ]
    server = collector.span("GET /p/{key}")
    assert server.status.status_code is StatusCode.UNSET
    assert "error.type" not in attributes(server)


def test_a_fallback_tells_its_cause(make: Make, collector: Collector, tmp_path: Path) -> None:
    config = pipeline(tmp_path, step("a", retries=1, fallback={"function": "c"}))
    assert ask(make, config, "a=503").text == "c()"
    assert attempts(collector) == [
        ("a", "a", 1, None, None, None),
        ("a", "a", 2, "retry", "503", None),
        ("c", "a", 3, "fallback", "503", None),
    ]
    assert "error.type" not in attributes(collector.span("GET /p/{key}"))


def test_a_fixed_answer_is_seen(make: Make, collector: Collector, tmp_path: Path) -> None:
    config = pipeline(tmp_path, step("a", name="first", timeoutMs=100, fallback={"answer": {"body": "x"}}))
    assert ask(make, config, "a=hang").text == "x"
    assert attempts(collector) == [
        ("a", "first", 1, None, None, "execution-timeout"),
        ("first", "first", 2, "fallback", "execution-timeout", None),
    ]
    assert collector.tree() == ["GET /p/{key}", ["a", ["wasm execute"]], ["first"]]


@pytest.mark.parametrize(
    ("query", "method", "keys", "pipeline_keys", "told"),
    [
        ("a=trap", "POST", {"policy": "counted"}, {}, "a not-idempotent"),
        ("a=501", "GET", {}, {}, "a hopeless"),
        ("a=trap", "GET", {}, {"retryBudget": {"percent": 0, "perSecond": 0}}, "a budget"),
        ("a=trap", "GET", {"backoffMs": 60_000, "maxBackoffMs": 60_000}, {"timeoutMs": 10}, "a deadline"),
    ],
)
def test_why_it_was_not_tried_again_is_on_the_server_span(
    make: Make,
    collector: Collector,
    tmp_path: Path,
    query: str,
    method: str,
    keys: JSON,
    pipeline_keys: JSON,
    told: str,
) -> None:
    config = pipeline(tmp_path, step("a", retries=2, **keys), **pipeline_keys)
    response = ask(make, config, query, method)
    server = attributes(collector.span(f"{method} /p/{{key}}"))
    if told == "a deadline" and response.status_code == 504:
        return  # a loaded machine: it has not even run in that time
    assert len(attempts(collector)) == 1
    assert server["starlette_wasm.pipeline.not_retried"] == (told,)
    assert server["error.type"]


def test_an_open_circuit_is_seen(make: Make, collector: Collector, tmp_path: Path) -> None:
    async def main() -> None:
        config = pipeline(tmp_path, step("a", retries=1, fallback={"function": "c"}), step("b"))
        config["circuitBreaker"] = {"minimumCalls": 2, "openSeconds": 3600}
        async with make(**config) as runtime, client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
            await http.get("/p/1?a=trap")
            collector._exporter.clear()
            assert (await http.get("/p/1")).text == "b(c())"
            assert (await http.get("/p/1?b=trap")).status_code == 500
            assert (await http.get("/p/1?b=trap")).status_code == 500
            assert (await http.get("/p/1")).status_code == 503

    run(main())
    metrics = collector.metrics()
    counted = {
        name.removeprefix("starlette_wasm."): {
            (point.attributes["faas.name"], point.attributes["faas.version"]): point.value
            for point in metrics[name].data.data_points
        }
        for name in ("starlette_wasm.pipeline.retries", "starlette_wasm.pipeline.fallbacks",
                     "starlette_wasm.circuit.openings")
    }  # fmt: skip
    assert counted == {
        "pipeline.retries": {("a", "1"): 1},
        "pipeline.fallbacks": {("a", "1"): 5},
        "circuit.openings": {("a", "1"): 1, ("b", "1"): 1},
    }
    assert attempts(collector)[:3] == [
        ("a", "a", 1, None, None, "function-overloaded"),
        ("c", "a", 2, "fallback", "circuit-open", None),
        ("b", "b", 1, None, None, None),
    ]
    refused, *_ = [span for span in collector.spans if span.name == "a"]
    assert attributes(refused)["starlette_wasm.circuit.state"] == "open"
    servers = [span for span in collector.spans if span.name == "GET /p/{key}"]
    assert "error.type" not in attributes(servers[0])
    assert attributes(servers[0])["starlette_wasm.pipeline.not_retried"] == ("a circuit-open",)
    assert attributes(servers[-1])["error.type"] == "function-overloaded"


def test_the_deadline_is_the_error_of_the_server_span(make: Make, collector: Collector, tmp_path: Path) -> None:
    add_function(tmp_path, "sleep60")
    config = pipeline(tmp_path, step("a"), {"parallel": [step("b"), step("sleep60")]}, timeoutMs=400)
    response = ask(make, config)
    assert (response.status_code, response.json()["title"]) == (504, "time limit exceeded")
    server = attributes(collector.span("GET /p/{key}"))
    assert server["error.type"] in ("pipeline-timeout", "execution-timeout")
    assert attributes(collector.span("sleep60"))["error.type"] in ("cancelled", "execution-timeout")


def test_branches_and_their_merge_are_siblings(make: Make, collector: Collector, tmp_path: Path) -> None:
    merge = step("a", name="join", retries=1, policy="counted")
    parallel = {"parallel": [step("b"), step("c", optional=True)], "merge": merge}
    assert ask(make, pipeline(tmp_path, parallel), "a=exit:1&c=404").status_code == 200
    first, *branches = collector.tree()
    assert first == "GET /p/{key}"
    assert sorted(branches) == [["a", ["wasm execute"]]] * 2 + [["b", ["wasm execute"]], ["c", ["wasm execute"]]]
    assert {
        attributes(span)["starlette_wasm.pipeline.step_index"] for span in collector.spans if span.name in "abc"
    } == {0}
    assert ("a", "join", 2, "retry", "function-exit", None) in attempts(collector)


def test_a_run_from_python_has_one_span_around_it(make: Make, collector: Collector, tmp_path: Path) -> None:
    async def main() -> None:
        config = pipeline(tmp_path, step("a", policy="counted", retries=1), step("b"))
        async with make(**config) as runtime:
            request = EdgeRequest(method="POST", headers={"traceparent": CALLER}, query={"b": "trap"})
            with pytest.raises(FunctionTrapped):
                await runtime.run_pipeline("/p/{key}", request)
            whole = collector.span("pipeline /p/{key}")
            assert collector.tree() == ["pipeline /p/{key}", ["a", ["wasm execute"]], ["b", ["wasm execute"]]]
            assert f"{whole.context.trace_id:032x}" == CALLER[3:35]
            assert whole.status.status_code is StatusCode.ERROR
            assert attributes(whole)["error.type"] == "wasm-trap"
            collector._exporter.clear()
            await runtime.run_pipeline("/p/{key}", EdgeRequest(method="POST"))
            assert collector.span("pipeline /p/{key}").status.status_code is StatusCode.UNSET

    run(main())
