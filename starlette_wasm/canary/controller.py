"""``Canaries``: the canaries of one runtime, from start to close, and what an app may do with them.

Most apps have none. What looks at canaries and decides on them is imported with the first one: see load_canaries().
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import platform
import random
import time
from collections.abc import Mapping, Set
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from ..capabilities.errors import CapabilityError
from ..exceptions import ConfigError
from .place import Place
from .traffic_split import TrafficSplit

if TYPE_CHECKING:
    from .coordinator import Coordinator
    from .gates import Gate
    from .look import Looker
    from .manual import ManualControl
    from .record import Record
    from .served import Deployment, Surroundings
    from .state import CanaryState
    from .store import Store
    from .waves import Waves

logger = logging.getLogger("starlette_wasm")

Expected = Mapping[str, object] | None

_TICKS = 30
"""Looks at the store in the time of one step, within the bounds."""
_LEAST_TICK, _MOST_TICK = 0.05, 5.0
_CLOSING_SECONDS = 2.0
_START_SECONDS = 2.0
"""What a start waits for a store."""
_LEAST_LOOK = 1.0
"""Seconds that a look waits for what is slow, at least, before the next one may begin."""


_PARTS = ("backends", "coordinator", "look", "manual", "state", "waves")


def load_canaries() -> None:
    """Import what a config with canaries needs: in a thread, before the event loop is about to use it."""
    for part in _PARTS:
        importlib.import_module(f".{part}", __package__)


class Canaries:
    """The canaries of one runtime. One task; none if the config has no canary."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._weighed = surroundings.weighed
        self._deployment: Deployment | None = None
        self._live: dict[str, CanaryState] = {}
        self._place = Place()
        self._surroundings = surroundings
        self._looker: Looker | None = None
        """Made with the first canary after an open()."""
        self._waves: Waves | None = None
        self._store: Store | None = None
        self._url = self._waves_url = ""
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._opened = False
        self._opening: asyncio.Task[Store] | None = None
        self._looks: dict[str, asyncio.Task[None]] = {}
        """The looks under way, by function: one at a time, and none waits for another's."""
        self._inherited: list[Store] = []

    @cached_property
    def _coordinator(self) -> Coordinator:
        from .coordinator import Coordinator

        return Coordinator()

    def _begin_looking(self) -> None:
        """Make what looks at the canaries, after an open()."""
        from .look import Looker
        from .waves import Waves

        self._waves = Waves(self._place, "" if self._waves_url == self._url else self._waves_url)
        self._looker = Looker(self._coordinator, self._is_current, self._surroundings, self._waves, self._apply_one)
        self._looker.worker = f"{platform.node()}/{os.getpid()}/{os.urandom(4).hex()}"

    async def open(self, deployment: Deployment, url: str, place: Place | None = None, waves_url: str = "") -> None:
        """Take up the rollouts where they are. Raises ConfigError for a store that cannot be opened.

        With an empty ``url`` canaries are checked and get nothing: who only looks at a config must not begin one.
        """
        if self._opened:  # by another start of the runtime, at the same time
            return
        self._place = place or Place()
        _check_region(deployment, self._place if url else None)
        self._opened = True
        self._url, self._waves_url = url, waves_url
        self._looker = self._waves = None
        self.attach(deployment, run=False)
        if self._live and url:
            until = time.monotonic() + _START_SECONDS
            await self._look_at_all(_START_SECONDS)
            if self._looks and time.monotonic() >= until:
                self._noted_slow()
            self._run()

    def attach(self, deployment: Deployment, *, run: bool = True) -> None:
        """Serve another deployment from now on; rollouts that its config still has go on. On the event loop."""
        live = self._states(deployment) if deployment.config.canaries else {}
        for function, known in self._live.items():
            if function not in live or live[function] is not known:
                self._weighed(function, known.config.canary_version, 0)
        self._deployment, self._live = deployment, live
        self._apply(live.keys())
        if run and live and self._url:
            self._run()

    def _states(self, deployment: Deployment) -> dict[str, CanaryState]:
        """Return the state of each canary that a deployment has: as it is for those that go on."""
        from .state import CanaryState

        if self._looker is None:
            self._begin_looking()
        live: dict[str, CanaryState] = {}
        for config in deployment.config.canaries:
            known = self._live.get(config.function_name)
            digest = deployment.functions[config.function_name, config.canary_version].digest
            fresh = CanaryState(config, digest, self._place)
            if known is not None and (known.versions, known.key) == (fresh.versions, fresh.key):
                known.configure(config)
                known.load(digest)
                live[config.function_name] = known
            else:
                live[config.function_name] = fresh
        return live

    async def close(self) -> None:
        """Tell what was counted, and give the leases back."""
        self._opened = False
        task, self._task = self._task, None
        if task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop():
            self._stop.set()  # rather than cancelled: a tick that is half done goes on to its end
            await asyncio.wait([task], timeout=_CLOSING_SECONDS)
            task.cancel()
        await self._end_looks()
        if self._looker is not None:
            await self._coordinator.close()
            await self._leave(self._looker)
        if self._waves is not None:
            await self._waves.close()
        self._live, self._deployment = {}, None

    async def _leave(self, looker: Looker) -> None:
        store, self._store = self._store, None
        if store is None:
            return
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                await asyncio.gather(*(looker.leave(store, live) for live in self._live.values()))
        except (CapabilityError, TimeoutError) as error:
            logger.warning("canaries: the last counts are not told: %s", error)
        await store.close()

    def forget(self) -> None:
        """Forget what is open, in a forked child: it is the parent's, and left alone. Gates stay."""
        if self._store is not None:
            self._inherited.append(self._store)
        self._opened = False
        self._store = self._task = self._deployment = self._opening = None
        self._looks = {}
        self._live = {}

    def version(self, function: str) -> str | None:
        """Return the version for callers that name none, if there is a canary: stable, or the promoted one."""
        live = self._live.get(function)
        return None if live is None else live.serving

    def gate(self, function: str, gate: Gate) -> None:
        """Ask ``gate`` before each step of the function's canary, the first included; it holds unless that is true.

        To be called in each process, before the runtime starts: any of them may be the one that decides.
        """
        self._coordinator.add_gate(function, gate)

    async def start(self, function: str, *, expected: Expected = None) -> Record:
        """Start a rollout that is over, or was superseded, from its first step.

        With ``expected``, the ``status`` and ``weight`` that it must have, this and the like raise CanaryConflict if it
        has moved.
        """
        return await self._hands(function, expected).start()

    async def pause(self, function: str, *, expected: Expected = None) -> Record:
        """Leave the canary at its share; it is still rolled back by itself."""
        return await self._hands(function, expected).pause()

    async def resume(self, function: str, *, expected: Expected = None) -> Record:
        """Go on after a pause, with a new observation of the step."""
        return await self._hands(function, expected).resume()

    async def promote(self, function: str, *, full: bool = False, expected: Expected = None) -> Record:
        """Take the next step at once; with ``full``, all of them."""
        return await self._hands(function, expected).promote(full=full)

    async def abort(self, function: str, *, expected: Expected = None) -> Record:
        """Take all traffic from the canary."""
        return await self._hands(function, expected).abort()

    async def look(self, seconds: float = _LEAST_LOOK) -> None:
        """Read the store now, and wait that long at most: all else shows the last look."""
        if self._opened and self._live and self._url:
            await self._look_at_all(seconds)

    @property
    def all(self) -> dict[str, CanaryState]:
        """The canaries by function, as of the last look at the store."""
        return self._live

    @property
    def notes(self) -> list[str]:
        """What the operator should know, such as a store that cannot be reached."""
        return [f"canary of {function}: {live.note}" for function, live in self._live.items() if live.note]

    def _hands(self, function: str, expected: Expected) -> ManualControl:
        """Raise ConfigError if the function has no canary."""
        live = self._live.get(function)
        if live is None or self._store is None:
            raise ConfigError(f"{function!r} has no canary", key="canaries", hint="add one to the config")
        from .manual import ManualControl

        return ManualControl(
            self._store,
            live.config,
            gated=self._coordinator.is_gated(live),
            place=self._place,
            expected=expected,
        )

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
                self._note_everywhere(error.public, str(error))
            except Exception:
                logger.exception("canaries: the weights stay as they are")

    def _interval(self) -> float:
        least = min((live.config.step_seconds for live in self._live.values()), default=0.0)
        return min(max(least / _TICKS, _LEAST_TICK), _MOST_TICK)

    async def _look_at_all(self, seconds: float) -> None:
        """Look at all canaries side by side, and wait that long at most. Raises ConfigError."""
        until = time.monotonic() + seconds
        store, looker = self._store or await self._open_store(seconds), self._looker
        if store is None or looker is None:
            return
        looker.interval = self._interval()
        loop = asyncio.get_running_loop()
        for function, live in self._live.items():
            if function not in self._looks:
                self._looks[function] = loop.create_task(looker.look(store, live))
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
            self._all_stores_failed("the canary store does not answer")
            return None
        opening, self._opening = self._opening, None
        self._store = opening.result()
        return self._store

    def _noted_slow(self) -> None:
        """Say at the start which canaries are not known yet."""
        slow = ", ".join(sorted(self._looks))
        logger.warning("canaries: the store is slow, and the stable version serves until it answers for %s", slow)

    def _note_everywhere(self, note: str, detail: str) -> None:
        if self._looker is not None:
            for live in self._live.values():
                self._looker.note(live, note, detail=detail)

    def _all_stores_failed(self, problem: str) -> None:
        if self._looker is not None:
            for live in self._live.values():
                self._looker.store_failed(live, problem)

    def _is_current(self, live: CanaryState) -> bool:
        return self._live.get(live.config.function_name) is live

    async def _end_looks(self) -> None:
        opening, self._opening = self._opening, None
        looks, self._looks = list(self._looks.values()), {}
        if looks:
            await asyncio.wait(looks, timeout=_CLOSING_SECONDS)
        for task in looks:
            task.cancel()
        if opening is not None:
            opening.cancel()

    def unavailable(self, live: CanaryState) -> str | None:
        """Return why the figures of a canary are not today's, if so."""
        if live.store_problem is not None or not live.takes_part:
            return live.store_problem
        if live.record is None:
            return "the canary store was not read yet"
        age = time.monotonic() - live.seen_at
        return f"the last look was {age:.0f} s ago" if age > 2 * self._interval() + _LEAST_LOOK else None

    def _apply_one(self, function: str) -> None:
        self._apply({function})

    def _apply(self, functions: Set[str]) -> None:
        """Give the router the shares of today."""
        functions = functions & self._live.keys()
        if self._deployment is None or not functions:
            return
        parts = {function: live.part() for function, live in self._live.items()}
        self._deployment.router.reweigh(TrafficSplit(parts), functions)
        for function in functions:
            self._weighed(function, parts[function].canary, parts[function].percent)


def _check_region(deployment: Deployment, place: Place | None) -> None:
    """Raise ConfigError for waves in a runtime that has no region: it could take no part in any."""
    for index, config in enumerate(deployment.config.canaries):
        if config.waves and place is not None and not place.region:
            hint = f"set STARLETTE_WASM_REGION to one of {', '.join(config.waves)}, or to another region"
            raise ConfigError("needs the setting region", key=f"canaries[{index}].waves", hint=hint)


async def _opened(url: str) -> Store:
    from .backends import open_store

    store = open_store(url)
    await store.open()
    return store
