"""The spans of one request and of one call, by the API of OpenTelemetry alone.

The tree::

    SERVER   "POST /api/v1/process"     the ASGI instrumentation's, or ours if there is none
    └ INTERNAL "edge-processor"         one for each attempt
      ├ INTERNAL "wasm acquire"         only when cold or queued
      │ └ INTERNAL "wasm compile"       only when this function was compiled meanwhile
      └ INTERNAL "wasm execute"         what the guest knows as its own span
        └ CLIENT "GET"                  one for each outbound attempt, see ``outbound``

A call on the fast path, in which nothing else can happen, has one span, with the attributes of both. Nothing is built
under a span that does not record: the sampler has refused it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import Token
from copy import copy

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
)
from opentelemetry.trace import set_span_in_context as in_context
from opentelemetry.util.types import AttributeValue
from starlette.types import Scope

from .._compat import context_with
from ..engine.fast_path import Completed
from ..engine.outcome import Outcome
from ..functions.target import Target
from ..messages import EdgeContext, EdgeRequest
from .conventions import ACQUIRE, COMPILE, EXECUTE, Attribute, ErrorType
from .deferred_span import DeferredSpan
from .exclusions import untraced
from .guest_trace import GuestTrace
from .propagation import extract
from .sdk import SdkSpan, sdk_tracer, set_plain

_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_OWN_HEADERS = ("traceparent", "tracestate")
_MOST_VIOLATIONS = 16
_ERROR = StatusCode.ERROR
_FLAGS = [f"{number:02x}" for number in range(256)]
# The value of an enumeration's member is looked up by a function in Python.
_INVOCATION_ID, _CPU = Attribute.INVOCATION_ID.value, Attribute.CPU.value
_STATUS_CODE, _ROUTE = Attribute.STATUS_CODE.value, Attribute.HTTP_ROUTE.value
_PLAIN = frozenset({str, int})
_MEMORY, _HOST_CALLS = Attribute.MEMORY.value, Attribute.HOST_CALLS.value


class ServerSpan:
    """The server span of a request that we serve: joined if one records, else started, and ended, here."""

    __slots__ = ("_deferred", "_ours", "_token", "span")

    def __init__(self, span: Span | None, *, ours: bool = False, token: Token[Context] | None = None) -> None:
        """Take ``token``, of the context in which a span of ours is the current one."""
        self.span = span
        """None if none is recorded."""
        self._ours = ours
        self._token = token
        self._deferred = span if ours and type(span) is DeferredSpan else None

    @classmethod
    def around(cls, current: Span, scope: Scope, route: str) -> ServerSpan:
        """Join the span around a request, which records; ``route`` is the whole template, empty if it is not known."""
        # An INTERNAL span is somebody else's step: the server span above it is out of reach.
        if getattr(current, "kind", SpanKind.SERVER) is not SpanKind.SERVER:
            return cls(None)
        if route:
            current.update_name(f"{_method(scope)} {route}")
        return cls(current)

    @classmethod
    def new(
        cls, tracer: WarmTracer, parent: Context, scope: Scope, route: str, since: int
    ) -> tuple[ServerSpan, SpanContext]:
        """Start one, ``since`` then, in ns, or now if that is 0. Return its context, too."""
        name = f"{_method(scope)} {route}".rstrip()
        span = tracer.begin_server(parent, name, _request_attributes(scope, route), since)
        # Attached also when it was dropped, lest what is called from here start traces of its own.
        token = contexts.attach(context_with(parent, span))
        recording = type(span) is DeferredSpan or span.is_recording()
        return cls(span if recording else None, ours=recording, token=token), span.get_span_context()

    def set(self, attributes: Mapping[str, AttributeValue]) -> None:
        if self.span is not None:
            self.span.set_attributes(dict(attributes))

    def describe(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set what serves the request: values that no limit is for."""
        if self._deferred is not None:
            self._deferred.put(attributes)
        elif self.span is not None:
            set_plain(self.span, attributes)

    def answered(self, status: int, error: ErrorType | None) -> None:
        """Return how the request ended; the instrumentation knows the status, but not the error."""
        if self.span is None:
            return
        if self._ours:
            self.describe({_STATUS_CODE: status})
            if status >= 500:
                self.span.set_status(Status(_ERROR))
        if status >= 500:
            self.span.set_attribute(Attribute.ERROR_TYPE.value, str(error or status))

    def raised(self, error: ErrorType) -> None:
        """Record an exception that leaves us, for the app to handle."""
        if self.span is not None and self._ours:
            self.span.set_status(Status(_ERROR))
            self.span.set_attribute(Attribute.ERROR_TYPE.value, error.value)

    def end(self) -> None:
        if self._token is not None:
            contexts.detach(self._token)
            self._token = None
        if self._ours and self.span is not None:
            self.span.end()


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in _METHODS else "HTTP"


