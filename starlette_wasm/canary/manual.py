"""What an operator does to a canary, from within the app or from another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..config.router import CanaryConfig
from ..exceptions import CanaryConflict, ConfigError
from .place import Place
from .record import Record, advance, begin, end, first_percent, promote
from .status import Status
from .store import Reading, Store
from .window import Window

_ATTEMPTS = 20


class ManualControl:
    """Changes the record of one canary, which the workers see at their next look.

    All raise CanaryConflict for what cannot be done in its state, and CapabilityError.
    """

    def __init__(
        self,
        store: Store,
        config: CanaryConfig,
        *,
        gated: bool | None = None,
        place: Place | None = None,
        expected: Mapping[str, object] | None = None,
    ) -> None:
        """Take ``expected``, the ``status`` and ``weight`` without which nothing is changed.

        Raise ConfigError in a region that is none of its waves.
        """
        place = place or Place()
        if config.waves and place.region not in config.waves:
            raise ConfigError(
                f"{config.function_name!r} has no canary in the region {place.region!r}",
                key="waves",
                hint=f"do it in one of {', '.join(config.waves)}; STARLETTE_WASM_REGION names this one",
            )
        self._key = place.record(config)
        self._expected = expected or {}
        self._waits = config.before(place.region) is not None
        self._store = store
        self._config = config
        self._gated = bool(config.hooks) if gated is None else gated

    async def start(self) -> Record:
        """Start a new rollout from the first step, also of what was rolled back or superseded."""
        first = first_percent(self._config, gated=self._gated)

        def change(record: Record | None, reading: Reading) -> Record:
            if record is not None and record.runs and self._is_mine(record):
                raise self._refused(record, "it runs already")
            started = begin(self._config, reading.now, record, first, "started by hand", waits=self._waits)
            if self._config.waves:  # the other regions that have not promoted it begin anew, too
                started = replace(started, turn=1 if record is None else record.turn + 1)
            # Any module may be the first to take it up, also one that was replaced. Replicas that have an old one
            # must not take it from a newer one again.
            return (
                started if record is None or not self._is_mine(record) else replace(started, replaced=record.replaced)
            )

        return await self._change(change)

    async def pause(self) -> Record:
        def change(record: Record | None, reading: Reading) -> Record:
            record = self._running(record)
            return replace(record, status=Status.PAUSED, changed=reading.now, reason="paused by hand")

        return await self._change(change)

    async def resume(self) -> Record:
        def change(record: Record | None, reading: Reading) -> Record:
            record = self._running(record)
            if record.status is not Status.PAUSED:
                raise self._refused(record, "it is not paused")
            status = Status.WAITING if self._waits and not record.percent else Status.RUNNING
            return replace(record, status=status, changed=reading.now, reason="resumed by hand")

        return await self._change(change)

    async def promote(self, *, full: bool = False) -> Record:
        """Take the next step, whatever the verdict; with ``full`` all of them."""

        def change(record: Record | None, reading: Reading) -> Record:
            record = replace(self._running(record), status=Status.RUNNING)
            stable = Window.of(reading.counts.get((record.epoch, record.stable), {}))
            move = promote if full else advance
            return move(record, self._config, reading.now, stable, "promoted by hand")

        return await self._change(change)

    async def abort(self) -> Record:
        """Go back to stable, also from what was promoted."""

        def change(record: Record | None, reading: Reading) -> Record:
            if record is None or not self._is_mine(record) or not (record.runs or record.status is Status.PROMOTED):
                raise self._refused(record, "it does not run")
            return end(record, Status.ABORTED, reading.now, "aborted by hand")

        return await self._change(change)

    async def _change(self, change: Callable[[Record | None, Reading], Record]) -> Record:
        function = self._config.function_name
        for _ in range(_ATTEMPTS):
            reading = await self._store.read(self._key)
            before = None if reading.record is None else Record.load(reading.record)
            self._check_expected(before)  # of the record that is swapped, so that nothing moves in between
            record = change(before, reading)
            if await self._store.swap(self._key, reading.revision, record.dump(), record.epoch):
                return record
        raise CanaryConflict(function, "its state changes all the time", "try again")

    def _check_expected(self, record: Record | None) -> None:
        """Raise CanaryConflict if the canary has moved since the caller looked."""
        mine = record if record is not None and self._is_mine(record) else None
        now = {"status": None if mine is None else mine.status.value, "weight": 0 if mine is None else mine.percent}
        if any(now.get(key) != value for key, value in self._expected.items()):
            problem = f"the canary has moved: it is {now['status']} at {now['weight']} %"
            raise CanaryConflict(self._config.function_name, problem, "look at it again")

    def _running(self, record: Record | None) -> Record:
        if record is None or not record.runs or not self._is_mine(record):
            raise self._refused(record, "it does not run")
        return record

    def _is_mine(self, record: Record) -> bool:
        return record.versions == (self._config.stable_version, self._config.canary_version)

    def _refused(self, record: Record | None, problem: str) -> CanaryConflict:
        if record is None:
            return CanaryConflict(
                self._config.function_name, "it has not begun", "start the app, or the canary by hand"
            )
        if not self._is_mine(record):
            problem = f"v{record.canary} over v{record.stable} has taken its place"
        hint = "see its status" if record.runs else "start it first"
        return CanaryConflict(self._config.function_name, f"{problem}: it is {record.status}", hint)
