"""What a tracing backend is told, by two uvicorn workers and a real collector, span by span."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from apps import add_function, config_file, wait_until
from collector import Backend, Rotel, Span
from drawing import draw
from processes import ROOT, Server
from upstream import Upstream

# The app exports as the sample app does, by what is in the environment.
APP = """\
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from sample_app import telemetry
from starlette_wasm import EdgeRequest, FunctionTrapped, WasmMiddleware, wasm_route


@wasm_route("/retried", function="trap", policy="short")
async def retried(request, call):
    try:
        return await call(EdgeRequest(query={"mode": "unreachable"}))
    except FunctionTrapped:
        return await call(EdgeRequest(query={}))


inner = Starlette(
    routes=[retried],
    middleware=[telemetry.export(), Middleware(WasmMiddleware, config="wasm.yaml")],
)


async def app(scope, receive, send):
    if scope["path"] == "/health":  # what asks whether the server is up must start nothing
        await PlainTextResponse("up")(scope, receive, send)
    else:
        await inner(scope, receive, send)
"""
WORKERS = 2
INVOCATION = {"faas.version": "1", "starlette_wasm.attempt": 1}
RAN = {"starlette_wasm.guest.cpu_s": ..., "starlette_wasm.guest.memory_peak": ..., "starlette_wasm.host_calls": ...}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def rotel(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Rotel]:
    rotel = Rotel(tmp_path_factory.mktemp("rotel"), backend)
    yield rotel
    rotel.close()


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server], folder: Path, upstream: Upstream, rotel: Rotel) -> Server:
    """Without lifespan: the first request of each worker is a cold one."""
    for version in ("1", "2"):
        add_function(folder, "tried", "echo", version)
    add_function(folder, "shaky", "stage")
    shaky = {"function": "shaky", "policy": "counted", "retries": 1, "backoffMs": 0}
    half = {"canaryWeightPercent": 50, "stepSeconds": 3600}
    config_file(
        folder,
        {
            "/echo/{key}": "echo",
            "/fetch": {"functionName": "edge_c", "policy": "web"},
            "/sleep": {"functionName": "sleep60", "policy": "short"},
            "/trap": "trap",
            "/tried": "tried",
        },
        functions=["trap"],
        policies={
            "web": upstream.policy,
            "short": {"executionTimeoutMs": 400},
            "counted": {"kvNamespaces": ["calls"]},
        },
        canaries=[{"functionName": "tried", "stableVersion": "1", "canaryVersion": "2", **half}],
        pipelines=[
            {"path": "/steps", "steps": [shaky, {"function": "echo", "name": "last"}]},
            {"path": "/instead", "steps": [{**shaky, "fallback": {"function": "echo"}}]},
        ],
        exposeEndpoints=False,
    )
    (folder / "traced.py").write_text(APP)
    return serve(
        folder,
        "traced:app",
        *("--workers", str(WORKERS), "--lifespan", "off", "--log-level", "warning"),
        PYTHONPATH=f"{folder}{os.pathsep}{ROOT}",
        OTEL_EXPORTER_OTLP_ENDPOINT=rotel.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
        OTEL_BLRP_SCHEDULE_DELAY="100",
        OTEL_METRIC_EXPORT_INTERVAL="500",
    )


class Asked:
    """A request with a trace of its own, and what was received of it."""

    def __init__(self, server: Server, backend: Backend, path: str, method: str = "GET", **kwargs: Any) -> None:
        self._backend = backend
        self.trace, self.caller = secrets.token_hex(16), secrets.token_hex(8)
        headers = {"traceparent": f"00-{self.trace}-{self.caller}-01", "x-request-id": self.caller}
        self.response = httpx.request(method, server.url + path, headers=headers, timeout=60, **kwargs)

    def server(self) -> Span:
        """The server span, which ends after all others."""
        wait_until(lambda: any(span.kind == "SERVER" for span in self._backend.trace(self.trace)), 180)
        (server,) = [span for span in self._backend.trace(self.trace) if span.kind == "SERVER"]
        return server

    def spans(self, count: int) -> list[Span]:
        """All of them, once there are ``count``."""
        wait_until(
            lambda: len(self._backend.trace(self.trace)) >= count,
            30,
            lambda: [span.name for span in self._backend.trace(self.trace)],
        )
        return self._backend.trace(self.trace)

    def check(self, *tree: Any) -> dict[str, Span]:
        """Hold what was received to ``(name, kind, attributes, child...)``; gives the spans by path in the tree.

        Attributes with the value ``...`` may have any; a key ``error`` stands for the status. There is one root, whose
        parent is the caller's, and every other span has its parent in the trace.
        """
        spans = self.spans(_size(tree))
        assert len(spans) == _size(tree), [span.name for span in spans]
        assert len({span.id for span in spans}) == len(spans)
        (root,) = [span for span in spans if span.parent == self.caller]
        assert {span.parent for span in spans if span is not root} <= {span.id for span in spans}
        found: dict[str, Span] = {}
        self._check(root, tree, spans, "", found)
        return found

    def _check(self, span: Span, tree: Any, spans: list[Span], path: str, found: dict[str, Span]) -> None:
        name, kind, attributes, *children = tree
        assert (span.name, span.kind) == (name, kind)
        assert span.error is attributes.get("error", False), span
        own = {key: value for key, value in span.attributes.items() if span.scope.startswith("starlette_wasm")}
        expected = {key: value for key, value in attributes.items() if key != "error"}
        if own:
            assert own.keys() == expected.keys(), span
        assert {key: span.attributes.get(key) for key, value in expected.items() if value is not ...} == {
            key: value for key, value in expected.items() if value is not ...
        }
        assert expected.keys() <= span.attributes.keys()
        here = f"{path}/{name}"
        found[here if here not in found else f"{here}#2"] = span
        mine = [each for each in spans if each.parent == span.id]
        assert [each.name for each in mine] == [child[0] for child in children]
        for each, child in zip(mine, children, strict=True):
            assert span.begin <= each.begin <= each.end <= span.end
            self._check(each, child, spans, here, found)


def _size(tree: Any) -> int:
    return 1 + sum(map(_size, tree[3:]))


def serves(route: str, function: str, *, cold: bool = False, by: str = "weight", **more: Any) -> dict[str, Any]:
    """The attributes of a server span."""
    found = {
        "http.route": route,
        "faas.trigger": "http",
        "faas.name": function,
        "faas.coldstart": cold,
        "starlette_wasm.route.variant": "stable",
        "starlette_wasm.route.reason": by,
        **more,
    }
    return found | ({"starlette_wasm.route.weight": 100} if by == "weight" else {})


def call(asked: Asked, **more: Any) -> dict[str, Any]:
    """The attributes of a function's span."""
    return {**INVOCATION, "faas.invocation_id": asked.caller, **more}


