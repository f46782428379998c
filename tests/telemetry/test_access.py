"""One line of JSON for each invocation."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from select import PIPE_BUF
from types import SimpleNamespace
from typing import Any

import pytest
from apps import client, eventually, run
from collecting import Collector, Make, traceparent
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from starlette_wasm import EdgeRequest, WasmMiddleware, WasmRuntime
from starlette_wasm.telemetry import Telemetry, access
from starlette_wasm.telemetry.access import AccessHandler
from starlette_wasm.telemetry.conventions import ErrorType
from starlette_wasm.telemetry.observation import Observation
from starlette_wasm.telemetry.versions import Versions

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


@pytest.fixture
def stdout(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """A stdout to which our own handler writes, if no other takes the lines."""
    monkeypatch.setattr(access, "sys", SimpleNamespace(stdout=(out := io.StringIO())))
    monkeypatch.setattr(access.logger, "handlers", [])
    monkeypatch.setattr(access.logger, "propagate", True)
    yield out
    access.logger.setLevel(logging.NOTSET)


def handler() -> AccessHandler:
    access.install()
    found = access.bulk_handler()
    assert found is not None
    return found


def ids(out: io.StringIO) -> list[str]:
    return [json.loads(each)["request_id"] for each in out.getvalue().splitlines()]


def seen(request_id: str) -> Observation:
    return Observation("f", "1", "http", "GET", "/f", "stable", "weight", ran=True, request_id=request_id)


def test_lines_go_to_stdout_where_no_handler_takes_them(stdout: io.StringIO) -> None:
    access.install()
    access.install()
    assert len(access.logger.handlers) == 1
    access.logger.info("%s", '{"a":1}')
    assert stdout.getvalue() == '{"a":1}\n'


def test_lines_wait_and_come_in_order(stdout: io.StringIO) -> None:
    async def main() -> None:
        handler().later._seconds = 3600
        access.log(seen("a"))
        access.log(seen("b"))
        assert ids(stdout) == []
        access.logger.info('{"request_id":"c"}')  # of somebody else, who need not wait
        access.log(seen("d"))
        assert ids(stdout) == ["a", "b", "c"]
        access.write_out(delay=True)
        assert ids(stdout) == ["a", "b", "c", "d"]

    run(main())


def test_lines_come_after_a_moment(stdout: io.StringIO) -> None:
    async def main() -> None:
        handler()
        access.log(seen("a"))
        await eventually(lambda: ids(stdout) == ["a"])
        access.log(seen("b"))
        await eventually(lambda: ids(stdout) == ["a", "b"])

    run(main())


def test_no_more_lines_wait_than_there_is_room_for(stdout: io.StringIO) -> None:
    async def main() -> None:
        handler().later._seconds = 3600
        for number in range(600):
            access.log(seen(str(number)))
            assert number - len(ids(stdout)) < 256
        assert ids(stdout) == [str(number) for number in range(512)]
        handler().flush()  # as at the end of the process
        assert ids(stdout) == [str(number) for number in range(600)]

    run(main())


def test_lines_are_written_in_pieces_that_a_pipe_takes_whole(
    stdout: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several workers may write to one pipe: what is longer may have lines of others within it."""
    written: list[str] = []
    monkeypatch.setattr(stdout, "write", written.append)

    async def main() -> None:
        handler().later._seconds = 3600
        for number in range(200):
            access.log(seen(f"{number}-" + "x" * (number % 7) * 100))
        access.log(seen("x" * 2 * PIPE_BUF))  # alone, as it cannot be whole
        access.log(seen("last"))
        access.write_out(delay=True)

    run(main())
    found = [json.loads(each)["request_id"].partition("-")[0] for text in written for each in text.splitlines()]
    assert found == [*map(str, range(200)), "x" * 2 * PIPE_BUF, "last"]
    assert [text.count("\n") for text in written if len(text) > PIPE_BUF] == [1]
    assert len(written) < 100


