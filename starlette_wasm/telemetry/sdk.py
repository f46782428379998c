"""Private parts of OpenTelemetry's SDK that are used: histograms that take observations in bulk, spans that have ended.

Each function names what it assumes. If that does not hold, what it is for is left to the API.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    TraceState,
    get_current_span,
)
from opentelemetry.util.types import Attributes, AttributeValue


class HistogramPoint:
    """A histogram of the SDK for some attributes, for one reader."""

    def __init__(self, point: Any) -> None:
        self._point = point

    def add(self, counts: Sequence[int], total: float, low: float, high: float) -> None:
        """Add observations: how many are in each bucket, their sum, the lowest and the highest."""
        point = self._point
        with point._lock:
            if point._value is None:
                point._value = [0] * len(counts)
            for number, count in enumerate(counts):
                point._value[number] += count
            point._sum += total
            point._min, point._max = min(point._min, low), max(point._max, high)


def histogram_points(histogram: Histogram, attributes: Attributes, bounds: tuple[float, ...]) -> list[HistogramPoint]:
    """Return the SDK's histograms, one for each reader, to which an instrument adds what has these attributes.

    Assumes that it has added something, and what its aggregation for explicit buckets is made of. Else raises
    LookupError: each observation is then recorded by the API.
    """
    points = []
    try:
        consumer: Any = histogram._measurement_consumer  # type: ignore[attr-defined]
        for storage in consumer._reader_storages.values():
            for match in storage._get_or_init_view_instrument_match(histogram):
                found = [each for each in match._attributes_aggregation.values() if each._attributes == attributes]
                if len(found) != 1 or not _is_plain(found[0], bounds):
                    raise LookupError("a view keeps it in another way")
                points.append(HistogramPoint(found[0]))
    except (AttributeError, TypeError) as error:
        raise LookupError(f"another SDK: {error}") from None
    return points


def _is_plain(point: Any, bounds: tuple[float, ...]) -> bool:
    """Return whether it is the SDK's histogram with these bounds, and with all that HistogramPoint.add() uses."""
    known = type(point).__name__ == "_ExplicitBucketHistogramAggregation" and point._boundaries == bounds
    return known and all(hasattr(point, name) for name in ("_lock", "_value", "_sum", "_min", "_max"))


_TRACER_PARTS = ("sampler", "resource", "id_generator", "instrumentation_info", "_span_limits", "_tracer_config",
                 "_instrumentation_scope", "_tracer_metrics")  # fmt: skip
_MOST_ATTRIBUTES = 32
"""No span that is made here has more."""
_RANDOM: int = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
_SAMPLED = (TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.SAMPLED | _RANDOM))
"""Without and with a random id."""