def step(asked: Asked, name: str, index: int, **more: Any) -> dict[str, Any]:
    """The attributes of the span of an attempt in a pipeline; ``more`` are of ``starlette_wasm.attempt``."""
    told = {f"starlette_wasm.attempt.{key}": value for key, value in more.items()}
    return call(asked, **{"starlette_wasm.pipeline.step": name, "starlette_wasm.pipeline.step_index": index}, **told)


def is_of(traceparent: str, asked: Asked, span: Span) -> bool:
    """Whether a guest was given that span as its own."""
    return re.fullmatch(f"00-{asked.trace}-{span.id}-0[13]", traceparent) is not None


def test_the_first_request_of_a_worker_shows_its_cold_start(server: Server, backend: Backend) -> None:
    """Both workers are asked until each has had one; compiling is in the trace where the cache had nothing."""
    cold: dict[str, Asked] = {}

    def ask(_: int) -> Asked:
        return Asked(server, backend, "/echo/cold")

    def both() -> bool:
        with ThreadPoolExecutor(4) as pool:
            asked = [each for each in pool.map(ask, range(4)) if each.response.json()["context"]["cold_start"]]
        cold.update({each.spans(4)[0].resource["service.instance.id"]: each for each in asked})
        return len(cold) == WORKERS

    wait_until(both, 180)
    compiled = 0
    for asked in cold.values():
        acquire: list[Any] = ["wasm acquire", "INTERNAL", {}]
        if any(span.name == "wasm compile" for span in asked.spans(4)):
            acquire.append(["wasm compile", "INTERNAL", {}])
            compiled += 1
        asked.check(
            "GET /echo/{key}",
            "SERVER",
            serves("/echo/{key}", "echo", cold=True),
            ["echo", "INTERNAL", call(asked), acquire, ["wasm execute", "INTERNAL", RAN]],
        )
        assert asked.response.json()["context"]["cold_start"] is True
    assert compiled <= WORKERS


