"""The SDKs and docs/capabilities.md say what the host does."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
import sdk_page
from apps import add_function, config, run, settings

from starlette_wasm import EdgeRequest, WasmRuntime
from starlette_wasm.capabilities import CapabilitySettings, Code, Operation, frame
from starlette_wasm.capabilities.http import pool
from starlette_wasm.capabilities.http.exchange import MAX_EVENTS, MAX_INFORMATIONAL
from starlette_wasm.capabilities.http.headers import MAX_HEADER_BYTES, MAX_HEADERS
from starlette_wasm.capabilities.http.resolve import MAX_LOOKUPS, MAX_LOOKUPS_OF_TENANT
from starlette_wasm.capabilities.kv import store
from starlette_wasm.capabilities.queue import SqliteOutbox, publisher
from starlette_wasm.capabilities.tenant import MAX_WAITING
from starlette_wasm.capabilities.trace import MAX_ATTRIBUTES
from starlette_wasm.config.settings import load_settings
from starlette_wasm.engine import hostcall
from starlette_wasm.telemetry.guest_trace import MAX_NAME, MAX_TEXT

ROOT = Path(__file__).parents[1]
SDK = ROOT / "sdk"
PAGE = (ROOT / "docs/capabilities.md").read_text()
SOURCES = {
    "c": SDK / "c/edge.h",
    "zig": SDK / "zig/edge.zig",
    "rust": SDK / "rust/src/call.rs",
    "assemblyscript": SDK / "assemblyscript/edge.ts",
    "javascript": SDK / "javascript/src/host.js",
    "python": SDK / "python/edge/host.py",
    "go": SDK / "go/host.go",
}
ODD = ['"', "\\", "\n", "\x1f", "\x7f", "é", "\U0001f600"]
"""What a JSON string has in an escape, or is not ASCII; and DEL, which is neither."""


def section(title: str) -> str:
    text = PAGE.partition(f"## {title}\n")[2]
    assert text
    return re.split(r"^##", text, maxsplit=1, flags=re.MULTILINE)[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the table under a heading, without the first row."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def example(name: str) -> str:
    [text] = re.findall(rf"<!-- test: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(text)


@pytest.mark.parametrize("language", SOURCES)
def test_an_sdk_numbers_the_operations_as_the_host_does(language: str) -> None:
    source = SOURCES[language].read_text()
    for operation in Operation:
        name = operation.name.replace("_", "")
        found = re.findall(r"^\s*(?:EDGE_)?(\w+)(?: *=|:) (\d+),?$", source, re.MULTILINE)
        numbers = {each.replace("_", "").upper(): int(number) for each, number in found}
        assert numbers[name] == operation


def test_each_package_has_the_same_world() -> None:
    world = (SDK / "wit/edge.wit").read_text()
    assert {(SDK / name).read_text() for name in ("javascript/wit/edge.wit", "python/edge/wit/edge.wit")} == {world}


def test_the_page_of_examples_is_that_of_the_sources() -> None:
    assert sdk_page.PAGE.read_text() == sdk_page.rendered(), "run .venv/bin/python tools/sdk_page.py"


def test_the_docs_list_every_operation() -> None:
    assert [(row[0], row[1]) for row in rows("Operations")] == [(str(int(each)), each.title) for each in Operation]


def test_the_docs_list_every_error_code() -> None:
    assert [row[0] for row in rows("Error codes")] == [str(code) for code in Code]


def test_the_docs_give_the_bounds_that_hold() -> None:
    limits = CapabilitySettings()
    assert [row[1] for row in rows("Bounds")] == [
        str(limits.max_calls),
        f"{limits.max_bytes >> 20} MiB",
        f"{frame.MAX_HEADER_BYTES >> 10} KiB",
        f"{limits.max_fetch_response_bytes >> 20} MiB",
        f"{MAX_HEADERS} headers, {MAX_HEADER_BYTES >> 10} KiB, "
        f"{MAX_INFORMATIONAL} informational answers (1xx) before it",
        f"{pool.MOST_IDLE_OF_TENANT} of a function under a policy, "
        f"{pool.MOST_IDLE} in all, for {pool.IDLE_SECONDS:g} s",
        f"{MAX_LOOKUPS_OF_TENANT} of a function under a policy, {MAX_LOOKUPS} in all; one at least for each",
        f"{store.MAX_KEY_BYTES} bytes",
        f"{store.MAX_VALUE_BYTES >> 20} MiB",
        str(store.MAX_LIST),
        f"{limits.max_namespace_bytes >> 20} MiB",
        str(MAX_WAITING),
        f"{publisher.MAX_ATTRIBUTES} of {publisher.MAX_ATTRIBUTE_BYTES >> 10} KiB",
        str(MAX_ATTRIBUTES),
        f"{MAX_NAME} characters",
        f"{MAX_TEXT} characters",
    ]
    assert f"body of a fetched response, in {MAX_EVENTS:,} pieces (chunks or packets)" in [
        row[0] for row in rows("Bounds")
    ]
    assert store.MAX_VALUE_BYTES == publisher.MAX_MESSAGE_BYTES
    assert limits.max_queue_bytes == limits.max_namespace_bytes == load_settings().max_namespace_mb << 20
    assert f"1 the payload has more than {hostcall.MAX_PAYLOAD >> 20} MiB, 21" in section("The ABI")
    assert f"{limits.max_store_bytes >> 30} GiB" in PAGE
    for url in (limits.kv_url, limits.queue_url):
        assert f"`{url}`" in section("Backends")


def long_texts() -> list[str]:
    places = (0, 1, 14, 15, 16, 17, 31, 32, 33, 39, 40, 63, 64, 65, 79, 80, 81, 130)
    texts = ["a" * before + odd + "b" * behind for before in places for odd in ODD for behind in (0, 70)]
    return [*texts, "x" * 200_000, '"\\' * 40_000, "é" * 40_000, "\r\n\r\n" * 10, "\x01" * 40, "\\" * 35 + '"' * 33]


@pytest.mark.parametrize("guest", ["benchmarks/guests/body.wasm", "tests/guests/body.wasm"])
def test_c_reads_and_writes_bodies_of_any_length(tmp_path: Path, guest: str) -> None:
    """``edge.h`` looks at 64 bytes at once, then 16, then one: what ends a run is at each place of all three.

    The guest of the benchmarks sends back what it was sent, the other one decodes it, and encodes it anew.
    """
    bodies = [b"\xff" + bytes(range(256)) * 2 + bytes(length) for length in range(50)]
    bodies += [bytes(255 - at & 255 for at in range(length)) for length in range(1, 60)] + [b"\xfe\x00" * 100_000]

    async def main() -> None:
        home = tmp_path / "functions" / "body" / "v1"
        home.mkdir(parents=True)
        shutil.copy(ROOT / guest, home)
        async with WasmRuntime(config(tmp_path), settings()) as runtime:
            for text in long_texts():
                answer = await runtime.invoke("body", EdgeRequest(method="POST", body=text))
                assert answer.body == text
            for body in bodies:
                encoded = b64encode(body).decode()
                sent = EdgeRequest(method="POST", body=encoded, is_base64_encoded=True)
                answer = await runtime.invoke("body", sent)
                assert answer.content == body

    run(main())


def test_the_consumer_in_the_docs_takes_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    async def publish() -> None:
        outbox = SqliteOutbox(Path("starlette-wasm-queue.db"))
        await outbox.publish("orders", b"body", {"kind": "new"})
        await outbox.close()

    asyncio.run(publish())
    body = "".join(f"    {line}\n" for line in example("outbox").splitlines())
    scope: dict[str, object] = {}
    exec(f"async def consume():\n{body}", scope)
    for printed in ("1 b'body' {'kind': 'new'} 1\n", ""):
        asyncio.run(scope["consume"]())  # type: ignore[operator]
        assert capsys.readouterr().out == printed


def compiled(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def check(folder: Path, module: Path) -> None:
    """It counts its visits where it may, and says so where not."""
    made = config(folder, policies={"site": {"kvNamespaces": ["site"]}}, functions=["hello"])
    add_function(folder, "visits", "hello").write_bytes(module.read_bytes())

    async def main() -> None:
        async with WasmRuntime(made, settings(kv_url="sqlite://")) as runtime:
            for path, visits in (("/a", 1), ("/a", 2), ("/b", 1)):
                response = await runtime.invoke("visits", EdgeRequest(path), policy="site")
                assert (response.status_code, response.body) == (200, f"visits: {visits}")
            response = await runtime.invoke("visits", EdgeRequest("/a"))
            assert response.status_code == 502
            assert "kv namespace not allowed: site" in response.body

    run(main())


VIEW = """
#include "edge.h"

