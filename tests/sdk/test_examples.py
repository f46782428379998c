"""The ten examples of docs/sdk-examples.md, in each language: the same requests have the same answers."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator

import pytest
from apps import config, settings
from projects import BUILDS
from toolchains import aot_cache

from starlette_wasm.testing import WasmKit

POLICY = {
    "allowedHosts": ["https://api.example.com"],
    "maxNetworkRequests": 2,
    "kvNamespaces": ["shop"],
    "queues": ["orders"],
    "maxMemoryPages": 1024,
    "executionTimeoutMs": 60_000,
}
BOUNDARY = "XyZ"
UPLOAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a b.txt"\r\n'
    f"Content-Type: text/plain\r\n\r\nhello\r\n--{BOUNDARY}--\r\n"
)


@pytest.fixture(scope="module", params=BUILDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WasmKit]:
    """The examples of a language, in a kit."""
    folder = tmp_path_factory.mktemp(f"sdk_{request.param}")
    home = folder / "functions/web/v1"
    home.mkdir(parents=True)
    shutil.copy(BUILDS[request.param](folder), home / "web.wasm")
    made = config(folder, {"/{rest:path}": {"functionName": "web", "policy": "p"}}, policies={"p": POLICY})
    with WasmKit(made, settings=settings(cache_dir=aot_cache(), compile_cpu_s=300)) as kit:
        yield kit


@pytest.fixture
def kit(built: WasmKit) -> WasmKit:
    built.kv.clear()
    built.queues.clear()
    return built


@pytest.mark.parametrize(("path", "greeted"), [("/hello?name=Ada+L%C3%A9", "Ada Lé"), ("/hello", "world")])
def test_hello_greets(kit: WasmKit, path: str, greeted: str) -> None:
    answer = kit.request(path)
    assert (answer.status, answer.text) == (200, f"Hello, {greeted}!\n"), answer.error
    assert answer.header("content-type") == "text/plain; charset=utf-8"


def test_json_is_read_and_written(kit: WasmKit) -> None:
    answer = kit.request("/sum", json={"numbers": [1, 2, 39]})
    assert (answer.status, answer.json()) == (200, {"sum": 42})
    assert answer.header("content-type") == "application/json"


def test_a_repeated_key_has_all_values(kit: WasmKit) -> None:
    assert kit.request("/tags?tag=a&other=x&tag=b%20c").text == "a\nb c\n"
    assert kit.request("/tags?tag=a").text == "a\n"
    assert kit.request("/tags").text == ""


def test_a_cookie_is_read_and_set(kit: WasmKit) -> None:
    answer = kit.request("/visits", headers={"cookie": 'a=b; visits="41"; c'})
    assert answer.text == "visit 42"
    assert answer.header("set-cookie") == "visits=42; Path=/; HttpOnly; SameSite=Lax"
    assert kit.request("/visits").text == "visit 1"


def test_a_form_is_decoded(kit: WasmKit) -> None:
    assert kit.request("/order", form={"item": "crème & tea", "count": "2"}).text == "2 x crème & tea"
    answer = kit.request("/order", form={"item": "tea"})
    assert (answer.status, answer.json()["detail"]) == (400, "send count and item")


@pytest.mark.parametrize("content", [b"hello", b"\x00\xff\r\n--Xy\x80"])
def test_a_part_of_multipart_is_read(kit: WasmKit, content: bytes) -> None:
    body = UPLOAD.encode().replace(b"hello", content)
    answer = kit.request("/upload", body=body, headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"})
    assert answer.status == 200, answer.error or answer.text
    assert answer.json() == {"filename": "a b.txt", "type": "text/plain", "bytes": len(content)}
    assert kit.request("/upload", body="hello").status == 400


def test_a_redirect_leads_on(kit: WasmKit) -> None:
    answer = kit.request("/moved")
    assert (answer.status, answer.header("location")) == (308, "/hello?name=Ada")


def test_a_problem_is_problem_json(kit: WasmKit) -> None:
    assert kit.request("/item?id=7").text == "item 7"
    answer = kit.request("/item?id=7x")
    assert answer.header("content-type") == "application/problem+json"
    assert answer.json() == {"title": "Not a number", "status": 400, "detail": "id is to be a number"}


def test_a_fetch_is_answered_and_logged(kit: WasmKit) -> None:
    kit.hosts.answer("https://api.example.com/rates", json={"EUR": 1})
    kit.hosts.fail("https://api.example.com/rates", "connect-failed")
    answer = kit.request("/rates")
    assert answer.json() == {"EUR": 1}, answer.error
    assert [(line.level, line.text) for line in answer.logs] == [(logging.INFO, "INFO asking for the rates")]
    answer = kit.request("/rates")
    assert (answer.status, answer.json()["detail"]) == (502, "connect-failed")
    assert [line.level for line in answer.logs] == [logging.INFO, logging.ERROR]


def test_an_order_is_stored_queued_and_traced(kit: WasmKit) -> None:
    for number in ("1", "2"):
        answer = kit.request("/orders", json={"item": "tea"})
        assert (answer.status, answer.text) == (202, f"order {number}")
    assert [span.name for span in answer.spans] == ["place order"]
    first = kit.queues["orders"][0]
    assert (first.json(), first.attributes) == ({"item": "tea"}, {"kind": "new"})


def test_what_is_not_granted_is_a_failure(kit: WasmKit) -> None:
    answer = kit.call("web", "/orders", json={"item": "tea"})
    assert answer.violations
    assert answer.status == 502, answer.error
    assert answer.json()["detail"] in (
        "kv namespace not allowed: shop",
        "too many spans in the trace: at most 0 in an invocation",
    )


def test_another_path_is_not_found(kit: WasmKit) -> None:
    answer = kit.request("/nope")
    assert (answer.status, json.loads(answer.text)["title"]) == (404, "Not found")