def _request_attributes(scope: Scope, route: str) -> dict[str, AttributeValue]:
    method = scope["method"]
    attributes: dict[str, AttributeValue] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "url.scheme": scope.get("scheme", "http"),
        "url.path": scope["path"],
    }
    if route:
        attributes[_ROUTE] = route
    if method not in _METHODS:
        attributes["http.request.method_original"] = method
    if scope.get("http_version"):
        attributes["network.protocol.version"] = scope["http_version"]
    server, client = scope.get("server"), scope.get("client")
    if server:
        attributes["server.address"] = server[0]
        if server[1] is not None:
            attributes["server.port"] = server[1]
    if client:
        attributes["client.address"] = client[0]
    for name, value in scope["headers"]:
        if name == b"user-agent":
            attributes["user_agent.original"] = value.decode("latin-1")
    return attributes


class WarmTracer:
    """Begins server spans and those of calls on the fast path, and has the tracer of all others."""

    __slots__ = ("_sdk", "tracer")

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self._sdk = sdk_tracer(tracer)

    def begin(self, parent: SpanContext, name: str, attributes: Mapping[str, AttributeValue]) -> WarmSpan:
        """Begin one under the current span, which is ``parent``."""
        if self._sdk is not None:
            begun = self._sdk.start(parent, name, attributes)
            if isinstance(begun, SdkSpan):
                return begun
            if begun is not None:
                return ApiSpan(begun)
            self._sdk = sdk_tracer(self.tracer)
        return ApiSpan(self.tracer.start_span(name, None, SpanKind.INTERNAL, dict(attributes)))

    def begin_server(self, context: Context, name: str, attributes: Mapping[str, AttributeValue], since: int) -> Span:
        """Begin the server span of a request in a context, at ``since`` in ns since the epoch, 0 for now."""
        if self._sdk is not None and _PLAIN.issuperset(map(type, attributes.values())):
            if (begun := self._sdk.start_server(context, name, attributes, since)) is not None:
                return DeferredSpan(begun) if isinstance(begun, SdkSpan) else begun
            self._sdk = sdk_tracer(self.tracer)
        return self.tracer.start_span(name, context, SpanKind.SERVER, attributes, start_time=since or None)


class ApiSpan:
    """A span that the API has made, for where an SdkSpan is none."""

    __slots__ = ("_span", "context", "told")

    def __init__(self, span: Span) -> None:
        self._span = span
        self.context = span.get_span_context()
        self.told = False
        """Whether a guest knows it as its own."""

    def real(self) -> Span:
        """Return it."""
        return self._span

    def end(self, attributes: Mapping[str, AttributeValue]) -> None:
        """End it, with these attributes on top."""
        self._span.set_attributes(dict(attributes))
        self._span.end()


WarmSpan = SdkSpan | ApiSpan
"""The one span of a call on the fast path: that of the function, with the attributes of the execute span.

The call was neither queued nor cold, and its guest can call nothing.
"""


def in_warm(span: WarmSpan) -> Context:
    """Return the current context with a span in it."""
    return in_context(NonRecordingSpan(span.context) if isinstance(span, SdkSpan) else span.real())


def end_warm(span: WarmSpan, completed: Completed, memory: int) -> None:
    """End the span of a call that has completed."""
    span.end({_INVOCATION_ID: completed.request_id.decode("ascii"), _CPU: completed.ran_ns / 1e9, _MEMORY: memory,
              _HOST_CALLS: 0})  # fmt: skip


