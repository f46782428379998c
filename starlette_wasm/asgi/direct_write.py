"""An answer that goes to the transport of uvicorn's httptools protocol at once, as ``send`` would write it.

ASGI's two messages are two objects, a coroutine for each of Starlette's wrappers around ``send``, and two searches in
each header: a sixth of what a request takes in all. If nothing else stands between, C writes the same bytes. What
uvicorn does with an answer is not assumed: before the first one, a few are made both ways for requests of nobody's, and
if one byte or attribute differs, this is not used.
"""

from __future__ import annotations

import asyncio
import sys
from types import CellType, MethodType
from typing import Any

from starlette.types import Message, Send

from .._compat import behind_starlette, uvicorn_cycle
from ..engine.native.library import native
from ..telemetry.send_watchers import SendWatcher, complete, watcher_of

JOINED = 64 << 10
"""Bytes of a body that are copied behind the head, so that both are one write. Also in http1.c."""
Headers = list[tuple[bytes, bytes]]
_SAMPLES: tuple[tuple[int, bytes], ...] = ((200, b"hello"), (404, b""), (503, bytes(JOINED + 1)))
_chunked: dict[type, bool] = {}
"""What _writes_chunks() has found."""
_status_lines: dict[type, dict[int, bytes]] = {}
"""Those of a class of cycles; none if its ``send`` does anything else than _write()."""


def write_at_once(cycle: Any, send: Send, status: int, headers: Headers, body: bytes) -> bool:
    """Answer the request of a cycle of uvicorn's, if that is all that ``send`` would do. Else return False."""
    kind = type(cycle)
    lines = _status_lines.get(kind)
    if lines is None:
        lines = _tried(cycle)
    if status not in lines or not _is_idle(cycle):
        return False
    innermost, notes = behind_starlette(send)
    watchers: list[SendWatcher] = []
    if not _is_method(innermost, cycle, kind.send):
        innermost = _behind_watchers(innermost, notes, watchers)
        if not _is_method(innermost, cycle, kind.send):
            return False
    assert native is not None
    begin = native.http1(lines[status], cycle.default_headers, headers, body)
    if begin is None:
        return False
    if watchers:
        _note(watchers, {"type": "http.response.start", "status": status, "headers": headers}, body)
    for started in notes:
        started.cell_contents = True
    _write(cycle, begin, body)
    for each in reversed(watchers):
        each.ended()
    return True


def _behind_watchers(send: Any, notes: list[CellType], watchers: list[SendWatcher]) -> Any:
    """Return what messages are handed to in the end; add who takes note of them on their way, the nearest first."""
    while (watcher := watcher_of(send)) is not None:
        watchers.append(watcher)
        send, more = behind_starlette(watcher.behind)
        notes += more
    return send


def _note(watchers: list[SendWatcher], start: Message, body: bytes) -> None:
    """Have both messages noted that are not sent, up to the writing of the second one."""
    end = {"type": "http.response.body", "body": body}
    for each in watchers:
        each.starting(start)
    for each in reversed(watchers):
        each.started(start)
    for each in watchers:
        each.ending(end)


def cycle_behind(send: Send) -> Any:
    """Return the cycle of uvicorn's that ``send`` hands messages to at once; None if anything else stands between."""
    innermost, _ = behind_starlette(send)
    cycle = uvicorn_cycle(innermost)
    return cycle if cycle is not None and _is_method(innermost, cycle, type(cycle).send) else None


def send_at_once(cycle: Any, data: bytes | memoryview) -> bool:
    """Send a part of a body, if that waits for nothing. Else return False. A view is as HttpExchange.hand_on has it."""
    if cycle.flow.write_paused or cycle.disconnected:
        return False
    if type(data) is memoryview and cycle.chunked_encoding and _writes_chunks(cycle):
        cycle.transport.write(data.obj)
    else:
        complete(cycle.send({"type": "http.response.body", "body": data, "more_body": True}))
    return True


