"""Advances an engine's epoch every millisecond while guests run, so that a busy guest yields.

A thread of Python starves when others hold the GIL, so a thread of invoke.c does it. If that was not compiled, a
POSIX timer of Linux calls ``wasmtime_engine_increment_epoch`` itself, for which glibc starts a thread at each tick:
40 us of CPU, where waking one takes a few. Elsewhere a thread of Python has to do. The ticker is armed by the first
guest and put to rest when none has come for a while.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import os
import sys
import threading
import time
import weakref
from contextlib import suppress

from . import capi
from .native.library import EngineState, NativeLibrary, native

INTERVAL = 0.001
REST_AFTER = 0.25
_STARTS_UNTIL_CHECK = 100_000
"""How many guests may begin until the ticker is looked after: as it is each quarter of a second, but if the loop
that does it was closed."""
_LAST_TICK = 0.005
_CLOCK_MONOTONIC, _SIGEV_THREAD = 1, 2


class _sigevent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_char * 32),
    )


class _timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _itimerspec(ctypes.Structure):
    _fields_ = (("interval", _timespec), ("first", _timespec))


class HotTimer:
    """A thread of invoke.c. Raises OSError if there can be none. The engine must never be freed."""

    def __init__(self, engine: int, native: NativeLibrary) -> None:
        self._hot = native
        self._ticker = native.ticker_new(engine, int(INTERVAL * 1e9))
        if not self._ticker:
            raise OSError("no thread for the ticker")

        self.ticks = False
        """Whether it is armed: nothing but the end of the process ends its thread."""

    def arm(self) -> None:
        self._hot.ticker_set(self._ticker, True)
        self.ticks = True

    def rest(self) -> None:
        self._hot.ticker_set(self._ticker, False)
        self.ticks = False


class NativeTimer:
    """A POSIX timer. Raises OSError if there is none. The engine must never be freed."""

    def __init__(self, engine: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = ctypes.c_void_p()
        event = _sigevent(value=engine, notify=_SIGEV_THREAD, function=capi.INCREMENT_EPOCH)
        if self._libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)):
            raise OSError(ctypes.get_errno(), "timer_create")

    def arm(self) -> None:
        self._set(_timespec(0, int(INTERVAL * 1e9)))

    def rest(self) -> None:
        self._set(_timespec(0, 0))

    @property
    def ticks(self) -> bool:
        now = _itimerspec()
        return self._libc.timer_gettime(self._timer, ctypes.byref(now)) == 0 and bool(now.interval.nanoseconds)

    def _set(self, interval: _timespec) -> None:
        self._libc.timer_settime(self._timer, 0, ctypes.byref(_itimerspec(interval, interval)), None)


class ThreadTimer:
    """A thread that ticks while armed."""

    def __init__(self, engine: int) -> None:
        self._engine = engine
        self._armed = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="starlette-wasm-ticker", daemon=True)
        self._thread.start()

    def arm(self) -> None:
        self._armed.set()

    def rest(self) -> None:
        self._armed.clear()

    @property
    def ticks(self) -> bool:
        return self._armed.is_set() and self._thread.is_alive()

    def _tick(self) -> None:
        while self._armed.wait():
            time.sleep(INTERVAL)
            capi.increment_epoch(self._engine)


def _timer(engine: int) -> HotTimer | NativeTimer | ThreadTimer:
    with suppress(OSError):
        if native is not None:
            return HotTimer(engine, native)
    with suppress(OSError, AttributeError):
        if sys.platform == "linux":
            return NativeTimer(engine)
    return ThreadTimer(engine)


class Ticker:
    """Ticks an engine's epoch: armed by ensure_armed(), at rest after a while without it."""

    def __init__(self, engine: int, state: EngineState) -> None:
        """Take ``state``: the number of guests under way is read from it, and ``turns`` written."""
        self._timer = _timer(engine)
        self._state = state
        self._sweep = None if native is None else native.cleaner(ctypes.addressof(state))
        self.armed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._chain: object = None
        """Of the looks that are valid: an older chain ends at its next look."""
        _tickers.add(self)

    @property
    def native(self) -> bool:
        """Whether it needs no GIL."""
        return not isinstance(self._timer, ThreadTimer)

    @property
    def alive(self) -> bool:
        """Whether it ticks, or is at rest because nothing needs it."""
        with _lock:
            return self._timer.ticks or not self.armed

    def ensure_armed(self) -> None:
        """Arm it, as a guest is about to run. Guests under way keep it armed; the running loop looks after it."""
        state = self._state
        with _lock:  # or another thread may put it to rest just before it counts one down
            if not state.starts_until_check or self._loop is None or self._loop.is_closed():
                self._loop = asyncio.get_running_loop()
                self._arm()
                self._chain = object()
                self._loop.call_later(REST_AFTER, self._look, self._loop, self._chain)
            state.starts_until_check -= 1

    def _look(self, loop: asyncio.AbstractEventLoop, chain: object) -> None:
        if chain is not self._chain:
            return
        if not self._state.live and self._state.starts_until_check == _STARTS_UNTIL_CHECK:
            if self._sweep is not None:  # what a busy loop has left
                self._sweep()
            self.rest()
        if self.armed:
            self._state.starts_until_check = _STARTS_UNTIL_CHECK
            self._state.cleanup_scheduled = False  # a loop that was to clean up may have been closed
            loop.call_later(REST_AFTER, self._look, loop, chain)

    def _arm(self) -> None:
        self.armed = True
        self._timer.arm()
        self._state.starts_until_check = _STARTS_UNTIL_CHECK
        self._state.cleanup_scheduled = False

    def rest(self) -> None:
        """Stop ticking, unless guests are under way, which need it."""
        with _lock:
            if self.armed and not self._state.live:
                self.armed = False
                self._state.starts_until_check = 0
                self._timer.rest()
                if self._state.live:  # it came in another thread, and found the ticker armed
                    self._arm()


_tickers: weakref.WeakSet[Ticker] = weakref.WeakSet()
_lock = threading.Lock()
"""For arming and resting: event loops of several threads may share an engine. Held across a fork."""


def _before_fork() -> None:
    # For a POSIX timer, glibc starts a thread at each tick, under a lock of its own. A child that is forked meanwhile
    # finds it taken for ever, and hangs in its first timer_create (seen each time with glibc 2.36: the fork itself
    # takes longer than a tick).
    _lock.acquire()
    armed = [ticker for ticker in list(_tickers) if ticker.armed]
    for ticker in armed:
        ticker._timer.rest()
    if any(isinstance(ticker._timer, NativeTimer) for ticker in armed):
        time.sleep(_LAST_TICK)


def _after_fork_in_parent() -> None:
    for ticker in list(_tickers):
        if ticker.armed:
            ticker._timer.arm()
    _lock.release()


def _after_fork_in_child() -> None:
    for ticker in list(_tickers):
        ticker.armed = False  # timers and threads are not inherited
        ticker._state.starts_until_check = 0
    _lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


@atexit.register
def _rest_all() -> None:
    for ticker in list(_tickers):
        if ticker.armed:
            ticker._timer.rest()
