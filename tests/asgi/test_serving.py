"""From HTTP to a guest and back: what the guest sees, and what becomes of its answer."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import JSON, add_constant, app, client, config, run, settings
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient
from starlette.types import Message, Scope

from starlette_wasm import EdgeRequest, WasmMiddleware, WasmRoute, WasmRules, WasmRuntime, wasm_endpoint
from starlette_wasm.functions.target import Target

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RULES: dict[str, str | JSON] = {
    "/echo": "echo",
    "/echo/{name}/{rest:path}": "echo",
    "/binary": "binary",
    "/hello": "hello",
    "/environ": "environ",
    "/wws/{id}": "wws",
    "/cgi": "cgi_env",
    "/cgi/{id}/{rest:path}": "cgi_env",
    "/redirect": "cgi_redirect",
    "/small": {"functionName": "echo", "policy": "small"},
}
POLICIES = {"small": {"maxRequestBytes": 10, "executionTimeoutMs": 29_700}}


@pytest.fixture(scope="module")
def wasm(tmp_path_factory: pytest.TempPathFactory) -> JSON:
    return config(tmp_path_factory.mktemp("serving"), RULES, policies=POLICIES)


@pytest.fixture(scope="module")
def http(wasm: JSON) -> Iterator[TestClient]:
    with TestClient(app(wasm, [WasmRoute("/route/{name}", function="echo")], region="eu-north-1")) as http:
        yield http


def test_a_guest_sees_every_key_of_the_request(http: TestClient) -> None:
    response = http.post(
        "/echo/Ada/b/c?x=1&y=&x=2",
        content='{"q": "é"}'.encode(),
        headers=[
            ("Content-Type", "application/json"),
            ("X-Twice", "a"),
            ("x-twice", "b"),
            ("cookie", "k=1"),
            ("cookie", "l=2"),
            ("x-request-id", "abc.DEF:1-2_3"),
        ],
    )
    seen = response.json()
    headers = seen.pop("headers")
    assert seen.pop("context") == {
        "request_id": "abc.DEF:1-2_3",
        "region": "eu-north-1",
        "cold_start": False,
        "function": "echo",
        "version": "1",
        "deadline_ms": 5000,
        "traceparent": None,
        "tracestate": None,
    }
    assert seen == {
        "path": "/echo/Ada/b/c",
        "method": "POST",
        "query": {"x": "2", "y": ""},
        "body": '{"q": "é"}',
        "is_base64_encoded": False,
        "params": {"name": "Ada", "rest": "b/c"},
        "url": "http://testserver/echo/Ada/b/c?x=1&y=&x=2",
        "multi_value_headers": {"x-twice": ["a", "b"], "cookie": ["k=1", "l=2"]},
        "multi_value_query": {"x": ["1", "2"]},
    }
    assert headers["content-type"] == "application/json"
    assert (headers["x-twice"], headers["cookie"]) == ("a, b", "k=1; l=2")
    assert response.headers["x-request-id"] == "abc.DEF:1-2_3"


def test_without_repeated_names_there_are_no_multi_value_keys(http: TestClient) -> None:
    seen = http.get("/echo").json()
    assert not [key for key in seen if key.startswith("multi_value")]


@pytest.mark.parametrize(
    ("body", "text", "is_base64"),
    [
        (b"", None, False),
        (b"\xef\xbb\xbfx", "\ufeffx", False),
        ("😀".encode(), "😀", False),
        (b"\xff\x00\xfe", "/wD+", True),
        (b"\xed\xa0\x80", "7aCA", True),
    ],
)
def test_a_body_is_text_or_else_base64(http: TestClient, body: bytes, text: str | None, is_base64: bool) -> None:
    for path in ("/echo", "/route/x"):
        seen = http.post(path, content=body).json()
        assert (seen["body"], seen["is_base64_encoded"]) == (text, is_base64)


def test_binary_bodies_pass_both_ways(http: TestClient) -> None:
    response = http.get("/binary")
    assert response.content == bytes(range(256))
    assert response.headers["content-type"] == "application/octet-stream"
    assert http.post("/binary", content=b"\xff\xfe" * 50_000).content == b"\xff\xfe" * 50_000


def test_header_bytes_that_are_not_ascii_reach_the_guest_as_latin1(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            sent = await call(WasmMiddleware(Starlette(), runtime=runtime), "/echo", [(b"x-odd", b"caf\xc3\xa9\xff")])
            assert json.loads(sent[1]["body"])["headers"]["x-odd"] == "cafÃ©ÿ"

    run(main())


async def call(app: Any, path: str, headers: list[tuple[bytes, bytes]], method: str = "GET") -> list[Message]:
    """One request by hand; gives what was sent."""
    sent: list[Message] = []

    async def receive() -> Message:
        if sent:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    return sent


def test_a_percent_encoded_path_is_decoded_once(wasm: JSON) -> None:
    async def main() -> None:
        async with client(app(wasm)) as http:  # Starlette's TestClient decodes twice
            seen = (await http.get("/echo/a%20b/%C3%A9%252F")).json()
            assert seen["path"] == "/echo/a b/é%2F"
            assert seen["params"] == {"name": "a b", "rest": "é%2F"}

    run(main())


@pytest.mark.parametrize("given", ["", "no spaces", "-first", "x" * 129, "a/b"])
def test_an_ill_formed_request_id_is_replaced(http: TestClient, given: str) -> None:
    response = http.get("/echo", headers={"x-request-id": given})
    new = response.json()["context"]["request_id"]
    assert re.fullmatch("[0-9a-f]{32}", new)
    assert response.headers["x-request-id"] == new


def test_each_request_without_an_id_gets_a_new_one(http: TestClient) -> None:
    ids = {http.get("/hello").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


def test_the_header_chooses_the_region_only_where_it_is_trusted(wasm: JSON, http: TestClient) -> None:
    asked = {"x-region": "ap-east-1"}
    assert http.get("/echo", headers=asked).json()["context"]["region"] == "eu-north-1"
    with TestClient(app(wasm, region="eu-north-1", trust_region_header=True)) as trusting:
        for given, region in (("ap-east-1", "ap-east-1"), ("no region", "eu-north-1"), ("", "eu-north-1")):
            seen = trusting.get("/echo", headers={"x-region": given}).json()
            assert seen["context"]["region"] == region


def test_the_deadline_is_that_of_the_policy(http: TestClient) -> None:
    assert http.get("/small").json()["context"]["deadline_ms"] == 29_700


def test_the_environment_tells_the_context(http: TestClient) -> None:
    headers = {"x-request-id": "r-1", "traceparent": TRACEPARENT}
    environ = http.get("/environ", headers=headers).json()["environ"]
    expected = ["EDGE_FUNCTION=environ", "EDGE_REGION=eu-north-1", "EDGE_REQUEST_ID=r-1", "EDGE_VERSION=1"]
    assert sorted(environ)[:4] == expected
    assert [name.partition("=")[0] for name in sorted(environ)[4:]] == ["TRACEPARENT"]
    assert sorted(http.get("/environ").json()["environ"])[0:1] == expected[:1]


@pytest.mark.parametrize("given", ["", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff" + TRACEPARENT[2:], "junk\tx"])
def test_a_forged_traceparent_does_not_get_into_the_environment(http: TestClient, given: str) -> None:
    environ = http.get("/environ", headers={"traceparent": given}).json()["environ"]
    assert not [entry for entry in environ if given and given in entry]


def test_a_response_may_have_repeated_headers(tmp_path: Path) -> None:
    """Lists become header lines, hop-by-hop headers and content-length are the host's own."""
    answer = {
        "status_code": 201,
        "headers": {
            "Set-Cookie": ["a=1", "b=2"],
            "X-One": "1",
            "x-request-id": "forged",
            "content-length": "3",
            "connection": "x-hop",
            "x-hop": "1",
            "transfer-encoding": "chunked",
        },
        "body": "hello",
    }
    response = answered(tmp_path, answer)
    assert response.status_code == 201
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert response.headers.get_list("x-request-id") == ["r-1"]
    assert (response.headers["content-length"], response.content) == ("5", b"hello")
    assert set(response.headers) == {"set-cookie", "x-one", "x-request-id", "content-length"}