def _writes_chunks(cycle: Any) -> bool:
    """Return whether all that ``send`` of a class of cycles does with a part of a body is to write it as a chunk."""
    kind = type(cycle)
    if kind not in _chunked:
        try:
            _chunked[kind] = _chunks_are_alike(cycle)
        except Exception:  # whatever it has, or does, that is not known here
            _chunked[kind] = False
    return _chunked[kind]


def _chunks_are_alike(cycle: Any) -> bool:
    theirs, ours = _like(cycle), _like(cycle)
    for each in (theirs, ours):
        complete(each.send({"type": "http.response.start", "status": 200, "headers": []}))
    complete(theirs.send({"type": "http.response.body", "body": b"0123456789abcdef", "more_body": True}))
    ours.transport.write(b"10\r\n0123456789abcdef\r\n")
    return _state(ours) == _state(theirs)


def _is_method(found: Any, of: object, function: object) -> bool:
    return type(found) is MethodType and found.__self__ is of and found.__func__ is function


def _is_idle(cycle: Any) -> bool:
    """Return whether a cycle has sent nothing, waits for nothing, and sends all that it is given and no more."""
    return (
        cycle.keep_alive
        and cycle.scope["method"] != "HEAD"
        and not (cycle.response_started or cycle.disconnected or cycle.access_log or cycle.flow.write_paused)
        and not cycle.transport.is_closing()
    )


def _write(cycle: Any, begin: bytes, body: bytes) -> None:
    """Do what ``send`` of a cycle does with both messages of an answer."""
    cycle.response_started = True
    cycle.waiting_for_100_continue = cycle.chunked_encoding = False
    cycle.transport.write(begin)
    if len(body) > JOINED:
        cycle.transport.write(body)
    cycle.response_complete = True
    cycle.message_event.set()
    cycle.on_response()


def _tried(cycle: Any) -> dict[int, bytes]:
    """Answer requests of its own both ways. Return the status lines for a class of cycles, none if they differ."""
    kind = type(cycle)
    lines: dict[int, bytes] = getattr(sys.modules[kind.__module__], "STATUS_LINE", {})
    try:
        alike = native is not None and all(_is_alike(cycle, lines[status], status, body) for status, body in _SAMPLES)
    except Exception:  # whatever it has, or does, that is not known here
        alike = False
    _status_lines[kind] = lines if alike else {}
    return _status_lines[kind]


def _is_alike(cycle: Any, status_line: bytes, status: int, body: bytes) -> bool:
    """Return whether ``send`` and _write() do the same with an answer, to what is written and to the cycle."""
    assert native is not None
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    theirs, ours = _like(cycle), _like(cycle)
    begin = native.http1(status_line, ours.default_headers, headers, body)
    if begin is None:
        return False
    complete(theirs.send({"type": "http.response.start", "status": status, "headers": headers}))
    complete(theirs.send({"type": "http.response.body", "body": body}))
    _write(ours, begin, body)
    return _is_idle(_like(cycle)) and _state(ours) == _state(theirs)


class _Kept:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.write = self.parts.append

    def is_closing(self) -> bool:
        return False

    def done(self) -> None:
        self.parts.append(b"<done>")


def _like(cycle: Any) -> Any:
    """Return a cycle of the same class for a GET, which shares nothing with the other one that changes."""
    kept = _Kept()
    return type(cycle)(
        scope={"type": "http", "method": "GET", "path": "/", "http_version": "1.1", "headers": []},
        transport=kept,
        flow=type(cycle.flow)(kept),
        logger=cycle.logger,
        access_logger=cycle.access_logger,
        access_log=False,
        default_headers=[(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"), (b"server", b"uvicorn")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=kept.done,
    )


def _state(cycle: Any) -> dict[str, Any]:
    """Return all that a cycle holds, comparable."""
    state: dict[str, Any] = vars(cycle) | {
        "transport": b"".join(cycle.transport.parts),
        "flow": vars(cycle.flow).keys(),
        "on_response": None,
        "message_event": cycle.message_event.is_set(),
    }
    return state
