"""Decides on a canary, for the worker that holds its lease."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from .gates import Gate, Step, check_gates
from .record import Record, follow, next_percent
from .report import line
from .state import CanaryState
from .status import Status
from .store import Reading, Store
from .verdict import Action

logger = logging.getLogger("starlette_wasm")


_ASKED = "the gates are being asked"
_SEEN_SECONDS = 1.0
"""How often, at most, a record is written only for the time of the last look."""


class Coordinator:
    """Turns verdicts into records, asks the gates before each step, and logs what it sees."""

    def __init__(self) -> None:
        self._gates: dict[str, list[Gate]] = {}
        self._next_lines: dict[str, float] = {}
        self._asked: dict[str, tuple[int, asyncio.Task[str | None]]] = {}
        """What the gates of a function are asked, or have answered since the last look, and for which epoch."""

    async def close(self) -> None:
        """Ask no more."""
        asked, self._asked = self._asked, {}
        for _, task in asked.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in asked.values()), return_exceptions=True)

    def add_gate(self, function: str, gate: Gate) -> None:
        self._gates.setdefault(function, []).append(gate)

    def is_gated(self, live: CanaryState) -> bool:
        return bool(live.config.hooks or self._gates.get(live.config.function_name))

    async def decide(
        self, store: Store, live: CanaryState, reading: Reading, token: int
    ) -> tuple[Reading, Record] | None:
        """Decide what becomes of the record, and return it if it was written; the lease has ``token``."""
        verdict, record, config = live.verdict, live.record, live.config
        assert verdict is not None
        assert record is not None
        self._report(live, verdict.reason)
        held_by = "paused" if record.status is Status.PAUSED else None
        if verdict.action is Action.ADVANCE and record.runs and held_by is None:
            held_by = self._held_by(live, record)
        else:
            self._forget(config.function_name)  # a yes of then does not hold the next time
        live.held_by = held_by
        decided = follow(record, config, verdict, reading.now, live.stable, held=held_by is not None)
        if decided == record and abs(reading.now - record.seen) < _SEEN_SECONDS:
            return None
        decided = replace(decided, seen=reading.now)
        if not await store.swap(live.key, reading.revision, decided.dump(), decided.epoch, token):
            return None
        if (decided.status, decided.percent) != (record.status, record.percent):
            self._report(live, decided.reason, at_once=True)
        return replace(reading, revision=reading.revision + 1), decided

    def _forget(self, function: str) -> None:
        asked = self._asked.pop(function, None)
        if asked is not None:
            asked[1].cancel()

    def _held_by(self, live: CanaryState, record: Record) -> str | None:
        """Return what keeps a step that is due; None if it may be taken."""
        config = live.config
        if record.status is Status.WAITING:
            return live.waits_for(record) or "begins at the next look"
        if (record.percent or config.shadow) and not config.auto_promote:
            return "waits for a hand (autoPromote is false)"
        following = next_percent(config, record.percent)
        if following is None:
            return None
        step = Step(config.function_name, *live.versions, record.percent, following)
        if not self.is_gated(live):
            return None
        problem = self._answer(live, record.epoch, step)
        if problem not in (None, _ASKED, live.held_by):
            logger.warning("canary of %s: held at %d %%: %s", config.function_name, record.percent, problem)
        return problem

    def _answer(self, live: CanaryState, epoch: int, step: Step) -> str | None:
        """Return the gates' answers to a step; nothing waits for them: a look asks, and a later one has the answer."""
        function = step.function
        asked = self._asked.get(function)
        if asked is not None and asked[0] != epoch:
            self._forget(function)
            asked = None
        if asked is None:
            gates = list(self._gates.get(function, ()))
            asked = epoch, asyncio.get_running_loop().create_task(check_gates(step, list(live.config.hooks), gates))
            self._asked[function] = asked
        if not asked[1].done():
            return live.held_by or _ASKED
        del self._asked[function]
        return asked[1].result()

    def _report(self, live: CanaryState, reason: str, *, at_once: bool = False) -> None:
        function, now = live.config.function_name, time.monotonic()
        if live.canary.samples and (at_once or now >= self._next_lines.get(function, 0)):
            self._next_lines[function] = now + max(live.config.step_seconds / 10, 1)
            logger.info("canary of %s: %s (%s)", function, line(live.stable, live.canary), reason)
