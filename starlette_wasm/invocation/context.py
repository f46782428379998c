"""The context of an invocation: request id, region, and the trace that it belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..config.settings import RequestSettings
from ..functions.target import Target
from ..messages import EdgeContext, is_request_id, new_request_id

_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch


def context_of(settings: RequestSettings, target: Target, headers: Mapping[str, str], *, cold: bool) -> EdgeContext:
    """Make the context for a request with these headers."""
    given = headers.get("x-request-id")
    traceparent = headers.get("traceparent")
    traced = traceparent is not None and _TRACEPARENT(traceparent) is not None
    return EdgeContext(
        given if given is not None and is_request_id(given) else new_request_id(),
        trusted_region(settings, headers.get("x-region")),
        cold,
        target.name,
        target.version,
        target.policy.execution_timeout_ms,
        traceparent if traced else None,
        headers.get("tracestate") if traced else None,
    )


def trusted_region(settings: RequestSettings, header: str | None) -> str:
    """Return the region of a request: the node's, or the one in its ``x-region`` if that is trusted."""
    if header is None or not settings.trust_region_header:
        return settings.region
    header = header.strip(" \t")  # which not every server takes away behind a value
    return header if _REGION(header) else settings.region