@pytest.mark.parametrize("status", [204, 304])
def test_204_and_304_have_no_body_and_no_length(tmp_path: Path, status: int) -> None:
    response = answered(tmp_path, {"status_code": status, "headers": {"etag": '"1"'}, "body": "dropped"})
    assert (response.status_code, response.content) == (status, b"")
    assert "content-length" not in response.headers
    assert (response.headers["etag"], response.headers["x-request-id"]) == ('"1"', "r-1")


def test_a_base64_body_is_decoded(tmp_path: Path) -> None:
    body = base64.b64encode(b"\x00\xff").decode()
    assert answered(tmp_path, {"status_code": 200, "body": body, "is_base64_encoded": True}).content == b"\x00\xff"


def answered(folder: Path, answer: JSON) -> httpx.Response:
    """The same answer by a rule, a route and an endpoint, of a guest that always gives ``answer``."""
    add_constant(folder, "fixed", json.dumps(answer).encode())
    made = config(folder, {"/rule": "fixed"})
    routes = [WasmRoute("/route", function="fixed"), Route("/endpoint", wasm_endpoint("fixed"))]
    responses: list[httpx.Response] = []

    async def main() -> None:
        async with client(app(made, routes)) as http:
            for path in ("/rule", "/route", "/endpoint"):
                responses.append(await http.get(path, headers={"x-request-id": "r-1"}))

    run(main())
    by_rule, *others = responses
    for other in others:
        assert (other.status_code, other.content) == (by_rule.status_code, by_rule.content)
        assert sorted(other.headers.multi_items()) == sorted(by_rule.headers.multi_items())
    return by_rule


