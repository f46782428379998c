"""``Quick``: from an ASGI scope to the answer for ASGI in one call of quick.c, for guests that only compute.

It saves the objects in between, which cost more than the guest: a request and a response of ours, and their JSON in
Python. What is unusual about a request or a response goes the long way, which says what is right.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from . import capi, hot, layout
from .driver import HEAVY, Invocation
from .plan import Plan

Answer: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes, int, int]
"""Status, headers and body, as ASGI wants them; nanoseconds in the guest, pages of its memory once it has grown."""
_OFFSETS = 8
"""Where they begin in a block of layout.strings(), behind count and size."""
_ONE_AT_A_TIME = "t" not in sys.abiflags
"""quick.c relies on the GIL."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A guest that has begun, and has not ended well with an answer that is plain: for Invocation.run().

    ``with``: it is dropped at the end of the block, where nobody has run it.
    """

    invocation: Invocation
    request_id: str
    """What the guest was told."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.invocation.drop()


class Quick:
    """What of a request to one guest does not depend on the request, laid out for quick.c."""

    __slots__ = ("_ask", "_at", "_live", "_memory", "_module", "_most", "_plan", "_scratches", "_ticker")

    def __init__(self, plan: Plan, about: bytes, environ: tuple[bytes, ...]) -> None:
        """``about`` is the end of the message, from behind the region; ``environ`` what each guest gets of it."""
        assert hot.hot is not None
        assert fits(plan)
        module = plan.module
        block = layout.strings(list(environ))
        data = _OFFSETS + 4 * len(environ)
        self._plan = plan
        self._module = module
        self._live = module.live
        self._scratches = module.engine.scratches
        self._ticker = module.engine.ticker
        self._most = module.engine.config.max_instances
        self._ask = hot.hot.ask
        self._memory = hot.QuickMemory(
            plan.at,
            plan.tail,
            about,
            block[_OFFSETS:data],
            block[data:],
            *(len(plan.tail), len(about), len(environ), len(block) - data),
            module.engine.config.clock_resolution_ns,
            *(module.reads_environ, module.reads_clock, module.reads_random),
        )
        self._at = ctypes.addressof(self._memory)

    def ask(
        self, scope: Mapping[str, Any], path: str, params: dict[str, str], body: bytes, region: str
    ) -> Answer | Begun | None:
        """The answer of a guest that ends at once and well; or what is to be gone on with; or None: nothing was done.

        On the event loop. A client's ``x-request-id`` is taken over where it is well formed.
        """
        plan, ticker, live = self._plan, self._ticker, self._live
        if plan.heavy >= HEAVY or ticker.live >= self._most:
            return None
        try:
            scratch = self._scratches.pop()
        except IndexError:
            scratch = capi.Scratch()
        at = scratch.at
        ticker.live += 1
        live.add(at)
        begun = False
        try:
            if self._module.pre is None:  # looked at after that, as Module.close() does it the other way round
                return None
            ticker.touch()
            found = self._ask(at, self._at, scope, path, params, body, region)
            if found is not None and len(found) == 2:
                begun = True
                return Begun(Invocation.begun(plan, scratch, found[0]), found[1])
        finally:
            live.discard(at)
            if not begun:
                ticker.live -= 1
                self._scratches.append(scratch)
        if plan.heavy and found is not None:
            plan.heavy -= 1
        answer: Answer | None = found
        return answer


def fits(plan: Plan) -> bool:
    """Whether a guest only computes, so that nothing of it needs Python before it has ended."""
    module = plan.module
    ticks = module.engine.ticker.native  # one of Python would wait for the GIL that a busy guest holds
    return hot.hot is not None and _ONE_AT_A_TIME and ticks and not module.calls_host and not plan.preopens
