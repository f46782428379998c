"""The structures of native.h with what component.c and wasi_http.c know of components."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p

from .. import capi


class ComponentState(Structure):
    """``struct component`` of native.h."""

    _fields_ = (
        ("asked", c_uint32),
        ("answered", c_uint32),
        ("number", c_uint32),
        ("frame", c_uint32),
        ("quick", c_uint32),
        ("pending", c_uint32),
        ("result", c_uint32),
        ("phase", c_uint32),
        ("returned", c_uint32),
        ("calls", c_uint32),
        ("resolution", c_uint64),
        ("quick_calls", c_void_p),
        ("memories", c_void_p),
        ("frames", c_void_p),
        ("context", c_void_p),
        ("memory", c_void_p),
        ("realloc", c_void_p),
        ("handle", c_void_p),
        ("post_return", c_void_p),
        ("scratch", c_void_p),
        ("future", c_void_p),
        ("input", c_void_p),
        ("input_len", c_size_t),
        ("slot", c_void_p),
        ("lent", c_void_p),
        ("http", c_void_p),
        ("values", capi.Value * 5),
    )


class QuickCall(Structure):
    """``struct quick_call`` of native.h."""

    _fields_ = tuple(
        (name, c_uint8) for name in ("kind", "self", "other", "given", "size", "payload", "alignment", "of_handler")
    )


class Span(Structure):
    """``struct span`` of native.h."""

    _fields_ = (("at", c_void_p), ("len", c_size_t))

    @property
    def bytes(self) -> bytes:
        return capi.string_at(self.at, self.len) if self.len else b""


class HttpHandle(Structure):
    """``struct http_handle`` of native.h."""

    _fields_ = (("resource", c_uint16), ("object", c_uint16))


class HttpObject(Structure):
    """``struct http_object`` of native.h."""

    _fields_ = (("kind", c_uint16), ("flags", c_uint16), ("of", c_uint16), ("status", c_uint16))


class HttpField(Structure):
    """``struct http_field`` of native.h."""

    _fields_ = (("name", Span), ("value", Span), ("of", c_uint64))


HTTP_HANDLES, HTTP_FIELDS, HTTP_TEXT, HTTP_BODY = 64, 128, 8 << 10, 64 << 10
_HTTP_PIECES = 2 * HTTP_FIELDS + 1


class HttpState(Structure):
    """``struct http`` of native.h."""

    _fields_ = (
        ("open", c_uint32),
        ("handles", c_uint32),
        ("freed", c_uint32),
        ("objects", c_uint32),
        ("fields", c_uint32),
        ("text_len", c_uint32),
        ("body_len", c_uint32),
        ("body_of", c_uint32),
        ("response", c_uint32),
        ("spent", c_uint32),
        ("most", c_uint32),
        ("pieces", c_uint32),
        ("placed", c_uint32),
        ("input_is_whole", c_uint32),
        ("declared", c_int64),
        ("input_at", c_uint64),
        ("input", Span),
        ("method", Span),
        ("scheme", Span),
        ("authority", Span),
        ("path", Span),
        ("environ", Span),
        ("arguments", Span),
        ("headers", c_void_p),
        ("header_count", c_uint64),
        ("handle", HttpHandle * (HTTP_HANDLES + 1)),
        ("free", c_uint16 * HTTP_HANDLES),
        ("object", HttpObject * (HTTP_HANDLES + 1)),
        ("field", HttpField * HTTP_FIELDS),
        ("piece", Span * _HTTP_PIECES),
        ("place", c_uint32 * _HTTP_PIECES),
        ("text", c_uint8 * HTTP_TEXT),
        ("body", c_uint8 * HTTP_BODY),
    )

    @property
    def written(self) -> bytes:
        """What the body of the answer has so far. A slice of the array would be a list of numbers first."""
        return bytes(memoryview(self.body)[: self.body_len])


class Lent(Structure):
    """``struct lent`` of native.h."""

    _fields_ = (
        ("numbers", c_uint32 * 4),
        ("input", c_uint32),
        ("output", c_uint32),
        ("is_empty", c_uint32),
        ("unused", c_uint32),
        ("from", c_void_p),
        ("taken", c_uint64),
        ("left", c_uint64),
        ("to", c_void_p),
        ("put", c_uint64),
        ("room", c_uint64),
        ("asked", c_uint64),
    )


class FirstState(Structure):
    """``struct first_state`` of native.h."""

    _fields_ = (
        ("context", c_void_p),
        ("memory", c_void_p),
        ("bytes", c_void_p),
        ("size", c_void_p),
        ("global", c_void_p),
        ("value", c_void_p),
        ("most", c_uint64),
        ("trimmed", c_uint64),
        ("put_back", c_uint64),
        ("memories", c_uint32),
        ("globals", c_uint32),
    )


class KeeperState(Structure):
    """``struct keeper`` of native.h."""

    _fields_ = (("unchecked", c_uint32), ("restored", c_uint32), ("faulty", c_uint32))


class KeptState(Structure):
    """``struct kept`` of native.h."""

    _fields_ = (
        ("component", c_void_p),
        ("first", c_void_p),
        ("engine", c_void_p),
        ("keeper", c_void_p),
        ("store", c_void_p),
        ("claimed", c_uint32),
        ("discarded", c_uint32),
        ("dirty", c_uint32),
        ("uses", c_uint32),
        ("plain_until", c_uint32),
        ("used_at", c_uint32),
    )


class ComponentPathState(Structure):
    """``struct component_path`` of native.h."""

    _fields_ = (
        ("path", c_void_p),
        ("kept", c_void_p),
        ("arguments", Span),
        ("free_ns", c_uint64),
        ("request", c_uint32),
        ("outparam", c_uint32),
    )


STRUCTURES = (
    *(ComponentState, QuickCall, Span, HttpHandle, HttpObject, HttpField, HttpState, Lent, FirstState),
    *(KeeperState, KeptState, ComponentPathState),
)
"""In the order of invoke.c."""
