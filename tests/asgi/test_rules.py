"""WasmRules: rules behind everything that an app has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from apps import JSON, config, native, settings
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from starlette_wasm import ConfigError, WasmMiddleware, WasmRoute, WasmRules


class Guard(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-guarded"] = "yes"
        return response


def token(request: Request) -> None:
    if request.headers.get("authorization") != "Bearer secret":
        raise HTTPException(401)


AUTHORIZED = {"authorization": "Bearer secret"}


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    return config(tmp_path, {"/echo": "echo", "/files/{name}": "echo"})


def test_rules_run_behind_middleware_and_native_routes(wasm: JSON) -> None:
    rules = WasmRules(wasm, settings=settings())
    app = Starlette(
        routes=[Route("/echo/native", native), rules], lifespan=rules.lifespan, middleware=[Middleware(Guard)]
    )
    with TestClient(app) as http:
        answer = http.post("/echo/deep?q=1", content=b"body")
        assert (answer.json()["path"], answer.json()["body"], answer.headers["x-guarded"]) == (
            "/echo/deep",
            "body",
            "yes",
        )
        assert http.get("/files/a").json()["params"] == {"name": "a"}
        assert http.get("/echo/native").text == "native /echo/native"
        assert http.get("/nowhere").status_code == 404
    assert rules.runtime is not None
    assert rules.runtime.state == "closed"


@pytest.mark.parametrize("router", [False, True])
def test_rules_without_any_config_stop_the_start(router: bool) -> None:
    rules = WasmRules()
    app: Any = Starlette(routes=[rules], lifespan=rules.lifespan)
    if router:
        app = FastAPI()
        app.include_router(rules.router())
    with pytest.raises(ConfigError, match="WasmRules has no config; give it config= or runtime="), TestClient(app):
        pass


@pytest.mark.parametrize("outside", [False, True])
def test_rules_of_a_middleware_start_with_it(wasm: JSON, outside: bool) -> None:
    rules = WasmRules()
    app: Any = Starlette(routes=[rules], lifespan=rules.lifespan)
    if outside:
        app = WasmMiddleware(app, wasm, settings=settings())
    else:
        app.add_middleware(WasmMiddleware, config=wasm, settings=settings())
    with TestClient(app) as http:
        assert http.get("/echo").json()["path"] == "/echo"


def test_rules_without_lifespan_start_at_the_first_request(wasm: JSON) -> None:
    http = TestClient(Starlette(routes=[WasmRules(wasm, settings=settings())]))
    assert [http.get(path).status_code for path in ("/nowhere", "/echo", "/nowhere")] == [404, 200, 404]


def test_rules_take_the_place_of_the_middlewares(wasm: JSON) -> None:
    routes = [Route("/echo/native", native), WasmRoute("/route", function="echo"), WasmRules()]
    middleware = [Middleware(WasmMiddleware, config=wasm, settings=settings()), Middleware(Guard)]
    with TestClient(Starlette(routes=routes, middleware=middleware)) as http:
        assert http.get("/echo").headers["x-guarded"] == "yes"
        assert http.get("/route").json()["path"] == "/route"
        assert http.get("/echo/native").text == "native /echo/native"
        assert http.get("/nowhere").status_code == 404


def test_rules_in_a_mount_see_the_path_within(wasm: JSON) -> None:
    rules = WasmRules(wasm, settings=settings())
    app = Starlette(routes=[Mount("/edge", routes=[rules])], lifespan=rules.lifespan)
    with TestClient(app) as http:
        assert http.get("/edge/echo").json()["path"] == "/echo"
        assert http.get("/echo").status_code == 404


@pytest.mark.parametrize("prefix", ["", "/edge"])
def test_dependencies_of_fastapi_run_for_rules_alone(wasm: JSON, prefix: str) -> None:
    app = FastAPI()
    rules = WasmRules(wasm, settings=settings())
    app.include_router(rules.router(), prefix=prefix, dependencies=[Depends(token)])
    with TestClient(app) as http:
        assert [http.get(f"{prefix}{path}").status_code for path in ("/echo", "/files/a", "/nowhere")] == [
            401,
            401,
            404,
        ]
        seen = http.put(f"{prefix}/files/a", headers=AUTHORIZED, content=b"body").json()
        assert (seen["path"], seen["params"], seen["body"]) == ("/files/a", {"name": "a"}, "body")
        assert app.openapi()["paths"] == {}


def test_dependencies_of_the_app_run_for_rules(wasm: JSON) -> None:
    app = FastAPI(dependencies=[Depends(token)])
    app.include_router(WasmRules(wasm, settings=settings()).router())
    with TestClient(app) as http:
        assert [http.get("/echo").status_code, http.get("/echo", headers=AUTHORIZED).status_code] == [401, 200]


def test_a_dependency_that_reads_the_body_leaves_it(wasm: JSON) -> None:
    async def reads(request: Request) -> None:
        await request.body()

    app = FastAPI()
    app.include_router(WasmRules(wasm, settings=settings()).router(), dependencies=[Depends(reads)])
    with TestClient(app) as http:
        assert http.post("/echo", content=b"body").json()["body"] == "body"


def test_what_is_wrong_with_rules_stops_the_start(tmp_path: Path) -> None:
    rules = WasmRules({"functionsDir": str(tmp_path / "none")})
    with pytest.raises(ConfigError, match="functionsDir"), TestClient(Starlette(lifespan=rules.lifespan)):
        pass
    app = FastAPI()
    app.include_router(WasmRules({"rules": 1}).router())
    with pytest.raises(ConfigError, match="is not a list"), TestClient(app):
        pass


def test_rules_without_any_runtime_say_so() -> None:
    with pytest.raises(ConfigError, match="WasmRules has no config"):
        TestClient(Starlette(routes=[WasmRules()])).get("/x")


def test_include_router_of_the_rules_themselves_says_how(wasm: JSON) -> None:
    with pytest.raises(AttributeError, match=r"takes WasmRules\(\.\.\.\)\.router\(\)"):
        FastAPI().include_router(WasmRules(wasm))
    with pytest.raises(AttributeError, match=r"it is to be called, as include_router\(rules\.router\(\)\)"):
        FastAPI().include_router(WasmRules(wasm).router)  # type: ignore[arg-type]


def test_rules_as_middleware_say_what_they_are(wasm: JSON) -> None:
    middleware = [Middleware(WasmRules, config=wasm)]  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"is a route, and not middleware; .*Middleware\(WasmMiddleware, config="):
        TestClient(Starlette(middleware=middleware)).get("/echo")
