"""``Comparison``: compares a restored instance with its first state, a part of it in each round of the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..engine import capi
from ..engine.restore_checks import place

if TYPE_CHECKING:
    from .restore import Kept

AT_ONCE = 1 << 20
"""Bytes that are compared at once: some tenths of a millisecond, most of it for pages that were never touched."""


class Comparison:
    """One instance, which is deleted at the end: all of its pages are mapped then, and each would be looked at."""

    def __init__(self, kept: Kept, ended: Callable[[Comparison, str | None], None]) -> None:
        """Take an instance that was restored and is claimed. ``ended`` gets the place of the first difference."""
        self.kept = kept
        self._ended = ended
        self._at = 0
        self._lock = threading.Lock()
        self._over = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_abandoned(self) -> bool:
        """Whether its event loop was closed before it was over."""
        return self._loop is not None and self._loop.is_closed()

    def begin(self) -> None:
        """Compare all of it, in a thread at once, in an event loop with time between the parts."""
        loop = self._loop = asyncio._get_running_loop()
        if loop is not None:
            self._go_on(loop)
            return
        while not self.step():
            pass

    def drop(self) -> None:
        """End it before its time, without a word to anybody."""
        with self._lock:
            self._delete()

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.step():
            loop.call_soon(self._go_on, loop)

    def step(self) -> bool:
        """Compare the next part. Return whether it is over."""
        with self._lock:
            if self._over:
                return True
            fault, more = self._compare()
            if fault is None and more:
                return False
            self._delete()
        self._ended(self, fault)
        return True

    def _delete(self) -> None:
        if not self._over:
            self._over = True
            if not self.kept.plan.component.engine.dead:  # in a forked child it is the parent's
                self.kept.delete()

    def _compare(self) -> tuple[str | None, bool]:
        """Return the place of a difference, and whether there is more to compare."""
        passed, begin = 0, self._at
        self._at += AT_ONCE
        for number, (first, (base, size)) in enumerate(self.kept.first_and_now()):
            start, end = max(begin - passed, 0), min(self._at - passed, size)
            passed += size
            at = capi.first_difference(base + start, first + start, end - start) if start < end else None
            if at is not None:
                return place(f"memory {number}", start + at), False
        if self._at < passed:
            return None, True
        changed = self.kept.cores.changed_global()
        return None if changed is None else f"mutable global {changed}", False
