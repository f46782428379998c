"""What guests write to stderr: severity, escapes, bounds."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import time
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from unittest.mock import patch

import psutil
import pytest
from apps import client, run
from collecting import Collector, Make
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from starlette_wasm import WasmMiddleware
from starlette_wasm.capabilities import Violation
from starlette_wasm.capabilities.errors import Code
from starlette_wasm.engine.outcome import Denial, End, Outcome
from starlette_wasm.exceptions import FunctionTrapped
from starlette_wasm.functions.target import Target
from starlette_wasm.messages import EdgeContext
from starlette_wasm.sync.pace import Pace
from starlette_wasm.telemetry import guest_log
from starlette_wasm.telemetry.failures import log_failure
from starlette_wasm.telemetry.guest_log import Allowance, severity

DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50
CONTEXT = EdgeContext("r-1")
LONG = {"executionTimeoutMs": 60_000}


class Named:
    """As much of a target as the log needs."""

    name, version = "chatty", "2"

    def __str__(self) -> str:
        return "chatty v2"


TARGET: Target = Named()  # type: ignore[assignment]


def log(outcome: Outcome, target: Target = TARGET) -> None:
    run(guest_log.log_guest(target, outcome, CONTEXT))


def refusals(count: int, text: str = "host not allowed") -> list[Violation]:
    return [Violation("http.fetch", Code.HOST_NOT_ALLOWED, f"{text}: {number}") for number in range(count)]


@pytest.fixture(autouse=True)
def _logging(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    guest_log._shares.clear()
    with caplog.at_level(logging.DEBUG, "starlette_wasm.guest"):
        yield


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("plain", INFO),
        ("", INFO),
        ("ERROR: no such key", ERROR),
        ("error: no such key", ERROR),
        ("Warning: deprecated", WARNING),
        ("WARN something", WARNING),
        ("WARN", WARNING),
        ("[info] started", INFO),
        ("[ERROR] lost", ERROR),
        ("  <debug> x", DEBUG),
        ("TRACE x", DEBUG),
        ("FATAL: gone", CRITICAL),
        ("panic: runtime error", CRITICAL),
        ("2026-01-01T00:00:00Z ERROR lost", ERROR),
        ("[2026-01-01T00:00:00.123Z WARN  my::crate] slow", WARNING),
        ("2026-01-01 00:00:00,123 - x", INFO),
        ("2026-01-01 00:00:00,123 ERROR - x", ERROR),
        ("level=error msg=lost", ERROR),
        ('ts=1 lvl="warn" msg=x', WARNING),
        ('{"level":"error","msg":"x"}', ERROR),
        ('{"severity": "WARNING", "message": "x"}', WARNING),
        ('{"lvl":"dbg"}', INFO),
        ('{"log.level":"debug"}', DEBUG),
        ('{"level":50,"msg":"x"}', ERROR),
        ('{"level":30}', INFO),
        ('{"level":20}', DEBUG),
        ('{"level":1e400}', CRITICAL),
        ('{"level":3}', INFO),
        ('{"level":null}', INFO),
        ('{"nested":{"level":"error"}}', INFO),
        ('{"level":"error"', INFO),
        ("error rates are fine", INFO),
        ("Information: none", INFO),
        ("ERRORS were none", INFO),
        ("the sublevel=error", INFO),
        ("[\u0131nfo] a letter that is an i to the regex engine alone", INFO),
        ("level=cr\u0130t", INFO),
    ],
)
def test_the_severity_is_the_one_that_the_line_claims(line: str, level: int) -> None:
    assert severity(line) == level


@given(st.text())
def test_any_line_has_some_severity(line: str) -> None:
    assert severity(line) in (DEBUG, INFO, WARNING, ERROR, CRITICAL)
    assert severity("{" + line) in (DEBUG, INFO, WARNING, ERROR, CRITICAL)


def test_json_of_many_parts_is_a_plain_line() -> None:
    """Python collects garbage once so many objects were made: in a large process that takes as long as 1,000 lines."""
    assert severity('{"level":"error","a":[' + "{}," * 98 + "1]}") == ERROR
    assert severity('{"level":"error","a":[' + "{}," * 99 + "1]}") == INFO


def test_json_too_deep_is_a_plain_line() -> None:
    assert severity('{"a":' * 100_000) == INFO


def test_lines_become_records_with_what_they_belong_to(caplog: pytest.LogCaptureFixture) -> None:
    log(Outcome(End.OK, stderr=b"one\r\nERROR: two\n"))
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (INFO, "chatty v2: one"),
        (ERROR, "chatty v2: ERROR: two"),
    ]
    extra = {"function": "chatty", "version": "2", "request_id": "r-1", "log.iostream": "stderr"}
    assert all(extra.items() <= vars(record).items() for record in caplog.records)


def test_refusals_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    log(Outcome(End.OK, denials=(Denial("/etc\n", True), Denial("/x", False))))
    assert caplog.messages == [
        "chatty v2: sandbox violation: fs write: /etc\\n",
        "chatty v2: permission denied: /x",
    ]


@given(st.binary(max_size=200))
def test_nothing_that_a_guest_writes_leaves_its_line(stderr: bytes) -> None:
    guest_log._shares.clear()
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    guest_log.logger.addHandler(handler)
    try:
        log(Outcome(End.OK, stderr=stderr))
    finally:
        guest_log.logger.removeHandler(handler)
    assert len(records) == len([line for line in stderr.split(b"\n") if line.strip()])
    assert all(record.getMessage().replace("\t", " ").isprintable() for record in records)


def test_blank_lines_are_no_records_and_cost_no_allowance(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log(Outcome(End.OK, stderr=b"\n \t\r\n" * 3000 + b"a\n\n\r\nb\n \n"))
        log(Outcome(End.OK, stderr=b"\n\n"))
    assert caplog.messages == ["chatty v2: a", "chatty v2: b"]


def test_a_forged_record_and_control_characters_are_escaped(caplog: pytest.LogCaptureFixture) -> None:
    log(Outcome(End.OK, stderr="a\r2026 ERROR root: forged\u2028\x1b[31m\x85".encode()))
    assert caplog.messages == ["chatty v2: a\\r2026 ERROR root: forged\\u2028\\x1b[31m\\x85"]


def test_a_long_line_is_cut_and_too_many_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    log(Outcome(End.OK, stderr=b"x" * 10_000))
    assert caplog.messages == [f"chatty v2: {'x' * 8192}... (1808 more characters)"]
    caplog.clear()
    log(Outcome(End.OK, stderr=b"x\n" * 1500, stderr_dropped=7))
    assert len(caplog.messages) == 1002
    assert caplog.messages[-2:] == [
        "chatty v2: 500 more lines dropped",
        "chatty v2: 7 bytes of stderr dropped (maxLogBytes)",
    ]


def test_a_chatty_function_is_slowed_down_and_the_rest_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest_log._shares.clear()
    monkeypatch.setattr(guest_log.time, "monotonic", lambda: 1000.0)
    for _ in range(10):
        log(Outcome(End.OK, stderr=b"x\n" * 500))
    lines = [message for message in caplog.messages if message.endswith(": x")]
    assert len(lines) == guest_log.BURST
    assert any(message.endswith("lines dropped (500 a second)") for message in caplog.messages)


def test_an_allowance_fills_up_again_and_reports_what_it_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(guest_log.time, "monotonic", lambda: now)
    allowance = Allowance(rate=10, burst=20)
    assert [allowance.take(15), allowance.take(15), allowance.take(15)] == [15, 5, 0]
    assert allowance.report() == 25
    assert allowance.take(5) == 0
    assert allowance.report() == 0
    now = 101.0
    assert allowance.take(20) == 10
    assert allowance.report() == 15
    now = 1000.0
    assert allowance.take(100) == 20


def test_nothing_is_read_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL + 1, "starlette_wasm.guest"):
        log(Outcome(End.OK, stderr=b"x\n"))
    assert not guest_log._shares


def test_a_guest_that_floods_stderr_is_answered(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with (
            make({"/flood": "flood_stderr"}) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            assert (await http.get("/flood")).status_code == 200
        assert len(caplog.messages) < 1100
        assert "bytes of stderr dropped (maxLogBytes)" in caplog.messages[-1]

    run(main())


HOSTILE = {
    "another record": b"ok\n2026-01-01 00:00:00 ERROR starlette_wasm: forged\n",
    "carriage return": b"ok\rERROR:starlette_wasm:forged",
    "escapes": b"\x1b[2J\x1b]0;title\x07\x9b31m",
    "other line ends": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg".encode(),
    "bidirectional": "\u202e\u2066forged\u2069".encode(),
    "no UTF-8": b"\xff\xfe\xc0\x80\xed\xa0\x80",
    "NUL": b"a\0b",
    "percent": b"%s %d %(name)s %n",
    "an access line": b'{"time":"2026-01-01T00:00:00Z","function":"other","status":200}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_a_hostile_guest_logs_harms_neither_log_nor_trace(make: Make, collector: Collector, kind: str) -> None:
    """Each record, as a file gets it, is one printable line that begins with whose it is."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
    guest_log.logger.addHandler(handler)

    async def main() -> None:
        async with (
            make({"/log": "log"}) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            assert (await http.post("/log", content=HOSTILE[kind])).status_code == 200

    try:
        run(main())
    finally:
        guest_log.logger.removeHandler(handler)
    lines = written.getvalue().split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(HOSTILE[kind].removesuffix(b"\n").split(b"\n"))
    for line in lines:
        assert re.match(r"(INFO|ERROR):starlette_wasm\.guest:log v1: ", line)
        assert line.isprintable()
    assert collector.tree() == ["POST /log", ["log"]]
    texts = [str(value) for span in collector.spans for value in (span.attributes or {}).values()]
    assert not any("forged" in text or "\x1b" in text for text in texts)


def test_a_gigabyte_on_stderr_is_counted_and_costs_no_memory(
    make: Make, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    process = psutil.Process()

    async def main() -> None:
        async with (
            make({"/flood": {"functionName": "flood_gigabyte", "policy": "long"}}, policies={"long": LONG}) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            before = process.memory_info().rss
            response = await http.get("/flood", timeout=60)
            assert response.json() == {"logged": 1_000_000_000}
            assert process.memory_info().rss - before < 32 << 20

    run(main())
    assert caplog.messages[-1] == "flood_gigabyte v1: 999934464 bytes of stderr dropped (maxLogBytes)"
    assert len(caplog.messages) < 1000
    assert collector.tree() == ["GET /flood", ["flood_gigabyte"]]


def test_refusals_are_from_the_share_of_their_function(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest_log._shares.clear()
    monkeypatch.setattr(guest_log.time, "monotonic", lambda: 1000.0)
    refused = refusals(20)
    for _ in range(120):
        guest_log.log_violations(TARGET, refused, CONTEXT)
    written = sum("host not allowed" in record.getMessage() for record in caplog.records)
    assert written == guest_log.BURST
    assert any("lines dropped" in record.getMessage() for record in caplog.records)
    caplog.clear()
    neighbour = Named()
    neighbour.name = "quiet"
    guest_log.log_violations(neighbour, refused, CONTEXT)  # type: ignore[arg-type]
    assert sum("host not allowed" in record.getMessage() for record in caplog.records) == 20
    guest_log._shares.clear()


def test_a_refusal_that_comes_again_is_one_record(caplog: pytest.LogCaptureFixture) -> None:
    guest_log.log_violations(TARGET, refusals(1) * 100 + refusals(2), CONTEXT)
    assert caplog.messages == [
        "chatty v2: http.fetch: host not allowed: 0 (101 times)",
        "chatty v2: http.fetch: host not allowed: 1",
    ]


def test_refusals_of_one_invocation_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    guest_log.log_violations(TARGET, refusals(100) + refusals(30)[25:], CONTEXT)
    assert len(caplog.messages) == guest_log.MAX_REFUSALS + 1
    assert caplog.messages[-1] == "chatty v2: 85 more refusals"


def test_the_loop_has_its_turns_while_lines_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a handler takes for each: here, as long as a turn."""
    turns = 0
    seen = []
    now = 0.0

    def tick(record: logging.LogRecord) -> bool:
        nonlocal now
        now += 1.0
        seen.append(turns)
        return True

    async def main() -> None:
        nonlocal turns
        logged = asyncio.ensure_future(
            guest_log.log_guest(TARGET, Outcome(End.OK, stderr=b"x\n" * 50, stderr_dropped=1), CONTEXT)
        )
        while not logged.done():
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(guest_log, "time", SimpleNamespace(perf_counter=lambda: now, monotonic=time.monotonic))
    guest_log.logger.addFilter(tick)
    try:
        run(main())
    finally:
        guest_log.logger.removeFilter(tick)
    assert len(seen) == 51
    assert len(set(seen)) >= 50


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, ["x", "y", "z"]), (1.0, ["x", "2 more lines dropped"])])
def test_a_cancelled_request_loses_no_line_unnoticed(
    seconds: float, expected: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a turn has no time for is counted."""
    stderr = b"x\n" + b" " * 2000 + b"y\nz\n"
    ticks = count(step=seconds)

    async def turn(pace: Pace, tenant: object) -> float:
        logging_task.cancel()
        await asyncio.sleep(0)
        raise AssertionError("it is cancelled")

    async def main() -> None:
        nonlocal logging_task
        logging_task = asyncio.create_task(guest_log.log_guest(TARGET, Outcome(End.OK, stderr=stderr), CONTEXT))
        with pytest.raises(asyncio.CancelledError):
            await logging_task

    logging_task: asyncio.Task[None]
    monkeypatch.setattr(Pace, "turn", turn)
    monkeypatch.setattr(guest_log, "time", SimpleNamespace(perf_counter=lambda: next(ticks), monotonic=time.monotonic))
    run(main())
    assert [each.removeprefix("chatty v2: ").strip() for each in caplog.messages] == expected


@pytest.mark.parametrize(
    "stderr", [b" " * 1_000_000, b" \n" * 500_000, b"\n" * 1_000_000 + b"x"], ids=["spaces", "lines", "breaks"]
)
def test_blank_output_takes_no_time(stderr: bytes) -> None:
    lines, dropped = guest_log._lines_of(stderr)
    assert (lines, dropped) == ([b"x"] if stderr.endswith(b"x") else [], 0)


@given(
    st.lists(st.sampled_from([b"\n", b" ", b"\t", b"\x0b", b"\r", b"\x1c", b"\x85", b"x"]), max_size=40).map(b"".join)
)
def test_lines_are_those_with_something_in_them(stderr: bytes) -> None:
    inked = [line for line in stderr.split(b"\n") if re.search(rb"\S", line)]
    with patch.object(guest_log, "_PIECE", 3):
        assert guest_log._lines_of(stderr) == (inked, 0)


def named(name: str) -> Target:
    target = Named()
    target.name = name
    return target  # type: ignore[return-value]


def test_bytes_of_the_log_are_shared_out(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_log.time, "monotonic", lambda: 1000.0)
    long = Outcome(End.OK, stderr=(b"x" * 8000 + b"\n") * 1000)
    log(long, named("loud"))
    written = sum(len(record.getMessage()) for record in caplog.records)
    assert guest_log.BYTES_BURST * 0.9 < written < guest_log.BYTES_BURST * 1.9
    assert any("bytes dropped" in message for message in caplog.messages)
    caplog.clear()
    log(Outcome(End.OK, stderr=b"heard\n"), named("quiet"))
    assert [message.split(": ", 1)[1] for message in caplog.messages] == ["heard"]


def test_bytes_of_refusals_are_of_the_same_share(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_log.time, "monotonic", lambda: 1000.0)
    for _ in range(10):
        guest_log.log_violations(named("loud"), refusals(20, "x" * 100_000), CONTEXT)
    assert sum(len(message) for message in caplog.messages) < guest_log.BYTES_BURST * 1.9


def test_the_longest_unused_share_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_log, "_MOST_SHARES", 2)
    used_up = guest_log.share_of("a")
    guest_log.share_of("b")
    guest_log.share_of("a")
    guest_log.share_of("c")
    assert list(guest_log._shares) == ["a", "c"]
    assert guest_log.share_of("a") is used_up


def test_failures_have_a_share_of_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function may fail as often as clients like."""
    now = [1000.0]
    monkeypatch.setattr(guest_log.time, "monotonic", lambda: now[0])
    error = FunctionTrapped("failing often", "1", reason="unreachable")
    context = EdgeContext("id", function="failing often", version="1")
    for _ in range(3000):
        log_failure(error, context)
    assert len(caplog.records) <= 2002  # what is saved up, and what is said of the rest
    now[0] += 2
    log_failure(error, context)
    assert any("lines dropped (500 a second)" in message for message in caplog.messages)
    assert "unreachable" in caplog.messages[-1]
