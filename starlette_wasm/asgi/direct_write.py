"""An answer that goes to the transport of uvicorn's httptools protocol at once, as ``send`` would write it.

ASGI's two messages are two objects, a coroutine for each of Starlette's wrappers around ``send``, and two searches in
each header: a sixth of what a request takes in all. If nothing else stands between, C writes the same bytes. Likewise
a body that has come as a whole is read where ``receive`` would find it. What uvicorn does with a body, an answer and
its access log is not assumed: before the first one, a few are made both ways for requests of nobody's, and if one byte
or attribute differs, this is not used.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import CellType, MethodType
from typing import Any

from starlette.types import Message, Receive, Send

from .._compat import behind_starlette, uvicorn_cycle
from ..engine.native.library import native
from ..telemetry.send_watchers import SendWatcher, complete, watcher_of

JOINED = 64 << 10
"""Bytes of a body that are copied behind the head, so that both are one write. Also in http1.c."""
ACCESS_LINE = '%s - "%s %s HTTP/%s" %d'
Headers = list[tuple[bytes, bytes]]
Outlet = tuple[Any, dict[int, bytes], list[CellType], Sequence[SendWatcher]]
"""A cycle that an answer may be written to, its server's status lines, the variables in which wrappers around ``send``
note that an answer has begun, and those that look at the messages."""
_SAMPLES: tuple[tuple[int, bytes], ...] = ((200, b"hello"), (404, b""), (503, bytes(JOINED + 1)))
_chunked: dict[type, bool] = {}
"""What _writes_chunks() has found."""
_status_lines: dict[type, dict[int, bytes]] = {}
"""Those of a class of cycles; none if its ``send`` does anything else than _write()."""


def outlet_of(receive: Receive, send: Send) -> Outlet | None:
    """Return the outlet of uvicorn's cycle for a request, if writing to it is all that ``send`` would do."""
    cycle: Any = getattr(receive, "__self__", None)
    kind = type(cycle)
    lines = _status_lines.get(kind)
    if lines is None:
        if uvicorn_cycle(receive) is None:
            return None
        lines = _tried(cycle)
    if not lines or not _is_idle(cycle):
        return None
    innermost, notes = behind_starlette(send)
    if _is_method(innermost, cycle, kind.send):
        return cycle, lines, notes, ()
    watchers: list[SendWatcher] = []
    innermost = _behind_watchers(innermost, notes, watchers)
    return (cycle, lines, notes, watchers) if _is_method(innermost, cycle, kind.send) else None


def body_of(cycle: Any, receive: Receive) -> bytes | None:
    """Return the body that ``receive`` would give now; None if it would wait for more, or be another one's.

    It stays where it is until take_body().
    """
    if cycle.more_body or cycle.waiting_for_100_continue or not cycle.message_event.is_set():
        return None
    return bytes(cycle.body) if _is_method(receive, cycle, type(cycle).receive) else None


def take_body(cycle: Any) -> None:
    """Do what ``receive`` does with a cycle as it gives what body_of() has returned."""
    cycle.flow.resume_reading()
    cycle.message_event.clear()
    cycle.body = bytearray()


def write(outlet: Outlet, status: int, begin: bytes, rest: bytes = b"") -> None:
    """Answer a request with what C has made of an answer."""
    cycle, _, notes, _ = outlet
    for started in notes:
        started.cell_contents = True
    _write(cycle, status, begin, rest)


def write_at_once(receive: Receive, send: Send, status: int, headers: Headers, body: bytes) -> bool:
    """Answer the request of a cycle of uvicorn's, if that is all that ``send`` would do. Else return False."""
    outlet = outlet_of(receive, send)
    line = None if outlet is None else outlet[1].get(status)
    if outlet is None or line is None:
        return False
    assert native is not None
    begin = native.http1(line, outlet[0].default_headers, headers, body)
    if begin is None:
        return False
    watchers = outlet[3]
    if watchers:
        _note(watchers, {"type": "http.response.start", "status": status, "headers": headers}, body)
    write(outlet, status, begin, body if len(body) > JOINED else b"")
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


