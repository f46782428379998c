"""What a tracing backend is told, by two uvicorn workers and a real collector, span by span."""

from __future__ import annotations

import json
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
from apps import config_file
from collector import Backend, Rotel, Span, wait
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
    config_file(
        folder,
        {
            "/echo/{key}": "echo",
            "/fetch": {"functionName": "edge_c", "policy": "web"},
            "/sleep": {"functionName": "sleep60", "policy": "short"},
            "/trap": "trap",
        },
        functions=["trap"],
        policies={"web": upstream.policy, "short": {"executionTimeoutMs": 400}},
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

    def spans(self, count: int) -> list[Span]:
        """All of them, once there are ``count``."""
        wait(
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

    wait(both, 60)
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


def test_a_warm_request_has_three_spans_and_the_guest_knows_its_own(server: Server, backend: Backend) -> None:
    asked = warm(server, backend, "/echo/7")
    found = asked.check(
        "GET /echo/{key}",
        "SERVER",
        serves("/echo/{key}", "echo"),
        ["echo", "INTERNAL", call(asked), ["wasm execute", "INTERNAL", RAN]],
    )
    execute = found["/GET /echo/{key}/echo/wasm execute"]
    seen = asked.response.json()
    assert re.fullmatch(f"00-{asked.trace}-{execute.id}-0[13]", seen["context"]["traceparent"])
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
        [
            "trap",
            "INTERNAL",
            call(asked) | {"error": True, "error.type": "wasm-trap"},
            ["wasm execute", "INTERNAL", RAN | {"error": True, "error.type": "wasm-trap"}],
        ],
    )
    wait(lambda: any(record.trace == asked.trace for record in list(backend.records)), 60)
    (record,) = [record for record in backend.records if record.trace == asked.trace]
    assert record.span == found["/GET /trap/trap"].id
    assert record.severity == "ERROR"
    assert record.body.startswith("trap v1: wasm trap: integer divide by zero\n  at trap_div0\n  at innermost\n")
    assert record.attributes["error.type"] == "wasm-trap"
    wanted = {"faas.invoke_duration", "faas.invocations", "faas.errors"}
    wait(lambda: wanted <= backend.metrics, 30, lambda: wanted - backend.metrics)


def test_both_workers_were_asked_and_no_span_is_without_its_parent(server: Server, backend: Backend) -> None:
    ids = {span.id for span in backend.spans}
    roots = [span for span in backend.spans if span.kind == "SERVER"]
    assert len({span.resource["service.instance.id"] for span in roots}) == WORKERS
    assert {span.resource["service.name"] for span in roots} == {"starlette-wasm-sample"}
    assert [span.name for span in backend.spans if span.kind != "SERVER" and span.parent not in ids] == []
    assert len({span.trace for span in roots}) == len(roots)


def warm(server: Server, backend: Backend, path: str, **kwargs: Any) -> Asked:
    """Asks until a worker that had its cold start answers."""
    for _ in range(50):
        asked = Asked(server, backend, path, **kwargs)
        spans = asked.spans(3)
        if not any(span.attributes.get("faas.coldstart") for span in spans):
            return asked
    raise AssertionError(json.dumps([span.name for span in spans]))
