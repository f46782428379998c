"""Instances that are brought back to their first state after an answer, for the next request.

A fresh instance of a component takes a millisecond and more, most of it to wire modules together. One that was used is
as good as a fresh one if everything that its guest can have changed is put back:

- each page of memory that was written, from a snapshot taken before any code of the guest ran;
- each global that can change;
- tables and segments, which cannot: a module with an instruction that changes them is never restored;
- handles and streams of the host, which are new for each request.

A memory that has grown cannot shrink, so such an instance is thrown away, and so is one that trapped, was interrupted,
has written many pages, or was used often.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import randrange
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..engine import capi
from ..engine.engine import KEPT, KEPT_MEMORIES, Engine
from ..engine.native.component_state import FirstState
from ..engine.native.library import NativeLibrary
from ..engine.pages import PAGE, Pages, pages_of
from ..engine.restore_checks import place
from .snapshot import Snapshot, Snapshots

if TYPE_CHECKING:
    from .bound import ComponentPlan
    from .instance import CoreInstances

MAX_WRITTEN = 2048
"""Pages of 4 KiB that an instance may have written; the set of them only grows."""
MAX_LOOKED_AT = 1024
"""Pages of 64 KiB of a component whose instances are kept: the event loop looks at each page that they have."""
MAX_COMPARED = 8 << 20
"""Bytes of a restored instance that are compared with its first state at once."""
MAX_USES = 10_000
TRIM_AT, TRIM_EACH = 4, 2048
"""After how many uses of an instance, and then each so many, pages are let go: those that requests do not change
would be put back like those that they do, and those that are only mapped looked at each time.
"""
KEPT_OF_PLAN = 4
"""Instances kept of one function under one policy."""
MAX_MEMORIES = KEPT_MEMORIES - 1
"""Of a component whose instances are kept; the glue has one more."""


def put_back(snapshot: Snapshot, cores: CoreInstances, pages: Pages) -> bool:
    """Make all memories what they were. False if one has grown, or too much was written."""
    ranges = cores.ranges()
    if [size for _, size in ranges] != snapshot.sizes:
        return False
    written = [(place - base, region) for place, (base, size) in zip(snapshot.places, ranges, strict=True)
               for region in pages.written(base, size)]  # fmt: skip
    if sum(end - start for _, (start, end) in written) > MAX_WRITTEN * PAGE:
        return False
    for offset, (start, end) in written:
        capi.memmove(start, start + offset, end - start)
    return True


class Kept:
    """An instance between two requests. ``number`` is what its store is known by to functions of the host."""

    __slots__ = ("_first_state", "_snapshot", "cores", "dirty", "number", "plan", "store", "uses")

    def __init__(self, plan: ComponentPlan, store: int, cores: CoreInstances, number: int) -> None:
        self.plan = plan
        self.store = store
        self.cores = cores
        self.number = number
        self.uses = 0
        self.dirty = True
        self._snapshot = plan.snapshot  # two threads may have taken one: component.c reads this one
        self._first_state: FirstState | None = None

    def restore(self) -> bool:
        """Bring it back. False if that cannot be done."""
        pages, snapshot = pages_of(os.getpid()), self._snapshot
        self.uses += 1
        if pages is None or snapshot is None or self.uses >= MAX_USES:
            return False
        native = self.plan.component.native
        self.dirty = not (self._put_back(snapshot, native) if native is not None
                          else self._put_back_from_python(snapshot, pages))  # fmt: skip
        return not self.dirty

    def _put_back(self, snapshot: Snapshot, native: NativeLibrary) -> bool:
        if self._first_state is None:
            self._first_state = self.cores.first_state(snapshot.places, snapshot.sizes, MAX_WRITTEN * PAGE)
        pagemap = self.plan.component.engine.state.pagemap
        trim = self.uses % TRIM_EACH == TRIM_AT
        return native.restore(ctypes.addressof(self._first_state), ctypes.addressof(pagemap), trim)

    def _put_back_from_python(self, snapshot: Snapshot, pages: Pages) -> bool:
        try:
            if not put_back(snapshot, self.cores, pages):
                return False
        except OSError:
            return False
        self.cores.reset_globals()
        return True

    def find_fault(self) -> str | None:
        """Compare memories and globals with what they were at first. Return the place of the first difference.

        Of more than MAX_COMPARED bytes a part, another one each time: the event loop waits for it.
        """
        assert self._snapshot is not None, "it was not restored"
        ranges, passed = self.cores.ranges(), 0
        begin = randrange(0, max(sum(size for _, size in ranges) - MAX_COMPARED, 0) + 1, PAGE)
        for number, ((base, size), first) in enumerate(zip(ranges, self._snapshot.places, strict=True)):
            start, end = max(begin - passed, 0), min(begin + MAX_COMPARED - passed, size)
            passed += size
            at = capi.first_difference(base + start, first + start, end - start) if start < end else None
            if at is not None:
                return place(f"memory {number}", start + at)
        changed = self.cores.changed_global()
        return None if changed is None else f"mutable global {changed}"


@dataclass(eq=False)
class _Room:
    """What the components of one engine share."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    kept: list[Kept] = field(default_factory=list)
    """The one that was used last comes last."""