class SdkTracer:
    """Makes spans for the SDK's processors that are objects of the SDK only once they have ended.

    What an exporter gets is the same as by the API, at a third of the price. Attributes are to be plain and short.
    """

    def __init__(self, tracer: Any, processors: tuple[object, ...], sdk: Any) -> None:
        self.tracer = tracer
        self.sdk = sdk
        self._processors = processors
        self._follows = tracer.sampler if _always_takes(tracer.sampler, "_local_parent_sampled") else None
        """The sampler, if it takes all under a parent of this process that is sampled."""
        self._takes_roots = tracer.sampler if _always_takes(tracer.sampler, "_root") else None
        """The sampler, if it takes all that has no parent."""
        self._taken = sys.modules["opentelemetry.sdk.trace.sampling"].Decision.RECORD_AND_SAMPLE
        self._queues = _queues(processors)

    def start(self, parent: SpanContext, name: str, attributes: Mapping[str, AttributeValue]) -> SdkSpan | Span | None:
        """Start an INTERNAL span under the current one, which is ``parent``.

        It is one that records nothing if the sampler refuses it. None if sdk_tracer() is to be asked again: something
        was changed.
        """
        tracer = self.tracer
        if tracer.span_processor._span_processors is not self._processors or not tracer._tracer_config.is_enabled:
            return None
        trace_id, _, is_remote, flags, state, _ = parent
        if tracer.sampler is not self._follows or is_remote or flags not in _SAMPLED:
            return self._asked(Beginning(name, SpanKind.INTERNAL, parent, trace_id, attributes), None)
        context = SpanContext(trace_id, tracer.id_generator.generate_span_id(), False, flags, state)
        ended = tracer._tracer_metrics.start_span(parent, self._taken)
        return SdkSpan(self, name, SpanKind.INTERNAL, parent, attributes, context, ended)

    def start_server(
        self, context: Context, name: str, attributes: Mapping[str, AttributeValue], since: int
    ) -> SdkSpan | Span | None:
        """Start a SERVER span in a context, as start() does; ``since`` is when, in ns since the epoch, 0 for now."""
        tracer = self.tracer
        if tracer.span_processor._span_processors is not self._processors or not tracer._tracer_config.is_enabled:
            return None
        if context and (parent := get_current_span(context).get_span_context()).is_valid:
            beginning = Beginning(name, SpanKind.SERVER, parent, parent.trace_id, attributes, since)
            return self._asked(beginning, context)
        ids = tracer.id_generator
        trace_id = ids.generate_trace_id()
        if tracer.sampler is not self._takes_roots:
            return self._asked(Beginning(name, SpanKind.SERVER, None, trace_id, attributes, since), context)
        flags = _SAMPLED[bool(ids.is_trace_id_random())]
        of_span = SpanContext(trace_id, ids.generate_span_id(), False, flags)
        ended = tracer._tracer_metrics.start_span(None, self._taken)
        return SdkSpan(self, name, SpanKind.SERVER, None, attributes, of_span, ended, since)

    def ended(self, span: Any, flags: int) -> None:
        """Hand over a span that has ended to the processors that there are now."""
        processor = self.tracer.span_processor
        if flags & TraceFlags.SAMPLED and processor._span_processors is self._processors:
            for queue in self._queues:
                queue(span)
        else:
            processor.on_end(span)

    def _asked(self, beginning: Beginning, context: Context | None) -> SdkSpan | Span:
        """Start a span as the sampler decides."""
        name, kind, parent, trace_id, attributes, _ = beginning
        tracer = self.tracer
        result = tracer.sampler.should_sample(context, trace_id, name, kind, attributes, ())
        if parent is not None:
            random = parent.trace_flags & _RANDOM
        else:
            random = _RANDOM if tracer.id_generator.is_trace_id_random() else 0
        flags = TraceFlags(result.decision.is_sampled() | random)
        beginning = beginning._replace(attributes=result.attributes)
        return self._started(beginning, flags, result.trace_state, result.decision)

    def _started(
        self, beginning: Beginning, flags: TraceFlags, state: TraceState | None, decision: Any
    ) -> SdkSpan | Span:
        name, kind, parent, trace_id, attributes, since = beginning
        context = SpanContext(trace_id, self.tracer.id_generator.generate_span_id(), False, flags, state)
        ended = self.tracer._tracer_metrics.start_span(parent, decision)
        if not decision.is_recording():
            return NonRecordingSpan(context)
        return SdkSpan(self, name, kind, parent, attributes, context, ended, since)


def _queues(processors: tuple[Any, ...]) -> list[Callable[[Any], None]]:
    """Return what takes a sampled span for each processor: of a BatchSpanProcessor what its on_end() calls for one."""
    kept = [getattr(each, "_batch_processor", None) for each in processors]
    return [each.on_end if batch is None else batch.emit for each, batch in zip(processors, kept, strict=True)]


class Beginning(NamedTuple):
    """What a span begins with."""

    name: str
    kind: SpanKind
    parent: SpanContext | None
    trace_id: int
    attributes: Mapping[str, AttributeValue]
    since: int = 0
    """In ns since the epoch; 0 for now."""


def _always_takes(sampler: Any, part: str) -> bool:
    """Return whether it is the SDK's ParentBased, and ``part`` of it the sampler that takes all."""
    sampling = sys.modules["opentelemetry.sdk.trace.sampling"]
    known = type(sampler).should_sample is sampling.ParentBased.should_sample
    return known and getattr(sampler, part, None) is sampling.ALWAYS_ON


