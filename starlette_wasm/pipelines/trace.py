"""The pipeline's part of the trace of a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry.trace import Span, Status, StatusCode, get_current_span
from opentelemetry.util.types import AttributeValue

from ..exceptions import WasmError
from ..messages import EdgeRequest
from ..telemetry import Attribute, RequestTelemetry, Role, Telemetry, error_type, untraced
from ..telemetry.propagation import extract
from .breaker import Circuit
from .plan import Call


class Trace:
    """The trace of one run. Does nothing if nobody listens."""

    def __init__(self, telemetry: Telemetry, exchange: RequestTelemetry | None, whole: Span | None) -> None:
        self._tracer = telemetry.tracer if telemetry.active and not untraced() else None
        self._exchange = exchange
        self._whole = whole
        self._not_retried: list[str] = []

    def attempt(
        self, call: Call, role: Role | None, cause: str, circuit: Circuit = Circuit.CLOSED
    ) -> dict[str, AttributeValue] | None:
        """Return the attributes of an attempt's span, beside those that every call's has."""
        if self._tracer is None:
            return None
        attributes: dict[str, AttributeValue] = {
            Attribute.STEP.value: call.name,
            Attribute.STEP_INDEX.value: call.index,
        }
        if role is not None:
            attributes |= {Attribute.ATTEMPT_ROLE.value: role.value, Attribute.ATTEMPT_CAUSE.value: cause}
        if circuit is not Circuit.CLOSED:
            attributes[Attribute.CIRCUIT.value] = circuit.value
        return attributes

    def mark(
        self,
        name: str,
        number: int,
        attributes: Mapping[str, AttributeValue] | None,
        error: WasmError | None = None,
    ) -> None:
        """Mark the span of an attempt that called nothing: refused by the circuit, or a fixed answer."""
        if self._tracer is None:
            return
        span = self._tracer.start_span(name, attributes={Attribute.ATTEMPT.value: number, **(attributes or {})})
        if error is not None:
            span.set_attribute(Attribute.ERROR_TYPE.value, error_type(error).value)
            span.set_status(Status(StatusCode.ERROR, str(error)))
        span.end()

    def not_retried(self, call: Call, reason: str) -> None:
        self._not_retried.append(f"{call.name} {reason}")
        told = {Attribute.NOT_RETRIED.value: tuple(self._not_retried)}
        if self._exchange is not None:
            self._exchange.annotate(told)
        elif self._whole is not None:
            self._whole.set_attributes(told)


@contextmanager
def around(
    telemetry: Telemetry, route: str, request: EdgeRequest, exchange: RequestTelemetry | None
) -> Iterator[Span | None]:
    """Give a span around all of a run from Python; under HTTP there is the server span."""
    if exchange is not None or not telemetry.active or telemetry.tracer is None or untraced():
        yield None
        return
    there = get_current_span().get_span_context().is_valid
    parent = None if there else extract(request.headers)
    with telemetry.tracer.start_as_current_span(f"pipeline {route}", parent, record_exception=False) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute(Attribute.ERROR_TYPE.value, error_type(error).value)
            raise
