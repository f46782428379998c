"""What may be tried again, when, and how often."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from threading import Lock

from ..config.notation import IDEMPOTENT_METHODS
from ..config.pipelines import RetryBudgetConfig
from ..exceptions import (
    ExecutionTimeout,
    FunctionError,
    FunctionExited,
    FunctionOverloaded,
    FunctionTrapped,
    InvalidFunctionResponse,
    WasmError,
)
from ..functions.target import Target
from ..messages import EdgeResponse
from .window import Window

_MAY_PASS = (ExecutionTimeout, FunctionExited, FunctionOverloaded, FunctionTrapped, InvalidFunctionResponse)
_NEVER_PASS = (501, 505)
_WINDOW = 10.0


class Refused(StrEnum):
    """Why a step with retries left was not tried again."""

    HOPELESS = "hopeless"
    """The same would come of it: out of memory, too large a request, a 501 or 505."""
    NOT_IDEMPOTENT = "not-idempotent"
    """It may have had effects, and nobody allowed it to have them twice."""
    CIRCUIT_OPEN = "circuit-open"
    DEADLINE = "deadline"
    """There is no time left for the wait."""
    BUDGET = "budget"
    """Too many calls are retries already."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt of ``target`` that failed. ``cause`` is its ``error.type``, its status, or ``circuit-open``."""

    target: Target
    answer: EdgeResponse | WasmError
    cause: str
    too_large: bool = False
    """Whether the request was not even given to it."""

    @property
    def may_pass(self) -> bool:
        """Whether another attempt could end better."""
        if self.too_large:
            return False
        if isinstance(self.answer, EdgeResponse):
            return self.answer.status_code not in _NEVER_PASS
        return isinstance(self.answer, _MAY_PASS)

    @property
    def had_effects(self) -> bool:
        """Whether it may have changed something: not if it never ran, or if nothing it may do outlives it."""
        return isinstance(self.answer, EdgeResponse | FunctionError) and not leaves_nothing(self.target)


def leaves_nothing(target: Target) -> bool:
    """Return whether the sandbox keeps a function from having effects: nothing that it may do outlives it."""
    grants = target.grants
    silent = grants is None or not (grants.http or grants.kv.namespaces or grants.queue.queues)
    return silent and not any(preopen.writable for preopen in target.plan.preopens)


def may_repeat(method: str, headers: Mapping[str, str]) -> bool:
    """Return whether the client has declared that the same request may be carried out twice."""
    return method in IDEMPOTENT_METHODS or "idempotency-key" in headers


def asked_pause(answer: EdgeResponse | WasmError) -> float:
    """Return the seconds in a step's ``Retry-After`` (RFC 9110, section 10.2.3): a number or a date; else 0."""
    if not isinstance(answer, EdgeResponse):
        return 0.0
    values = [value for name, value in answer.headers.items() if name.lower() == "retry-after"]
    if not values or not isinstance(value := values[0], str):
        return 0.0
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off in seconds, with full jitter: anything from 0 to a bound that doubles with each retry."""

    first: float
    most: float

    def bound(self, retry: int) -> float:
        """Return the longest wait before a retry; the first is 1."""
        return min(self.most, self.first * 2.0 ** (retry - 1))

    def delay(self, retry: int) -> float:
        return random.uniform(0, self.bound(retry))


class RetryBudget:
    """Retries as a share of first attempts, over the last 10 seconds, so that trouble is not multiplied."""

    def __init__(self, config: RetryBudgetConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._share = config.percent / 100
        self._floor = config.per_second * _WINDOW
        self._window = Window(_WINDOW, clock)
        self._lock = Lock()

    def first_attempt(self) -> None:
        with self._lock:
            self._window.add(1)

    def take(self) -> bool:
        """Take one more retry, if it is to be had, and return whether it was."""
        with self._lock:
            calls, retries = self._window.totals()
            if retries + 1 > self._share * calls + self._floor:
                return False
            self._window.add(0, 1)
            return True
