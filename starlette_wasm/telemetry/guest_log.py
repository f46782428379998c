"""A guest's lines on stderr, and what the file system refused it, as log records.

Records of stdlib logging: a handler of OpenTelemetry takes trace and span from the context, which is that of the
guest's span. A guest may write what it likes, so that lines are escaped and cut, and a chatty function is slowed down.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from ..capabilities import Violation
from ..engine.outcome import Denial, Outcome
from ..engine.printable import escape
from ..functions.target import Target
from ..messages import EdgeContext
from ..sync.pace import SLICE, Paces

logger = logging.getLogger("starlette_wasm.guest")
_paces = Paces()
"""For the lines of all guests: how long a handler takes for each is not ours to choose."""
T = TypeVar("T")

MAX_LINES = 1000
"""Lines of one invocation that become records; the rest is counted."""
MAX_REFUSALS = 20
"""Different refusals of one invocation that become records; the rest is counted."""
MAX_LINE = 8192
"""Characters of a line; the rest is counted."""
LINES_PER_SECOND = 500
"""Lines of one function, over all its invocations."""
BURST = 2000
"""Lines that a function may save up."""
BYTES_PER_SECOND = 1 << 20
"""Bytes of the lines of one function, as they are written, over all its invocations."""
BYTES_BURST = 4 << 20
"""Bytes that a function may save up."""
TRACE_PER_SECOND = 500
"""Spans and events that the guests of one function add to traces, over all its invocations."""
TRACE_BURST = 2000
"""Spans and events that a function may save up."""
_REPORT_EVERY = 1.0
_MOST_CONTAINERS = 100
"""Objects and lists of a line that is read as JSON: many of them have Python collect garbage, of the whole process."""
_FEW = 1024
"""Bytes of a guest's lines that are logged without waiting for a turn."""
_MOST_SHARES = 4096
_PIECE = 4096

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "err": logging.ERROR,
    "error": logging.ERROR,
    "alert": logging.CRITICAL,
    "crit": logging.CRITICAL,
    "critical": logging.CRITICAL,
    "emerg": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
}
_KEYS = ("level", "severity", "lvl", "log.level")
_WORDS = "|".join(_LEVELS)
_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.,]*(?:Z|[+-]\d\d:?\d\d)?"
# "error: x", "[info] x", "WARN x", and with a time before: "2026-01-01T00:00:00Z INFO x", "[2026-... ERROR crate] x".
# A word in small letters without a mark is prose: "error rates are fine". ASCII, as else a dotless i is an i to the
# regex, and lower() makes no word of the table of it.
_PREFIX = re.compile(
    rf"(?:\[?{_TIME}\]?\s+)?(?:[\[(<](?i:(?P<marked>{_WORDS}))[\])>]|(?i:(?P<named>{_WORDS})):"
    rf"|(?P<shouted>{_WORDS.upper()})(?=[\s\]|,-]|$))",
    re.ASCII,
).match
_FIELD = re.compile(rf"(?:^|\s)(?:level|severity|lvl)=\"?({_WORDS})\b", re.IGNORECASE | re.ASCII).search


def severity(line: str) -> int:
    """Return the logging level that a line claims, INFO if it claims none.

    Read are prefixes (``ERROR:``, ``[info]``, ``WARN``, after a timestamp too), ``level=error``, and the keys
    ``level``, ``severity``, ``lvl`` and ``log.level`` of a JSON object, as a word or as bunyan's number.
    """
    head = line[:256].lstrip()
    if head.startswith("{"):
        return _of_json(line)
    found = _PREFIX(head)
    if found:
        return _LEVELS[(found["marked"] or found["named"] or found["shouted"]).lower()]
    field = _FIELD(head)
    return _LEVELS[field[1].lower()] if field else logging.INFO


def _of_json(line: str) -> int:
    if line.count("{") + line.count("[") > _MOST_CONTAINERS:
        return logging.INFO
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return logging.INFO
    for key in _KEYS:
        value = document.get(key)
        if isinstance(value, str):
            return _LEVELS.get(value.lower(), logging.INFO)
        if isinstance(value, int | float):
            return _of_number(value)
    return logging.INFO


