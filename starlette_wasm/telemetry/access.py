"""One JSON line for each invocation, on the logger ``starlette_wasm.access``.

A call of ``logging`` and a write to stdout take longer than most guests. So the lines of our own handler wait, at most
a tenth of a second and in the order in which the invocations ended, and are made and written together. A handler of
the app gets a record for each invocation at once, while the function's span is current.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from select import PIPE_BUF
from typing import TextIO

from ..sync.delayed_call import DelayedCall
from .observation import Observation

logger = logging.getLogger("starlette_wasm.access")

_SECONDS = 0.1
_MOST = 256
"""Lines that wait; to make more at once would hold up the event loop for more than a millisecond."""
_FORMATTER = logging.Formatter("%(message)s")
_encode = json.JSONEncoder(separators=(",", ":")).encode


class AccessHandler(logging.StreamHandler[TextIO]):
    """Writes to stdout: what is added a moment later and together, a record of anybody else's behind it at once."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.setFormatter(_FORMATTER)
        self._waiting: list[Observation] = []
        self.later = DelayedCall(_SECONDS, self.write_out)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Drop, in a forked child, the lines that wait: they are the parent's."""
        self._waiting.clear()
        self.later.forget()

    @property
    def is_plain(self) -> bool:
        """Whether a line comes out as it goes in."""
        return self.formatter is _FORMATTER and not self.filters and self.level <= logging.INFO

    def add(self, seen: Observation) -> None:
        waiting = self._waiting
        waiting.append(seen)
        if len(waiting) < _MOST:
            self.later.schedule()
        else:
            self.write_out()

    def write_out(self) -> None:
        """Write what waits."""
        self.acquire()
        try:
            if count := len(self._waiting):  # another thread may add meanwhile
                lines = [line(each) for each in self._waiting[:count]]
                del self._waiting[:count]
                for text in _pieces(lines):
                    super().emit(logger.makeRecord(logger.name, logging.INFO, __file__, 0, text, (), None))
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        self.write_out()
        super().emit(record)

    def flush(self) -> None:
        """Write what waits; logging calls it at the end of the process, too."""
        self.write_out()
        super().flush()


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines together, as far as a pipe takes them whole: other workers may write to the same one."""
    piece: list[str] = []
    size = 0
    for each in lines:
        size += len(each) + 1
        if piece and size > PIPE_BUF:
            yield "\n".join(piece)
            piece, size = [], len(each) + 1
        piece.append(each)
    yield "\n".join(piece)


def install() -> None:
    """Let the lines go to stdout, if the app's own logging does not take them."""
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(AccessHandler())
        logger.propagate = False
    for handler in logger.handlers:
        if isinstance(handler, AccessHandler):
            handler.later.delays = True


def write_out(*, delay: bool) -> None:
    """Write the lines that wait. Without ``delay`` none wait from now on, until install()."""
    for handler in logger.handlers:
        if isinstance(handler, AccessHandler):
            handler.later.delays = delay
            handler.write_out()


def bulk_handler() -> AccessHandler | None:
    """Find our own handler, if it alone takes the lines, as they are."""
    handlers = logger.handlers
    handler = handlers[0] if len(handlers) == 1 and not logger.propagate and not logger.filters else None
    return handler if isinstance(handler, AccessHandler) and handler.is_plain else None


def log(seen: Observation) -> None:
    if not logger.isEnabledFor(logging.INFO):
        return
    seen.at = time.time()
    handler = bulk_handler()
    if handler is None:
        logger.info("%s", line(seen))
    else:
        handler.add(seen)


def line(seen: Observation) -> str:
    """Return the JSON of an invocation. Null is what is not known, such as the status if the client went away."""
    cpu, memory, calls = (seen.cpu, seen.memory, seen.host_calls) if seen.ran else (None, None, None)
    return (
        f'{{"time":"{_second(int(seen.at))}.{int(seen.at * 1000) % 1000:03d}+00:00"'
        f',"request_id":{_text(seen.request_id)},"trace_id":{_text(seen.trace_id)},"span_id":{_text(seen.span_id)}'
        f",{_of_route(*seen.key, seen.method, seen.reason)}"
        f',"attempt":{seen.attempt},"status":{_number(seen.status)},"error":{_text(seen.error and seen.error.value)}'
        f',"duration_ms":{_ms(seen.duration)},"queue_ms":{_ms(seen.waited)},"cpu_ms":{_ms(cpu)}'
        f',"memory_peak":{_number(memory)},"host_calls":{_number(calls)}'
        f',"cold_start":{"true" if seen.cold else "false"}}}'
    )


def _text(value: str | None) -> str:
    return "null" if value is None else _encode(value)


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)


def _ms(seconds: float | None) -> str:
    return "null" if seconds is None else repr(round(seconds * 1e3, 3))


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


@lru_cache(maxsize=1024)
def _of_route(trigger: str, function: str, version: str, route: str, variant: str, method: str, reason: str) -> str:
    """Return what is the same in many lines."""
    same = {
        "trigger": trigger,
        "method": method or None,
        "route": route or None,
        "function": function,
        "version": version,
        "variant": variant or None,
        "reason": reason or None,
    }
    return _encode(same)[1:-1]
