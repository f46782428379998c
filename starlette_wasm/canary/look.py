"""One look of a worker at one canary: flushes the counts, reads the record, and decides under the lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from ..capabilities.errors import CapabilityError, Code
from .announcement import announce
from .board import follow_board, note_on
from .coordinator import Coordinator
from .record import Record, first_percent
from .served import Surroundings
from .state import CanaryState
from .status import Status
from .store import Batch, Reading, Store
from .succession import succeed, superseded_by
from .waves import Waves

logger = logging.getLogger("starlette_wasm")

_LOOK_SECONDS = 10.0
"""What one look may take."""
_LATE_SECONDS = 2.0
"""Added to twice the interval: for a longer gap between two looks, the time counts as not observed."""
_ATTEMPTS = 10
"""How often a record is written anew because another worker was first."""


class Looker:
    """Looks at canaries for one worker, and calls ``changed`` with each function whose traffic split changed."""

    def __init__(
        self,
        coordinator: Coordinator,
        current: Callable[[CanaryState], bool],
        surroundings: Surroundings,
        waves: Waves,
        changed: Callable[[str], None],
    ) -> None:
        """Take ``current``, which gives whether a state is still that of what is served."""
        self.worker = ""
        self.interval = 0.0
        self._coordinator = coordinator
        self._current = current
        self._surroundings = surroundings
        self._waves = waves
        self._changed = changed

    async def look(self, store: Store, live: CanaryState) -> None:
        """Look at one canary once. Raises nothing: errors are noted, and the weights stay as they are."""
        if not live.takes_part:
            self.note(live, f"the region {live.place.region!r} is not one of its waves: v{live.versions[0]} serves")
            return
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._look(store, live)
        except CapabilityError as error:
            self.store_failed(live, error.message, error.detail)
        except TimeoutError:
            self.store_failed(live, "the canary store does not answer")
        except Exception as error:
            logger.exception("canary of %s: the weights stay as they are", live.config.function_name)
            self.note(live, f"the weights stay as they are: {type(error).__name__}")

    def store_failed(self, live: CanaryState, problem: str, detail: str | None = None) -> None:
        """Note that the store cannot be used; roll back here what fails by this worker's own counts."""
        if not self._current(live):
            return
        live.store_problem = problem
        note = f"{problem}, and the weights stay as they are unless v{live.versions[1]} fails"
        self.note(live, note, detail=detail)
        if live.judge_alone():
            assert live.alone is not None
            function = live.config.function_name
            self._changed(function)
            logger.warning("canary of %s: %s at this worker: %s", function, live.alone.status, live.alone.reason)

    def note(self, live: CanaryState, note: str | None, *, detail: str | None = None) -> None:
        """Keep ``note`` for the endpoints, which anybody may read; ``detail`` may hold values, and is logged alone."""
        if note != live.note:
            if note is not None:
                cause = f": {detail}" if detail else ""
                logger.warning("canary of %s: %s%s", live.config.function_name, note, cause)
            elif live.note is not None:
                logger.info("canary of %s: as it should be again", live.config.function_name)
        live.note = note

    async def leave(self, store: Store, live: CanaryState) -> None:
        """Tell the last counts, and give the lease back. Raises CapabilityError."""
        await self._flush(store, live)
        await store.release(live.key, self.worker)

    async def _flush(self, store: Store, live: CanaryState) -> None:
        async def send(batch: Batch) -> None:
            await store.add(live.key, self.worker, batch)
            live.sent(batch)

        await asyncio.gather(*(send(batch) for batch in live.batches()))

    async def _look(self, store: Store, live: CanaryState) -> None:
        for _ in range(_ATTEMPTS):
            await self._flush(store, live)
            found = await self._read(store, live)
            if found is not None:
                break
        else:
            raise CapabilityError(Code.UNAVAILABLE, "the record is never taken by the canary store")
        reading, record = found
        if not self._current(live):  # another deployment came meanwhile
            return
        self._see(live, reading, record)
        if live.mine is not None and live.config.waves:
            reading, record = await self._follow_waves(store, live, reading, record)
        superseded = live.mine is None
        stable, canary = (self._surroundings.healthy(live.config.function_name, version) for version in live.versions)
        live.judge_probes(canary is False and stable is not False)
        self.note(live, superseded_by(record, live) if superseded else _trouble(live, record, reading.now))
        if not superseded:
            self._measure(live, record, reading.now)
            if record.is_judged:
                reading = await self._decide(store, live, reading)
            await self._announce(store, live, reading)

    def _measure(self, live: CanaryState, record: Record, now: float) -> None:
        """Report to the metrics whether the canary is overdue, if that has changed."""
        overdue = live.is_overdue(record, now)
        if overdue is not live.overdue and (overdue or live.overdue or live.config.progress_deadline_seconds):
            self._surroundings.overdue(live.config.function_name, record.canary, overdue)
        live.overdue = overdue

    async def _announce(self, store: Store, live: CanaryState, reading: Reading) -> None:
        record = live.mine
        if record is None:
            return
        announced = await announce(store, live, reading, record)
        if announced is not None:
            live.record, event = announced
            live.revision = reading.revision + 1
            self._surroundings.emit(event)

    async def _read(self, store: Store, live: CanaryState) -> tuple[Reading, Record] | None:
        """Read the record, or write the one that takes its place; None if another worker wrote first."""
        reading = await store.read(live.key)
        record = None if reading.record is None else Record.load(reading.record)
        first = first_percent(live.config, gated=self._coordinator.is_gated(live))
        longest_gap = 2 * self.interval + _LATE_SECONDS
        successor = succeed(live, record, reading.now, first, longest_gap)
        if successor is None:
            assert record is not None
            return reading, record
        if not await store.swap(live.key, reading.revision, successor.dump(), successor.epoch):
            return None
        return replace(reading, revision=reading.revision + 1), successor

    async def _decide(self, store: Store, live: CanaryState, reading: Reading) -> Reading:
        """Decide, if this worker has the lease or gets it; gives what is known then."""
        token = await self._lease(store, live)
        written = None if token is None else await self._coordinator.decide(store, live, reading, token)
        if written is None:
            return reading
        self._see(live, *written)
        return written[0]

    async def _lease(self, store: Store, live: CanaryState) -> int | None:
        return await store.lease(live.key, self.worker, max(5 * self.interval, 1.0))

    async def _follow_waves(
        self, store: Store, live: CanaryState, reading: Reading, record: Record
    ) -> tuple[Reading, Record]:
        """Do what the other regions ask for, and let them know how this one stands; under the lease."""
        if not await self._waves.look(store, live):
            return reading, record
        region = live.place.region
        first = first_percent(live.config, gated=self._coordinator.is_gated(live))
        followed = record
        if live.board is not None:
            followed = follow_board(live.board, record, live.config, region, first, reading.now)
        if followed is record and note_on(live.board, record, region) is None:
            return reading, record
        token = await self._lease(store, live)
        if token is None:
            return reading, record
        if followed is not record:
            if not await store.swap(live.key, reading.revision, followed.dump(), followed.epoch, token):
                return reading, record
            reading = replace(reading, revision=reading.revision + 1)
            self._see(live, reading, followed)
        await self._waves.publish(store, live, followed)
        return reading, followed

    def _see(self, live: CanaryState, reading: Reading, record: Record) -> None:
        before = live.record
        if live.see(reading, record, reading.revision):
            self._changed(live.config.function_name)
        if before is None or (before.percent, before.status) != (record.percent, record.status):
            stable, canary = record.versions
            logger.log(
                logging.WARNING if record.status is Status.ROLLED_BACK else logging.INFO,
                "canary of %s, v%s over v%s: %s at %d %%: %s",
                *(live.config.function_name, canary, stable, record.status, record.percent, record.reason),
            )


def _trouble(live: CanaryState, record: Record, now: float) -> str | None:
    return live.trouble(record, now) or live.waves_problem
