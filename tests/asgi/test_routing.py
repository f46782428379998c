"""wasm_route, WasmRoute and wasm_endpoint: functions as routes of Starlette and FastAPI apps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import app, client, config, run, settings
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from starlette_wasm import (
    Call,
    ConfigError,
    EdgeRequest,
    ExecutionTimeout,
    FunctionError,
    WasmError,
    WasmMiddleware,
    WasmRoute,
    WasmRuntime,
    wasm_endpoint,
    wasm_route,
)

SHORT = {"short": {"executionTimeoutMs": 50}, "small": {"maxRequestBytes": 10}}


@pytest.fixture
def wasm(tmp_path: Path) -> dict[str, object]:
    return config(tmp_path, functions=["echo", "spin", "hello", "exit3", "binary"], policies=SHORT)


@wasm_route("/around/{name}", function="echo")
async def around(request: Request, call: Call) -> Response:
    response = await call(request)
    response.headers["x-served-by"] = "shop"
    response.set_cookie("seen", "1")
    return response


@wasm_route("/replaced", function="echo")
async def replaced(request: Request, call: Call) -> Response:
    return await call(EdgeRequest(path="/other", method="PATCH", body="mine", query={"q": "1"}))


@wasm_route("/after-body", function="echo")
async def after_body(request: Request, call: Call) -> Response:
    read = await request.body()
    response = await call(request)
    assert await request.body() == read
    return response


@wasm_route("/own-large", function="echo", policy="small")
async def own_large(request: Request, call: Call) -> Response:
    return await call(EdgeRequest(body="x" * 11))


@wasm_route("/read-large", function="echo", policy="small")
async def read_large(request: Request, call: Call) -> Response:
    assert len(await request.body()) == 11
    return await call(request)


@wasm_route("/twice", function="echo")
async def twice(request: Request, call: Call) -> Response:
    first, second = await call(request), await call(request)
    assert first.body
    return PlainTextResponse(f"{first.status_code} {second.status_code}")


@wasm_route("/caught", function="spin", policy="short")
async def caught(request: Request, call: Call) -> Response:
    try:
        return await call(request)
    except ExecutionTimeout as error:
        return PlainTextResponse(f"{error.function} {error.limit_ms}", 200)


@wasm_route("/let-through", function="spin", policy="short")
async def let_through(request: Request, call: Call) -> Response:
    return await call(request)


ROUTES: list[BaseRoute] = [
    around,
    replaced,
    after_body,
    own_large,
    read_large,
    twice,
    caught,
    let_through,
    WasmRoute("/plain/{n:int}", function="echo", name="plain"),
    WasmRoute("/only-put", function="echo", methods=["PUT"]),
    WasmRoute("/hello", function="hello"),
    WasmRoute("/spin", function="spin", policy="short"),
    WasmRoute("/exit", function="exit3"),
    WasmRoute("/small", function="echo", policy="small"),
    Route("/endpoint/{name}", wasm_endpoint("echo"), methods=["GET", "POST"]),
    Route("/endpoint-spin", wasm_endpoint("spin", policy="short")),
]


@pytest.fixture
def http(wasm: dict[str, object]) -> Iterator[TestClient]:
    with TestClient(app(wasm, ROUTES)) as http:
        yield http


def test_a_handler_sees_and_changes_the_response(http: TestClient) -> None:
    response = http.get("/around/Ada?q=1")
    assert response.headers["x-served-by"] == "shop"
    assert response.headers["set-cookie"].startswith("seen=1")
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.json()["params"] == {"name": "Ada"}
    assert response.json()["query"] == {"q": "1"}


def test_a_handler_can_send_another_request(http: TestClient) -> None:
    seen = http.get("/replaced", headers={"x-request-id": "outer"}).json()
    assert (seen["path"], seen["method"], seen["body"], seen["query"]) == ("/other", "PATCH", "mine", {"q": "1"})
    assert seen["headers"] == {}


def test_a_handlers_own_request_keeps_the_id_and_the_region_of_the_client(wasm: dict[str, object]) -> None:
    with TestClient(app(wasm, ROUTES, trust_region_header=True)) as http:
        response = http.get("/replaced", headers={"x-request-id": "outer", "x-region": "north"})
        context = response.json()["context"]
        assert (context["request_id"], context["region"]) == ("outer", "north")
        assert response.headers["x-request-id"] == "outer"


def test_a_handler_may_read_the_body_before_and_after_the_call(http: TestClient) -> None:
    assert http.post("/after-body", content=b"hello").json()["body"] == "hello"


def test_a_handler_may_call_twice(http: TestClient) -> None:
    assert http.post("/twice", content=b"hello").text == "200 200"


def test_a_handler_can_catch_the_error_of_its_function(http: TestClient) -> None:
    assert http.get("/caught").text == "spin 50"


@pytest.mark.parametrize("path", ["/let-through", "/spin", "/endpoint-spin"])
def test_an_error_that_nobody_handles_becomes_problem_json(http: TestClient, path: str) -> None:
    response = http.get(path, headers={"x-request-id": "r-1"})
    assert response.status_code == 504
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == "r-1"
    assert response.json() == {
        "type": "execution-timeout",
        "title": "time limit exceeded",
        "status": 504,
        "request_id": "r-1",
    }


@pytest.mark.parametrize("path", ["/let-through", "/spin", "/endpoint-spin"])
@pytest.mark.parametrize("kind", [WasmError, FunctionError, ExecutionTimeout])
def test_the_apps_exception_handler_gets_the_error(wasm: dict[str, object], path: str, kind: type[WasmError]) -> None:
    async def handler(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"handled {type(error).__name__}", 418)

    starlette = app(wasm, ROUTES)
    starlette.add_exception_handler(kind, handler)
    with TestClient(starlette) as http:
        response = http.get(path)
        assert (response.status_code, response.text) == (418, "handled ExecutionTimeout")


def test_other_exception_handlers_do_not_get_it(wasm: dict[str, object]) -> None:
    async def handler(request: Request, error: Exception) -> Response:
        raise AssertionError

    starlette = app(wasm, ROUTES)
    for kind in (HTTPException, Exception, 500, ConfigError):
        starlette.add_exception_handler(kind, handler)
    with TestClient(starlette) as http:
        assert http.get("/let-through").status_code == 504
        assert http.get("/spin").status_code == 504


def test_path_parameters_reach_the_function_as_strings(http: TestClient) -> None:
    assert http.get("/plain/7").json()["params"] == {"n": "7"}
    assert http.get("/endpoint/x").json()["params"] == {"name": "x"}
    assert http.get("/plain/seven").status_code == 404


def test_without_methods_the_function_gets_every_method(http: TestClient) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"):
        assert http.request(method, "/plain/1").json()["method"] == method
        assert http.request(method, "/around/x").json()["method"] == method


def test_with_methods_starlette_answers_405(http: TestClient) -> None:
    assert http.put("/only-put").status_code == 200
    response = http.get("/only-put")
    assert (response.status_code, response.headers["allow"]) == (405, "PUT")
    assert http.put("/endpoint/x").status_code == 405


@pytest.mark.parametrize("path", ["/plain/1", "/around/x", "/endpoint/x", "/exit", "/let-through"])
def test_head_has_the_headers_of_a_body_and_no_body(http: TestClient, path: str) -> None:
    response = http.head(path)
    assert response.content == b""
    assert int(response.headers["content-length"]) > 0
    assert "x-request-id" in response.headers


def test_url_path_for_works(wasm: dict[str, object]) -> None:
    starlette = app(wasm, [*ROUTES, Mount("/m", routes=[around], name="m")])
    assert starlette.url_path_for("around", name="Ada") == "/around/Ada"
    assert starlette.url_path_for("plain", n=1) == "/plain/1"
    assert starlette.url_path_for("hello") == "/hello"
    assert starlette.url_path_for("echo", name="x") == "/endpoint/x"
    assert starlette.url_path_for("m:around", name="Ada") == "/m/around/Ada"


def test_a_large_body_is_refused_behind_a_route(http: TestClient) -> None:
    assert http.post("/small", content=b"x" * 10).status_code == 200
    response = http.post("/small", content=b"x" * 11)
    assert (response.status_code, response.json()["type"]) == (413, "request-too-large")


def test_a_large_body_is_refused_that_a_handler_made_or_read_before(http: TestClient) -> None:
    assert http.get("/own-large").status_code == 413
    assert http.post("/read-large", content=b"x" * 11).status_code == 413


def test_inside_a_mount_the_path_has_no_prefix(wasm: dict[str, object]) -> None:
    inner = [around, WasmRoute("/plain", function="echo"), Route("/endpoint", wasm_endpoint("echo"))]
    with TestClient(app(wasm, [Mount("/shop/{tenant}", routes=inner)])) as http:
        for path in ("/around/x", "/plain", "/endpoint"):
            seen = http.get(f"/shop/one{path}?q=1").json()
            assert seen["path"] == path
            assert seen["url"] == f"http://testserver/shop/one{path}?q=1"
            assert seen["params"]["tenant"] == "one"


@pytest.mark.parametrize(
    "routes",
    [
        [WasmRoute("/x", function="nothing")],
        [Route("/x", wasm_endpoint("nothing"))],
        [Mount("/m", routes=[Route("/a", PlainTextResponse("")), WasmRoute("/x", function="nothing")])],
        [Mount("/m", app=Starlette(routes=[Mount("/n", routes=[WasmRoute("/x", function="nothing")])]))],
        [Host("api.example.com", app=Router([WasmRoute("/x", function="nothing")]))],
    ],
)
def test_a_route_with_an_unknown_function_stops_the_start(wasm: dict[str, object], routes: list[BaseRoute]) -> None:
    with (
        pytest.raises(WasmError, match=r"route \S*/x: function not found: nothing; known functions: binary, echo"),
        TestClient(app(wasm, routes)),
    ):
        pass


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (WasmRoute("/x", function="echo", version="7"), r"route /x: function not found: echo v7; known versions: 1"),
        (WasmRoute("/x", function="echo", policy="lax"), r"route /x: no policy is called 'lax'; known are edge-mod"),
    ],
)
def test_a_route_with_an_unknown_version_or_policy_stops_the_start(
    wasm: dict[str, object], route: WasmRoute, message: str
) -> None:
    with pytest.raises(WasmError, match=message), TestClient(app(wasm, [route])):
        pass


def test_a_route_without_any_runtime_says_what_to_do() -> None:
    for route in (around, WasmRoute("/around/{name}", function="echo"), Route("/around/{name}", wasm_endpoint("echo"))):
        with pytest.raises(ConfigError, match="add WasmMiddleware to the app, or give the route runtime="):
            TestClient(Starlette(routes=[route])).get("/around/x")


def test_a_route_with_a_runtime_of_its_own_needs_no_middleware(wasm: dict[str, object]) -> None:
    runtime = WasmRuntime(wasm, settings())
    starlette = Starlette(
        routes=[
            WasmRoute("/plain", function="echo", runtime=runtime),
            Route("/endpoint", wasm_endpoint("echo", runtime=runtime)),
            wasm_route("/around", function="echo", runtime=runtime)(let_through.handler),
        ]
    )

    async def main() -> None:
        async with runtime, client(starlette) as http:
            for path in ("/plain", "/endpoint", "/around"):
                assert (await http.get(path)).json()["path"] == path
        async with client(starlette) as http:
            response = await http.get("/plain")
            assert (response.status_code, response.json()["type"]) == (503, "runtime-closed")

    run(main())


def test_the_nearest_middleware_gives_the_runtime(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    one, two, three = (
        {"config": config(tmp_path / name, functions=["echo"]), "settings": settings(region=name)}
        for name in ("one", "two", "three")
    )
    inner = Starlette(routes=[WasmRoute("/x", function="echo")], middleware=[Middleware(WasmMiddleware, **two)])
    starlette = Starlette(
        routes=[
            WasmRoute("/x", function="echo"),
            Mount("/app", app=inner),
            Mount("/wrapped", app=WasmMiddleware(Router([WasmRoute("/x", function="echo")]), **three)),
            Mount(
                "/mount",
                routes=[WasmRoute("/x", function="echo")],
                middleware=[Middleware(WasmMiddleware, **three)],
            ),
        ],
        middleware=[Middleware(WasmMiddleware, **one)],
    )
    with TestClient(starlette) as http:
        for path, region in (("/x", "one"), ("/app/x", "two"), ("/wrapped/x", "three"), ("/mount/x", "three")):
            assert http.get(path).json()["context"]["region"] == region


def test_fastapi_serves_functions_beside_its_own_routes(tmp_path: Path) -> None:
    fastapi = FastAPI()

    @fastapi.get("/native/{n}")
    async def native(n: int) -> dict[str, int]:
        return {"n": n}

    @fastapi.exception_handler(ExecutionTimeout)
    async def late(request: Request, error: Exception) -> Response:
        return JSONResponse({"late": True}, 504)

    router = APIRouter(prefix="/v1")
    router.add_api_route("/echo/{name}", wasm_endpoint("echo"), methods=["POST"])
    router.routes.append(WasmRoute("/plain/{n}", function="echo"))
    fastapi.include_router(router, prefix="/api")
    fastapi.add_api_route("/spin", wasm_endpoint("spin", policy="short"))
    fastapi.router.routes.append(around)
    fastapi.add_middleware(
        WasmMiddleware,
        config=config(tmp_path, {"/rule": "echo"}, functions=["spin"], policies=SHORT),
        settings=settings(),
    )
    with TestClient(fastapi) as http:
        assert http.get("/native/3").json() == {"n": 3}
        assert http.post("/api/v1/echo/Ada", content=b"hi").json()["params"] == {"name": "Ada"}
        assert http.put("/api/plain/7").json()["params"] == {"n": "7"}
        assert http.get("/around/Ada").headers["x-served-by"] == "shop"
        assert http.get("/rule").json()["path"] == "/rule"
        assert http.get("/spin").json() == {"late": True}
        assert http.get("/native/x").status_code == 422
        assert "/api/v1/echo/{name}" in http.get("/openapi.json").json()["paths"]
        assert fastapi.url_path_for("echo", name="x") == "/api/v1/echo/x"


def test_a_fastapi_router_with_an_unknown_function_stops_the_start(wasm: dict[str, object]) -> None:
    router = APIRouter(prefix="/v1")
    router.add_api_route("/x", wasm_endpoint("nothing"))
    fastapi = FastAPI()
    fastapi.include_router(router, prefix="/api")
    fastapi.add_middleware(WasmMiddleware, config=wasm, settings=settings())
    with pytest.raises(WasmError, match="route /api/v1/x: function not found: nothing"), TestClient(fastapi):
        pass


@pytest.mark.parametrize("methods", [None, ["GET"]])
@pytest.mark.parametrize("root", ["", "/in"])
@pytest.mark.parametrize("path", ["/a", "/a/", "/in/a", "/in", "/b", ""])
@pytest.mark.parametrize("pattern", ["/a", "/{x}", "/in/a"])
def test_a_route_matches_as_one_of_starlette(pattern: str, path: str, root: str, methods: list[str] | None) -> None:
    ours = WasmRoute(pattern, function="hello", methods=methods)
    for method, kind in (("GET", "http"), ("POST", "http"), ("GET", "websocket")):
        scope = {"type": kind, "method": method, "path": path, "root_path": root, "path_params": {"outer": 1}}
        assert ours.matches(scope) == Route.matches(ours, scope)


def test_an_endpoint_needs_no_router(wasm: dict[str, object]) -> None:
    endpoint = wasm_endpoint("echo")

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime, client(WasmMiddleware(plain, runtime=runtime)) as http:
            for _ in range(2):
                answer = await http.get("/any")
                assert (answer.status_code, answer.json()["params"]) == (200, {})

    run(main())


@pytest.mark.parametrize(
    ("path", "methods", "meant"),
    [
        ("/x/*", None, "/x/{rest:path}"),
        ("/x/...", None, "/x/{rest:path}"),
        ("/x/:id", None, "/x/{id}"),
        ("/x/<int:id>", None, "/x/{id}"),
        ("GET /x", None, "write /x"),
        ("/x", ["PSOT"], "did you mean POST?"),
        ("/x", "GET", "write ['GET']"),
    ],
)
def test_a_route_refuses_other_notations(path: str, methods: Any, meant: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(meant)):
        WasmRoute(path, function="echo", methods=methods)
    with pytest.raises(ConfigError, match=re.escape(meant)):
        wasm_route(path, function="echo", methods=methods)(_handled)
    WasmRoute("/x/{id:int}/{rest:path}", function="echo", methods=["get", "PURGE"])


async def _handled(request: Any, call: Any) -> Any:
    return await call(request)


def test_an_endpoint_in_front_of_a_handler_says_what_it_is() -> None:
    async def handler(request: Request) -> Response:
        return Response()

    with pytest.raises(TypeError, match=r"is an endpoint, .*: write Route\(path, wasm_endpoint\('hello'\)\), or"):
        wasm_endpoint("hello")(handler)  # type: ignore[arg-type]
