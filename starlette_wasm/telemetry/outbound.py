"""Spans of a guest's outbound HTTP requests: one CLIENT span for each attempt, redirect hops included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, get_current_span
from opentelemetry.trace import set_span_in_context as in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from .conventions import Attribute
from .guest_trace import GuestTrace

if TYPE_CHECKING:
    from ..capabilities.http import Attempt, Observer

# Not the global propagator, which adds baggage: that is not for outside hosts.
_propagator = TraceContextTextMapPropagator()


def observer(tracer: Tracer, guest: GuestTrace | None = None) -> Observer:
    """Watch the requests of one guest: under the span that the guest has open, else under its execute span."""

    @contextmanager
    def observe(attempt: Attempt) -> Iterator[Mapping[str, str]]:
        headers: dict[str, str] = {}
        if not get_current_span().is_recording():
            _propagator.inject(headers)
            yield headers
            return
        url = attempt.url
        path, query, _ = str(url).partition("?")  # a query may hold a key
        attributes: dict[str, AttributeValue] = {
            "http.request.method": attempt.method,
            "url.full": f"{path}?REDACTED" if query else path,
            "server.address": url.host,
            "server.port": url.port,
        }
        if attempt.resend_count:
            attributes["http.request.resend_count"] = attempt.resend_count
        parent = guest.context if guest is not None else None
        span = tracer.start_span(attempt.method, parent, SpanKind.CLIENT, attributes)
        _propagator.inject(headers, in_context(span))
        try:
            yield headers
        finally:
            status = attempt.status
            if status is not None:
                span.set_attribute(Attribute.STATUS_CODE.value, status)
            wrong = attempt.error or (str(status) if status is not None and status >= 400 else None)
            if wrong is not None:
                span.set_attribute(Attribute.ERROR_TYPE.value, wrong)
                span.set_status(Status(StatusCode.ERROR))
            span.end()

    return observe
