"""Starts the drain when the server is told to stop.

uvicorn waits for the requests in flight before it sends ``lifespan.shutdown``, so a guest that runs for ever
would keep the process: the signal itself has to start the clock.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime import WasmRuntime


class DrainOnSignal:
    """While installed, SIGTERM and SIGINT also drain the runtime; the handler that was there is called too."""

    def __init__(self, runtime: WasmRuntime) -> None:
        self._runtime = runtime
        self._before: dict[int, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def install(self) -> None:
        """On the main thread's event loop; once, until uninstalled."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self._before:
            self._loop = asyncio.get_running_loop()
            return
        # Only where a server handles them: by default they end the process at once. asyncio.run() has a handler of
        # its own for SIGINT.
        if not callable(signal.getsignal(signal.SIGTERM)):
            return
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler:
                self._before[number] = before
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._runtime.drain)
        self._before[number](number, frame)

    def uninstall(self) -> None:
        for number, before in self._before.items():
            # Where somebody came after, theirs stays, and goes on through ours.
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)
