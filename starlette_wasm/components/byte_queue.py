"""Bytes on their way between a guest, in whatever thread it runs, and the event loop."""

from __future__ import annotations

import threading
from collections import deque

from ..capabilities import pieces


class ByteQueue:
    """One side puts, the other takes. ``bound`` is how much may wait; the side that puts sees to that by ``room``."""

    __slots__ = ("_at", "_lock", "_pieces", "_put", "_taken", "bound", "closed")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.closed = False
        """Whether nothing more will be put."""
        self._pieces: deque[bytes | bytearray] = deque()  # one that is a bytearray, and small, may grow
        self._lock = threading.Lock()
        self._at = 0  # how much of the first piece is taken
        self._put = 0  # each counter is changed by one side alone
        self._taken = 0

    def __len__(self) -> int:
        return self._put - self._taken

    @property
    def total(self) -> int:
        """Bytes put so far."""
        return self._put

    @property
    def room(self) -> int:
        return max(self.bound - len(self), 0)

    @property
    def low(self) -> bool:
        """Whether so little waits that whoever puts should go on, if it had stopped."""
        return 2 * len(self) <= self.bound

    @property
    def ended(self) -> bool:
        return self.closed and not len(self)

    def put(self, data: bytes) -> None:
        if not data:
            return
        with self._lock:
            pieces.put(self._pieces, data)  # a guest that writes single bytes must not make the event loop take each
            self._put += len(data)

    def pass_by(self, count: int) -> None:
        """Count bytes that went from one side to the other at once. Only if none wait, in the thread of both sides."""
        self._put += count
        self._taken += count

    def take(self, most: int) -> bytes:
        """Take up to so many bytes, of one piece; none if there are none."""
        if not len(self) or not most:
            return b""
        with self._lock:
            piece, at = self._pieces[0], self._at
            taken = piece if at == 0 and len(piece) <= most else piece[at : at + most]
            if at + len(taken) == len(piece):
                self._pieces.popleft()
                self._at = 0
            else:
                self._at = at + len(taken)
            self._taken += len(taken)
        return bytes(taken)

    def front(self) -> tuple[bytes, int] | None:
        """Return the first piece, if it is one that does not grow any more, and how much of it is taken."""
        with self._lock:
            piece = self._pieces[0] if self._pieces else None
        return (piece, self._at) if type(piece) is bytes else None

    def peek(self) -> tuple[bytes, bool]:
        """Return what there is of the first piece, and whether that is all that will come."""
        closed = self.closed  # looked at first: the last bytes come before the end
        with self._lock:
            found = bytes(self._pieces[0])[self._at :] if self._pieces else b""
        return found, closed and len(found) == len(self)

    def skip(self, count: int) -> None:
        """Take so many bytes of what front() or peek() gave."""
        with self._lock:
            self._at += count
            if self._at == len(self._pieces[0]):
                self._pieces.popleft()
                self._at = 0
            self._taken += count

    def take_pieces(self, enough: int) -> bytes:
        """Take pieces of so many bytes together, or a few more, as one; all if there are fewer."""
        found = [self.take(self.bound)]
        size = len(found[0])
        while size < enough and len(self):
            found.append(self.take(enough - size))
            size += len(found[-1])
        return found[0] if len(found) == 1 else b"".join(found)
