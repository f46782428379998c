"""``WeightShifts``: weights that an operator changes for a while, in this process."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..canary.traffic_split import Part, TrafficSplit
from ..exceptions import CanaryConflict, FunctionNotFound

if TYPE_CHECKING:
    from .runtime import WasmRuntime

logger = logging.getLogger("starlette_wasm")


@dataclass(slots=True)
class _Shift:
    part: Part
    timer: asyncio.TimerHandle


class WeightShifts:
    """Belongs to one runtime. The rules have their own weights again when the time is over; a reload keeps a shift."""

    def __init__(self, runtime: WasmRuntime) -> None:
        self._runtime = runtime
        self._shifts: dict[str, _Shift] = {}

    def start(self, function: str, source: str, to: str, percent: int, seconds: float) -> None:
        """Give ``to`` that many per cent of what rules give the versions ``source`` and ``to``, for a while.

        Raises FunctionNotFound, and CanaryConflict if a canary of the function runs.
        """
        deployment = self._runtime.deployment
        for version in (source, to):
            if (function, version) not in deployment.functions:
                known = [known for name, known in deployment.functions if name == function]
                raise FunctionNotFound(function, version, known=known)
        live = self._runtime.canaries.all.get(function)
        if live is not None and (live.record is None or live.record.runs):
            raise CanaryConflict(function, "its canary has a say in the weights", "abort or promote it first")
        self.end(function)
        timer = asyncio.get_running_loop().call_later(seconds, self.end, function)
        self._shifts[function] = _Shift(Part(source, to, percent), timer)
        self.apply({function})
        logger.info("%s: v%s gets %d %% of v%s for %g s", function, to, percent, source, seconds)

    def end(self, function: str) -> None:
        """Give the rules of a function their own weights again."""
        shift = self._shifts.pop(function, None)
        if shift is not None:
            shift.timer.cancel()
            self.apply({function})
            logger.info("%s: the rules have their own weights again", function)

    def close(self) -> None:
        """Forget all of them."""
        for shift in self._shifts.values():
            shift.timer.cancel()
        self._shifts.clear()

    def apply(self, functions: set[str] | None = None) -> None:
        """Tell the router, after a change or for a new deployment."""
        changed = set(self._shifts) if functions is None else functions
        if changed and self._runtime.router is not None:
            parts = {name: live.part() for name, live in self._runtime.canaries.all.items()}
            parts |= {name: shift.part for name, shift in self._shifts.items()}
            self._runtime.router.reweigh(TrafficSplit(parts), changed)

    @property
    def all(self) -> dict[str, Part]:
        """The shifts in force, by function."""
        return {name: shift.part for name, shift in self._shifts.items()}
