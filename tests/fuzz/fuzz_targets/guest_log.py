"""What a guest writes to stderr: one record a line, nothing in it that could forge another, a level for any text."""

from __future__ import annotations

import asyncio
import logging

from starlette_wasm.engine.outcome import Denial, End, Outcome
from starlette_wasm.functions.target import Target
from starlette_wasm.messages import EdgeContext
from starlette_wasm.telemetry import guest_log

from .source import Source

TOKENS = (
    b"ERROR: ", b"[info] ", b"WARN x", b"level=error", b'{"level":"error"}', b'{"level":30}', b'{"severity":1e999}',
    b'{"lvl":-1}', b'{"log.level":null}', b"2026-01-01T00:00:00Z ", b"\n", b"\r", b"\x1b[31m", b"\xc2\x85",
    b"\xe2\x80\xa8", b"\xff", b"\xc4\xb1", b"\xc4\xb0", b"\xc5\xbf", b"\xe2\x84\xaa", b"\xd9\xa1", b"NaN", b"[" * 50,
    b"{",
)  # fmt: skip
_LEVELS = {logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL}


class _Named:
    """As much of a target as the log needs."""

    name, version = "f", "1"

    def __str__(self) -> str:
        return "f v1"


_target: Target = _Named()  # type: ignore[assignment]


def check(data: bytes) -> None:
    source = Source(data)
    denied = source.text() if source.flag() else ""
    stderr = source.rest()
    for line in stderr.decode("utf-8", "replace").split("\n"):
        assert guest_log.severity(line) in _LEVELS, line
    guest_log._shares.clear()
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    guest_log.logger.addHandler(handler)
    level = guest_log.logger.level
    guest_log.logger.setLevel(logging.DEBUG)
    try:
        outcome = Outcome(End.OK, stderr=stderr, denials=(Denial(denied, True),) if denied else ())
        asyncio.run(guest_log.log_guest(_target, outcome, EdgeContext("r")))
    finally:
        guest_log.logger.removeHandler(handler)
        guest_log.logger.setLevel(level)
    lines = len(stderr.removesuffix(b"\n").split(b"\n")) if stderr else 0
    assert len(records) == bool(denied) + min(lines, guest_log.MAX_LINES) + (lines > guest_log.MAX_LINES)
    for record in records:
        message = record.getMessage()
        assert message.replace("\t", " ").isprintable(), message
        assert len(message) < 12 * guest_log.MAX_LINE