def _note(watchers: Sequence[SendWatcher], start: Message, body: bytes) -> None:
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
    if type(data) is memoryview and _writes_chunks(cycle) and cycle.chunked_encoding:  # a cycle of h11 has no such name
        cycle.transport.write(data.obj)
    else:
        # A transport may keep what it is given, and whoever made a view releases it: the transport has its own.
        complete(cycle.send({"type": "http.response.body", "body": data[:], "more_body": True}))
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
    theirs, ours = _like(cycle, False), _like(cycle, False)
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
        and not (cycle.response_started or cycle.disconnected or cycle.flow.write_paused)
        and not cycle.transport.is_closing()
    )


def _write(cycle: Any, status: int, begin: bytes, rest: bytes) -> None:
    """Do what ``send`` of a cycle does with both messages of an answer."""
    cycle.response_started = True
    cycle.waiting_for_100_continue = cycle.chunked_encoding = False
    if cycle.access_log:
        _log(cycle, status)
    cycle.transport.write(begin)
    if rest:
        cycle.transport.write(rest)
    cycle.response_complete = True
    cycle.message_event.set()
    cycle.on_response()


def _log(cycle: Any, status: int) -> None:
    """Write a line to the access log, of the parts that uvicorn's own has."""
    uvicorn: Any = sys.modules[type(cycle).__module__]
    scope = cycle.scope
    client, path = uvicorn.get_client_addr(scope), uvicorn.get_path_with_query_string(scope)
    cycle.access_logger.info(ACCESS_LINE, client, scope["method"], path, scope["http_version"], status)


def _tried(cycle: Any) -> dict[int, bytes]:
    """Answer requests of its own both ways. Return the status lines for a class of cycles, none if they differ."""
    kind = type(cycle)
    lines: dict[int, bytes] = getattr(sys.modules[kind.__module__], "STATUS_LINE", {})
    try:
        alike = native is not None and all(
            _is_alike(partial(_like, cycle, logs), lines[status], status, body)
            for status, body in _SAMPLES
            for logs in (True, False)
        )
    except Exception:  # whatever it has, or does, that is not known here
        alike = False
    _status_lines[kind] = lines if alike else {}
    return _status_lines[kind]


def _is_alike(like: Callable[[], Any], status_line: bytes, status: int, body: bytes) -> bool:
    """Return whether ``receive`` and ``send`` do to a cycle what body_of(), take_body() and write() do."""
    assert native is not None
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    theirs, ours = like(), like()
    begin = native.http1(status_line, ours.default_headers, headers, body)
    found = body_of(ours, ours.receive)
    if begin is None or found is None or not _is_idle(ours):
        return False
    message = complete(theirs.receive())
    take_body(ours)
    if message != {"type": "http.request", "body": found, "more_body": False} or _state(ours) != _state(theirs):
        return False
    complete(theirs.send({"type": "http.response.start", "status": status, "headers": headers}))
    complete(theirs.send({"type": "http.response.body", "body": body}))
    write((ours, {}, [], ()), status, begin, body if len(body) > JOINED else b"")
    return _state(ours) == _state(theirs)


class _Kept:
    """A transport and a logger that keep what is written to them."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.lines: list[tuple[object, ...]] = []
        self.write = self.parts.append

    def is_closing(self) -> bool:
        return False

    def done(self) -> None:
        self.parts.append(b"<done>")

    def resume_reading(self) -> None:
        self.parts.append(b"<resumed>")

    def info(self, *line: object) -> None:
        self.lines.append(line)
        self.parts.append(b"<logged>")


def _like(cycle: Any, logs: bool) -> Any:
    """Return a cycle of the same class for a request whose body has come, that shares nothing which changes."""
    kept = _Kept()
    scope = {"type": "http", "method": "POST", "path": "/a b", "query_string": b"c=%20", "http_version": "1.1"}
    like = type(cycle)(
        scope=scope | {"client": ("192.0.2.1", 50000), "root_path": "", "headers": []},
        transport=kept,
        flow=type(cycle.flow)(kept),
        logger=cycle.logger,
        access_logger=kept,
        access_log=logs,
        default_headers=[(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"), (b"server", b"uvicorn")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=kept.done,
    )
    like.body += b"a body"
    like.more_body = False
    like.message_event.set()
    return like


def _state(cycle: Any) -> dict[str, Any]:
    """Return all that a cycle holds, comparable."""
    state: dict[str, Any] = vars(cycle) | {
        "transport": b"".join(cycle.transport.parts),
        "flow": vars(cycle.flow).keys(),
        "access_logger": cycle.access_logger.lines,
        "on_response": None,
        "message_event": cycle.message_event.is_set(),
    }
    return state
