"""``RequestTelemetry``: one HTTP request that is served here, as telemetry sees it."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from opentelemetry import context as contexts
from opentelemetry.trace import Tracer
from opentelemetry.util.types import AttributeValue
from starlette.types import Message, Scope, Send

from ..binding.target import Target
from .conventions import Attribute, ErrorType, PickedBy, Variant, error_type
from .exclusions import UNTRACED
from .spans import ServerSpan


class RequestTelemetry:
    """One HTTP request, from our first look at it to the end of the answer. This class is for when nobody listens."""

    __slots__ = ()

    short = True
    """Whether the short way may be taken, as there are no spans."""

    def __enter__(self) -> RequestTelemetry:
        return self

    def picked(self, reason: PickedBy, weight: int | None = None, variant: Variant = Variant.STABLE) -> None:
        """Which version the router chose, why, and by which weight."""

    def annotate(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Tell the server span more."""

    def send(self, send: Send) -> Send:
        """``send``, watched for the status. The span may end with the last part of the body, so it gets that before."""
        return send

    def failed(self, error: BaseException) -> None:
        """What the answer, if there will be one, is due to."""

    def answered(self, status: int) -> None:
        """The status of the answer."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class ListenedExchange(RequestTelemetry):
    """One that somebody listens to."""

    __slots__ = ("_described", "_error", "_span", "_token",
                 "failures", "method", "reason", "route", "short", "variant", "weight")  # fmt: skip

    def __init__(self, tracer: Tracer | None, scope: Scope, route: str, since: int, untraced: bool = False) -> None:
        """``untraced`` keeps the calls of this request from starting traces of their own."""
        self._error: ErrorType | None = None
        self.method: str = scope["method"]
        self.route = route
        self.failures = 0
        self.variant = Variant.STABLE
        self.reason = PickedBy.ROUTE
        self.weight: int | None = None
        self._described = False
        self._span = ServerSpan(tracer, scope, self.route, since) if tracer is not None else None
        self.short = tracer is None
        self._token = contexts.attach(contexts.set_value(UNTRACED, True)) if untraced else None

    def picked(self, reason: PickedBy, weight: int | None = None, variant: Variant = Variant.STABLE) -> None:
        self.variant = variant
        self.reason = reason
        self.weight = weight

    def describe(self, target: Target, cold: bool) -> dict[str, AttributeValue]:
        """Set what serves the request on the server span; return what could not be set."""
        attributes: dict[str, AttributeValue] = {
            Attribute.TRIGGER.value: "http",
            Attribute.NAME.value: target.name,
            Attribute.COLDSTART.value: cold,
            Attribute.VARIANT.value: self.variant.value,
            Attribute.REASON.value: self.reason.value,
        }
        if self.route:
            attributes[Attribute.HTTP_ROUTE.value] = self.route
        if self.weight is not None:
            attributes[Attribute.WEIGHT.value] = self.weight
        span = self._span
        if span is None or not span.recording:
            return attributes
        if not self._described:
            self._described = True
            span.set(attributes)
        return {}

    def annotate(self, attributes: Mapping[str, AttributeValue]) -> None:
        if self._span is not None:
            self._span.set(attributes)

    def send(self, send: Send) -> Send:
        if self._span is None or not self._span.recording:
            return send

        async def watched(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                self.answered(message["status"])

        return watched

    def failed(self, error: BaseException) -> None:
        self._error = error_type(error)

    def answered(self, status: int) -> None:
        if self._span is not None:
            self._span.answered(status, self._error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._span is not None:
            if error is not None:
                self._span.raised(error_type(error))
            self._span.end()
        if self._token is not None:
            contexts.detach(self._token)


NO_TELEMETRY = RequestTelemetry()
