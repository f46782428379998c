"""The context that a client sends, read by the global propagator, which sees no header that costs too much.

OpenTelemetry's own propagators write what they refuse into the log, whole, and split a header of spaces in quadratic
time: 8 KiB of ``baggage`` are 90 ms and a log line as long.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from starlette.types import Scope

from .._compat import is_w3c

logger = logging.getLogger("starlette_wasm")

MAX_BYTES = 8192
"""Most bytes of one header (W3C Baggage, 3.3.2); ``tracestate`` may have as many."""
_MAX_BYTES = {"traceparent": 512}
_MAX_MEMBERS = {"baggage": 180, "tracestate": 32}
"""Most members of those that are lists: as many as OpenTelemetry takes."""
_MAX_MEMBER = {"baggage": 4096, "tracestate": 513}
_KEY = r"[ \t]*[!#-'*+.0-9A-Z^-z|~-]+[ \t]*"
_VALUE = r"=[ \t]*[!#-+\--:<-\[\]-~]*[ \t]*"
_is_pair = re.compile(_KEY + _VALUE).fullmatch
_is_property = re.compile(f"{_KEY}(?:{_VALUE})?").fullmatch
_LOG_SECONDS = 1.0
_CARRIERS = (b"traceparent", b"tracestate", b"baggage")
_default: TextMapPropagator | None = None
"""The last one of which is_w3c() is true: requests without these headers need not be read by it."""


class _Log:
    """One line a second at most, whatever clients send."""

    def __init__(self) -> None:
        self._next = 0.0
        self._more = 0

    def refused(self, name: str, why: str) -> None:
        now = time.monotonic()
        if now < self._next:
            self._more += 1
            return
        more = f" ({self._more} more like it since the last line)" if self._more else ""
        self._next, self._more = now + _LOG_SECONDS, 0
        logger.warning("of the header %s of a request was not read: %s%s", name[:64], why, more)


_log = _Log()


def extract(headers: Mapping[str, str]) -> Context:
    """Extract the context from the headers of a request that was made in Python, names in lower case."""
    return propagate.extract(headers, getter=_of_mapping)


def extract_scope(scope: Scope) -> Context:
    """Extract the context from the headers of an ASGI request."""
    global _default
    propagator = propagate.get_global_textmap()
    if propagator is not _default:
        if not is_w3c(propagator):
            return propagate.extract(scope, getter=_of_scope)
        _default = propagator
    for name, _ in scope["headers"]:
        if name.lower() in _CARRIERS:
            return propagate.extract(scope, getter=_of_scope)
    return Context()


class _OfScope(Getter[Scope]):
    def get(self, carrier: Scope, key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1")
        return _bounded(key, [value.decode("latin-1") for name, value in carrier["headers"] if name.lower() == wanted])

    def keys(self, carrier: Scope) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier["headers"]]


class _OfMapping(Getter[Mapping[str, str]]):
    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        value = carrier.get(key.lower())
        return None if value is None else _bounded(key, [value])

    def keys(self, carrier: Mapping[str, str]) -> list[str]:
        return list(carrier)


_of_scope = _OfScope()
_of_mapping = _OfMapping()


def _bounded(key: str, values: list[str]) -> list[str] | None:
    """Bound what of a header the propagator may see; None if that is nothing."""
    name = key.lower()
    most = _MAX_BYTES.get(name, MAX_BYTES)
    size = sum(map(len, values)) + len(values) - 1
    if size > most:
        _log.refused(name, f"{size} bytes, and {most} may be")
        return None
    if values and name in _MAX_MEMBERS:
        values = _members(name, values)
    return values or None


def _members(name: str, values: list[str]) -> list[str]:
    """Clean a list of the white space around its members, and of those that would be refused one by one."""
    if name == "baggage":
        values = values[:1]  # OpenTelemetry takes no more of them
    given = [member for value in values for each in value.split(",") if (member := each.strip(" \t"))]
    most, longest = _MAX_MEMBERS[name], _MAX_MEMBER[name]
    kept = [each for each in given if len(each) <= longest and (name != "baggage" or _is_baggage(each))][:most]
    if len(kept) < len(given):
        _log.refused(name, f"{len(given) - len(kept)} of {len(given)} members, malformed, too long or too many")
        if name == "tracestate":  # all or nothing
            return []
    return [",".join(kept)] if kept else []


def _is_baggage(member: str) -> bool:
    pair, *properties = member.split(";")
    return _is_pair(pair) is not None and all(map(_is_property, properties))