def test_head_gets_the_length_and_no_body(http: TestClient) -> None:
    full, head = http.get("/hello"), http.head("/hello")
    assert head.content == b""
    assert head.headers["content-length"] == full.headers["content-length"] == "5"


def test_a_wws_module_runs_unchanged(http: TestClient) -> None:
    response = http.post("/wws/7?q=1", content=b"hello")
    assert response.headers["x-generated-by"] == "wasm-workers-server"
    seen = response.json()
    assert (seen["method"], seen["params"], seen["body"], seen["kv"]) == ("POST", {"id": "7"}, "hello", {})
    assert seen["url"].endswith("/wws/7?q=1")


def test_a_cgi_module_runs_unchanged(http: TestClient) -> None:
    headers = {"content-type": "text/plain", "x-my-own": "v"}
    response = http.post("/cgi/7/a%20b?q=1&r", content=b"hello", headers=headers)
    assert (response.status_code, response.headers["x-test"]) == (201, "1")
    seen = response.json()
    assert seen["body"] == "hello"
    assert {
        "REQUEST_METHOD": "POST",
        "QUERY_STRING": "q=1&r",
        "CONTENT_LENGTH": "5",
        "CONTENT_TYPE": "text/plain",
        "HTTP_X_MY_OWN": "v",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_NAME": "testserver",
        "SCRIPT_NAME": "/cgi/7",
        "PATH_INFO": "/a b",
        "X_MATCHED_ROUTE": "/cgi/{id}/{rest:path}",
        "X_RAW_PATH_INFO": "/a%20b",
        "EDGE_FUNCTION": "cgi_env",
    }.items() <= seen["env"].items()


def test_the_matched_route_has_the_template_of_the_mounts(wasm: JSON) -> None:
    def inside() -> list[BaseRoute]:
        return [WasmRoute("/route/{x}", function="cgi_env"), Route("/end/{x}", wasm_endpoint("cgi_env")), WasmRules()]

    fastapi = FastAPI()
    router = APIRouter(prefix="/{version}")
    router.add_api_route("/api/{x}", wasm_endpoint("cgi_env"))
    fastapi.include_router(router, prefix="/v")
    own = Starlette(middleware=[Middleware(WasmMiddleware, config=wasm, settings=settings())])
    routes = [
        Mount("/t/{tenant}", routes=[Mount("/shops/{shop:int}", routes=inside()), *inside()]),
        Mount("/f/{tenant}", app=fastapi),
        Mount("/own/{tenant}", app=own),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(WasmMiddleware, config=wasm, settings=settings())])
    with TestClient(app) as http:
        for path, template in (
            ("/t/1/route/2", "/t/{tenant}/route/{x}"),
            ("/t/1/end/2", "/t/{tenant}/end/{x}"),
            ("/t/1/shops/3/route/2", "/t/{tenant}/shops/{shop}/route/{x}"),
            ("/t/1/cgi/2/3", "/t/{tenant}/cgi/{id}/{rest:path}"),
            ("/f/1/v/2/api/3", "/f/{tenant}/v/{version}/api/{x}"),
            ("/own/1/cgi/2/3", "/own/{tenant}/cgi/{id}/{rest:path}"),
        ):
            seen = http.get(path).json()["env"]
            assert seen["X_MATCHED_ROUTE"] == template, path
            assert seen["SCRIPT_NAME"] + seen["PATH_INFO"] == path


