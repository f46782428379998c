"""``ActiveRequestTelemetry``: one HTTP request that is served here, as whoever listens sees it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from functools import lru_cache
from types import TracebackType

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext
from opentelemetry.util.types import AttributeValue
from starlette.types import Message, Send

from ..functions.target import Target
from .conventions import Attribute, ErrorType, PickedBy, Variant, error_type
from .idle import RequestTelemetry, Trace
from .send_watchers import SendWatcher
from .spans import ServerSpan, WarmSpan, WarmTracer, header_of


@lru_cache(maxsize=4096)
def _described(
    function: str, cold: bool, variant: Variant, reason: PickedBy, route: str, weight: int | None
) -> Mapping[str, AttributeValue]:
    """Make attributes of a server span for what serves it: once for all requests of which it is the same."""
    attributes: dict[str, AttributeValue] = {
        Attribute.TRIGGER.value: "http",
        Attribute.NAME.value: function,
        Attribute.COLDSTART.value: cold,
        Attribute.VARIANT.value: variant.value,
        Attribute.REASON.value: reason.value,
    }
    if route:
        attributes[Attribute.HTTP_ROUTE.value] = route
    if weight is not None:
        attributes[Attribute.WEIGHT.value] = weight
    return attributes


@lru_cache(maxsize=4096)
def _of_call(version: str, attempt: int) -> Mapping[str, AttributeValue]:
    """Make attributes of a function's span that are known before it runs."""
    return {Attribute.VERSION.value: version, Attribute.ATTEMPT.value: attempt}


class UnsampledRequestTelemetry(RequestTelemetry):
    """One under a span that the sampler has refused, if nobody takes figures: its guests get the trace, and no more."""

    __slots__ = ("_active", "_context", "_method", "_route", "trace")

    def __init__(self, context: SpanContext, method: str, route: str) -> None:
        """Take ``context``, of the span that was refused."""
        self.trace = header_of(context)
        self._context = context
        self._method = method
        self._route = route
        self._active: ActiveRequestTelemetry | None = None

    def active(self) -> ActiveRequestTelemetry:
        """Return the same request for calls that are watched, as one of a guest that calls other hosts."""
        if self._active is None:
            self._active = ActiveRequestTelemetry(self._method, self._route, context=self._context)
        return self._active


class ActiveRequestTelemetry(RequestTelemetry):
    """One that somebody listens to."""

    __slots__ = ("_described", "_error", "_span", "_token", "_tracer",
                 "context", "failures", "method", "reason", "route", "variant", "warm", "weight")  # fmt: skip
    idle = False

    def __init__(
        self,
        method: str,
        route: str,
        *,
        context: SpanContext | None = None,
        tracer: WarmTracer | None = None,
        span: ServerSpan | None = None,
        token: Token[Context] | None = None,
    ) -> None:
        """Take ``context``, of the span around the calls, if there is one, and ``tracer``, if they have spans.

        ``token`` is of the context in which nothing is traced, if this request is not.
        """
        self._error: ErrorType | None = None
        self.method = method
        self.route = route
        self.failures = 0
        self.variant = Variant.STABLE
        self.reason = PickedBy.ROUTE
        self.weight: int | None = None
        self._described = False
        self.warm: WarmSpan | None = None
        self._span = span
        self._token = token
        self._tracer = tracer
        self.context = context

    def picked(self, reason: PickedBy, weight: int | None = None, variant: Variant = Variant.STABLE) -> None:
        self.variant = variant
        self.reason = reason
        self.weight = weight

    def describe(self, target: Target, cold: bool) -> dict[str, AttributeValue]:
        """Set what serves the request on the server span; return what could not be set."""
        attributes = _described(target.name, cold, self.variant, self.reason, self.route, self.weight)
        span = self._span
        if span is None or span.span is None:
            return dict(attributes)
        if not self._described:
            self._described = True
            span.describe(attributes)
        return {}

    def begin_warm(self, target: Target) -> Trace:
        if self.context is None:
            return self.trace
        if self._tracer is None:
            return header_of(self.context)
        attributes = _of_call(target.version, self.failures + 1)
        if alone := self.describe(target, cold=False):
            attributes = {**attributes, **alone}
        self.warm = self._tracer.begin(self.context, target.name, attributes)
        return header_of(self.warm.context)

    @property
    def is_retry(self) -> bool:
        return self.failures > 0

    @property
    def records(self) -> bool:
        return self._tracer is not None

    def told_warm(self) -> None:
        if self.warm is not None:
            self.warm.told = True

    def annotate(self, attributes: Mapping[str, AttributeValue]) -> None:
        if self._span is not None:
            self._span.set(attributes)

    def send(self, send: Send) -> Send:
        if self._span is None or self._span.span is None:
            return send
        return _WatchedSend(self, send)

    def failed(self, error: BaseException) -> None:
        self._error = error_type(error)

    def answered(self, status: int) -> None:
        if self._span is not None:
            self._span.answered(status, self._error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.warm is not None:  # the runtime was closed before the slow path could take it over
            self.warm.real().end()
        if self._span is not None:
            if error is not None:
                self._span.raised(error_type(error))
            self._span.end()
        if self._token is not None:
            contexts.detach(self._token)


class _WatchedSend(SendWatcher):
    """Tells a request the status of its answer."""

    __slots__ = ("_request",)

    def __init__(self, request: ActiveRequestTelemetry, behind: Send) -> None:
        super().__init__(behind)
        self._request = request

    async def __call__(self, message: Message) -> None:
        await self.behind(message)
        if message["type"] == "http.response.start":
            self.started(message)

    def started(self, start: Message) -> None:
        self._request.answered(start["status"])