class SdkSpan:
    """A span that begins now. It is to be ended once, here or as what real() gives."""

    __slots__ = ("_ended", "_kind", "_name", "_of", "_parent", "attributes", "begin", "context", "ended_at", "told")

    def __init__(
        self,
        of: SdkTracer,
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        attributes: Mapping[str, AttributeValue],
        context: SpanContext,
        ended: Callable[[], None],
        since: int = 0,
    ) -> None:
        self._of, self._name, self._kind, self._parent, self._ended = of, name, kind, parent, ended
        self.attributes = attributes
        self.context = context
        self.begin = since or time.time_ns()
        self.ended_at = 0
        self.told = False
        """Whether a guest knows it as its own."""

    def end(self, attributes: Mapping[str, AttributeValue]) -> None:
        """End it, with these attributes on top."""
        of = self._of
        tracer = of.tracer
        self._ended()
        self.ended_at = ended_at = time.time_ns()
        span = of.sdk.ReadableSpan(
            self._name,
            self.context,
            self._parent,
            tracer.resource,
            {**self.attributes, **attributes},
            kind=self._kind,
            instrumentation_info=tracer.instrumentation_info,
            start_time=self.begin,
            end_time=ended_at,
            instrumentation_scope=tracer._instrumentation_scope,
        )
        of.ended(span, self.context[3])  # the flags, without a call

    def real(self) -> Span:
        """Return the same span for whoever goes on with it."""
        tracer = self._of.tracer
        span: Any = self._of.sdk._Span(
            self._name,
            self.context,
            self._parent,
            tracer.sampler,
            None,
            tracer.resource,
            self.attributes,
            kind=self._kind,
            span_processor=tracer.span_processor,
            instrumentation_info=tracer.instrumentation_info,
            limits=tracer._span_limits,
            instrumentation_scope=tracer._instrumentation_scope,
            record_end_metrics=self._ended,
        )
        span.start(self.begin)
        made: Span = span
        return made

    @property
    def kind_of_real(self) -> type:
        """The class of what real() returns."""
        found: type = self._of.sdk._Span
        return found


def set_plain(span: Span, attributes: Mapping[str, AttributeValue]) -> None:
    """Set attributes that are plain and short.

    Assumes what a span of the SDK keeps them in, without limits that they could exceed. Else the API checks each.
    """
    sdk: Any = sys.modules.get("opentelemetry.sdk.trace")
    if sdk is not None and type(span) is getattr(sdk, "_Span", None):
        of_sdk: Any = span
        try:
            kept = of_sdk._attributes
            fits = kept.maxlen is None or len(kept._dict) + len(attributes) <= kept.maxlen
            if fits and kept.max_value_len is None:
                with of_sdk._lock, kept._lock:
                    if of_sdk._end_time is None:
                        kept._dict.update(attributes)
                        return
        except AttributeError:  # another SDK
            pass
    span.set_attributes(dict(attributes))


def sdk_tracer(tracer: Tracer) -> SdkTracer | None:
    """Return what makes spans for a tracer of the SDK whose processors are the SDK's own: they do nothing at a start.

    Assumes that an attribute is neither cut nor dropped by the limits. Else None: spans are made by the API.
    """
    sdk: Any = sys.modules.get("opentelemetry.sdk.trace")
    export: Any = sys.modules.get("opentelemetry.sdk.trace.export")
    try:
        if type(tracer) is not sdk.Tracer or "start_span" in vars(tracer) or not callable(sdk._Span):
            return None
        of_sdk: Any = tracer
        for name in _TRACER_PARTS:
            getattr(of_sdk, name)
        if not callable(of_sdk.id_generator.is_trace_id_random):
            return None
        limits, processor = of_sdk._span_limits, of_sdk.span_processor
        known = type(processor) is sdk.SynchronousMultiSpanProcessor and all(
            type(each) in (export.BatchSpanProcessor, export.SimpleSpanProcessor)
            and vars(each).keys().isdisjoint(("on_start", "_on_ending", "on_end"))
            for each in processor._span_processors
        )
        if not known or limits.max_span_attribute_length is not None:
            return None
        if limits.max_span_attributes is not None and limits.max_span_attributes < _MOST_ATTRIBUTES:
            return None
        return SdkTracer(tracer, processor._span_processors, sdk)
    except AttributeError:  # another SDK
        return None
