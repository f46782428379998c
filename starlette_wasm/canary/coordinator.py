"""Decides on a canary, for the worker that holds its lease."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from .gates import GATE_SECONDS, Gate, Step, ask
from .record import Record, Status, follow, next_percent
from .report import line
from .state import Live
from .store import Reading, Store
from .verdict import Action

logger = logging.getLogger("starlette_wasm")


class Coordinator:
    """Turns verdicts into records, asks the gates before each step, and says in the log what it sees."""

    def __init__(self) -> None:
        self._gates: dict[str, list[Gate]] = {}
        self._next_lines: dict[str, float] = {}

    def add_gate(self, function: str, gate: Gate) -> None:
        self._gates.setdefault(function, []).append(gate)

    def is_gated(self, live: Live) -> bool:
        return bool(live.config.hooks or self._gates.get(live.config.function_name))

    def gate_seconds(self, live: Live) -> float:
        """What the gates may take, all together."""
        hooks = sum(hook.timeout_ms / 1000 for hook in live.config.hooks)
        return hooks + GATE_SECONDS * len(self._gates.get(live.config.function_name, ()))

    async def decide(self, store: Store, live: Live, reading: Reading, token: int) -> tuple[Reading, Record] | None:
        """What became of the record, where that was written; the lease has ``token``."""
        verdict, record, config = live.verdict, live.record, live.config
        assert verdict is not None
        assert record is not None
        self._report(live, verdict.reason)
        held_by = "paused" if record.status is Status.PAUSED else None
        if verdict.action is Action.ADVANCE and held_by is None:
            held_by = await self._held_by(live, record)
        live.held_by = held_by
        decided = follow(record, config, verdict, reading.now, live.stable, held=held_by is not None)
        if decided == record:
            return None
        if not await store.swap(config.function_name, reading.revision, decided.dump(), decided.epoch, token):
            return None
        if (decided.status, decided.percent) != (record.status, record.percent):
            self._report(live, decided.reason, at_once=True)
        return replace(reading, revision=reading.revision + 1), decided

    async def _held_by(self, live: Live, record: Record) -> str | None:
        """What keeps a step that is due; None where it may be taken."""
        config = live.config
        if (record.percent or config.shadow) and not config.auto_promote:
            return "waits for a hand (autoPromote is false)"
        following = next_percent(config, record.percent)
        if following is None:
            return None
        step = Step(config.function_name, *live.versions, record.percent, following)
        problem = await ask(step, config.hooks, self._gates.get(config.function_name, ()))
        if problem is not None and problem != live.held_by:
            logger.warning("canary of %s: held at %d %%: %s", config.function_name, record.percent, problem)
        return problem

    def _report(self, live: Live, reason: str, *, at_once: bool = False) -> None:
        function, now = live.config.function_name, time.monotonic()
        if live.canary.samples and (at_once or now >= self._next_lines.get(function, 0)):
            self._next_lines[function] = now + max(live.config.step_seconds / 10, 1)
            logger.info("canary of %s: %s (%s)", function, line(live.stable, live.canary), reason)