def test_a_warm_request_has_two_spans_and_the_guest_knows_its_own(server: Server, backend: Backend) -> None:
    asked = warm(server, backend, "/echo/7")
    found = asked.check(
        "GET /echo/{key}",
        "SERVER",
        serves("/echo/{key}", "echo"),
        ["echo", "INTERNAL", call(asked) | RAN],
    )
    seen = asked.response.json()
    assert is_of(seen["context"]["traceparent"], asked, found["/GET /echo/{key}/echo"])
    assert seen["headers"]["traceparent"] == seen["context"]["traceparent"]


def test_a_retry_is_a_second_call_and_no_error_of_the_request(server: Server, backend: Backend) -> None:
    asked = warm(server, backend, "/retried")
    assert asked.response.status_code == 200
    trapped = {"error": True, "error.type": "wasm-trap"}
    asked.check(
        "GET /retried",
        "SERVER",
        serves("/retried", "trap", by="route"),
        ["trap", "INTERNAL", call(asked) | trapped, ["wasm execute", "INTERNAL", RAN | trapped]],
        ["trap", "INTERNAL", call(asked) | {"starlette_wasm.attempt": 2}, ["wasm execute", "INTERNAL", RAN]],
    )


def test_a_canary_that_answers_is_named_with_its_share(server: Server, backend: Backend) -> None:
    def of(variant: str) -> Asked:
        for _ in range(50):
            asked = warm(server, backend, "/tried")
            if asked.server().attributes["starlette_wasm.route.variant"] == variant:
                return asked
        raise AssertionError(variant)

    for variant, version in (("canary", "2"), ("stable", "1")):
        asked = of(variant)
        told = {"starlette_wasm.route.variant": variant, "starlette_wasm.route.weight": 50}
        found = asked.check(
            "GET /tried",
            "SERVER",
            serves("/tried", "tried", by="step", **told),
            ["tried", "INTERNAL", call(asked) | RAN | {"faas.version": version}],
        )
        seen = asked.response.json()["context"]
        assert seen["version"] == version
        assert is_of(seen["traceparent"], asked, found["/GET /tried/tried"])


def test_a_retried_step_is_two_attempts_under_a_server_span_that_is_well(server: Server, backend: Backend) -> None:
    # Each request is two calls, and the first of them is to fail.
    asked = warm(server, backend, lambda turn: f"/steps?shaky=trap:{2 * turn + 1}")
    assert asked.response.status_code == 200
    ran = RAN | {"starlette_wasm.host_calls": 1}
    trapped = {"error": True, "error.type": "wasm-trap"}
    again = step(asked, "shaky", 0, role="retry", cause="wasm-trap") | {"starlette_wasm.attempt": 2}
    found = asked.check(
        "GET /steps",
        "SERVER",
        serves("/steps", "shaky", by="pipeline"),
        ["shaky", "INTERNAL", step(asked, "shaky", 0) | trapped, ["wasm execute", "INTERNAL", ran | trapped]],
        ["shaky", "INTERNAL", again, ["wasm execute", "INTERNAL", ran]],
        ["echo", "INTERNAL", step(asked, "last", 1), ["wasm execute", "INTERNAL", RAN]],
    )
    attributes = found["/GET /steps"].attributes
    assert attributes.keys().isdisjoint({"error.type", "starlette_wasm.route.weight"})
    seen = asked.response.json()
    assert is_of(seen["headers"]["x-trace"], asked, found["/GET /steps/shaky/wasm execute#2"])
    assert is_of(seen["headers"]["traceparent"], asked, found["/GET /steps/echo/wasm execute"])


def test_a_fallback_is_the_last_attempt_and_tells_why(server: Server, backend: Backend) -> None:
    asked = warm(server, backend, "/instead?shaky=503")
    ran = RAN | {"starlette_wasm.host_calls": 1}
    again = step(asked, "shaky", 0, role="retry", cause="503") | {"starlette_wasm.attempt": 2}
    instead = step(asked, "shaky", 0, role="fallback", cause="503") | {"starlette_wasm.attempt": 3}
    found = asked.check(
        "GET /instead",
        "SERVER",
        serves("/instead", "shaky", by="pipeline"),
        ["shaky", "INTERNAL", step(asked, "shaky", 0), ["wasm execute", "INTERNAL", ran]],
        ["shaky", "INTERNAL", again, ["wasm execute", "INTERNAL", ran]],
        ["echo", "INTERNAL", instead, ["wasm execute", "INTERNAL", RAN]],
    )
    assert "error.type" not in found["/GET /instead"].attributes
    assert is_of(asked.response.json()["headers"]["traceparent"], asked, found["/GET /instead/echo/wasm execute"])


