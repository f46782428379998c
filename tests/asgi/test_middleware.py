"""WasmMiddleware: what it serves, what it passes on, when it starts and what it warns of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from apps import JSON, add_constant, app, client, config, config_file, native, run, settings
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from starlette_wasm import ConfigError, EdgeRouterConfig, FunctionNotFound, WasmMiddleware, WasmRoute, WasmRuntime
from starlette_wasm.config.router import load_config

NATIVE: list[BaseRoute] = [Route("/native", native)]


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    return config(tmp_path, {"/echo": "echo", "/files/{name}": "echo"})


def test_the_config_may_be_a_path_a_mapping_or_a_model(tmp_path: Path) -> None:
    file = config_file(tmp_path, {"/echo": "echo"})
    model = load_config(file)
    assert isinstance(model, EdgeRouterConfig)
    for given in (file, str(file), {"functionsDir": tmp_path / "functions", "rules": model.rules}, model):
        with TestClient(app(given, NATIVE)) as http:
            assert http.get("/echo").json()["path"] == "/echo"
            assert http.get("/native").text == "native /native"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "WasmMiddleware has no config; give it config= or runtime="),
        ({"config": {}, "runtime": WasmRuntime({})}, "has both runtime= and config= or settings="),
        ({"settings": settings(), "runtime": WasmRuntime({})}, "has both runtime= and config= or settings="),
    ],
)
def test_neither_or_both_of_config_and_runtime_stop_the_start(arguments: JSON, message: str) -> None:
    starlette = Starlette(middleware=[Middleware(WasmMiddleware, **arguments)])
    for _ in range(2):
        with pytest.raises(ConfigError, match=message), TestClient(starlette):
            pass
    with pytest.raises(ConfigError, match=message):
        TestClient(starlette).get("/")


def test_a_given_runtime_is_started_and_closed_with_the_app(wasm: JSON) -> None:
    runtime = WasmRuntime(wasm, settings())
    with TestClient(Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])) as http:
        assert runtime.state == "open"
        assert http.get("/echo").status_code == 200
    assert runtime.state == "closed"


def test_a_runtime_that_was_open_before_stays_open(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            middleware = WasmMiddleware(Starlette(), runtime=runtime)
            await lifespan(middleware)
            assert runtime.state == "open"

    run(main())


async def lifespan(app: Any) -> list[Message]:
    """Startup and shutdown, one right after the other; gives what the app sent."""
    received, sent = asyncio.Queue[Message](), list[Message]()
    for message in ("startup", "shutdown"):
        received.put_nowait({"type": f"lifespan.{message}"})

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "lifespan", "state": {}}, received.get, send)
    return sent


def test_the_lifespan_may_be_entered_again(wasm: JSON) -> None:
    starlette = app(wasm)
    for _ in range(3):
        with TestClient(starlette) as http:
            assert http.get("/echo").json()["context"]["cold_start"] is False


def test_without_lifespan_the_first_request_starts_it(wasm: JSON) -> None:
    http = TestClient(app(wasm, [*NATIVE, WasmRoute("/route", function="echo")]))
    assert http.get("/native").text == "native /native"
    assert http.get("/echo").json()["context"]["cold_start"] is False
    assert http.get("/route").json()["context"]["cold_start"] is False


@pytest.mark.parametrize("path", ["/echo", "/route"])
def test_only_a_request_that_waits_for_the_start_is_cold(wasm: JSON, path: str) -> None:
    async def main() -> None:
        async with client(app(wasm, [WasmRoute("/route", function="echo")])) as http:
            cold = [(await http.get(path)).json()["context"]["cold_start"] for _ in range(3)]
            assert cold == [True, False, False]

    run(main())


def test_requests_that_come_during_a_lazy_start_wait_for_it(wasm: JSON) -> None:
    async def main() -> None:
        async with client(app(wasm)) as http:
            responses = await asyncio.gather(*(http.get("/echo") for _ in range(10)))
            assert [response.status_code for response in responses] == [200] * 10

    run(main())


def test_after_the_lifespan_the_next_request_starts_it_again(wasm: JSON) -> None:
    """Test suites use one app with and without lifespan."""
    starlette = app(wasm, NATIVE)
    with TestClient(starlette):
        pass
    assert TestClient(starlette).get("/native").text == "native /native"
    assert TestClient(starlette).get("/echo").status_code == 200


def test_an_app_without_lifespan_of_its_own_is_served(wasm: JSON) -> None:
    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await PlainTextResponse("plain")(scope, receive, send)

    middleware = WasmMiddleware(plain, wasm, settings=settings())

    async def main() -> None:
        with pytest.raises(AssertionError):
            await lifespan(middleware)
        async with client(middleware) as http:
            assert (await http.get("/other")).text == "plain"
            assert (await http.get("/echo")).status_code == 200

    run(main())


def test_without_lifespan_each_request_raises_what_is_wrong(wasm: JSON) -> None:
    async def main() -> None:
        for routes, rules in (([WasmRoute("/x", function="nothing")], {}), ([], {"functionName": "nothing"})):
            starlette = app({**wasm, "rules": [{"pathPattern": "/r", **rules}] if rules else []}, routes)
            async with client(starlette) as http:
                for path in ("/x", "/r", "/native", "/x"):
                    with pytest.raises(FunctionNotFound, match="nothing") as caught:
                        await http.get(path)
                    assert len(caught.traceback) < 50

    run(main())


def test_the_apps_own_lifespan_can_use_the_runtime_from_start_to_end(wasm: JSON) -> None:
    runtime = WasmRuntime(wasm, settings())
    states = []

    @asynccontextmanager
    async def own(_: Starlette) -> AsyncIterator[dict[str, int]]:
        states.append(runtime.state)
        yield {"answer": 42}
        states.append(runtime.state)

    async def answer(request: Request) -> Response:
        return PlainTextResponse(str(request.state.answer))

    starlette = Starlette(
        routes=[Route("/answer", answer)], lifespan=own, middleware=[Middleware(WasmMiddleware, runtime=runtime)]
    )
    with TestClient(starlette) as http:
        assert http.get("/answer").text == "42"
    assert states == ["open", "open"]
    assert runtime.state == "closed"


def test_a_failing_lifespan_of_the_app_closes_the_runtime(wasm: JSON) -> None:
    runtime = WasmRuntime(wasm, settings())

    @asynccontextmanager
    async def own(_: Starlette) -> AsyncIterator[None]:
        raise ValueError("no database")
        yield

    starlette = Starlette(lifespan=own, middleware=[Middleware(WasmMiddleware, runtime=runtime)])
    with pytest.raises(ValueError, match="no database"), TestClient(starlette):
        pass
    assert runtime.state == "closed"


def test_other_requests_pass_untouched(wasm: JSON) -> None:
    """The very scope, receive and send of the server reach the app, and an unknown scope type too."""
    seen: list[tuple[Scope, Receive, Send]] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            middleware = WasmMiddleware(inner, runtime=runtime)
            for scope in (
                {"type": "http", "path": "/other", "headers": []},
                {"type": "http", "path": "/echoes", "headers": []},
                {"type": "websocket", "path": "/echo", "headers": []},
                {"type": "webtransport"},
            ):
                await middleware(scope, receive, send)
                assert seen.pop() == (scope, receive, send)

    run(main())


def test_websockets_and_streams_of_the_app_work(wasm: JSON) -> None:
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text((await socket.receive_text()).upper())
        await socket.close()

    async def double(request: Request) -> Response:
        received = [chunk async for chunk in request.stream()]

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in received:
                yield chunk * 2

        return StreamingResponse(chunks())

    routes = [WebSocketRoute("/echo", talk), Route("/double", double, methods=["POST"])]
    with TestClient(app(wasm, routes)) as http:
        with http.websocket_connect("/echo") as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "HELLO"
        assert http.post("/double", content=b"ab").text == "abab"


def test_in_a_mount_rules_see_the_path_without_the_prefix(wasm: JSON) -> None:
    inner = Starlette(
        routes=NATIVE, middleware=[Middleware(WasmMiddleware, config=wasm, settings=settings(region="inner"))]
    )
    outer = Starlette(
        routes=[Mount("/shop", app=inner)],
        middleware=[Middleware(WasmMiddleware, config=wasm, settings=settings(region="outer"))],
    )
    with TestClient(outer) as http:
        seen = http.get("/shop/files/a%20b?q=1").json()
        assert (seen["path"], seen["params"], seen["url"]) == (
            "/files/a b",
            {"name": "a b"},
            "http://testserver/shop/files/a%20b?q=1",
        )
        assert seen["context"]["region"] == "inner"
        assert http.get("/echo").json()["context"]["region"] == "outer"
        assert http.get("/shop/native").text == "native /shop/native"


def test_behind_a_proxy_root_path_is_no_part_of_the_path(wasm: JSON) -> None:
    with TestClient(app(wasm), root_path="/proxy") as http:
        seen = http.get("/proxy/echo").json()
        assert (seen["path"], seen["url"]) == ("/echo", "http://testserver/proxy/echo")


def test_rules_choose_by_method_region_and_version(tmp_path: Path) -> None:
    wasm = config(tmp_path, functions=["echo", "hello"])
    wasm["rules"] = [
        {"pathPattern": "/a", "functionName": "echo", "methods": ["POST"], "regions": ["north"]},
        {"pathPattern": "/b", "functionName": "echo", "regions": ["north"]},
        {"pathPattern": "/off", "functionName": "echo", "weight": 0},
    ]
    headers = {"x-region": "north"}
    with TestClient(app(wasm, trust_region_header=True, allow_version_header=True)) as http:
        assert http.post("/a", headers={"x-region": "north \t"}).json()["context"]["region"] == "north"
        assert http.post("/a", headers=headers).json()["context"]["region"] == "north"
        refused = http.get("/a", headers=headers)
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
        assert http.head("/a", headers=headers).content == b""
        for path in ("/b", "/off"):
            nobody = http.get(path)
            assert (nobody.status_code, nobody.json()["type"]) == (503, "function-overloaded")
            assert nobody.headers["retry-after"] == "1"
            assert nobody.headers["x-request-id"] == nobody.json()["request_id"]
        assert http.get("/b", headers={**headers, "x-wasm-version": "1"}).status_code == 200
        unknown = http.get("/b", headers={**headers, "x-wasm-version": "7"})
        assert (unknown.status_code, unknown.json()["type"]) == (404, "function-not-found")
    with TestClient(app({**wasm, "defaultFunction": "hello"})) as http:
        assert http.get("/b", headers=headers).text == "hello"
        assert http.get("/nowhere").status_code == 404


def test_rules_and_guests_read_a_header_that_comes_twice_alike(tmp_path: Path) -> None:
    wasm = config(tmp_path, functions=["echo", "hello"])
    wasm["rules"] = [
        {"pathPattern": "/a", "functionName": "echo", "regions": ["home"]},
        {"pathPattern": "/a", "functionName": "hello", "regions": ["north"]},
    ]
    with TestClient(app(wasm, region="home", trust_region_header=True)) as http:
        assert http.get("/a", headers={"x-region": "north"}).text == "hello"
        seen = http.get("/a", headers=[("x-region", "north"), ("x-region", "south")]).json()
        assert seen["headers"]["x-region"] == "north, south"
        assert seen["context"]["region"] == "home"


@pytest.mark.parametrize(
    ("stickiness", "headers"),
    [
        ({"header": "x-user"}, [("x-user", "")]),
        ({"header": "x-user"}, [("x-user", " "), ("x-user", "")]),
        ({"cookie": "user"}, [("cookie", "user=")]),
        ({"cookie": "user"}, [("cookie", 'a=1; user=""')]),
        ({"cookie": "user"}, [("cookie", "")]),
    ],
)
def test_callers_with_an_empty_key_are_spread(tmp_path: Path, stickiness: JSON, headers: list[tuple[str, str]]) -> None:
    for version in ("1", "2"):
        add_constant(tmp_path, "f", b'{"status_code":200,"body":"v%s"}' % version.encode(), version)
    rules = [{"pathPattern": "/f", "functionName": "f", "version": each, "weight": 50} for each in ("1", "2")]
    wasm = {"functionsDir": str(tmp_path / "functions"), "stickiness": stickiness, "rules": rules}
    with TestClient(app(wasm)) as http:
        answers = [http.get("/f", headers=headers).text for _ in range(20)]
    assert answers.count("v1") == answers.count("v2") == 10


def test_a_sticky_cookie_may_be_in_any_of_several_headers(tmp_path: Path) -> None:
    for version in ("1", "2"):
        add_constant(tmp_path, "f", b'{"status_code": 200, "body": "v%s"}' % version.encode(), version)
    wasm = config(tmp_path)
    wasm["rules"] = [{"pathPattern": "/f", "functionName": "f", "version": version} for version in ("1", "2")]
    wasm["stickiness"] = {"cookie": "session"}
    with TestClient(app(wasm)) as http:
        for session in range(5):
            cookies = [("cookie", "theme=dark"), ("cookie", f"session={session}")]
            assert len({http.get("/f", headers=cookies).text for _ in range(4)}) == 1


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_without_rules_no_middleware_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours = Middleware(WasmMiddleware, config=config(tmp_path, functions=["echo"]), settings=settings())
    with TestClient(Starlette(middleware=[ours, Middleware(CORSMiddleware)])):
        assert warnings(caplog) == []


def test_a_shadowed_native_route_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wasm = config(tmp_path, {"/api": "echo", "/m/{x}/y": "echo"})
    routes = [
        *NATIVE,
        Route("/api/users/{id:int}", native),
        Route("/apis", native),
        Mount("/m", routes=[Route("/{a}/y", native), Route("/{a}", native)]),
        WasmRoute("/api/wasm", function="echo"),
    ]
    with TestClient(app(wasm, routes)):
        assert sorted(warnings(caplog)) == [
            "the rule for /api shadows the route /api/users/{id:int} of the app",
            "the rule for /m/{x}/y shadows the route /m/{a}/y of the app",
        ]


def test_a_shadowed_route_of_a_fastapi_router_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fastapi = FastAPI()

    @fastapi.get("/api/users/{id}")
    async def user(id: int) -> int:
        return id

    fastapi.add_middleware(WasmMiddleware, config=config(tmp_path, {"/api": "echo"}), settings=settings())
    with TestClient(fastapi):
        assert warnings(caplog) == ["the rule for /api shadows the route /api/users/{id} of the app"]


def test_endpoints_are_served_only_where_they_are_exposed(wasm: JSON) -> None:
    with TestClient(app(wasm)) as http:
        assert [http.get(path).status_code for path in ("/health", "/ready", "/metrics")] == [404] * 3
    with TestClient(app({**wasm, "exposeEndpoints": True})) as http:
        assert http.get("/health").json()["status"] == "alive"
        body = http.get("/ready").json()
        assert (body["status"], body["reasons"]) == ("ready", [])
        assert body["functions"]["echo"]["1"]["digest"].startswith("sha256:")
        assert http.head("/ready").content == b""
        assert http.post("/ready").status_code == 405


def test_ready_answers_503_while_draining(wasm: JSON) -> None:
    async def main() -> None:
        runtime = WasmRuntime({**wasm, "exposeEndpoints": True}, settings())
        async with runtime, client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
            runtime.drain()
            response = await http.get("/ready")
            assert response.status_code == 503
            assert response.json()["reasons"] == ["the runtime is draining"]
            assert (await http.get("/health")).status_code == 200
            assert (await http.get("/echo")).status_code == 200

    run(main())


def test_a_runtime_that_its_owner_has_closed_leaves_the_app_its_own_paths(tmp_path: Path) -> None:
    async def main() -> None:
        runtime = WasmRuntime(config(tmp_path, {"/hello": "hello"}), settings())
        await runtime.start()
        native = Starlette(routes=[Route("/native", lambda request: PlainTextResponse("native"))])
        async with client(WasmMiddleware(native, runtime=runtime)) as http:
            assert (await http.get("/hello")).text == "hello"
            await runtime.close()
            assert (await http.get("/native")).text == "native"
            answer = await http.get("/hello")
            assert (answer.status_code, answer.json()["type"]) == (503, "runtime-closed")

    run(main())
