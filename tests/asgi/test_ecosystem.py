"""Functions in an app with what others bring: OpenAPI documents, rate limits, error trackers, forms, trio."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import sentry_sdk
import trio
from apps import JSON, add_constant, add_function, config, settings
from fastapi import APIRouter, Depends, FastAPI, Form, Request, UploadFile
from openapi_spec_validator import validate
from sentry_sdk.integrations.fastapi import FastApiIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from sentry_sdk.transport import Transport
from slowapi import Limiter
from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from slowapi.util import get_remote_address
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient
from starlette.types import Message

from starlette_wasm import WasmMiddleware, WasmRoute, WasmRules, wasm_endpoint, wasm_route


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    add_function(tmp_path, "garbage")
    add_function(tmp_path, "exit3")
    return config(tmp_path, {"/rule/{name}": "echo", "/garbage": "garbage", "/exit": "exit3"})


def fastapi(wasm: JSON) -> FastAPI:
    app = FastAPI()
    app.add_middleware(WasmMiddleware, config=wasm, settings=settings())
    return app


def test_an_endpoint_declares_its_path_parameters(wasm: JSON) -> None:
    app = fastapi(wasm)
    router = APIRouter(prefix="/shops/{shop}")
    router.add_api_route("/orders/{order:int}/{rest:path}", wasm_endpoint("echo"), methods=["PUT"])
    app.include_router(router, prefix="/{tenant}")
    document = app.openapi()
    validate(document)
    parameters = document["paths"]["/{tenant}/shops/{shop}/orders/{order}/{rest}"]["put"]["parameters"]
    assert [(each["name"], each["in"], each["schema"]["type"]) for each in parameters] == [
        (name, "path", "string") for name in ("tenant", "shop", "order", "rest")
    ]
    with TestClient(app) as http:
        seen = http.put("/t/shops/s/orders/7/a/b", content=b"body").json()
        assert seen["params"] == {"tenant": "t", "shop": "s", "order": "7", "rest": "a/b"}
        assert seen["body"] == "body"


def test_an_endpoint_without_fastapi_takes_a_request(wasm: JSON) -> None:
    routes = [Route("/plain/{name}", wasm_endpoint("echo"))]
    app = Starlette(routes=routes, middleware=[Middleware(WasmMiddleware, config=wasm, settings=settings())])
    with TestClient(app) as http:
        assert http.get("/plain/a").json()["params"] == {"name": "a"}


def test_endpoints_have_a_name_and_a_module() -> None:
    @wasm_route("/x", function="echo")
    async def handler(request: Any, call: Any) -> Any:
        return await call(request)

    for endpoint, name, module in (
        (WasmRoute("/x", function="edge-echo.v2").endpoint, "edge_echo_v2", "starlette_wasm"),
        (handler.endpoint, "handler", __name__),
        (wasm_endpoint("edge-echo"), "edge_echo", "starlette_wasm"),
    ):
        assert endpoint.__name__ == name
        assert endpoint.__module__.startswith(module)


@pytest.mark.parametrize("middleware", [SlowAPIMiddleware, SlowAPIASGIMiddleware])
def test_slowapi_limits_every_kind_of_route(wasm: JSON, middleware: Any) -> None:
    app = fastapi(wasm)
    app.router.routes.append(WasmRoute("/route", function="echo"))
    app.add_api_route("/endpoint/{name}", wasm_endpoint("echo"))
    app.router.routes.append(WasmRules())
    app.state.limiter = Limiter(key_func=get_remote_address, default_limits=["2/hour"])
    app.add_middleware(middleware)
    with TestClient(app) as http:
        for path in ("/route", "/endpoint/a", "/rule/a"):
            assert [http.get(path).status_code for _ in range(3)] == [200, 200, 429], path


class Envelopes(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[tuple[str, Any]] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.items += [(item.type, item.payload.json) for item in envelope.items]


@pytest.fixture
def sentry() -> Iterator[Envelopes]:
    transport = Envelopes()
    with sentry_sdk.isolation_scope():
        sentry_sdk.init(dsn="http://key@localhost/1", transport=transport, traces_sample_rate=1.0)
        yield transport
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)


def test_sentry_groups_failures_and_names_routes(wasm: JSON, sentry: Envelopes) -> None:
    app = fastapi(wasm)
    app.router.routes.append(WasmRoute("/route/{name}", function="echo"))
    app.add_api_route("/endpoint/{name}", wasm_endpoint("echo"))
    with TestClient(app) as http:
        for path in ("/rule/a", "/route/a", "/endpoint/a", "/garbage", "/exit"):
            http.get(path)
    sentry_sdk.flush()
    transactions = [each["transaction"] for kind, each in sentry.items if kind == "transaction"]
    assert transactions == ["/rule/{name}", "/route/{name}", "/endpoint/{name}", "/garbage", "/exit"]
    events = [each for kind, each in sentry.items if kind == "event"]
    messages = [each["logentry"]["message"] for each in events]
    assert messages == ["garbage (invalid-function-response): %s%s", "exit3 (function-exit): %s%s"]
    kinds = [each["exception"]["values"][0]["type"] for each in events]
    assert (kinds, [each["transaction"] for each in events]) == (
        ["InvalidFunctionResponse", "FunctionExited"],
        ["/garbage", "/exit"],
    )


@pytest.mark.parametrize("style", ["url", "endpoint"])
def test_sentry_names_transactions_by_the_whole_template(wasm: JSON, sentry: Envelopes, style: str) -> None:
    integrations = [StarletteIntegration(transaction_style=style), FastApiIntegration(transaction_style=style)]  # type: ignore[arg-type]
    sentry_sdk.init(dsn="http://key@localhost/1", transport=sentry, traces_sample_rate=1.0, integrations=integrations)

    def inside() -> list[BaseRoute]:
        return [
            WasmRoute("/route/{x}", function="echo"),
            WasmRoute("/exit", function="exit3"),
            Route("/endpoint/{x}", wasm_endpoint("echo")),
        ]

    api = FastAPI()
    api.add_api_route("/api/{x}", wasm_endpoint("echo"))
    own = Starlette(middleware=[Middleware(WasmMiddleware, config=wasm, settings=settings())])
    app = Starlette(
        routes=[
            Mount("/t/{tenant}", routes=inside()),
            Mount("/s/{tenant}", app=Starlette(routes=inside())),
            Mount("/f/{tenant}", app=api),
            Mount("/own/{tenant}", app=own),
            Mount("/rules/{tenant}", routes=[WasmRules()]),
        ],
        middleware=[Middleware(WasmMiddleware, config=wasm, settings=settings())],
    )
    paths = ("/t/1/route/2", "/t/1/exit", "/t/1/endpoint/2", "/s/1/route/2", "/s/1/endpoint/2", "/f/1/api/2")
    rules = ("/own/1/rule/2", "/rules/1/rule/2")
    with TestClient(app) as http:
        for path in (*paths, *rules):
            http.get(path)
    sentry_sdk.flush()
    named = [each["transaction"] for kind, each in sentry.items if kind == "transaction"]
    templates = [
        *("/t/{tenant}/route/{x}", "/t/{tenant}/exit", "/t/{tenant}/endpoint/{x}"),
        *("/s/{tenant}/route/{x}", "/s/{tenant}/endpoint/{x}", "/f/{tenant}/api/{x}"),
        *("/own/{tenant}/rule/{name}", "/rules/{tenant}/rule/{name}"),
    ]
    if style == "url":
        assert named == templates
        assert [each["transaction"] for kind, each in sentry.items if kind == "event"] == ["/t/{tenant}/exit"]
    else:
        assert not any(character.isdigit() for name in named for character in name.removeprefix("exit3"))
        assert not set(named[: len(paths)]) & set(templates)


def test_a_failure_is_logged_with_its_error(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    with TestClient(fastapi(wasm)) as http:
        http.get("/garbage")
    (record,) = (each for each in caplog.records if each.levelno == logging.ERROR)
    assert record.exc_info is not None
    assert "invalid response on stdout" in str(record.exc_info[1])
    assert record.msg == "garbage (invalid-function-response): %s%s"


async def csrf(token: Annotated[str, Form()]) -> None:
    assert token == "x y"


async def whole_form(request: Request) -> None:
    await request.form()


async def closed_form(request: Request) -> AsyncIterator[None]:
    form = await request.form()
    yield
    await form.close()


async def upload(file: UploadFile) -> None:
    assert await file.read() == b"\x00content"


@pytest.mark.parametrize("dependency", [csrf, whole_form])
def test_a_form_dependency_leaves_the_form(wasm: JSON, dependency: Any) -> None:
    app = fastapi(wasm)
    app.add_api_route("/form", wasm_endpoint("echo"), methods=["POST"], dependencies=[Depends(dependency)])
    with TestClient(app) as http:
        seen = http.post("/form", data={"token": "x y", "name": "Adä&"}).json()
        assert seen["body"] == "token=x+y&name=Ad%C3%A4%26"


def test_an_upload_dependency_leaves_the_upload(wasm: JSON) -> None:
    app = fastapi(wasm)
    app.add_api_route("/upload", wasm_endpoint("echo"), methods=["POST"], dependencies=[Depends(upload)])
    with TestClient(app) as http:
        files = {"file": ("a.bin", b"\x00content", "application/x-thing")}
        seen = http.post("/upload", data={"note": "n"}, files=files).json()
    boundary = seen["headers"]["content-type"].split("boundary=")[1]
    assert seen["body"] == (
        f'--{boundary}\r\nContent-Disposition: form-data; name="note"\r\n\r\nn\r\n'
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\n'
        f"content-type: application/x-thing\r\n\r\n\x00content\r\n--{boundary}--\r\n"
    )


@pytest.mark.parametrize("files", [{}, {"file": ("a.bin", b"content")}])
def test_a_form_again_has_its_length(wasm: JSON, files: Any) -> None:
    app = fastapi(wasm)
    app.add_api_route("/form", wasm_endpoint("echo"), methods=["POST"], dependencies=[Depends(whole_form)])
    with TestClient(app) as http:
        kind = "multipart/form-data; boundary=b" if files else "application/x-www-form-urlencoded"
        parts = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\xc3\xa4\r\n--b--\r\n"
        body = parts if files else b"a=\xc3\xa4&b=*"
        seen = http.post("/form", content=body, headers={"content-type": kind}).json()
    assert seen["body"] != body.decode()
    assert seen["headers"]["content-length"] == str(len(seen["body"].encode()))


@pytest.mark.parametrize("files", [None, {"file": ("a.bin", b"x" * 80)}])
def test_a_form_again_may_be_too_large(tmp_path: Path, files: Any) -> None:
    wasm = config(tmp_path, functions=["echo"], policies={"small": {"maxRequestBytes": 100}})
    app = fastapi(wasm)
    endpoint = wasm_endpoint("echo", policy="small")
    app.add_api_route("/form", endpoint, methods=["POST"], dependencies=[Depends(closed_form)])
    with TestClient(app) as http:
        answer = http.post("/form", data={"a": "\N{SNOWMAN}" * 12}, files=files)
        assert (answer.status_code, answer.json()["type"]) == (413, "request-too-large")
        assert http.post("/form", data={"a": "b"}).status_code == 200


def test_trio_is_refused_with_its_cause(wasm: JSON) -> None:
    sent: list[Message] = []
    app = Starlette(middleware=[Middleware(WasmMiddleware, config=wasm, settings=settings())])

    async def main() -> None:
        async def receive() -> Message:
            return {"type": "lifespan.startup"}

        async def send(message: Message) -> None:
            sent.append(message)

        with pytest.raises(Exception, match="this server runs on trio"):
            await app({"type": "lifespan", "state": {}}, receive, send)

    trio.run(main)
    (failed,) = sent
    assert failed["type"] == "lifespan.startup.failed"
    assert "runs on asyncio, and this server runs on trio; start it with asyncio" in failed["message"]


@pytest.mark.parametrize(
    "stdout", [b'starting up\n{"status_code": 200}', b'{"status_code": 200}\nall done\n'], ids=["before", "behind"]
)
def test_a_log_line_on_stdout_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture, stdout: bytes) -> None:
    add_constant(tmp_path, "chatty", stdout)
    with TestClient(fastapi(config(tmp_path, {"/chatty": "chatty"}))) as http:
        assert http.get("/chatty").status_code == 502
    (record,) = (each for each in caplog.records if each.levelno == logging.ERROR)
    line = "starting up" if stdout.startswith(b"s") else "all done"
    assert f"'{line}' is not part of the answer: logs belong on stderr" in record.getMessage()
