"""Routes in telemetry, CGI variables and bulkheads are whole templates, however a request got there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from apps import config, settings
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send
from telemetry.collecting import Collector

from starlette_wasm import WasmMiddleware, WasmRoute, WasmRuntime, wasm_endpoint, wasm_route
from starlette_wasm.asgi import templates

RULES = {"/items/{id}": "echo", "/plain": "echo"}


@wasm_route("/greet/{name}", function="echo")
async def greet(request: Request, call: Any) -> Response:
    response: Response = await call(request)
    return response


ROUTES: list[BaseRoute] = [
    WasmRoute("/items/{id}", function="echo"),
    greet,
    Route("/ends/{x:int}", wasm_endpoint("echo")),
]


class Wrapped:
    """Middleware around an app, without routes of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Seen:
    def __init__(self, folder: Path) -> None:
        self.collector = Collector()
        self.runtime = WasmRuntime(config(folder, RULES, functions=["cgi_env"]), settings())
        self.runtime.telemetry = self.collector.telemetry()
        self.middleware = Middleware(WasmMiddleware, runtime=self.runtime)

    def app(self, routes: Sequence[BaseRoute]) -> Starlette:
        return Starlette(routes=list(routes), middleware=[self.middleware])

    def ask(self, app: ASGIApp, *paths: str, base_url: str = "http://a.test", root_path: str = "") -> list[str]:
        """The distinct routes that spans and metrics have after ``paths`` were asked for."""
        with TestClient(app, base_url=base_url, root_path=root_path) as client:
            for path in paths:
                assert client.get(path).status_code == 200, path
            self.bulkheads = {route for route, *_ in self.runtime.deployment.bulkheads()}
        spans = [span for span in self.collector.spans if span.kind.name == "SERVER"]
        assert len(spans) == len(paths)
        routes = {str((span.attributes or {}).get("http.route")) for span in spans}
        assert {span.name for span in spans} == {f"GET {route}" for route in routes}
        return sorted(routes)


@pytest.fixture
def seen(tmp_path: Path) -> Seen:
    return Seen(tmp_path)


def test_a_thousand_tenants_make_one_route_each(seen: Seen) -> None:
    app = seen.app([Mount("/tenants/{id}", routes=ROUTES)])
    ways = ("/items", "/greet", "/ends")
    found = seen.ask(app, *[f"/tenants/{n}{ways[n % 3]}/{n}" for n in range(1000)])
    assert found == [f"/tenants/{{id}}{end}" for end in ("/ends/{x:int}", "/greet/{name}", "/items/{id}")]
    assert set(found) <= seen.bulkheads
    assert not [each for each in seen.bulkheads if "999" in each]


def test_a_thousand_tenants_of_a_sub_app_make_one_route(seen: Seen) -> None:
    app = Starlette(routes=[Mount("/t/{id}/{kind}", Wrapped(seen.app(ROUTES)))])
    paths = [f"/t/{tenant}/t{way}/{tenant}" for tenant in range(300) for way in ("/items", "/greet")]
    assert seen.ask(app, *paths) == ["/t/{id}/{kind}/greet/{name}", "/t/{id}/{kind}/items/{id}"]


def test_a_value_that_is_also_a_literal_stays_a_parameter(seen: Seen) -> None:
    app = seen.app([Mount("/shops/{shop}", routes=ROUTES)])
    assert seen.ask(app, "/shops/shops/greet/x", "/shops/acme/greet/x") == ["/shops/{shop}/greet/{name}"]


LEAF = WasmRoute("/leaf", function="echo")


@pytest.mark.parametrize(
    ("mount", "path", "route"),
    [
        (Mount("/a/{x:int}", routes=[Mount("/{x}", routes=ROUTES)]), "/a/007/7/greet/7", "/a/{x}/{x}/greet/{name}"),
        (Mount("/f/{way:path}", routes=[LEAF]), "/f/p/q/leaf", "/f/{way}/leaf"),
        (Mount("", routes=[Mount("/{a}", Wrapped(Router(ROUTES)))]), "/q/ends/1", "/{a}/ends/{x:int}"),
        (Host("{tenant}.test", Router([Mount("/{a}", routes=ROUTES)])), "/q/ends/1", "/{a}/ends/{x:int}"),
    ],
)  # fmt: skip
def test_nested_mounts_are_named_by_their_templates(seen: Seen, mount: BaseRoute, path: str, route: str) -> None:
    assert seen.ask(seen.app([Mount("/{other}/never", routes=ROUTES), mount]), path) == [route]


def test_hosts_with_mounts_of_their_own_are_told_apart(seen: Seen) -> None:
    hosts = [Host(f"{name}.test", Router([Mount(f"/{{{name}}}", routes=ROUTES)])) for name in ("a", "b")]
    assert seen.ask(seen.app(hosts), "/1/items/1", base_url="http://b.test") == ["/{b}/items/{id}"]


