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

import asyncio
import ctypes
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..engine import capi
from ..engine.engine import KEPT, KEPT_MEMORIES, Engine
from ..engine.loop_time import FREE_US
from ..engine.native.component_state import FirstState, KeeperState, KeptState
from ..engine.native.library import NativeLibrary
from ..engine.pages import PAGE, Pages, pages_of
from .comparison import Comparison
from .snapshot import Snapshot, Snapshots

if TYPE_CHECKING:
    from .bound import ComponentPlan
    from .instance import CoreInstances

MAX_WRITTEN = 2048
"""Pages of 4 KiB that an instance may have written; the set of them only grows."""
MAX_LOOKED_AT = 1024
"""Pages of 64 KiB of a component whose instances are kept: the event loop looks at each page that they have."""
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
    """An instance between two requests. ``number`` is what its store is known by to functions of the host.

    One at a time uses it: an invocation, a keeper that restores it, or component_path.c. Whoever makes it has claimed
    it.
    """

    __slots__ = ("_first_state", "_snapshot", "at", "cores", "number", "plan", "state")

    def __init__(self, plan: ComponentPlan, store: int, cores: CoreInstances, number: int) -> None:
        self.plan = plan
        self.cores = cores
        self.number = number
        engine, keeper = ctypes.addressof(plan.component.engine.state), ctypes.addressof(plan.component.keeper.state)
        self.state = KeptState(
            component=cores.state_at, engine=engine, keeper=keeper, store=store, claimed=True, dirty=True
        )
        """What component_path.c knows of it."""
        self.at = ctypes.addressof(self.state)
        self._snapshot = plan.snapshot  # two threads may have taken one: component.c reads this one
        self._first_state: FirstState | None = None

    @property
    def store(self) -> int | None:
        """None once it is deleted."""
        store: int | None = self.state.store
        return store

    @property
    def dirty(self) -> bool:
        """Whether it is to be restored before it is used."""
        return bool(self.state.dirty)

    @property
    def is_free(self) -> bool:
        """Whether nobody uses it."""
        return not self.state.claimed

    def claim(self) -> bool:
        """Use it from now on. False if somebody else does. With the room's lock held."""
        native = self.plan.component.native
        if native is not None:
            return native.kept_claim(self.at)
        free, self.state.claimed = self.is_free, True
        return free

    def delete(self) -> None:
        """Delete it. It has been claimed by the caller."""
        store, self.state.store = self.state.store, None
        capi.store_delete(store)

    def discard(self) -> None:
        """Delete it, or have whoever uses it do so."""
        native = self.plan.component.native
        if native is not None:
            native.kept_discard(self.at)
        elif self.claim():
            self.delete()

    def restore(self) -> bool:
        """Bring it back. False if that cannot be done."""
        pages, snapshot, state = pages_of(os.getpid()), self._snapshot, self.state
        state.uses += 1
        if pages is None or snapshot is None or state.uses >= MAX_USES:
            return False
        native = self.plan.component.native
        state.dirty = not (self._put_back(snapshot, native) if native is not None
                           else self._put_back_from_python(snapshot, pages))  # fmt: skip
        return not state.dirty

    def _put_back(self, snapshot: Snapshot, native: NativeLibrary) -> bool:
        if self._first_state is None:
            self._first_state = self.cores.first_state(snapshot.places, snapshot.sizes, MAX_WRITTEN * PAGE)
            self.state.first = ctypes.addressof(self._first_state)
        pagemap = self.plan.component.engine.state.pagemap
        uses = self.state.uses
        trim = uses % TRIM_EACH == TRIM_AT
        self.state.plain_until = min(uses + 1 + (TRIM_AT - uses - 1) % TRIM_EACH, MAX_USES)
        return native.restore(ctypes.addressof(self._first_state), ctypes.addressof(pagemap), trim)

    def _put_back_from_python(self, snapshot: Snapshot, pages: Pages) -> bool:
        try:
            if not put_back(snapshot, self.cores, pages):
                return False
        except OSError:
            return False
        self.cores.reset_globals()
        return True

    def first_and_now(self) -> Iterator[tuple[int, tuple[int, int]]]:
        """Return for each memory where its first bytes are, where it is, and its size."""
        assert self._snapshot is not None, "it was not restored"
        return zip(self._snapshot.places, self.cores.ranges(), strict=True)


