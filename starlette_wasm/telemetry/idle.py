"""What a request costs if nobody listens: the look whether somebody does, and objects that do nothing.

``RequestTelemetry`` is one HTTP request and ``CallTelemetry`` one call of a function, as telemetry sees them. These
classes are for when nobody listens; request_telemetry.py and call_telemetry.py have those for when somebody does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import Context
from types import TracebackType
from typing import TYPE_CHECKING

from opentelemetry.util.types import AttributeValue
from starlette.types import Scope, Send

from .._compat import METRICS_GLOBALS, TRACE_GLOBALS
from ..engine.outcome import Outcome
from ..exceptions import WasmError
from ..functions.target import Target
from ..messages import EdgeContext, EdgeRequest
from .conventions import PickedBy, Variant

if TYPE_CHECKING:
    from ..capabilities import Observer, Recorder, Violation

Trace = tuple[str | None, str | None]
"""A ``traceparent`` and a ``tracestate`` for a guest; without either it gets the client's."""


class RequestTelemetry:
    """One HTTP request, from our first look at it to the end of the answer. This class is for when nobody listens."""

    __slots__ = ()

    idle = True
    """Whether nobody listens."""
    trace: Trace = (None, None)
    """What guests get if their calls have no spans of their own."""

    def __enter__(self) -> RequestTelemetry:
        return self

    def picked(self, reason: PickedBy, weight: int | None = None, variant: Variant = Variant.STABLE) -> None:
        """Note which version the router chose, why, and by which weight."""

    def annotate(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Tell the server span more."""

    def send(self, send: Send) -> Send:
        """Watch ``send`` for the status. The span may end with the last part of the body, so it gets that before."""
        return send

    def failed(self, error: BaseException) -> None:
        """Note what the answer, if there will be one, is due to."""

    def answered(self, status: int) -> None:
        """Note the status of the answer."""

    def begin_warm(self, target: Target) -> Trace:
        """Begin a call on the fast path. Return what its guest gets."""
        return self.trace

    @property
    def is_retry(self) -> bool:
        """Whether a call for this request has failed."""
        return False

    @property
    def records(self) -> bool:
        """Whether calls for this request have spans."""
        return False

    def told_warm(self) -> None:
        """Note that a guest on the fast path has started and not ended: it knows the span of the call as its own."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


NO_TELEMETRY = RequestTelemetry()


class CallTelemetry:
    """One call of a function, from the place in the queue to the response. This class is for when nobody listens."""

    __slots__ = ()

    outside: Context | None = None
    """The context around the call's spans, if there are some."""
    observer: Observer | None = None
    """Watches the guest's outbound requests, if there are spans; once the guest executes."""
    recorder: Recorder | None = None
    """Takes what the guest adds to the trace, if its execute span is recorded; once the guest executes."""

    def __enter__(self) -> CallTelemetry:
        return self

    def queued(self) -> None:
        """Note that the wait for a place begins."""

    def executing(self, request: EdgeRequest, context: EdgeContext) -> EdgeRequest:
        """Note that there is a place; return the request that the guest gets, with its span in ``context``."""
        return request

    def executed(self, outcome: Outcome, fault: WasmError | None) -> None:
        """Note that the guest has ended, and its log is written."""

    def given_up(self, cpu: float) -> None:
        """Note that the guest was given up, such as for a client that went away, after so many seconds of CPU."""

    def violated(self, violations: Sequence[Violation]) -> None:
        """Note what the policy refused to ``edge.call``; before the guest has ended."""

    def answered(self, status: int) -> None:
        """Note the status of the function's own response."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


IDLE_WATCH = CallTelemetry()


class Listeners:
    """Knows whether somebody listens to a runtime. It looks at each request: a provider may be set at any time."""

    def __init__(self) -> None:
        self._tracers: object = self
        self._meters: object = self
        self._active = False

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        if (
            TRACE_GLOBALS.get("_TRACER_PROVIDER") is not self._tracers
            or METRICS_GLOBALS.get("_METER_PROVIDER") is not self._meters
        ):
            self._look()
        return self._active

    def exchange(self, scope: Scope, route: str, *, since: int = 0) -> RequestTelemetry:
        """Return an HTTP request that is served here, to be used with ``with``.

        ``route`` is the whole template, empty if it is not known. ``since`` is when a cold start began to hold it up,
        in ns since the epoch, 0 where none did.
        """
        # As in ``active``, without the call, which would be a tenth of what a request costs if nobody listens.
        if (
            TRACE_GLOBALS.get("_TRACER_PROVIDER") is not self._tracers
            or METRICS_GLOBALS.get("_METER_PROVIDER") is not self._meters
        ):
            self._look()
        return self._exchange(scope, route, since) if self._active else NO_TELEMETRY

    def watch(
        self,
        target: Target,
        request: EdgeRequest,
        *,
        exchange: RequestTelemetry | None = None,
        since: int = 0,
        attempt: int | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        ran: float = 0.0,
    ) -> CallTelemetry:
        """Return one call of a function, to be used with ``with``; without an exchange it is one from Python.

        ``attempt`` None means: one more than calls failed in this exchange. ``attributes`` are more for its span.
        ``ran`` is for how many seconds it has run already.
        """
        if exchange is NO_TELEMETRY or (exchange is None and not self.active):
            return IDLE_WATCH
        return self._watch(target, request, exchange, since, attempt, attributes, ran)

    def _look(self) -> None:
        """Find out who listens."""
        raise NotImplementedError

    def _exchange(self, scope: Scope, route: str, since: int) -> RequestTelemetry:
        """Return an HTTP request, for whoever listens."""
        raise NotImplementedError

    def _watch(
        self,
        target: Target,
        request: EdgeRequest,
        exchange: RequestTelemetry | None,
        since: int,
        attempt: int | None,
        attributes: Mapping[str, AttributeValue] | None,
        ran: float,
    ) -> CallTelemetry:
        """Return one call of a function, for whoever listens."""
        raise NotImplementedError
