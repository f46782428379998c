"""The id of a request: chosen by middleware outside, and one header for it on every answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apps import JSON, add_function, config, settings
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.datastructures import MutableHeaders
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_context import plugins
from starlette_context.middleware import RawContextMiddleware

from starlette_wasm import EdgeRequest, WasmMiddleware, WasmRoute, WasmRules, wasm_endpoint, wasm_route

ID = "11111111-2222-4333-8444-555555555555"
PATHS = ("/rule", "/route", "/endpoint", "/handler", "/edge", "/exit", "/exit-route", "/exit-endpoint")


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    add_function(tmp_path, "exit3")
    add_function(tmp_path, "echo")
    return config(tmp_path, {"/rule": "echo", "/exit": "exit3"}, functions=["echo"])


@wasm_route("/handler", function="echo")
async def handler(request: Any, call: Any) -> Any:
    return await call(request)


@wasm_route("/edge", function="echo")
async def edge(request: Any, call: Any) -> Any:
    assert request.headers  # kept by Starlette before the call
    return await call(EdgeRequest(path="/edge"))


def client(wasm: JSON, *, behind: bool = False, **named: Any) -> FastAPI:
    app = FastAPI()
    routes: list[Any] = [
        handler,
        edge,
        WasmRoute("/route", function="echo"),
        WasmRoute("/exit-route", function="exit3"),
    ]
    app.router.routes += [*routes, WasmRules()] if behind else routes
    app.add_api_route("/endpoint", wasm_endpoint("echo"), methods=["GET", "POST"])
    app.add_api_route("/exit-endpoint", wasm_endpoint("exit3"))
    app.add_middleware(WasmMiddleware, config=wasm, settings=settings(**named))
    return app


def ids(app: FastAPI, path: str, name: str = "x-request-id", **headers: str) -> tuple[list[str], str]:
    """The headers of that name on the answer, and the id that the function was told."""
    with TestClient(app) as http:
        answer = http.get(path, headers=headers)
    said = answer.json()
    return answer.headers.get_list(name), said["context"]["request_id"] if "context" in said else said["request_id"]


class InTheHeaders:
    """Puts an id into the headers of the request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            MutableHeaders(scope=scope)["x-request-id"] = ID
        await self.app(scope, receive, send)


class InTheState:
    """Puts an id into the state of the request, in spite of a header."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["request_id"] = ID
        await self.app(scope, receive, send)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("middleware", [InTheHeaders, InTheState])
def test_the_id_of_middleware_outside_is_kept(wasm: JSON, middleware: Callable[..., ASGIApp], path: str) -> None:
    app = client(wasm)
    app.add_middleware(middleware)  # type: ignore[arg-type]
    assert ids(app, path, **{"x-request-id": "clients"}) == ([ID], ID)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_correlation_ids_are_sent_once(wasm: JSON, path: str, behind: bool) -> None:
    app = client(wasm, behind=behind)
    app.add_middleware(CorrelationIdMiddleware)
    (sent,), told = ids(app, path)
    assert sent.replace("-", "") == told.replace("-", "")
    assert ids(app, path, **{"x-request-id": ID})[0] == [ID]


@pytest.mark.parametrize("name", ["x-request-id", "x-correlation-id"])
@pytest.mark.parametrize("path", PATHS)
def test_ids_of_starlette_context_are_sent_once(wasm: JSON, path: str, name: str) -> None:
    app = client(wasm, request_id_header=name)
    context = (plugins.RequestIdPlugin(), plugins.CorrelationIdPlugin())
    app.add_middleware(RawContextMiddleware, plugins=context)
    (sent,), told = ids(app, path, name)
    assert sent == told
    assert ids(app, path, name, **{name: ID}) == ([ID], ID)


def test_a_context_without_ids_changes_nothing(wasm: JSON) -> None:
    app = client(wasm)
    app.add_middleware(RawContextMiddleware, plugins=(plugins.UserAgentPlugin(),))
    assert ids(app, "/rule", **{"x-request-id": ID}) == ([ID], ID)


def test_a_correlation_header_may_have_another_name(wasm: JSON) -> None:
    app = client(wasm)
    app.add_middleware(CorrelationIdMiddleware, header_name="x-trace")
    for path in PATHS:
        assert ids(app, path, **{"x-trace": ID}) == ([ID], ID)
        assert ids(app, path, "x-trace", **{"x-trace": ID}) == ([ID], ID)


def test_a_correlation_id_stands_around_the_whole_app(wasm: JSON) -> None:
    app: Any = CorrelationIdMiddleware(client(wasm))
    for path in PATHS:
        assert ids(app, path, **{"x-request-id": ID}) == ([ID], ID)


@pytest.mark.parametrize("path", PATHS)
def test_the_header_may_have_another_name(wasm: JSON, path: str) -> None:
    app = client(wasm, request_id_header="X-Correlation-ID")
    named = {"x-request-id": "other", "x-correlation-id": ID}
    assert ids(app, path, "x-correlation-id", **named) == ([ID], ID)
    assert ids(app, path, **named)[0] == []
    (made,), told = ids(app, path, "x-correlation-id", **{"x-request-id": "other"})
    assert made == told != "other"


@pytest.mark.parametrize("name", ["", "none"])
@pytest.mark.parametrize("path", PATHS)
def test_the_header_may_be_left_out(wasm: JSON, path: str, name: str) -> None:
    app = client(wasm, request_id_header=name)
    assert ids(app, path, **{"x-request-id": ID}) == ([], ID)


def test_an_odd_id_in_the_state_is_not_taken(wasm: JSON) -> None:
    app = client(wasm)

    @app.middleware("http")
    async def odd(request: Request, call_next: Any) -> Any:
        request.state.request_id = "a b\r\n"
        return await call_next(request)

    assert ids(app, "/rule", **{"x-request-id": ID}) == ([ID], ID)


def test_a_405_carries_the_id(tmp_path: Path) -> None:
    wasm = config(tmp_path, functions=["echo"])
    wasm["rules"] = [{"pathPattern": "/f", "functionName": "echo", "methods": ["PUT"]}]
    app = client(wasm | {"functionsDir": wasm["functionsDir"]}, request_id_header="x-other")
    app.router.routes[:] = []
    assert ids(app, "/f", "x-other", **{"x-other": ID}) == ([ID], ID)


@pytest.mark.parametrize("name", ["a b", "content-length", "x:y", "ü"])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"use for example|give another"):
        settings(request_id_header=name)
