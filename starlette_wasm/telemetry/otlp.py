"""``FastSpanExporter``: OpenTelemetry's exporter of spans for OTLP over HTTP, with an encoder many times as fast.

The library makes two objects for each attribute, which takes longer than most functions run. Here a span with plain
attributes is put together from bytes, of which most are the same from span to span; C encodes the attributes, if it is
there. All others are left to the library, and so are connections, retries, compression and certificates.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
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
from ..engine.native.library import native
from .bounded_session import bounded_session
from .conventions import Attribute

_SESSION = 7
"""The position of the argument."""
_PROVIDER = "OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "OTLP_HTTP_CREDENTIAL_PROVIDER"
"""Variables that give the library another session, if it is given none."""
_CACHED = 256
"""Characters of the longest text that is kept encoded."""
_MOST_SHAPES = 1024
_LOOKED_AT = 256
"""Spans of a batch, at least, whose shape is looked at, evenly spread; all, if there are no more."""
_UNUSUAL = (AttributeError, TypeError, UnicodeEncodeError, OverflowError, error)
"""Another SDK, a list, no text, more than 64 bits, no time."""
_UNIQUE = frozenset({Attribute.INVOCATION_ID.value})
"""Attributes that are different in each span, so that it is no use to keep them encoded."""
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

    One span of each batch is encoded both ways, and one of each new shape among some hundreds of its spans. If there is
    a difference, as with a later version of the library, or if that has not what is used of it here, it encodes all
    from then on.
    """

    _is_same = True
    _turn = 0
    """Which span of a batch is encoded both ways."""

    def __init__(self, *given: Any, **named: Any) -> None:
        if len(given) <= _SESSION and not any(name.endswith(_PROVIDER) for name in os.environ):
            named.setdefault("session", bounded_session())
        super().__init__(*given, **named)
        self._known: set[Hashable] = set()
        """The shapes of spans that were encoded both ways."""

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
        if not self._is_same or not spans:
            return None
        try:
            data = encode(spans)
            doubtful = self._doubtful(spans)
            expected = encode_spans(doubtful)
            self._is_same = type(expected).FromString(encode(doubtful)) == expected
        except Exception:  # of another SDK, or of a span that the library cannot encode either
            return None
        return data if self._is_same else None

    def _doubtful(self, spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
        """Return those to be encoded both ways: one of each new shape, else one in turn."""
        found = []
        every = max(1, len(spans) // _LOOKED_AT)
        for span in spans[self._turn % every :: every]:
            shape = _shape(span)
            if shape not in self._known:
                if len(self._known) >= _MOST_SHAPES:
                    self._known.clear()
                self._known.add(shape)
                found.append(span)
        self._turn += 1
        return found or [spans[self._turn % len(spans)]]


def _shape(span: ReadableSpan) -> Hashable:
    """Return what decides how a span is encoded, but for its values."""
    attributes: Any = span._attributes or {}
    kinds = frozenset(map(type, getattr(attributes, "_dict", attributes).values()))
    parent = span._parent
    resource, scope = id(span._resource), id(span._instrumentation_scope)
    return span._kind._value_, resource, scope, parent is None or parent.is_remote, parent is None, kinds


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """Return an ExportTraceServiceRequest, the same as the library's."""
    # By identity: to compare resources, the SDK makes JSON of each.
    resources: dict[int, tuple[ReadableSpan, dict[int, list[ReadableSpan]]]] = {}
    for span in spans:
        _, scopes = resources.setdefault(id(span._resource), (span, {}))
        scopes.setdefault(id(span._instrumentation_scope), []).append(span)
    return b"".join(_field(_RESOURCE_SPANS, _of_resource(first, scopes)) for first, scopes in resources.values())


def _of_resource(first: ReadableSpan, scopes: Mapping[int, list[ReadableSpan]]) -> bytes:
    (head,) = encode_spans([first]).resource_spans
    head.ClearField("scope_spans")
    parts = [head.SerializeToString()]
    for spans in scopes.values():
        (scope,) = encode_spans([spans[0]]).resource_spans[0].scope_spans
        scope.ClearField("spans")
        of_scope = [scope.SerializeToString(), *map(_of_span, spans)]
        parts.append(_field(_SCOPE_SPANS, b"".join(of_scope)))
    return b"".join(parts)


def _of_span(span: ReadableSpan) -> bytes:
    """Return the field of a span."""
    with suppress(*_UNUSUAL):
        attributes = _attributes(span)
        if attributes is not None and _has_only_attributes(span):
            return _plain(span, attributes)
    encoded: bytes = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0].SerializeToString()
    return _field(_SPAN, encoded)


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
    ids = _TRACE_ID + context.trace_id.to_bytes(16) + _SPAN_ID + context.span_id.to_bytes(8)
    if parent is not None:
        ids += _PARENT + parent.span_id.to_bytes(8)
    before = ids + _named(span._name, span._kind._value_) + _times(_START, span._start_time, _END, span._end_time)
    behind = _STATUS_AND_FLAGS[parent is not None and parent.is_remote]
    field = native.otlp_span(before, attributes, behind) if native is not None else None
    return _field(_SPAN, b"".join((before, *_encoded(attributes), behind))) if field is None else field


def _encoded(attributes: Mapping[str, Any]) -> Iterator[bytes]:
    """Encode attributes as otlp.c does. Raises one of _UNUSUAL for one that the library has to encode."""
    for key, value in attributes.items():
        kind = value.__class__
        if kind is float:
            yield _before_double(key) + _double(value)
        elif kind is not str:
            yield _attribute(key, value)
        elif key in _UNIQUE:
            data = value.encode()
            yield _before_text(key, len(data)) + data
        else:
            yield _attribute(key, value) if len(value) <= _CACHED else _made(key, value)


@lru_cache(maxsize=1024)
def _named(name: str, kind: int) -> bytes:
    return _field(_NAME, name.encode()) + _KIND[kind]


def _made(key: str, value: Any) -> bytes:
    """Encode an attribute. Raises AttributeError for a value that is a list or of an unknown type."""
    kind = value.__class__
    if kind is str:
        data: bytes = value.encode()
        return _before_text(key, len(data)) + data
    if kind is float:
        return _before_double(key) + _double(value)
    if kind is bool:
        any_value = b"\x10\x01" if value else b"\x10\x00"
    elif kind is int:
        any_value = b"\x18" + leb(int.from_bytes(value.to_bytes(8, signed=True)))
    else:
        raise AttributeError(kind.__name__)
    return _before(key, len(any_value)) + any_value


_attribute = lru_cache(maxsize=4096, typed=True)(_made)


def _before(key: str, size: int) -> bytes:
    """Encode an attribute as far as its value, which has so many bytes."""
    inner = _field(b"\x0a", key.encode()) + b"\x12" + leb(size)
    return _ATTRIBUTE + leb(len(inner) + size) + inner


@lru_cache(maxsize=1024)
def _before_text(key: str, size: int) -> bytes:
    head = b"\x0a" + leb(size)
    return _before(key, len(head) + size) + head


@lru_cache(maxsize=1024)
def _before_double(key: str) -> bytes:
    return _before(key, 9) + b"\x21"


def _field(tag: bytes, content: bytes) -> bytes:
    """Encode a field that has its length before it."""
    size = len(content)
    return b"%b%c%b" % (tag, size, content) if size < 128 else b"".join((tag, leb(size), content))