class CallSpans:
    """The spans of one call of a function. Made in the task that runs it, and ended there."""

    __slots__ = (
        *("_execute", "_function", "_function_token", "_guest", "_one", "_parent", "_token", "_tracer", "_violations"),
        "context",
    )

    def __init__(
        self,
        tracer: Tracer,
        target: Target,
        request: EdgeRequest,
        since: int,
        attributes: dict[str, AttributeValue],
        alone: dict[str, AttributeValue],
        begun: WarmSpan | None = None,
    ) -> None:
        """Take ``alone``, the attributes that a server span would have, if none is within reach. ``begun`` is what the
        fast path has made for this call.
        """
        self._tracer = tracer
        self._violations: list[str] = []
        self._function: Span | None = None
        self._execute: Span | None = None
        self._guest: GuestTrace | None = None
        self._token: Token[Context] | None = None
        self._function_token: Token[Context] | None = None
        self._one = begun is not None and begun.told
        current = get_current_span()
        self.context: SpanContext = current.get_span_context()
        """Context of the innermost span: that of the guest, once it executes."""
        there = self.context
        unwanted = untraced() or (there.is_valid and not there.is_remote and not current.is_recording())
        if unwanted and begun is None:  # a span that was begun is to be ended
            return
        parent = contexts.get_current()
        if not there.is_valid and "traceparent" in request.headers:
            parent = extract(request.headers)
        attributes |= alone
        if begun is None:
            span = tracer.start_span(target.name, parent, SpanKind.INTERNAL, attributes, start_time=since or None)
        else:
            span = begun.real()
            span.set_attributes(attributes)
        self.context = span.get_span_context()
        self._parent = in_context(span, parent)
        self._function_token = contexts.attach(self._parent)
        if span.is_recording():
            self._function = span

    def acquired(self, since: int, compiled: tuple[int, int] | None, error: ErrorType | None = None) -> None:
        """Add the span of a wait that is over; ``compiled`` is from when to when the module was compiled, in ns."""
        if self._function is None:
            return
        span = self._tracer.start_span(ACQUIRE, self._parent, start_time=since)
        if compiled is not None and compiled[0] >= since:
            begin, end = compiled
            self._tracer.start_span(COMPILE, in_context(span, self._parent), start_time=begin).end(end)
        if error is not None:
            _fail(span, error)
        span.end()

    def executing(self) -> None:
        if self._one:
            self._execute = self._function
        elif self._function is not None:
            self._execute = span = self._tracer.start_span(EXECUTE, self._parent)
            self.context = span.get_span_context()
            self._token = contexts.attach(in_context(span, self._parent))

    def guest(self, tracer: Tracer, function: str) -> GuestTrace | None:
        """Return what takes the guest's own additions, if the execute span is recorded; ended with it."""
        if self._execute is not None and self._execute.is_recording():
            self._guest = GuestTrace(tracer, self._execute, contexts.get_current(), function)
        return self._guest

    def hand_over(self, request: EdgeRequest, context: EdgeContext) -> EdgeRequest:
        """Return the request for the guest, which gets its own span in place of the one that the client sent."""
        context.traceparent, context.tracestate = header_of(self.context)
        # A copy: the caller may use its request again.
        request = copy(request)
        request.headers = {**request.headers, "traceparent": context.traceparent}
        request.headers.pop("tracestate", None)
        if context.tracestate is not None:
            request.headers["tracestate"] = context.tracestate
        if request.multi_value_headers:
            request.multi_value_headers = {
                name: values for name, values in request.multi_value_headers.items() if name not in _OWN_HEADERS
            }
        return request

    def violated(self, violations: list[str]) -> None:
        if self._execute is not None:
            self._violations += violations
            self._execute.set_attribute(Attribute.VIOLATIONS.value, self._violations[:_MOST_VIOLATIONS])

    def executed(self, outcome: Outcome, error: ErrorType | None, why: str) -> None:
        span = self._execute
        if span is None:
            return
        attributes: dict[str, AttributeValue] = {
            Attribute.CPU.value: outcome.cpu_s,
            Attribute.MEMORY.value: outcome.memory_bytes,
            Attribute.HOST_CALLS.value: outcome.host_calls,
        }
        span.set_attributes(attributes)
        self._leave_execute(error, why)

    def _leave_execute(self, error: ErrorType | None, why: str) -> None:
        span, self._execute = self._execute, None
        if span is not None:
            if self._guest is not None:
                self._guest.close()
            if span is not self._function:
                if error is not None:
                    _fail(span, error, why)
                span.end()
        if self._token is not None:
            contexts.detach(self._token)
            self._token = None

    def end(self, error: ErrorType | None, why: str) -> None:
        self._leave_execute(error, why)
        if self._function is not None:
            if error is not None:
                _fail(self._function, error, why)
            self._function.end()
        if self._function_token is not None:
            contexts.detach(self._function_token)
            self._function_token = None


def header_of(span: SpanContext) -> tuple[str, str | None]:
    """Return the ``traceparent`` and ``tracestate`` for a span that is valid (W3C Trace Context)."""
    trace_id, span_id, _, flags, state, _ = span
    # To write numbers in hexadecimal takes twice as long.
    traceparent = f"00-{trace_id.to_bytes(16).hex()}-{span_id.to_bytes(8).hex()}-{_FLAGS[flags]}"
    return traceparent, state.to_header() or None if state else None


def _fail(span: Span, error: ErrorType, why: str = "") -> None:
    span.set_attribute(Attribute.ERROR_TYPE.value, error.value)
    span.set_status(Status(_ERROR, why or None))


def now() -> int:
    """Return what start times are counted in: nanoseconds since the epoch."""
    return time.time_ns()
