"""Circuit breakers: a function that fails most of the time is left alone for a while."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Collection
from enum import StrEnum
from threading import Lock

from ..config.pipelines import CircuitBreakerConfig
from .window import Window

logger = logging.getLogger("starlette_wasm")

Clock = Callable[[], float]


class Circuit(StrEnum):
    """The state of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    """Calls are refused at once."""
    HALF_OPEN = "half-open"
    """A few calls are let through, to see."""


class Breaker:
    """The circuit breaker of one version of a function under one policy.

    Each call is admitted first, and reported afterwards with the number that admit() gave: as succeeded(), failed() or
    dropped(), which is not evidence about the function. What was admitted before the state changed no
    longer counts.
    """

    def __init__(self, name: str, config: CircuitBreakerConfig, clock: Clock = time.monotonic) -> None:
        self._name = name
        self._config = config
        self._clock = clock
        self._lock = Lock()
        self._state = Circuit.CLOSED
        self._era = 1
        self._window = Window(config.window_seconds, clock)
        self._until = 0.0
        self._probing = self._proven = 0

    @property
    def state(self) -> Circuit:
        """``half-open`` as soon as a call would be let through."""
        if self._state is Circuit.OPEN and self._clock() >= self._until:
            return Circuit.HALF_OPEN
        return self._state

    @property
    def retry_after(self) -> int:
        """Whole seconds until a call may be let through, at least 1."""
        return max(1, math.ceil(self._until - self._clock()))

    def admit(self) -> int:
        """Return a number for a call that may be made, 0 if it is refused."""
        with self._lock:
            if self._state is Circuit.CLOSED:
                return self._era
            if self._state is Circuit.OPEN:
                if self._clock() < self._until:
                    return 0
                self._enter(Circuit.HALF_OPEN)
            if self._probing + self._proven >= self._config.probes:
                return 0
            self._probing += 1
            return self._era

    def succeeded(self, era: int) -> None:
        with self._lock:
            if era != self._era:
                return
            if self._state is Circuit.CLOSED:
                self._window.add(1)
                return
            self._probing -= 1
            self._proven += 1
            if self._proven >= self._config.probes:
                logger.info("circuit of %s is closed: it works again", self._name)
                self._enter(Circuit.CLOSED)

    def failed(self, era: int) -> bool:
        """Count a failure, and return whether the circuit opens by that."""
        with self._lock:
            if era != self._era:
                return False
            if self._state is Circuit.HALF_OPEN:
                logger.warning("circuit of %s stays open: it still fails", self._name)
                self._enter(Circuit.OPEN)
                return True
            self._window.add(1, 1)
            calls, failures = self._window.totals()
            config = self._config
            if calls >= config.minimum_calls and failures * 100 >= config.failure_percent * calls:
                logger.warning(
                    "circuit of %s is open for %g s: %d of %d calls failed in %g s",
                    *(self._name, config.open_seconds, failures, calls, config.window_seconds),
                )
                self._enter(Circuit.OPEN)
                return True
            return False

    def reset(self) -> None:
        """Close it, by hand."""
        with self._lock:
            logger.info("circuit of %s is closed: by hand", self._name)
            self._enter(Circuit.CLOSED)

    def dropped(self, era: int) -> None:
        with self._lock:
            if era == self._era and self._state is Circuit.HALF_OPEN:
                self._probing -= 1

    def _enter(self, state: Circuit) -> None:
        self._state = state
        self._era += 1
        self._probing = self._proven = 0
        if state is Circuit.OPEN:
            self._until = self._clock() + self._config.open_seconds
        elif state is Circuit.CLOSED:
            self._window = Window(self._config.window_seconds, self._clock)


class Breakers:
    """One for each version of a function that pipelines have called, under each policy.

    What fails under one policy may work under another, as a fallback under less does.
    """

    def __init__(
        self,
        config: CircuitBreakerConfig,
        before: Breakers | None = None,
        same: Collection[tuple[str, str]] = (),
    ) -> None:
        """Keep the circuits of ``before`` for the ``same`` versions of functions, if the config is the same."""
        if not config.enabled:
            config = config.model_copy(update={"minimum_calls": sys.maxsize})
        self._config = config
        self._breakers: dict[tuple[str, str, str], Breaker] = {}
        if before is not None and before._config == config:
            self._breakers = {key: breaker for key, breaker in list(before._breakers.items()) if key[:2] in same}

    def get(self, function: str, version: str, circuit: str) -> Breaker:
        """Get the breaker of a circuit: the policy, with ``fallback`` behind it if that is apart from its step's."""
        key = (function, version, circuit)
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers.setdefault(key, Breaker(circuit_name(*key), self._config))
        return breaker

    def keep(self, used: Collection[tuple[str, str]]) -> None:
        """Keep the circuits of these functions, and forget the others: nobody would find out if they work again."""
        self._breakers = {key: breaker for key, breaker in self._breakers.items() if (key[0], key[2]) in used}

    def reset(self, name: str) -> bool:
        """Close the circuit that states() calls ``name``. Says whether there is one."""
        breaker = next((breaker for key, breaker in self._breakers.items() if circuit_name(*key) == name), None)
        if breaker is not None:
            breaker.reset()
        return breaker is not None

    def states(self) -> dict[str, Circuit]:
        """Return the states by ``name v1 (policy)``."""
        return {circuit_name(*key): breaker.state for key, breaker in sorted(self._breakers.items())}


def circuit_name(function: str, version: str, circuit: str) -> str:
    """Return the name of a circuit, as states() has it."""
    return f"{function} v{version} ({circuit})"