@pytest.mark.parametrize("end", ["close", "drain"])
def test_no_line_is_lost_when_a_runtime_ends(make: Make, stdout: io.StringIO, end: str) -> None:
    async def main() -> None:
        runtime = make({"/echo": "echo"}, access_log=True)
        await runtime.start()
        handler().later._seconds = 3600
        for number in range(20):
            await get(runtime, "/echo", x_request_id=f"r-{number}")
        if end == "drain":  # a server without lifespan ends the process next
            runtime.drain()
            assert len(ids(stdout)) == 20
            access.log(seen("late"))
            assert ids(stdout)[20:] == ["late"]
        await runtime.close()

    run(main())
    assert ids(stdout)[:20] == [f"r-{number}" for number in range(20)]


def test_another_handler_or_filter_gets_each_record(stdout: io.StringIO) -> None:
    async def main() -> None:
        mine, taken = handler(), []
        mine.later._seconds = 3600
        access.log(seen("a"))
        other = logging.Handler()
        other.emit = taken.append  # type: ignore[method-assign]
        access.logger.addHandler(other)
        access.log(seen("b"))
        assert [json.loads(record.getMessage())["request_id"] for record in taken] == ["b"]
        assert ids(stdout) == ["a", "b"]
        access.logger.removeHandler(other)
        mine.addFilter(lambda record: False)
        access.log(seen("c"))
        assert ids(stdout) == ["a", "b"]

    run(main())


def test_a_forked_child_writes_no_line_of_its_parent(stdout: io.StringIO) -> None:
    async def main() -> None:
        mine = handler()
        mine.later._seconds = 3600
        access.log(seen("a"))
        mine._forget()
        access.log(seen("b"))
        access.write_out(delay=False)
        assert ids(stdout) == ["b"]

    run(main())


TEXTS = st.text(max_size=8)
OBSERVATIONS = st.builds(
    Observation,
    *(TEXTS for _ in range(7)),
    attempt=st.integers(1, 9),
    cold=st.booleans(),
    waited=st.none() | st.floats(0, 1e3),
    duration=st.floats(0, 1e3),
    ran=st.booleans(),
    cpu=st.floats(0, 1e3),
    memory=st.integers(0, 1 << 32),
    host_calls=st.integers(0, 99),
    status=st.none() | st.integers(200, 599),
    error=st.none() | st.sampled_from(ErrorType),
    request_id=st.none() | TEXTS,
    trace_id=st.none() | TEXTS,
    span_id=st.none() | TEXTS,
    at=st.floats(0, 4e9),
)


@given(OBSERVATIONS)
def test_a_line_is_compact_json_with_all_fields(made: Observation) -> None:
    text = access.line(made)
    assert "\n" not in text
    found = json.loads(text)
    assert json.dumps(found, separators=(",", ":")) == text
    time = datetime.fromisoformat(found.pop("time"))
    assert abs(time.timestamp() - made.at) < 0.002

    def ms(seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds * 1e3, 3)

    assert found == {
        "request_id": made.request_id,
        "trace_id": made.trace_id,
        "span_id": made.span_id,
        "trigger": made.trigger,
        "method": made.method or None,
        "route": made.route or None,
        "function": made.function,
        "version": made.version,
        "variant": made.variant or None,
        "reason": made.reason or None,
        "attempt": made.attempt,
        "status": made.status,
        "error": made.error,
        "duration_ms": ms(made.duration),
        "queue_ms": ms(made.waited),
        "cpu_ms": ms(made.cpu) if made.ran else None,
        "memory_peak": made.memory if made.ran else None,
        "host_calls": made.host_calls if made.ran else None,
        "cold_start": made.cold,
    }


def test_a_line_has_the_version_that_metrics_leave_out(make: Make, stdout: io.StringIO) -> None:
    """The line is made later than the figures, which have one name for what comes after the first versions."""

    async def main() -> None:
        telemetry = Telemetry()
        telemetry._versions = Versions(0)
        async with make({"/echo": "echo"}, access_log=True, telemetry=telemetry) as runtime:
            handler().later._seconds = 3600
            await get(runtime, "/echo")
            await runtime.invoke("echo", EdgeRequest())
            assert stdout.getvalue() == ""

    run(main())
    assert [json.loads(each)["version"] for each in stdout.getvalue().splitlines()] == ["1", "1"]
