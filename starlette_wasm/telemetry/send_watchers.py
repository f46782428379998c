"""What watches the messages of an answer, put so that ``asgi/direct_write.py`` can do without the messages.

Each of these is a function or object around ``send`` that hands on what it gets, unchanged, and notes something: one of
ours, and that of OpenTelemetry's ASGI instrumentation, which is a private part of it.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any

from starlette.types import Message, Send

_MODULE = "opentelemetry.instrumentation.asgi"
_FREE = ("duration_attrs", "expecting_trailers", "scope", "self", "send", "server_span", "server_span_name")
_USED = frozenset({"Context", "ValueError", "_set_send_span", "_set_server_span", "asgi_getter", "asgi_setter",
                   "content_length_header", "context_api", "end", "exclude_send_span", "get",
                   "get_global_response_propagator", "inject", "int", "set_span_in_context", "trace"})  # fmt: skip
"""The names in its code. One with others may do what no trial shows."""
_PROPAGATOR = "get_global_response_propagator"
_MOST_CODES = 100
_known: dict[CodeType, bool] = {}
"""The functions around ``send`` that were looked at: whether they are as assumed."""


class SendWatcher:
    """Takes note of both messages of an answer, before and after they are handed on; they are not to be changed."""

    __slots__ = ("behind",)

    def __init__(self, behind: Send) -> None:
        self.behind = behind

    def starting(self, start: Message) -> None:
        """Note the first message, before it is handed on."""

    def started(self, start: Message) -> None:
        """Note it, after it was."""

    def ending(self, body: Message) -> None:
        """Note the last message, before it is handed on."""

    def ended(self) -> None:
        """Note it, after it was."""


class InstrumentedSend(SendWatcher):
    """The function of OpenTelemetry's ASGI instrumentation."""

    __slots__ = ("_cells", "_middleware", "_span")

    def __init__(self, cells: tuple[CellType, ...]) -> None:
        """Take its variables, in the order of ``_FREE``."""
        self._cells = cells
        self._middleware = cells[3].cell_contents
        self.behind = cells[4].cell_contents
        self._span = cells[5].cell_contents

    def starting(self, start: Message) -> None:
        self._note(start, start["status"])
        for name, value in start["headers"]:
            if name == b"content-length":
                self._middleware.content_length_header = int(value)
                break

    def ending(self, body: Message) -> None:
        self._note(body, None)

    def ended(self) -> None:
        self._span.end()

    def _note(self, message: Message, status: int | None) -> None:
        middleware, cells = self._middleware, self._cells
        if not middleware.exclude_send_span:
            name, scope = cells[6].cell_contents, cells[2].cell_contents
            middleware._set_send_span(name, scope, self.behind, message, status, False)
        middleware._set_server_span(self._span, message, status, cells[0].cell_contents)


def watcher_of(send: Any) -> SendWatcher | None:
    """Return what ``send`` does besides handing on what it gets, and to what it does that.

    Of functions it knows that of OpenTelemetry's ASGI instrumentation. Assumes the names that it uses, and tries it:
    what it does with a few answers must be what InstrumentedSend does. None for any other, or if a hook or a propagator
    of the instrumentation looks at messages, and may change them: they are then sent as ever.
    """
    if type(send) is not FunctionType:
        return send if isinstance(send, SendWatcher) else None
    known = _known.get(send.__code__)
    if known is False:
        return None
    propagator = send.__globals__.get(_PROPAGATOR)
    if propagator is None or propagator() is not None or not (known or _looked_at(send)):
        return None
    cells = send.__closure__ or ()
    if cells[1].cell_contents or getattr(cells[3].cell_contents, "client_response_hook", True) is not None:
        return None
    return InstrumentedSend(cells)


def _looked_at(send: FunctionType) -> bool:
    """Return whether it is as assumed, and keep that."""
    code = send.__code__
    try:
        made_by: Any = vars(sys.modules[_MODULE])["OpenTelemetryMiddleware"]._get_otel_send
        known = (
            code in made_by.__code__.co_consts
            and code.co_freevars == _FREE
            and _USED.issuperset(code.co_names)
            and all(_is_alike(made_by, *each) for each in _SAMPLES)
        )
    except Exception:  # another instrumentation, or another version of it
        known = False
    if len(_known) < _MOST_CODES:
        _known[code] = known
    return known


_SAMPLES: tuple[tuple[bool, int, tuple[tuple[bytes, bytes], ...]], ...] = (
    (True, 200, ((b"content-type", b"text/plain"), (b"content-length", b"5"))),
    (False, 404, ((b"content-length", b"5"), (b"x-request-id", b"a"))),
    (False, 503, ((b"a", b"b"),)),
)


class _Noted:
    """Stands in for the middleware and the span of a trial: it keeps what is done to it."""

    client_response_hook = None

    def __init__(self, exclude_send_span: bool) -> None:
        self.exclude_send_span = exclude_send_span
        self.content_length_header: int | None = None
        self.calls: list[tuple[str, list[object]]] = []

    def _set_send_span(self, *given: object) -> bool:
        self.calls.append(("send span", [each for each in given if not callable(each)]))
        return False

    def _set_server_span(self, span: object, *given: object) -> None:
        self.calls.append(("server span", [span is self, *given]))

    def end(self) -> None:
        self.calls.append(("end", []))


def _is_alike(made_by: Any, exclude: bool, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> bool:
    """Return whether what ``made_by`` makes does the same as InstrumentedSend, and hands on what it gets."""
    theirs, ours = _Noted(exclude), _Noted(exclude)
    handed: list[Mapping[str, object]] = []

    async def behind(message: Message) -> None:
        handed.append(message)

    start: Message = {"type": "http.response.start", "status": status, "headers": list(headers)}
    body: Message = {"type": "http.response.body", "body": b"hello"}
    send = made_by(theirs, theirs, "GET /", {"type": "http"}, behind, {})
    complete(send(dict(start)))
    complete(send(dict(body)))
    same = made_by(ours, ours, "GET /", {"type": "http"}, behind, {})
    watcher = InstrumentedSend(same.__closure__)
    watcher.starting(start)
    watcher.started(start)
    watcher.ending(body)
    watcher.ended()
    noted = (ours.calls, ours.content_length_header)
    return handed == [start, body] and noted == (theirs.calls, theirs.content_length_header)


def complete(running: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing, and return what it does. Raises RuntimeError if it waits."""
    try:
        running.send(None)
    except StopIteration as end:
        return end.value
    running.close()
    raise RuntimeError("it waits")
