"""Who calls, and what a call is given beside the function and the request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.util.types import AttributeValue

from ..engine.fast_path import Started
from ..sync.cancel_scope import OnDisconnect
from ..telemetry import RequestTelemetry

if TYPE_CHECKING:
    from ..components.http_exchange import HttpExchange
    from ..components.typed import TypedCall


class Caller(NamedTuple):
    """The HTTP request that a call is for. Without one, the call comes from Python."""

    client: tuple[str, int] | None = None
    """Address and port."""
    cold: int = 0
    """When the wait for the runtime to start began, in ns since the epoch; 0 if there was none."""
    on_disconnect: OnDisconnect | None = None
    """Returns when the client goes away, which ends the call."""
    exchange: RequestTelemetry | None = None
    stream: HttpExchange | None = None
    """The body and the answer of the request, if they come and leave while the guest runs."""


PYTHON = Caller()


class CallOptions(NamedTuple):
    """The options of one call."""

    caller: Caller = PYTHON
    route: str = ""
    """The path pattern for the guest's environment, if it is not the target's."""
    headers: Mapping[str, str] | None = None
    """The headers of the client, if the request has others."""
    attempt: int | None = None
    """Which try this is; by default one more than failed in the exchange."""
    timeout: float | None = None
    """Bounds the time in the guest, in seconds, if it is less than the policy's."""
    attributes: Mapping[str, AttributeValue] | None = None
    """More attributes for the span of the call."""
    started: Started | None = None
    """What the fast path gave, at once before."""
    typed: TypedCall | None = None
    """The function that is called with values, in the place of what answers requests."""


DEFAULT_OPTIONS = CallOptions()
