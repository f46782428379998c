"""What a guest adds to the trace itself, through ``edge.call``.

Its spans are of an instrumentation scope of their own, and its attributes have a prefix of their own: whatever a guest
calls them, they are neither spans nor attributes of the host.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, Tracer
from opentelemetry.trace import set_span_in_context as in_context
from opentelemetry.util.types import AttributeValue

from ..engine.printable import bounded
from .conventions import GUEST_PREFIX
from .guest_log import TRACE_PER_SECOND, share_of

if TYPE_CHECKING:
    from ..capabilities.trace import Attributes

logger = logging.getLogger("starlette_wasm.guest")

MAX_NAME = 128
"""Characters of the name of a span, an event or an attribute; the rest is cut off."""
MAX_TEXT = 1024
"""Characters of a value, or of what went wrong."""


class GuestTrace:
    """The spans of one invocation that are open, under its execute span: a ``Recorder`` of capabilities.

    Used where the guest runs, which may be a thread: it has nothing to do with the current context there.
    """

    __slots__ = ("_closed", "_execute", "_function", "_last", "_open", "_outer", "_share", "_tracer")

    def __init__(self, tracer: Tracer, execute: Span, outer: Context, function: str) -> None:
        """Take ``outer``, the context of the execute span, and ``function``, whose share of spans is used."""
        self._tracer = tracer
        self._function = function
        self._share = share_of(function).trace
        self._execute = execute
        self._outer = outer
        self._open: dict[int, tuple[Span, Context]] = {}
        self._last = 0
        self._closed = False

    @property
    def context(self) -> Context:
        """Context of the span that was opened last, of those that are open; else of the execute span."""
        return next(reversed(self._open.values()))[1] if self._open else self._outer

    def start(self, name: str, attributes: Attributes) -> int:
        if self._closed or not self._share.take(1):
            return 0
        parent = self.context
        span = self._tracer.start_span(bounded(name, MAX_NAME), parent, attributes=_prefixed(attributes))
        self._last += 1
        self._open[self._last] = (span, in_context(span, parent))
        return self._last

    def end(self, span: int, error: str | None) -> bool:
        found = self._open.pop(span, None)
        if found is None:
            return False
        if error is not None:
            found[0].set_status(Status(StatusCode.ERROR, bounded(error, MAX_TEXT)))
        found[0].end()
        return True

    def set(self, span: int | None, attributes: Attributes) -> bool:
        found = self._find(span)
        if found is not None:
            found.set_attributes(_prefixed(attributes))
        return found is not None

    def event(self, span: int | None, name: str, attributes: Attributes) -> bool:
        found = self._find(span)
        if found is not None and self._share.take(1):
            found.add_event(bounded(name, MAX_NAME), _prefixed(attributes))
        return found is not None

    def close(self) -> None:
        """End what the guest left open, the innermost first. One that runs on in its thread adds nothing any more."""
        self._closed = True
        if dropped := self._share.report():
            logger.warning(
                "%s: %d spans and events not recorded (%d a second)", self._function, dropped, TRACE_PER_SECOND
            )
        while self._open:
            self._open.popitem()[1][0].end()

    def _find(self, span: int | None) -> Span | None:
        if self._closed:
            return None
        if span is None:
            return next(reversed(self._open.values()))[0] if self._open else self._execute
        found = self._open.get(span)
        return None if found is None else found[0]


def _prefixed(attributes: Attributes) -> dict[str, AttributeValue]:
    return {
        GUEST_PREFIX + bounded(name, MAX_NAME): bounded(value, MAX_TEXT) if isinstance(value, str) else value
        for name, value in attributes.items()
    }
