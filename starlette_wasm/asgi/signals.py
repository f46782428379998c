"""Starts the drain when the server begins to stop, and a reload on SIGHUP.

uvicorn waits for the requests in flight before it sends ``lifespan.shutdown``, so a guest that runs for ever
would keep the process: the signal itself has to start the clock.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..runtime.runtime import WasmRuntime


class ServerSignals:
    """While installed, SIGTERM and SIGINT also drain the runtime; the handler that was there is called too.

    So it is for SIGHUP, which reloads, unless it comes because the terminal is gone.
    """

    def __init__(self, runtime: WasmRuntime) -> None:
        self._runtime = runtime
        self._before: dict[int, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._terminal = False

    def install(self) -> None:
        """Handle the signals on the main thread's event loop; once, until uninstalled."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self._before:
            self._loop = asyncio.get_running_loop()
            return
        # Only if a server handles them: by default they end the process at once. asyncio.run() has a handler of
        # its own for SIGINT.
        if not callable(signal.getsignal(signal.SIGTERM)):
            return
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler:
                self._before[number] = before
                signal.signal(number, self._handle)
        self._terminal = _has_terminal()
        before = signal.getsignal(signal.SIGHUP)
        if before is not None:
            self._before[signal.SIGHUP] = before
            signal.signal(signal.SIGHUP, self._hang_up)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._call(self._runtime.drain)
        self._before[number](number, frame)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        before = self._before[number]
        if self._terminal and not _has_terminal():
            if before is signal.SIG_DFL:
                signal.signal(number, before)
                os.kill(os.getpid(), number)
        else:
            self._call(self._runtime.reloader.request)
        if callable(before):
            before(number, frame)

    def _call(self, what: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what)

    def uninstall(self) -> None:
        for number, before in self._before.items():
            # Where somebody came after, theirs stays, and goes on through ours.
            if signal.getsignal(number) in (self._handle, self._hang_up):
                signal.signal(number, before)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