int main(void) {
    edge_json request = edge_request();
    edge_text text = edge_view(edge_find(request, "path")), method = edge_view(edge_find(request, "method"));
    edge_add(&text, " is longer now: ");
    edge_add_bytes(&text, method.data, method.len);
    return edge_respond(200, EDGE_JSON, text);
}
"""


def test_c_adds_to_a_view_without_changing_the_request(tmp_path: Path) -> None:
    (tmp_path / "view.c").write_text(VIEW)
    home = tmp_path / "functions" / "view" / "v1"
    home.mkdir(parents=True)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-Os", "-s", "-Wl,-z,stack-size=131072"]
    compiled(*command, "-I", SDK / "c", "-o", home / "view.wasm", tmp_path / "view.c")

    async def main() -> None:
        async with WasmRuntime(config(tmp_path), settings()) as runtime:
            answer = await runtime.invoke("view", EdgeRequest("/a", method="POST"))
            assert answer.body == "/a is longer now: POST"

    run(main())


def test_the_example_in_c_counts_and_has_no_warnings(tmp_path: Path) -> None:
    (tmp_path / "visits.c").write_text(example("visits.c"))
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    stack = "-Wl,-z,stack-size=131072"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-Os", "-s", stack, *warnings]
    compiled(*command, "-I", SDK / "c", "-o", tmp_path / "visits.wasm", tmp_path / "visits.c")
    check(tmp_path, tmp_path / "visits.wasm")