def _of_number(value: float) -> int:
    """Return the level as bunyan and pino count: 20 debug, 30 info, 40 warn, 50 error, 60 fatal."""
    if not value >= 10:
        return logging.INFO
    return max(logging.DEBUG, min(logging.CRITICAL, int(min(value, 60)) // 10 * 10 - 10))


class Allowance:
    """A token bucket for the lines of one function."""

    __slots__ = ("_at", "_burst", "_rate", "_reported", "_tokens", "dropped")

    def __init__(self, rate: float = LINES_PER_SECOND, burst: float = BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = time.monotonic()
        self._reported = self._at - _REPORT_EVERY
        self.dropped = 0

    def take(self, wanted: int) -> int:
        """Take room for up to ``wanted`` lines, and return how many may be logged; the others are counted."""
        self._refill()
        given = min(wanted, int(self._tokens))
        self._tokens -= given
        self.dropped += wanted - given
        return given

    def take_whole(self, wanted: int) -> bool:
        """Take all of ``wanted``, or count all of it."""
        self._refill()
        fits = wanted <= self._tokens
        if fits:
            self._tokens -= wanted
        else:
            self.dropped += wanted
        return fits

    def _refill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now

    def report(self) -> int:
        """Return how many were dropped since the last report, at most once a second; 0 if nothing is to be reported."""
        if not self.dropped or self._at - self._reported < _REPORT_EVERY:
            return 0
        self._reported = self._at
        dropped, self.dropped = self.dropped, 0
        return dropped


class Share:
    """What one function may have of the log."""

    __slots__ = ("lines", "octets", "trace")

    def __init__(self) -> None:
        self.lines = Allowance()
        self.octets = Allowance(BYTES_PER_SECOND, BYTES_BURST)
        self.trace = Allowance(TRACE_PER_SECOND, TRACE_BURST)
        """For the spans and events that its guests add to traces."""


_shares: dict[str, Share] = {}
"""By function, the least recently used first."""
_lock = threading.Lock()


def share_of(function: str) -> Share:
    with _lock:
        share = _shares.pop(function, None)
        if share is None:
            if len(_shares) >= _MOST_SHARES:
                del _shares[next(iter(_shares))]
            share = Share()
        _shares[function] = share
        return share


async def log_guest(target: Target, outcome: Outcome, context: EdgeContext) -> None:
    """Log each line of stderr and each refusal on the logger ``starlette_wasm.guest``.

    Records have the attributes ``function``, ``version`` and ``request_id``. Between them the event loop has its turns:
    how many there are, and how long a handler takes for each, is not ours to choose.
    """
    extra = _extra(target, context)
    if outcome.denials:
        _log_refusals(target, Counter(outcome.denials), _text_of_denial, extra)
    if not outcome.stderr:
        return
    await _log_lines(target, outcome.stderr, {**extra, "log.iostream": "stderr"})
    if outcome.stderr_dropped:
        logger.warning("%s: %d bytes of stderr dropped (maxLogBytes)", target, outcome.stderr_dropped, extra=extra)


def _text_of_denial(denial: Denial) -> str:
    what = "sandbox violation: fs write" if denial.write else "permission denied"
    return f"{what}: {escape(denial.path)}"


def log_violations(target: Target, violations: Iterable[Violation], context: EdgeContext) -> None:
    """Log what the policy refused to ``edge.call``."""
    _log_refusals(target, Counter(violations), _text_of_violation, _extra(target, context))


def _text_of_violation(violation: Violation) -> str:
    detail = f" ({violation.detail})" if violation.detail else ""
    return f"{violation.operation}: {escape(violation.message)}{detail}"


def _log_refusals(target: Target, found: Counter[T], text_of: Callable[[T], str], extra: dict[str, str]) -> None:
    """Log each once, with how often it came: they are from the same share as the lines of the function."""
    share = share_of(target.name)
    given = share.lines.take(min(len(found), MAX_REFUSALS))
    for refusal, count in islice(found.items(), given):
        text = text_of(refusal)
        _write(target, logging.WARNING, text if count == 1 else f"{text} ({count} times)", extra)
    if len(found) > MAX_REFUSALS:
        more = found.total() - sum(islice(found.values(), MAX_REFUSALS))
        logger.warning("%s: %d more refusals", target, more, extra=extra)
    _report(target, share, extra)


def _write(target: Target, level: int, text: str, extra: dict[str, str]) -> None:
    """Log a line that a guest chose, if the bytes of its function's share allow it."""
    if share_of(target.name).octets.take_whole(len(text.encode("utf-8", "replace"))):
        logger.log(level, "%s: %s", target, text, extra=extra)


def _report(target: Target, share: Share, extra: dict[str, str]) -> None:
    dropped = share.lines.report()
    if dropped:
        logger.warning("%s: %d lines dropped (%d a second)", target, dropped, LINES_PER_SECOND, extra=extra)
    octets = share.octets.report()
    if octets:
        logger.warning("%s: lines of %d bytes dropped (%d a second)", target, octets, BYTES_PER_SECOND, extra=extra)


def _extra(target: Target, context: EdgeContext) -> dict[str, str]:
    return {"function": target.name, "version": target.version, "request_id": context.request_id}


async def _log_lines(target: Target, stderr: bytes, extra: dict[str, str]) -> None:
    if not logger.isEnabledFor(logging.CRITICAL):
        return
    gone = await _turn(target) if len(stderr) > _FEW else None
    begin = time.perf_counter()
    lines, dropped = _lines_of(stderr)
    _paces.here().spend(begin)
    if not lines:
        return
    share = share_of(target.name)
    left = iter(lines[: share.lines.take(len(lines))])
    try:
        if gone is not None:
            raise gone
        await _write_in_turns(target, left, extra)
    except asyncio.CancelledError:  # nobody waits for the answer any more: there is no other turn
        _write_for_a_turn(target, left, extra)
        dropped += sum(1 for _ in left)
        raise
    finally:
        if dropped:
            logger.warning("%s: %d more lines dropped", target, dropped, extra=extra)
        _report(target, share, extra)


async def _turn(target: Target) -> asyncio.CancelledError | None:
    """Wait for a turn. Return the cancellation of a request for whose answer nobody waits any more."""
    try:
        await _paces.here().turn(target.name)
    except asyncio.CancelledError as error:
        return error
    return None


async def _write_in_turns(target: Target, left: Iterator[bytes], extra: dict[str, str]) -> None:
    while _write_for_a_turn(target, left, extra):
        await _paces.here().turn(target.name)


def _write_for_a_turn(target: Target, left: Iterator[bytes], extra: dict[str, str]) -> bool:
    """Log what is left for as long as a turn lasts. Return whether there may be more."""
    begin, more = time.perf_counter(), False
    for raw in left:
        # Only LF ends a line: what else some viewer may take for an end is escaped.
        line = raw.decode("utf-8", "replace").removesuffix("\r")
        level = severity(line[:MAX_LINE])
        if logger.isEnabledFor(level):
            _write(target, level, escape(_cut(line)), extra)
        if time.perf_counter() - begin > SLICE:
            more = True
            break
    _paces.here().spend(begin)
    return more


def _lines_of(stderr: bytes) -> tuple[list[bytes], int]:
    """Return the lines that become records, and how many more there are. Blank ones are left out."""
    lines: list[bytes] = []
    at = _skip_blank(stderr, 0)
    while at < len(stderr) and len(lines) < MAX_LINES:
        end = stderr.find(b"\n", at)
        end = len(stderr) if end < 0 else end
        lines.append(stderr[stderr.rfind(b"\n", 0, at) + 1 : end])
        at = _skip_blank(stderr, end)
    return lines, stderr.count(b"\n", at, len(stderr) - 1) + 1 if at < len(stderr) else 0


def _skip_blank(stderr: bytes, at: int) -> int:
    """Return where the next character stands that is not blank, or the end: a guest may print a megabyte before it."""
    while (piece := stderr[at : at + _PIECE]) and piece.isspace():
        at += _PIECE
    return min(at + len(piece) - len(piece.lstrip()), len(stderr))


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}... ({len(line) - MAX_LINE} more characters)"