@pytest.mark.native
@pytest.mark.parametrize("path", ["/echo", "/environ", "/wws/{id}", "/cgi", "/cgi/{id}/{rest:path}", "/redirect"])
def test_a_guest_of_any_protocol_has_a_fast_path(wasm: JSON, path: str) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            assert runtime.router is not None
            match = runtime.router.match(path.replace("{rest:path}", "a").replace("{id}", "b"))
            assert match is not None
            target = match.group.only.target if match.group.only else None
            assert isinstance(target, Target)
            assert target.fast_path is not None
            assert target.fast_path.dispatches

    run(main())


def test_a_cgi_redirect_becomes_a_302(http: TestClient) -> None:
    response = http.get("/redirect", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (302, "/elsewhere")


def test_a_large_body_is_refused_by_its_length_before_it_is_read(wasm: JSON) -> None:
    assert received(wasm, [(b"content-length", b"11")], [b"x"] * 11) == (413, 0)
    assert received(wasm, [(b"content-length", b"9" * 30)], [b"x"]) == (413, 0)


def test_a_large_body_is_refused_while_it_streams(wasm: JSON) -> None:
    status, chunks = received(wasm, [], [b"xxxx"] * 100)
    assert status == 413
    assert chunks <= 4


@pytest.mark.parametrize("chunks", [[], [b"x"], [b"", b"", b"xx"]])
def test_a_body_that_does_not_come_is_waited_for_no_longer_than_it_may_take(wasm: JSON, chunks: list[bytes]) -> None:
    headers = [(b"content-length", b"10")]
    assert received(wasm, headers, chunks, stops=True, body_timeout_ms=50) == (408, len(chunks))


def test_a_body_at_the_limit_is_served(wasm: JSON) -> None:
    assert received(wasm, [(b"content-length", b"10")], [b"xxxxx", b"xxxxx"]) == (200, 2)
    assert received(wasm, [], [b"", b"xxxxxxxxxx", b""]) == (200, 3)


def received(
    wasm: JSON, headers: list[tuple[bytes, bytes]], chunks: list[bytes], *, stops: bool = False, **given: Any
) -> tuple[int, int]:
    """The status for a body in chunks, and how many of them were read. ``stops``: there is more, which never comes."""
    read = 0
    sent: list[Message] = []

    async def receive() -> Message:
        nonlocal read
        if read == len(chunks):
            await asyncio.Event().wait()
        read += 1
        return {"type": "http.request", "body": chunks[read - 1], "more_body": stops or read < len(chunks)}

    async def send(message: Message) -> None:
        sent.append(message)

    async def main() -> None:
        async with WasmRuntime(wasm, settings(**given)) as runtime:
            scope = {"type": "http", "method": "POST", "path": "/small", "query_string": b"", "headers": headers}
            await WasmMiddleware(Starlette(), runtime=runtime)(scope, receive, send)

    run(main())
    return sent[0]["status"], read


def test_invoke_sees_the_same_as_http(wasm: JSON, http: TestClient) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings(region="eu-north-1")) as runtime:
            response = await runtime.invoke("echo", EdgeRequest(path="/echo", headers={"x-request-id": "r-1"}))
            seen = json.loads(response.body)
            assert seen["context"] == http.get("/echo", headers={"x-request-id": "r-1"}).json()["context"]

    run(main())


def test_a_head_that_no_policy_bounds_is_bounded_all_the_same(http: TestClient) -> None:
    answer = http.get("/hello", headers={"x-big": "a" * (70 << 10)})
    assert (answer.status_code, answer.json()["title"]) == (431, "request head too large")
    assert http.get("/hello", headers={"x-big": "a" * (50 << 10)}).status_code == 200


def test_a_receive_that_replays_the_body_for_ever_does_not_hold_the_loop(tmp_path: Path) -> None:
    """Middleware that has read the body often hands on such a receive."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def main() -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async with WasmRuntime(config(tmp_path, {"/sleep": "sleep_ms"}), settings()) as runtime:
            scope = {"type": "http", "method": "GET", "path": "/sleep", "headers": [], "query_string": b"ms=150"}
            await asyncio.wait_for(WasmMiddleware(Starlette(), runtime=runtime)(scope, receive, send), 60)
        return int(sent[0]["status"])

    assert asyncio.run(main()) == 200
