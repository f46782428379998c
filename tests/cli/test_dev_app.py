"""The app of ``dev``: whom it answers, and what it prints."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from starlette_wasm import WasmRules
from starlette_wasm.cli import dev_output
from starlette_wasm.cli.dev_app import DevApp
from starlette_wasm.cli.dev_hosts import DevHosts
from starlette_wasm.cli.dev_server import DevServer
from starlette_wasm.exceptions import FunctionNotFound, WasmError
from starlette_wasm.testing.runtime import RecordingRuntime, Surroundings

NATIVE = Starlette(routes=[Route("/", lambda request: PlainTextResponse("native"))])
CONFIG = """
rules: [{pathPattern: /f, functionName: f, hosts: [a.example]}]
tenants: [{name: t, hosts: ["*.b.example"]}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "functions").mkdir()
    (tmp_path / "wasm.yaml").write_text(CONFIG)
    return tmp_path / "wasm.yaml"


def sent(app: DevApp, kind: str, host: str | None, server: str = "127.0.0.1") -> list[Message]:
    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        messages.append(message)

    messages: list[Message] = []
    headers = [] if host is None else [(b"host", host.encode())]
    scope = {"type": kind, "method": "GET", "path": "/", "headers": headers, "server": (server, 80),
             "query_string": b""}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return messages


def app(config: Path, *given: str) -> DevApp:
    return DevApp(NATIVE, lambda *_: None, lambda _: None, DevHosts(config, given))


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "shop.localhost", "LOCALHOST.", "127.0.0.1:8000", "[::1]:8000", "[::1]", "10.0.0.9",
     "a.example:8000", "x.b.example", "tunnel.example", None],
)  # fmt: skip
def test_hosts_that_are_meant_are_answered(config: Path, host: str | None) -> None:
    assert sent(app(config, "tunnel.example"), "http", host)[0]["status"] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "b.example", "a.example.evil.example", "localhost.evil.example",
     "127.0.0.1.evil.example", "1.2.3", "a b", "@localhost:1@evil.example"],
)  # fmt: skip
def test_other_hosts_are_refused_in_words(config: Path, host: str) -> None:
    start, body = sent(app(config), "http", host)
    assert start["status"] == 421
    assert b"--allow-host" in body["body"]
    assert sent(app(config), "websocket", host) == [{"type": "websocket.close", "code": 1008}]


def test_hosts_follow_the_config(config: Path) -> None:
    asked = app(config)
    assert sent(asked, "http", "c.example")[0]["status"] == 421
    config.write_text("rules: [{pathPattern: /f, functionName: f, hosts: [c.example]}]\n")
    os.utime(config, (1, 1))
    assert sent(asked, "http", "c.example")[0]["status"] == 200
    config.write_text("rules: 1\n")
    os.utime(config, (2, 2))
    assert sent(asked, "http", "c.example")[0]["status"] == 421


def test_a_start_that_fails_is_said_once(config: Path) -> None:
    """Starlette gives the server a traceback."""
    rules = WasmRules(config)
    failed: list[WasmError] = []
    made = DevApp(
        Starlette(routes=[rules], lifespan=rules.lifespan), lambda *_: None, failed.append, DevHosts(config, ())
    )
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(made({"type": "lifespan"}, receive, send))
    assert messages == [{"type": "lifespan.startup.failed", "message": ""}]
    assert ["function not found: f" in str(error) for error in failed] == [True]


def test_other_errors_of_a_start_keep_their_traceback(config: Path) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": "Traceback"})
        raise KeyError("of the app")

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        messages.append(message)

    messages: list[Message] = []
    made = DevApp(failing, lambda *_: None, lambda _: None, DevHosts(config, ()))
    with pytest.raises(KeyError, match="of the app"):
        asyncio.run(made({"type": "lifespan"}, receive, send))
    assert messages == [{"type": "lifespan.startup.failed", "message": "Traceback"}]


def test_a_refused_reload_is_printed_once(
    config: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    config.write_text("rules: []\n")

    async def main() -> None:
        around = Surroundings()
        server = DevServer(None, config, "127.0.0.1", 0)
        async with RecordingRuntime(config, around.settings(), around) as runtime:
            server._runtimes = [runtime]
            config.write_text("rules: [{pathPattern: /f, functionName: g}]\n")
            await server._reload("the config has changed")
            with pytest.raises(FunctionNotFound):
                await runtime.reload()

    caplog.set_level(logging.ERROR, "starlette_wasm")
    asyncio.run(main())
    out, err = capsys.readouterr()
    assert err.count("function not found: g") == 1
    assert "what was served is served on" in out
    assert "has changed" not in out
    assert len([record for record in caplog.records if "reload refused" in record.getMessage()]) == 1  # by itself


def test_dev_output_leaves_other_records() -> None:
    logger = logging.getLogger("starlette_wasm")
    with dev_output.without_refusals():
        assert logger.filter(logging.LogRecord("starlette_wasm", 40, "", 1, "canary %s", ("x",), None))
    assert not logger.filters
