"""``DeferredSpan``: the server span of a request, made for the SDK when somebody else uses it, or once it has ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span, SpanContext
from opentelemetry.util.types import AttributeValue

from .sdk import SdkSpan

_turning = threading.Lock()


def _after_fork() -> None:
    """Renew the lock in a forked child: a thread of the parent may have held it."""
    global _turning
    _turning = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class DeferredSpan(Span):
    """The current span while a request is served: for its id alone, or for anything that a span of the SDK can do.

    The first use of anything else makes it one; until then it takes a third of the time. It passes for one in
    isinstance(), too.
    """

    def __init__(self, begun: SdkSpan) -> None:
        self._begun = begun
        self._more: dict[str, AttributeValue] = {}
        self._real: Any = None
        self._over = False

    def put(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes that are plain and short."""
        with _turning:
            if self._real is None:
                self._more.update(attributes)
                return
        self._real.set_attributes(dict(attributes))

    def end(self, end_time: int | None = None) -> None:
        """End it."""
        with _turning:
            now = self._real is None and not self._over and end_time is None
            self._over = self._over or now
        if now:
            self._begun.end(self._more)
        else:
            self._sdk_span().end(end_time)

    def _sdk_span(self) -> Any:
        """Return the span of the SDK, ended if this has."""
        with _turning:
            if self._real is None:
                self._begun.attributes = {**self._begun.attributes, **self._more}
                self._real = self._begun.real()
                if self._over:
                    self._real._end_time = self._begun.ended_at
            return self._real

    def get_span_context(self) -> SpanContext:
        """Return its id, without making it one of the SDK."""
        return self._begun.context

    def is_recording(self) -> bool:
        """Return whether it has not ended."""
        if self._real is not None:
            recording: bool = self._real.is_recording()
            return recording
        return not self._over

    def set_attributes(self, attributes: Any) -> None:
        """Set attributes."""
        self._sdk_span().set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute."""
        self._sdk_span().set_attribute(key, value)

    def add_event(self, *given: Any, **named: Any) -> None:
        """Add an event."""
        self._sdk_span().add_event(*given, **named)

    def add_link(self, *given: Any, **named: Any) -> None:
        """Add a link."""
        self._sdk_span().add_link(*given, **named)

    def update_name(self, name: str) -> None:
        """Change the name."""
        self._sdk_span().update_name(name)

    def set_status(self, *given: Any, **named: Any) -> None:
        """Set the status."""
        self._sdk_span().set_status(*given, **named)

    def record_exception(self, *given: Any, **named: Any) -> None:
        """Add an event for an exception."""
        self._sdk_span().record_exception(*given, **named)

    def __exit__(self, *error: Any) -> None:
        self._sdk_span().__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sdk_span(), name)

    def __repr__(self) -> str:
        return repr(self._sdk_span())

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._begun.kind_of_real
