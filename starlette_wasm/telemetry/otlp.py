"""``FastSpanExporter``: OpenTelemetry's exporter of spans for OTLP over HTTP, with an encoder six times as fast.

The library makes two objects for each attribute, which takes longer than most functions run. Here a span with plain
attributes is put together from bytes, of which most are the same from span to span. All others are left to the library,
and so are connections, retries, compression and certificates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from struct import Struct, error
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import StatusCode

from ..engine.binary import leb

_CACHED = 256
"""Characters of the longest text that is kept encoded."""
_UNUSUAL = (AttributeError, TypeError, UnicodeEncodeError, OverflowError, error)
"""Another SDK, a list, no text, more than 64 bits, no time."""
_double = Struct("<d").pack
_times = Struct("<BQBQ").pack
# The tag of each field that is written here: its number and its type, as in trace.proto and common.proto.
_TRACE_ID, _SPAN_ID, _PARENT = b"\x0a\x10", b"\x12\x08", b"\x22\x08"
_NAME, _START, _END, _ATTRIBUTE = b"\x2a", 0x39, 0x41, b"\x4a"
_KIND = [b"\x30%c" % number for number in range(1, 6)]
"""By the number that the SDK has for it."""
_STATUS_AND_FLAGS = {False: b"\x7a\x00\x85\x01\x00\x01\x00\x00", True: b"\x7a\x00\x85\x01\x00\x03\x00\x00"}
"""No status; and whether the parent is of another process."""
_RESOURCE_SPANS, _SCOPE_SPANS, _SPAN = b"\x0a", b"\x12", b"\x12"


class FastSpanExporter(OTLPSpanExporter):
    """Takes the place of OTLPSpanExporter, with the same arguments and variables of the environment.

    The first spans are encoded both ways. If there is a difference, as with a later version of the library, or if that
    has not what is used of it here, it encodes them all.
    """

    _is_same: bool | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        send = getattr(getattr(self, "_client", None), "export", None)
        most = getattr(self, "_max_request_size", None)
        counts = type(getattr(self, "_metrics", None)).__name__ != "NoOpExporterMetrics"
        if send is None or most is None or counts or getattr(self, "_shutdown", True):
            return super().export(spans)
        data = self._encode(spans)
        if data is None or 0 < most < len(data):
            return super().export(spans)  # which logs what it refuses
        return SpanExportResult.SUCCESS if send(data).success else SpanExportResult.FAILURE

    def _encode(self, spans: Sequence[ReadableSpan]) -> bytes | None:
        """Encode spans; None if that is for the library."""
        if self._is_same is False:
            return None
        try:
            data = encode(spans)
        except Exception:  # of another SDK, or of a span that the library cannot encode either
            return None
        if self._is_same is None:
            expected = encode_spans(spans)
            self._is_same = type(expected).FromString(data) == expected
        return data if self._is_same else None


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """Return an ExportTraceServiceRequest, the same as the library's."""
    # By identity: to compare resources, the SDK makes JSON of each.
    resources: dict[int, tuple[ReadableSpan, dict[int, list[ReadableSpan]]]] = {}
    for span in spans:
        _, scopes = resources.setdefault(id(span.resource), (span, {}))
        scopes.setdefault(id(span.instrumentation_scope), []).append(span)
    return b"".join(_field(_RESOURCE_SPANS, _of_resource(first, scopes)) for first, scopes in resources.values())


def _of_resource(first: ReadableSpan, scopes: Mapping[int, list[ReadableSpan]]) -> bytes:
    (head,) = encode_spans([first]).resource_spans
    head.ClearField("scope_spans")
    parts = [head.SerializeToString()]
    for spans in scopes.values():
        (scope,) = encode_spans([spans[0]]).resource_spans[0].scope_spans
        scope.ClearField("spans")
        of_scope = [scope.SerializeToString(), *(_field(_SPAN, _of_span(span)) for span in spans)]
        parts.append(_field(_SCOPE_SPANS, b"".join(of_scope)))
    return b"".join(parts)


def _of_span(span: ReadableSpan) -> bytes:
    with suppress(*_UNUSUAL):
        attributes = _attributes(span)
        if attributes is not None and _has_only_attributes(span):
            return _plain(span, attributes)
    encoded: bytes = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0].SerializeToString()
    return encoded


def _attributes(span: ReadableSpan) -> Mapping[str, Any] | None:
    """Return the attributes if none was dropped. By what the span has: to go through its views takes as long again."""
    kept: Any = span._attributes
    if kept.__class__ is BoundedAttributes:
        return None if kept.dropped else kept._dict
    return kept if kept.__class__ is dict else None


def _has_only_attributes(span: ReadableSpan) -> bool:
    """Return whether there are neither events nor links, and neither status nor state."""
    context = span._context
    return (
        span.__class__ is ReadableSpan
        and _is_empty(span._events)
        and _is_empty(span._links)
        and span._status.status_code is StatusCode.UNSET
        and context is not None
        and not context.trace_state
    )


def _is_empty(kept: Any) -> bool:
    """Return whether there are none, and none was dropped, as happens to all with a limit of 0."""
    return not kept and not getattr(kept, "dropped", 0)


def _plain(span: ReadableSpan, attributes: Mapping[str, Any]) -> bytes:
    context, parent = span._context, span._parent
    assert context is not None
    parts = [_TRACE_ID, context.trace_id.to_bytes(16), _SPAN_ID, context.span_id.to_bytes(8)]
    if parent is not None:
        parts += (_PARENT, parent.span_id.to_bytes(8))
    times = _times(_START, span._start_time, _END, span._end_time)
    parts += (_field(_NAME, span._name.encode()), _KIND[span._kind.value], times)
    for key, value in attributes.items():
        short = value.__class__ is not str or len(value) <= _CACHED
        parts.append(_attribute(key, value) if short and value.__class__ is not float else _made(key, value))
    parts.append(_STATUS_AND_FLAGS[parent is not None and parent.is_remote])
    return b"".join(parts)


def _made(key: str, value: Any) -> bytes:
    """Encode an attribute. Raises AttributeError for a value that is a list or of an unknown type."""
    kind = value.__class__
    if kind is str:
        any_value = _field(b"\x0a", value.encode())
    elif kind is bool:
        any_value = b"\x10\x01" if value else b"\x10\x00"
    elif kind is int:
        any_value = b"\x18" + leb(int.from_bytes(value.to_bytes(8, signed=True)))
    elif kind is float:
        any_value = b"\x21" + _double(value)
    else:
        raise AttributeError(kind.__name__)
    return _field(_ATTRIBUTE, _field(b"\x0a", key.encode()) + _field(b"\x12", any_value))


_attribute = lru_cache(maxsize=4096, typed=True)(_made)


def _field(tag: bytes, content: bytes) -> bytes:
    """Encode a field that has its length before it."""
    size = len(content)
    return b"%b%c%b" % (tag, size, content) if size < 128 else b"".join((tag, leb(size), content))
