"""Guards that do not guard are named at start, with each rule and route that they miss."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from apps import JSON, config, native, settings
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Security
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from starlette_wasm import WasmMiddleware, WasmRoute, WasmRules, wasm_endpoint


async def guard() -> None:
    raise HTTPException(401)


class Quota:
    """A pure ASGI middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Audit(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    return config(tmp_path, {"/echo": "echo", "/files/{name}": "echo"})


def started(app: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings of a start."""
    caplog.clear()
    with TestClient(app):
        pass
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def ours(wasm: JSON) -> Middleware:
    return Middleware(WasmMiddleware, config=wasm, settings=settings())


def test_middleware_outside_is_not_warned_of(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    outside = [Middleware(CORSMiddleware), Middleware(Quota), ours(wasm)]
    assert started(Starlette(middleware=outside), caplog) == []
    app = FastAPI()
    app.add_middleware(WasmMiddleware, config=wasm, settings=settings())
    app.add_middleware(AuthenticationMiddleware, backend=None)
    assert started(app, caplog) == []


def test_one_warning_names_all_middleware_inside(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    inside = [Middleware(CORSMiddleware), Middleware(TrustedHostMiddleware), Middleware(Quota), Middleware(Audit)]
    (warning,) = started(Starlette(middleware=[ours(wasm), *inside]), caplog)
    for name in ("CORSMiddleware", "TrustedHostMiddleware", "Quota", "Audit"):
        assert f"{name} (inside WasmMiddleware) misses the rule /echo, rule /files/{{name}}" in warning
    assert "before it in Starlette's list, added after it with add_middleware" in warning


def test_a_function_as_middleware_is_named(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()

    @app.middleware("http")
    async def check_token(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app.add_middleware(WasmMiddleware, config=wasm, settings=settings())
    (warning,) = started(app, caplog)
    assert "check_token (inside WasmMiddleware) misses the rule /echo" in warning


def test_middleware_of_a_wrapped_app_is_named(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    app = WasmMiddleware(Quota(Starlette(middleware=[Middleware(Audit)])), wasm, settings=settings())
    (warning,) = started(app, caplog)
    assert "Quota (inside" in warning
    assert "Audit (inside" in warning


def test_dependencies_that_miss_rules_and_routes_are_named(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    async def other() -> None:
        raise HTTPException(403)

    app = FastAPI(dependencies=[Depends(guard)])
    router = APIRouter(dependencies=[Security(other)])
    router.routes.append(WasmRoute("/in-router", function="echo"))
    router.add_api_route("/deeper/endpoint", wasm_endpoint("echo"))
    app.include_router(router, prefix="/files")
    app.router.routes.append(WasmRoute("/in-app", function="echo"))
    app.router.routes.append(Mount("/deep", routes=[WasmRoute("/in-mount", function="echo")]))
    app.add_middleware(WasmMiddleware, config=wasm, settings=settings())
    warnings = started(app, caplog)
    (warning,) = (each for each in warnings if "guards" in each)
    routes = "route /files/in-router, route /in-app, route /deep/in-mount"
    assert f"Depends(guard) misses the rule /echo, rule /files/{{name}}, {routes}" in warning
    assert "Security(other) misses the rule /files/{name}, route /files/in-router" in warning
    assert "route /files/deeper/endpoint" not in warning
    assert TestClient(app).get("/files/deeper/endpoint").status_code == 401


def test_guards_of_a_mount_that_rules_pass_are_named(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    sub = Starlette(routes=[Route("/x", native)], middleware=[Middleware(Audit)])
    listed = Mount("/echo", routes=[Route("/y", native)], middleware=[Middleware(Quota)])
    app = Starlette(routes=[Mount("/files", app=sub), listed], middleware=[ours(wasm)])
    (warning,) = (each for each in started(app, caplog) if "guards" in each)
    assert "Audit (of the mount at /files) misses the rule /files/{name}" in warning
    assert "Quota (of the mount at /echo) misses the rule /echo" in warning


def test_middleware_of_routes_and_routers_is_named(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    inner = Router([Route("/x", native)], middleware=[Middleware(Audit)])
    guarded = [Route(path, native, middleware=[Middleware(Quota)]) for path in ("/files/{x}", "/native")]
    app = Starlette(routes=[*guarded, Mount("/echo", app=inner)], middleware=[ours(wasm)])
    (warning,) = (each for each in started(app, caplog) if "guards" in each)
    assert "Quota (of the route /files/{x}) misses the rule /files/{name}" in warning
    assert "Audit (of the mount at /echo) misses the rule /echo" in warning
    assert "/native" not in warning


def test_a_route_behind_a_mount_at_the_root_is_named(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI(openapi_url=None)
    app.router.routes.append(WasmRoute("/first", function="echo"))
    app.mount("/", StaticFiles(directory=Path(__file__).parent))
    app.router.routes.append(WasmRoute("/raw/{id:int}", function="echo", methods=["POST"]))
    app.add_middleware(WasmMiddleware, config={**wasm, "rules": []}, settings=settings())
    assert started(app, caplog) == [
        "the route /raw/{id:int} gets no request: the mount at / comes before it and takes all of them; put it first"
    ]


def test_a_route_behind_a_wider_one_is_named(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    routes = [
        Route("/a/{id:int}", native),
        WasmRoute("/a/{name}", function="echo"),
        Route("/{rest:path}", native),
        WasmRoute("/b", function="echo"),
    ]
    (warning,) = started(Starlette(routes=routes, middleware=[ours({**wasm, "rules": []})]), caplog)
    assert warning.startswith("the route /b gets no request: the route /{rest:path} comes before it")


def test_rules_behind_everything_have_no_trap(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    app = Starlette(routes=[WasmRules()], middleware=[ours(wasm), Middleware(CORSMiddleware)])
    assert started(app, caplog) == []
    rules = WasmRules(wasm, settings=settings())
    app = FastAPI(dependencies=[Depends(guard)])
    app.include_router(rules.router())
    assert started(app, caplog) == []


def test_rules_among_fastapis_routes_are_told_of_dependencies(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    rules = WasmRules(wasm, settings=settings())
    app = FastAPI(dependencies=[Depends(guard)], lifespan=rules.lifespan)
    app.router.routes.append(rules)
    (warning,) = started(app, caplog)
    assert "Depends(guard) misses the rule /echo, rule /files/{name}" in warning


def as_function(app: ASGIApp) -> ASGIApp:
    async def quota(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return quota


class Odd:
    """A middleware that keeps what it wraps under a name of its own."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._inner(scope, receive, send)


async def applied(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


@pytest.mark.parametrize(
    ("around", "name"), [(as_function, "as_function"), (Odd, "Odd"), (lambda app: partial(applied, app), "applied")]
)
def test_middleware_of_any_make_is_named(
    wasm: JSON, caplog: pytest.LogCaptureFixture, around: Callable[[ASGIApp], ASGIApp], name: str
) -> None:
    inner = FastAPI(dependencies=[Depends(guard)])
    inner.router.routes.append(WasmRoute("/r", function="echo"))
    app = WasmMiddleware(around(Quota(inner)), wasm, settings=settings())
    (warning,) = started(app, caplog)
    for each in (name, "Quota"):
        assert f"{each} (inside WasmMiddleware) misses the rule /echo" in warning
    assert "Depends(guard) misses the rule /echo, rule /files/{name}, route /r" in warning


def test_rules_without_a_lifespan_warn_at_a_request(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI(dependencies=[Depends(guard)])
    app.router.routes.append(WasmRules(wasm, settings=settings()))
    with TestClient(app) as http:
        for _ in range(2):
            assert http.get("/echo").status_code == 200
    (warning,) = [record.getMessage() for record in caplog.records if "guard" in record.getMessage()]
    assert "Depends(guard) misses the rule /echo, rule /files/{name}" in warning
