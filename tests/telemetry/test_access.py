"""One line of JSON for each invocation."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from apps import client, run
from collecting import Collector, Make, traceparent
from starlette.applications import Starlette

from starlette_wasm import EdgeRequest, WasmMiddleware, WasmRuntime
from starlette_wasm.telemetry import Telemetry, access

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(json.loads(record.getMessage()))  # type: ignore[method-assign]
    access.logger.addHandler(handler)
    yield found
    access.logger.removeHandler(handler)
    access.logger.setLevel(logging.NOTSET)


async def get(runtime: WasmRuntime, path: str, **headers: str) -> None:
    async with client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
        await http.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_line_says_what_became_of_an_invocation(
    make: Make, collector: Collector, lines: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        async with make({"/echo/{key}": "echo"}, access_log=True) as runtime:
            await get(runtime, "/echo/secret", x_request_id="r-1")
        (line,) = lines
        assert line["duration_ms"] > line["cpu_ms"] > 0
        assert line.pop("memory_peak") % 65536 == 0
        own = traceparent(collector.span("echo"))
        for varying in ("time", "duration_ms", "cpu_ms"):
            del line[varying]
        assert line == {
            "request_id": "r-1",
            "trace_id": own[3:35],
            "span_id": own[36:52],
            "trigger": "http",
            "method": "GET",
            "route": "/echo/{key}",
            "function": "echo",
            "version": "1",
            "variant": "stable",
            "reason": "weight",
            "attempt": 1,
            "status": 200,
            "error": None,
            "queue_ms": None,
            "host_calls": 0,
            "cold_start": False,
        }

    run(main())


def test_a_failure_and_a_cold_start_are_told(make: Make, lines: list[dict[str, Any]]) -> None:
    async def main() -> None:
        runtime = make({"/exit": "exit3"}, access_log=True)
        await get(runtime, "/exit")
        await runtime.close()
        assert [(line["status"], line["error"], line["cold_start"]) for line in lines] == [(500, "function-exit", True)]

    run(main())


def test_without_an_sdk_the_trace_is_the_callers(make: Make, lines: list[dict[str, Any]]) -> None:
    async def main() -> None:
        async with make({"/echo": "echo"}, access_log=True, telemetry=Telemetry()) as runtime:
            await get(runtime, "/echo", traceparent=CALLER)
            await runtime.invoke("echo", EdgeRequest())
        assert [line["trace_id"] for line in lines] == [CALLER[3:35], None]
        assert [line["trigger"] for line in lines] == ["http", "other"]

    run(main())


def test_it_is_off_unless_it_is_asked_for(make: Make, lines: list[dict[str, Any]]) -> None:
    async def main() -> None:
        async with make({"/echo": "echo"}) as runtime:
            await get(runtime, "/echo")
        assert lines == []

    run(main())


def test_lines_go_to_stdout_where_no_handler_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", out := io.StringIO())
    monkeypatch.setattr(access.logger, "handlers", [])
    monkeypatch.setattr(access.logger, "propagate", True)
    access.install()
    access.install()
    assert len(access.logger.handlers) == 1
    access.logger.info("%s", '{"a":1}')
    assert out.getvalue() == '{"a":1}\n'
    access.logger.setLevel(logging.NOTSET)
