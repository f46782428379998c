"""Spans, attributes and events of the function's own. Attributes are texts, numbers and bools.

Without a span, ``set`` and ``event`` are for the one that was started last, of those that are open, else for the
function's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .host import Operation, call

Attribute = str | int | float | bool


def start(name: str, **attributes: Attribute) -> int:
    """Return the number of a span, 0 if nobody records the trace."""
    return int(call(Operation.TRACE_START, name=name, attributes=attributes)[0]["span"])


def end(span: int, error: str | None = None) -> None:
    """End a span; ``error`` is what went wrong in it."""
    call(Operation.TRACE_END, span=span, error=error)


def set(span: int | None = None, **attributes: Attribute) -> None:
    call(Operation.TRACE_SET, span=span, attributes=attributes)


def event(name: str, span: int | None = None, **attributes: Attribute) -> None:
    call(Operation.TRACE_EVENT, span=span, name=name, attributes=attributes)


@contextmanager
def span(name: str, **attributes: Attribute) -> Iterator[int]:
    """Start a span and end it, with the error of what is raised in it."""
    number = start(name, **attributes)
    try:
        yield number
    except Exception as error:
        end(number, str(error))
        raise
    end(number)