def test_outbound_requests_and_spans_of_the_guest_are_under_its_own(
    server: Server, backend: Backend, upstream: Upstream
) -> None:
    commands = [
        {"op": "trace.start", "name": "look up", "attributes": {"key": "k"}},
        {"op": "trace.event", "name": "asked"},
        {"op": "http.fetch", "url": f"{upstream.url}/moved?token=secret"},
        {"op": "trace.end", "span": 1},
    ]
    asked = warm(server, backend, "/fetch", method="POST", json=commands)
    assert [each["ok"] for each in asked.response.json()] == [True] * 4
    host, port = upstream.host.split(":")
    sent = {"http.request.method": "GET", "server.address": host, "server.port": int(port)}
    moved = sent | {"url.full": f"{upstream.url}/moved?REDACTED", "http.response.status_code": 302}
    here = sent | {"url.full": f"{upstream.url}/here", "http.response.status_code": 200, "http.request.resend_count": 1}
    found = asked.check(
        "POST /fetch",
        "SERVER",
        serves("/fetch", "edge_c"),
        [
            "edge_c",
            "INTERNAL",
            call(asked),
            [
                "wasm execute",
                "INTERNAL",
                RAN | {"starlette_wasm.host_calls": 4},
                ["look up", "INTERNAL", {"guest.key": "k"}, ["GET", "CLIENT", moved], ["GET", "CLIENT", here]],
            ],
        ],
    )
    guests = [span for span in found.values() if span.scope == "starlette_wasm.guest"]
    assert [(span.name, span.events) for span in guests] == [("look up", ("asked",))]
    clients = [span for span in asked.spans(6) if span.kind == "CLIENT"]
    picture = draw(asked.spans(6))
    assert [picture.count(f">{span.name}</text>") for span in found.values()] == [1, 1, 1, 1, 2, 2]
    ElementTree.fromstring(picture)
    assert [each[:52] for each in upstream.seen[-2:]] == [f"00-{asked.trace}-{span.id}" for span in clients]


def test_a_timeout_marks_every_span_of_the_request(server: Server, backend: Backend) -> None:
    asked = warm(server, backend, "/sleep")
    assert asked.response.status_code == 504
    late = {"error": True, "error.type": "execution-timeout"}
    asked.check(
        "GET /sleep",
        "SERVER",
        serves("/sleep", "sleep60") | late,
        ["sleep60", "INTERNAL", call(asked) | late, ["wasm execute", "INTERNAL", RAN | late]],
    )


def test_logs_belong_to_the_spans_and_metrics_arrive(server: Server, backend: Backend) -> None:
    asked = warm(server, backend, "/trap?mode=div0")
    found = asked.check(
        "GET /trap",
        "SERVER",
        serves("/trap", "trap") | {"error": True, "error.type": "wasm-trap"},
        ["trap", "INTERNAL", call(asked) | RAN | {"error": True, "error.type": "wasm-trap"}],
    )
    wait_until(lambda: any(record.trace == asked.trace for record in list(backend.records)), 180)
    (record,) = [record for record in backend.records if record.trace == asked.trace]
    assert record.span == found["/GET /trap/trap"].id
    assert record.severity == "ERROR"
    assert record.body.startswith(
        "trap (wasm-trap): trap v1: wasm trap: integer divide by zero\n  at trap_div0\n  at innermost\n"
    )
    assert record.attributes["error.type"] == "wasm-trap"
    wanted = {"faas.invoke_duration", "faas.invocations", "faas.errors"}
    wait_until(lambda: wanted <= backend.metrics, 30, lambda: wanted - backend.metrics)


def test_both_workers_were_asked_and_no_span_is_without_its_parent(server: Server, backend: Backend) -> None:
    ids = {span.id for span in backend.spans}
    roots = [span for span in backend.spans if span.kind == "SERVER"]
    assert len({span.resource["service.instance.id"] for span in roots}) == WORKERS
    assert {span.resource["service.name"] for span in roots} == {"starlette-wasm-sample"}
    assert [span.name for span in backend.spans if span.kind != "SERVER" and span.parent not in ids] == []
    assert len({span.trace for span in roots}) == len(roots)


def warm(server: Server, backend: Backend, path: str | Callable[[int], str], **kwargs: Any) -> Asked:
    """Asks until a worker that had its cold start answers; ``path`` may depend on how often it was asked before."""
    for turn in range(50):
        asked = Asked(server, backend, path if isinstance(path, str) else path(turn), **kwargs)
        if not asked.server().attributes["faas.coldstart"]:
            return asked
    raise AssertionError(f"always cold: {asked.trace}")
