"""Rolls canaries out: counts, reads what all workers counted, and decides where it holds the lease."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ..capabilities.errors import CapabilityError, Code
from ..exceptions import ConfigError
from .backends import open_store
from .coordinator import Coordinator
from .gates import Gate
from .manual import ManualControl
from .record import Record, begin, end, first_percent, rebuild
from .state import CanaryState
from .status import Status
from .store import Batch, Reading, Store
from .traffic_split import TrafficSplit

if TYPE_CHECKING:
    from ..config.router import EdgeRouterConfig

logger = logging.getLogger("starlette_wasm")

_TICKS = 30
"""Looks at the store in the time of one step, within the bounds."""
_LEAST_TICK, _MOST_TICK = 0.05, 5.0
_CLOSING_SECONDS = 2.0
_START_SECONDS = 2.0
"""What a start waits for a store."""
_LOOK_SECONDS = 10.0
"""What one look at one canary may take."""
_CLOCK_SECONDS = 5.0
"""How far clocks may differ."""
_LEAST_LOOK = 1.0
"""Seconds that a look waits for what is slow, at least, before the next one may begin."""


class Digested(Protocol):
    """A loaded function."""

    @property
    def digest(self) -> str: ...


class Weighted(Protocol):
    """A router whose weights can be changed."""

    def reweigh(self, shares: TrafficSplit, functions: Set[str]) -> None: ...


class Deployment(Protocol):
    """The part of the runtime's deployment that canaries use."""

    @property
    def config(self) -> EdgeRouterConfig: ...

    @property
    def functions(self) -> Mapping[tuple[str, str], Digested]: ...

    @property
    def router(self) -> Weighted: ...


