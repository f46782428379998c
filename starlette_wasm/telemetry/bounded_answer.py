"""``BoundedAnswer``: an answer to a POST of telemetry, with an end in bytes and in time.

A timeout of http.client is that of one read. So a receiver that sends a byte from time to time, ``100 Continue`` or a
body without end keeps a thread, its CPU or the process's memory for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

MOST_BYTES = 64 << 10
"""Bytes of one answer, its head included: nothing of it is used but status and Retry-After."""
_LONGEST_SECONDS = 30.0


class _BoundedReads(io.RawIOBase):
    """Reads from a socket that end after so many bytes, or so many seconds from now."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + seconds
        self._left = MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the answer has not ended in time")
        if self._left <= 0:
            raise http.client.HTTPException(f"the answer has more than {MOST_BYTES} bytes")
        self._connection.settimeout(seconds)
        count = self._raw.readinto(memoryview(buffer)[: self._left])
        self._left -= count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class BoundedAnswer(http.client.HTTPResponse):
    """Takes the timeout of its connection for the whole answer. Reading raises OSError or HTTPException."""

    def __init__(self, sock: socket.socket, *given: Any, **named: Any) -> None:
        super().__init__(sock, *given, **named)
        self.fp.close()
        seconds = sock.gettimeout()
        self.fp = io.BufferedReader(_BoundedReads(sock, _LONGEST_SECONDS if seconds is None else seconds))
