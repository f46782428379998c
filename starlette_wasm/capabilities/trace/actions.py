"""The operations ``trace.*``: fields in, bounds checked, handed to the recorder of the trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..errors import CapabilityError, Code
from ..fields import Fields, bad_field
from ..operations import Operation

MAX_ATTRIBUTES = 100
"""In one invocation, on all spans and events. An SDK keeps 128 of a span: the host's own have room."""
_MAX_ID = (1 << 31) - 1

Attributes = Mapping[str, str | bool | int | float]


class Recorder(Protocol):
    """Records what one guest adds. ``span`` is what ``start()`` gave, None for the innermost that is open.

    What gives a bool gives False if no such span is open.
    """

    def start(self, name: str, attributes: Attributes) -> int:
        """Start a span, and return its number, from 1."""

    def end(self, span: int, error: str | None) -> bool: ...

    def set(self, span: int | None, attributes: Attributes) -> bool: ...

    def event(self, span: int | None, name: str, attributes: Attributes) -> bool: ...


@dataclass(frozen=True, slots=True)
class TraceGrant:
    max_spans: int
    max_events: int


class TraceUsage:
    """Counts, and raises CapabilityError if a bound of the grant would be passed."""

    __slots__ = ("_attributes", "_events", "_grant", "_spans")

    def __init__(self, grant: TraceGrant) -> None:
        self._grant = grant
        self._spans = self._events = self._attributes = 0

    def span(self) -> None:
        if self._spans >= self._grant.max_spans:
            raise _exceeded("spans", self._grant.max_spans)
        self._spans += 1

    def event(self) -> None:
        if self._events >= self._grant.max_events:
            raise _exceeded("events", self._grant.max_events)
        self._events += 1

    def attributes(self, count: int) -> None:
        if count > MAX_ATTRIBUTES - self._attributes:
            raise _exceeded("attributes", MAX_ATTRIBUTES)
        self._attributes += count


def _exceeded(what: str, most: int) -> CapabilityError:
    return CapabilityError(Code.TRACE_EXCEEDED, f"too many {what} in the trace: at most {most} in an invocation")


def record(
    operation: Operation, usage: TraceUsage, recorder: Recorder | None, fields: Fields
) -> tuple[dict[str, object], bytes]:
    """Raise CapabilityError. Without a recorder nothing is checked or counted, and all goes well."""
    if recorder is None:
        return {"span": 0} if operation is Operation.TRACE_START else {}, b""
    if operation is Operation.TRACE_START:
        name, attributes = _name(fields), fields.scalars("attributes")
        fields.done()
        usage.span()
        usage.attributes(len(attributes))
        return {"span": recorder.start(name, attributes)}, b""
    if operation is Operation.TRACE_END:
        span, error = fields.integer("span", 0, _MAX_ID), fields.maybe_text("error")
        fields.done()
        _found(span == 0 or recorder.end(span, error))
        return {}, b""
    current = fields.maybe_integer("span", 0, _MAX_ID)
    if operation is Operation.TRACE_SET:
        attributes = fields.scalars("attributes")
        fields.done()
        usage.attributes(len(attributes))
        _found(current == 0 or recorder.set(current, attributes))
        return {}, b""
    name, attributes = _name(fields), fields.scalars("attributes")
    fields.done()
    usage.event()
    usage.attributes(len(attributes))
    _found(current == 0 or recorder.event(current, name, attributes))
    return {}, b""


def _name(fields: Fields) -> str:
    name = fields.text("name")
    if not name:
        raise bad_field("name", "is empty")
    return name


def _found(found: bool) -> None:
    if not found:
        raise bad_field("span", "is not open")