def test_an_endpoint_used_twice_is_told_apart(seen: Seen) -> None:
    end = wasm_endpoint("echo")
    app = seen.app([Route("/x/{p}", end), Mount("/m/{t}", routes=[Route("/y/{q}", end), Route("/z", end)])])
    assert seen.ask(app, "/x/1", "/m/1/y/1", "/m/2/z") == ["/m/{t}/y/{q}", "/m/{t}/z", "/x/{p}"]


def test_prefixes_of_fastapi_are_part_of_the_route(seen: Seen) -> None:
    app = FastAPI(telemetry={"tracing": False, "metrics": False})
    app.add_middleware(seen.middleware.cls, **seen.middleware.kwargs)
    inner = APIRouter(routes=[WasmRoute("/items/{id}", function="echo"), greet])
    inner.add_api_route("/ends/{id}", wasm_endpoint("echo"))
    inner.mount("/m/{t}", Starlette(routes=[WasmRoute("/deep", function="echo")]))
    outer = APIRouter(prefix="/out")
    outer.include_router(inner, prefix="/in/{x}")
    app.include_router(outer, prefix="/v1")
    app.include_router(inner, prefix="/v2/in/{x}")
    ends = ["/items/{}", "/greet/{}", "/ends/{}", "/m/{}/deep"]
    found = seen.ask(app, *[f"{way}/in/{n}{end.format(n)}" for way in ("/v1/out", "/v2") for end in ends for n in "12"])
    routes = ["/items/{id}", "/greet/{name}", "/ends/{id}", "/m/{t}/deep"]
    expected = sorted(f"{way}/in/{{x}}{route}" for way in ("/v1/out", "/v2") for route in routes)
    assert found == expected
    assert set(expected) <= seen.bulkheads


def test_a_fastapi_app_in_a_mount_has_whole_routes(seen: Seen) -> None:
    sub = FastAPI()
    router = APIRouter()
    router.add_api_route("/ends/{id}", wasm_endpoint("echo"))
    sub.include_router(router, prefix="/api")
    sub.add_middleware(seen.middleware.cls, **seen.middleware.kwargs)
    app = FastAPI(telemetry={"tracing": False, "metrics": False})
    app.mount("/tenants/{id}", sub)
    paths = [f"/tenants/{n}{end}" for n in range(50) for end in ("/api/ends/3", "/items/3")]
    assert seen.ask(app, *paths) == ["/tenants/{id}/api/ends/{id}", "/tenants/{id}/items/{id}"]


def test_the_root_path_of_the_server_comes_first(seen: Seen) -> None:
    app = seen.app([Mount("/m/{t}", routes=ROUTES)])
    paths = ["/api/items/1", "/api/m/1/items/1"]
    assert seen.ask(app, *paths, root_path="/api") == ["/api/items/{id}", "/api/m/{t}/items/{id}"]


def test_a_root_path_for_each_request_makes_few_routes(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "_roots", set())
    app = seen.app([Mount("/m", routes=ROUTES)])

    async def rooted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            tenant = scope["path"].split("/")[1]
            scope = {**scope, "root_path": f"/{tenant}"}
        await app(scope, receive, send)

    found = seen.ask(rooted, *[f"/tenant{n}{path}" for n in range(100) for path in ("/items/1", "/m/items/1")])
    assert len(found) <= 2 * 17
    assert {"/items/{id}", "/m/items/{id}"} <= set(found)


def test_a_mount_that_nobody_knows_is_left_out(seen: Seen) -> None:
    inner = Router(ROUTES)

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        tenant = scope["path"].split("/")[2]
        await inner({**scope, "root_path": f"/by/{tenant}"}, receive, send)

    found = seen.ask(seen.app([Mount("/by", dispatch)]), *[f"/by/{n}/items/1" for n in range(50)])
    assert found == ["/items/{id}"]


def test_cgi_paths_are_split_at_the_prefix(seen: Seen) -> None:
    app = FastAPI()
    router = APIRouter(routes=[WasmRoute("/env/{rest:path}", function="cgi_env")])
    router.add_api_route("/end/{rest:path}", wasm_endpoint("cgi_env"))
    app.include_router(router, prefix="/v1/{v}")
    outer = Starlette(
        routes=[Route("/end/{rest:path}", wasm_endpoint("cgi_env")), Mount("/m", app)], middleware=[seen.middleware]
    )
    with TestClient(outer) as client:
        for path in ("/m/v1/2/env", "/m/v1/2/end", "/end"):
            variables = client.get(f"{path}/more/below").json()["env"]
            assert (variables["SCRIPT_NAME"], variables["PATH_INFO"]) == (path, "/more/below")