class Canaries:
    """The canaries of one runtime. One task; none if the config has no canary."""

    def __init__(
        self,
        weighed: Callable[[str, str, float], None],
        healthy: Callable[[str, str], bool | None] = lambda function, version: None,
    ) -> None:
        """Tell ``weighed`` each new share (function, canary's version, per cent); ask ``healthy`` about the probes."""
        self._weighed = weighed
        self._healthy = healthy
        self._deployment: Deployment | None = None
        self._live: dict[str, CanaryState] = {}
        self._coordinator = Coordinator()
        self._store: Store | None = None
        self._url = ""
        self._worker = ""
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._opened = False
        self._opening: asyncio.Task[Store] | None = None
        self._looks: dict[str, asyncio.Task[None]] = {}
        """The looks under way, by function: one at a time, and none waits for another's."""
        self._inherited: list[Store] = []

    async def open(self, deployment: Deployment, url: str) -> None:
        """Take up the rollouts where they are. Raises ConfigError for a store that cannot be opened.

        With an empty ``url`` canaries are checked and get nothing: who only looks at a config must not begin one.
        """
        if self._opened:  # by another start of the runtime, at the same time
            return
        self._opened = True
        self._url = url
        self._worker = f"{platform.node()}/{os.getpid()}/{os.urandom(4).hex()}"
        self.attach(deployment, run=False)
        if self._live and url:
            until = time.monotonic() + _START_SECONDS
            await self._look_at_all(_START_SECONDS)
            if self._looks and time.monotonic() >= until:
                self._noted_slow()
            self._run()

    def attach(self, deployment: Deployment, *, run: bool = True) -> None:
        """Serve another deployment from now on; rollouts that its config still has go on. On the event loop."""
        live: dict[str, CanaryState] = {}
        for config in deployment.config.canaries:
            known = self._live.get(config.function_name)
            digest = deployment.functions[config.function_name, config.canary_version].digest
            if known is not None and known.versions == (config.stable_version, config.canary_version):
                known.configure(config)
                known.load(digest)
                live[config.function_name] = known
            else:
                live[config.function_name] = CanaryState(config, digest)
        for function, known in self._live.items():
            if function not in live or live[function] is not known:
                self._weighed(function, known.config.canary_version, 0)
        self._deployment, self._live = deployment, live
        self._apply(live.keys())
        if run and live and self._url:
            self._run()

    async def close(self) -> None:
        """Tell what was counted, and give the leases back."""
        self._opened = False
        task, self._task = self._task, None
        if task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop():
            self._stop.set()  # rather than cancelled: a tick that is half done goes on to its end
            await asyncio.wait([task], timeout=_CLOSING_SECONDS)
            task.cancel()
        await self._end_looks()
        await self._coordinator.close()
        store, self._store = self._store, None
        if store is not None:
            try:
                async with asyncio.timeout(_CLOSING_SECONDS):
                    await asyncio.gather(*(self._leave(store, *each) for each in self._live.items()))
            except (CapabilityError, TimeoutError) as error:
                logger.warning("canaries: the last counts are not told: %s", error)
            await store.close()
        self._live, self._deployment = {}, None

    def forget(self) -> None:
        """In a forked child: nothing is open, and what the parent has open is left alone. Gates stay."""
        if self._store is not None:
            self._inherited.append(self._store)
        self._opened = False
        self._store = self._task = self._deployment = self._opening = None
        self._looks = {}
        self._live = {}

    def version(self, function: str) -> str | None:
        """The version for who names none, if there is a canary: stable, or the canary once it is promoted."""
        live = self._live.get(function)
        return None if live is None else live.serving

    def gate(self, function: str, gate: Gate) -> None:
        """Ask ``gate`` before each step of the function's canary, the first included; it holds unless that is true.

        To be called in each process, before the runtime starts: any of them may be the one that decides.
        """
        self._coordinator.add_gate(function, gate)

    async def start(self, function: str) -> Record:
        """Start a rollout that is over, or was superseded, from its first step."""
        return await self._hands(function).start()

    async def pause(self, function: str) -> Record:
        """Leave the canary at its share; it is still rolled back by itself."""
        return await self._hands(function).pause()

    async def resume(self, function: str) -> Record:
        """Go on after a pause, with a new observation of the step."""
        return await self._hands(function).resume()

    async def promote(self, function: str, *, full: bool = False) -> Record:
        """Take the next step at once; with ``full``, all of them."""
        return await self._hands(function).promote(full=full)

    async def abort(self, function: str) -> Record:
        """Take all traffic from the canary."""
        return await self._hands(function).abort()

    @property
    def all(self) -> dict[str, CanaryState]:
        """The canaries by function, as of the last look at the store."""
        return self._live

    @property
    def notes(self) -> list[str]:
        """What the operator should know, such as a store that cannot be reached."""
        return [f"canary of {function}: {live.note}" for function, live in self._live.items() if live.note]

    def _hands(self, function: str) -> ManualControl:
        """Raises ConfigError where the function has no canary."""
        live = self._live.get(function)
        if live is None or self._store is None:
            raise ConfigError(f"{function!r} has no canary", key="canaries", hint="add one to the config")
        return ManualControl(self._store, live.config, gated=self._coordinator.is_gated(live))

    def _run(self) -> None:
        if self._task is None or self._task.done():
            self._stop = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._ticks(), name="starlette-wasm canaries")

    async def _ticks(self) -> None:
        stop, task = self._stop, asyncio.current_task()
        # Redis' client was seen to swallow a cancellation, such as that of a loop that shuts down.
        while self._live and task is not None and not task.cancelling():
            with suppress(TimeoutError):
                # Not all workers at the same moment.
                async with asyncio.timeout(self._interval() * random.uniform(0.8, 1.2)):
                    await stop.wait()
            if stop.is_set():
                return
            try:
                await self._look_at_all(max(self._interval(), _LEAST_LOOK))
            except ConfigError as error:
                for live in self._live.values():
                    self._noted(live, error.public, detail=str(error))
            except Exception:
                logger.exception("canaries: the weights stay as they are")

    def _interval(self) -> float:
        least = min((live.config.step_seconds for live in self._live.values()), default=0.0)
        return min(max(least / _TICKS, _LEAST_TICK), _MOST_TICK)

    async def _look_at_all(self, seconds: float) -> None:
        """Look at all canaries side by side, and wait that long at most. Raises ConfigError."""
        until = time.monotonic() + seconds
        store = self._store or await self._open_store(seconds)
        if store is None:
            return
        loop = asyncio.get_running_loop()
        for function, live in self._live.items():
            if function not in self._looks:
                self._looks[function] = loop.create_task(self._look(store, function, live))
        if not self._looks:
            return
        await asyncio.wait(self._looks.values(), timeout=max(0.0, until - time.monotonic()))
        for function, task in list(self._looks.items()):
            if task.done():
                del self._looks[function]

    async def _open_store(self, seconds: float) -> Store | None:
        """Open the store; None if that goes on. Raises ConfigError."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(_opened(self._url))
        await asyncio.wait([self._opening], timeout=seconds)
        if not self._opening.done():
            self._all_away("the canary store does not answer")
            return None
        opening, self._opening = self._opening, None
        self._store = opening.result()
        return self._store

    def _noted_slow(self) -> None:
        """Say at the start which canaries are not known yet."""
        slow = ", ".join(sorted(self._looks))
        logger.warning("canaries: the store is slow, and the stable version serves until it answers for %s", slow)

    def _all_away(self, problem: str) -> None:
        for function, live in self._live.items():
            self._away(function, live, problem, None)

    async def _end_looks(self) -> None:
        opening, self._opening = self._opening, None
        looks, self._looks = list(self._looks.values()), {}
        if looks:
            await asyncio.wait(looks, timeout=_CLOSING_SECONDS)
        for task in looks:
            task.cancel()
        if opening is not None:
            opening.cancel()

    async def _leave(self, store: Store, function: str, live: CanaryState) -> None:
        await self._flush(store, function, live)
        await store.release(function, self._worker)

    async def _look(self, store: Store, function: str, live: CanaryState) -> None:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._tick_one(store, function, live)
        except (CapabilityError, TimeoutError) as error:
            message = error.message if isinstance(error, CapabilityError) else "the canary store does not answer"
            self._away(function, live, message, error.detail if isinstance(error, CapabilityError) else None)
        except Exception as error:
            logger.exception("canary of %s: the weights stay as they are", function)
            self._noted(live, f"the weights stay as they are: {type(error).__name__}")

    def _away(self, function: str, live: CanaryState, message: str, detail: str | None) -> None:
        """Go on without the store: what fails before this worker's own eyes is rolled back here."""
        if self._live.get(function) is not live:
            return
        live.away = message
        note = f"{message}, and the weights stay as they are unless v{live.versions[1]} fails"
        self._noted(live, note, detail=detail)
        if live.judge_alone():
            assert live.alone is not None
            self._apply({function})
            logger.warning("canary of %s: %s at this worker: %s", function, live.alone.status, live.alone.reason)

    def unavailable(self, live: CanaryState) -> str | None:
        """Say why the figures of a canary are not today's, if so."""
        if live.away is not None:
            return live.away
        if live.record is None:
            return "the canary store was not read yet"
        age = time.monotonic() - live.seen_at
        return f"the last look was {age:.0f} s ago" if age > 2 * self._interval() + _LEAST_LOOK else None

    def _noted(self, live: CanaryState, note: str | None, *, detail: str | None = None) -> None:
        """Keep ``note`` for the endpoints, which anybody may read; ``detail`` may hold values, and is logged alone."""
        if note != live.note:
            if note is not None:
                cause = f": {detail}" if detail else ""
                logger.warning("canary of %s: %s%s", live.config.function_name, note, cause)
            elif live.note is not None:
                logger.info("canary of %s: as it should be again", live.config.function_name)
        live.note = note

    async def _flush(self, store: Store, function: str, live: CanaryState) -> None:
        async def send(batch: Batch) -> None:
            await store.add(function, self._worker, batch)
            live.sent(batch)

        await asyncio.gather(*(send(batch) for batch in live.batches()))

    async def _tick_one(self, store: Store, function: str, live: CanaryState, tries: int = 10) -> None:
        await self._flush(store, function, live)
        reading = await store.read(function)
        record = None if reading.record is None else Record.load(reading.record)
        wanted = self._wanted(live, record, reading.now)
        if wanted is not None:
            if not await store.swap(function, reading.revision, wanted.dump(), wanted.epoch):
                if tries == 1:
                    raise CapabilityError(Code.UNAVAILABLE, "the record is never taken by the canary store")
                await self._tick_one(store, function, live, tries - 1)  # another worker was first
                return
            reading = replace(reading, revision=reading.revision + 1)
            record = wanted
        assert record is not None
        if self._live.get(function) is not live:  # another deployment came meanwhile
            return
        self._see(function, live, reading, record)
        superseded = live.mine is None
        stable, canary = (self._healthy(function, version) for version in live.versions)
        live.judge_probes(canary is False and stable is not False)
        self._noted(live, _superseded_by(record, live) if superseded else live.trouble(record, reading.now))
        if record.runs and not superseded:
            seconds = max(5 * self._interval(), 1.0)
            token = await store.lease(function, self._worker, seconds)
            written = None if token is None else await self._coordinator.decide(store, live, reading, token)
            if written is not None:
                self._see(function, live, *written)

    def _wanted(self, live: CanaryState, record: Record | None, now: float) -> Record | None:
        """The record that is to be written whoever decides: the first one, or that of a newer canary."""
        if record is None:
            # A store that lost its data gets it back from any worker that knows.
            first = begin(live.config, now, None, self._first(live), "started")
            return live.mine or replace(first, digest=live.digest)
        if record.versions == live.versions:
            alone = live.alone
            if alone is not None and record.runs and record.started == alone.started:
                return end(record, Status.ROLLED_BACK, now, alone.reason)
            return self._rebuilt(live, record, now)
        if live.versions in record.past:
            return None
        newer = begin(live.config, now, record, self._first(live), f"takes the place of v{record.canary}")
        return replace(newer, digest=live.digest)

    def _rebuilt(self, live: CanaryState, record: Record, now: float) -> Record | None:
        """What is to be written of the module, if anything: what is known of another says nothing of this one."""
        if not record.runs:
            return None
        if record.since > now + _CLOCK_SECONDS:  # the clock was ahead when that was written
            return replace(record, since=now, changed=min(record.changed, now))
        if not record.digest:  # such as of a rollout that was started from a shell
            return replace(record, digest=live.digest)
        if record.digest == live.digest:
            live.newer = False
            return None
        if live.digest in record.replaced and not live.newer:  # an old replica
            return None
        return rebuild(live.config, now, record, self._first(live), live.digest)

    def _first(self, live: CanaryState) -> int:
        return first_percent(live.config, gated=self._coordinator.is_gated(live))

    def _see(self, function: str, live: CanaryState, reading: Reading, record: Record) -> None:
        before = live.record
        if live.see(reading, record, reading.revision):
            self._apply({function})
        if before is None or (before.percent, before.status) != (record.percent, record.status):
            stable, canary = record.versions
            logger.log(
                logging.WARNING if record.status is Status.ROLLED_BACK else logging.INFO,
                "canary of %s, v%s over v%s: %s at %d %%: %s",
                *(function, canary, stable, record.status, record.percent, record.reason),
            )

    def _apply(self, functions: Set[str]) -> None:
        """Give the router the shares of today."""
        functions = functions & self._live.keys()
        if self._deployment is None or not functions:
            return
        parts = {function: live.part() for function, live in self._live.items()}
        self._deployment.router.reweigh(TrafficSplit(parts), functions)
        for function in functions:
            self._weighed(function, parts[function].canary, parts[function].percent)


async def _opened(url: str) -> Store:
    store = open_store(url)
    await store.open()
    return store


def _superseded_by(record: Record, live: CanaryState) -> str:
    if record.versions == live.versions:
        return f"another module has taken the place of this one as v{record.canary}"
    return f"v{record.canary} has taken the place of v{live.config.canary_version}"