@dataclass(eq=False)
class _Room:
    """What the components of one engine share."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    kept: list[Kept] = field(default_factory=list)
    """The one that was used last comes last."""
    comparison: Comparison | None = None
    """One at a time: what is compared has its memory beside those that are kept."""


_rooms: WeakKeyDictionary[Engine, _Room] = WeakKeyDictionary()


class Keeper:
    """The instances that are kept of one component, under whatever policies."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._room = _rooms.setdefault(engine, _Room())
        self.closed = False
        self.snapshots = Snapshots()
        self.state = KeeperState()
        """What component_path.c counts, too."""

    @property
    def restored(self) -> int:
        """How many requests had an instance that was restored."""
        count: int = self.state.restored
        return count

    @property
    def faulty(self) -> bool:
        """Whether one was not as at first: then none is kept any more."""
        return bool(self.state.faulty)

    @property
    def kept(self) -> list[Kept]:
        return [each for each in self._room.kept if each.plan.component.keeper is self and each.store]

    def find(self, plan: ComponentPlan) -> Kept | None:
        """Find an instance for that plan that nobody uses, for component_path.c to claim, and leave it where it is."""
        with self._room.lock:
            return next((each for each in reversed(self._room.kept) if each.plan is plan and each.is_free), None)

    def hand_out(self, kept: Kept) -> None:
        """Take out an instance that component_path.c has claimed, for whoever goes on with it."""
        with self._room.lock:
            if kept in self._room.kept:
                self._room.kept.remove(kept)

    def take(self, plan: ComponentPlan) -> Kept | None:
        """Take an instance for that plan, as good as a fresh one."""
        while (found := self._pop(lambda each: each.plan is plan)) is not None:
            if not found.dirty or self._restore(found, idle=False):
                self.state.restored += 1
                return found
        return None

    def _restore(self, found: Kept, *, idle: bool) -> bool:
        """Bring an instance back. False if it is of no more use, and is deleted. ``idle``: no request waits for it."""
        begin = time.thread_time()
        done = found.restore()
        took = time.thread_time() - begin
        if took * 1e6 > FREE_US and asyncio._get_running_loop() is not None:
            found.plan.loop_time.add(took)  # the guest has chosen how much it writes
        if not done:
            found.delete()
            return False
        comparison = self._comparison_due(found, idle=idle)
        if comparison is not None:
            comparison.begin()
        return comparison is None

    def _comparison_due(self, found: Kept, *, idle: bool) -> Comparison | None:
        """Return the comparison of an instance with its first state if it is time for that.

        If a request waits for it, another one is compared, unless the loop has long had no time.
        """
        every = self._engine.state.check_every
        self.state.unchecked += 1
        if not every or self.state.unchecked < (every if idle else 2 * every):
            return None
        with self._room.lock:
            under_way = self._room.comparison
            if under_way is not None:
                if not under_way.is_abandoned:
                    return None
                under_way.drop()
            self.state.unchecked = 0
            made = self._room.comparison = Comparison(found, self._compared)
        return made

    def _compared(self, comparison: Comparison, fault: str | None) -> None:
        self._engine.restore_checks.note(comparison.kept.plan.component.label, fault)
        self._room.comparison = None
        if fault is not None:
            self.state.faulty = True
            self._delete_all()

    def _pop(self, fits: Callable[[Kept], bool]) -> Kept | None:
        kept = self._room.kept
        with self._room.lock:
            found = next((each for each in reversed(kept) if fits(each) and each.claim()), None)
            if found is not None:
                kept.remove(found)
            return found

    def offer(self, new: Kept) -> bool:
        """Keep an instance whose guest has ended well. False if it is left to the caller.

        If there is no room for it, one of the function under its policy that has the most goes: of those, the one that
        was not used for longest.
        """
        kept, oldest, now = self._room.kept, None, self._engine.state.asked
        with self._room.lock:
            kept[:] = [each for each in kept if each.store]  # component_path.c has deleted the others
            if self.closed or self.faulty or sum(each.plan is new.plan for each in kept) >= KEPT_OF_PLAN:
                return False
            if new.state.discarded:
                return False
            kept.append(new)
            new.state.used_at, new.state.claimed = now, False
            if len(kept) > KEPT:
                of_plan = Counter(each.plan for each in kept)
                most = max(of_plan.values())
                oldest = max((each for each in kept if of_plan[each.plan] == most),
                             key=lambda each: (now - each.state.used_at) & 0xFFFFFFFF)  # fmt: skip
                kept.remove(oldest)
        if oldest is not None:
            oldest.discard()
        return True

    def clean(self) -> None:
        """Restore what is not yet: on the event loop once the answer is out; in a thread, which has the time, now."""
        loop = asyncio._get_running_loop()
        if loop is not None:
            loop.call_soon(self._clean_next)
            return
        while self._clean_one():
            pass

    def _clean_next(self) -> None:
        """Restore one, and leave the others to the next rounds of the event loop."""
        if self._clean_one() and any(each.dirty for each in self.kept):
            asyncio.get_running_loop().call_soon(self._clean_next)

    def _clean_one(self) -> bool:
        """Restore one; False if there is none."""
        if self._engine.dead:
            return False
        found = self._pop(lambda each: each.dirty and each.plan.component.keeper is self)
        if found is None:
            return False
        if self._restore(found, idle=True) and not self.offer(found):
            found.delete()
        return True

    def close(self) -> None:
        """Free all, and keep no more."""
        self.closed = True
        self._delete_all()

    def _delete_all(self) -> None:
        comparison = None
        with self._room.lock:
            mine = self.kept
            self._room.kept[:] = [each for each in self._room.kept if each not in mine]
            if self._room.comparison is not None and self._room.comparison.kept.plan.component.keeper is self:
                comparison, self._room.comparison = self._room.comparison, None
        if comparison is not None:
            comparison.drop()
        for each in mine:
            if not self._engine.dead:  # in a forked child they are the parent's
                each.discard()