_rooms: WeakKeyDictionary[Engine, _Room] = WeakKeyDictionary()


class Keeper:
    """The instances that are kept of one component, under whatever policies."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._room = _rooms.setdefault(engine, _Room())
        self.closed = False
        self.snapshots = Snapshots()
        self.restored = 0
        """How many requests had an instance that was restored."""
        self.faulty = False
        """Whether one was not as at first: then none is kept any more."""
        self._unchecked = 0

    @property
    def kept(self) -> list[Kept]:
        return [each for each in self._room.kept if each.plan.component.keeper is self]

    def take(self, plan: ComponentPlan) -> Kept | None:
        """Take an instance for that plan, as good as a fresh one."""
        while (found := self._pop(lambda each: each.plan is plan)) is not None:
            if not found.dirty or self._restore(found, idle=False):
                self.restored += 1
                return found
        return None

    def _restore(self, found: Kept, *, idle: bool) -> bool:
        """Bring an instance back. False if it is of no more use, and is deleted. ``idle``: no request waits for it."""
        if found.restore() and not self._check(found, idle=idle):
            return True
        capi.store_delete(found.store)
        return False

    def _check(self, found: Kept, *, idle: bool) -> bool:
        """Compare an instance with its first state if it is time for that. Return whether it was compared.

        Then it is of no more use: all of its pages are mapped, and each would be looked at from now on. If a request
        waits for it, another one is compared, unless the loop has long had no time.
        """
        every = self._engine.state.check_every
        self._unchecked += 1
        if not every or self._unchecked < (every if idle else 2 * every):
            return False
        self._unchecked = 0
        fault = found.find_fault()
        self._engine.restore_checks.note(found.plan.component.label, fault)
        if fault is not None:
            self.faulty = True
            self._delete_all()
        return True

    def _pop(self, fits: Callable[[Kept], bool]) -> Kept | None:
        kept = self._room.kept
        with self._room.lock:
            found = next((each for each in reversed(kept) if fits(each)), None)
            if found is not None:
                kept.remove(found)
            return found

    def offer(self, new: Kept) -> bool:
        """Keep an instance whose guest has ended well. False if it is left to the caller.

        If there is no room for it, one of the function under its policy that has the most goes: of those, the one that
        was not used for longest.
        """
        kept, oldest = self._room.kept, None
        with self._room.lock:
            if self.closed or self.faulty or sum(each.plan is new.plan for each in kept) >= KEPT_OF_PLAN:
                return False
            kept.append(new)
            if len(kept) > KEPT:
                of_plan = Counter(each.plan for each in kept)
                most = max(of_plan.values())
                oldest = next(each for each in kept if of_plan[each.plan] == most)
                kept.remove(oldest)
        if oldest is not None:
            capi.store_delete(oldest.store)
        return True

    def clean(self) -> None:
        """Restore what is not yet: after an answer is out."""
        if self._engine.dead:
            return
        while (found := self._pop(lambda each: each.dirty and each.plan.component.keeper is self)) is not None:
            if self._restore(found, idle=True) and not self.offer(found):
                capi.store_delete(found.store)

    def close(self) -> None:
        """Free all, and keep no more."""
        self.closed = True
        self._delete_all()

    def _delete_all(self) -> None:
        with self._room.lock:
            mine = self.kept
            self._room.kept[:] = [each for each in self._room.kept if each not in mine]
        for each in mine:
            if not self._engine.dead:  # in a forked child they are the parent's
                capi.store_delete(each.store)
