"""What of an invocation of a component does not depend on the request: bounds and grants of one policy."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from ..engine import layout
from ..engine.loop_time import LoopTime
from ..engine.plan import NO_STRINGS, Limits, Plan, Preopen
from .module import ComponentModule
from .snapshot import Snapshot

FREE_US = 500
"""Microseconds of each invocation that are not counted as time of the event loop: one in a thread gives that about
200 us more to do, and the two wait for each other.
"""


class ComponentPlan(Plan):
    """A Plan for a component."""

    __slots__ = ("component", "config", "page_limits", "restores", "snapshot")

    def __init__(
        self,
        module: ComponentModule,
        limits: Limits,
        args: bytes = NO_STRINGS,
        preopens: tuple[Preopen, ...] = (),
        tenant: Hashable = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        """Take ``config``, what ``wasi:config`` gives."""
        super().__init__(module, limits, args, preopens, tenant)
        self.loop_time = LoopTime(self.memory, FREE_US)
        self.config = config or {}
        self.component = module
        self.bound = limits.memory_pages * layout.PAGE
        self.restores = module.restorable and limits.restore
        """Whether instances are brought back to their first state, and used again."""
        self.snapshot: Snapshot | None = None
        """The memories after instantiation, once an instance was made; None if none is restored."""
        self.page_limits = _share(module, limits.memory_pages)
        """How far each memory may grow, by the step that defines it: no more than the policy's bound together."""


def _share(module: ComponentModule, most: int) -> dict[int, int]:
    """Share what may be grown by: the largest memory gets seven eighths, the others divide the rest."""
    spare = max(most - module.min_pages, 0)
    main = max(module.memories, key=lambda each: each[1], default=(0, 0))[0]
    others = len(module.memories) - 1
    small = spare // 8 // others if others > 0 else 0
    return {
        step: pages + (spare - small * others if step == main else small) for step, pages in module.memories
    }  # what is left over goes to the largest
