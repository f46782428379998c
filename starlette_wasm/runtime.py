"""The one object that owns engine, functions, policies and router."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from types import TracebackType

from .capabilities import Capabilities, CapabilitySettings
from .deployment import Config, Deployment, deploy
from .engine.engine import Engine, EngineConfig
from .exceptions import RuntimeClosed
from .interrupt import Why
from .invoker import Invoker
from .messages import EdgeRequest, EdgeResponse
from .rollout.canary.controller import Canaries
from .settings import WasmSettings, load_settings
from .target import Target

logger = logging.getLogger("starlette_wasm")


class WasmRuntime(Invoker):
    """Runs functions. An async context manager; start() and close() may be called again after each other.

    ``config`` is the path of a ``wasm.yaml``, a mapping with the same keys, or an EdgeRouterConfig. What is wrong
    with it raises at start(): ConfigError, ModuleLoadError, FunctionNotFound, PolicyViolation or
    MemoryLimitExceeded, with a message that names file, key, value and mend.
    """

    def __init__(self, config: Config, settings: WasmSettings | None = None) -> None:
        super().__init__()
        self._config = config
        self._given_settings = settings
        self._deployment: Deployment | None = None
        self.canaries = Canaries(lambda *given: self.telemetry.canary_weight(*given))
        self._targets: dict[tuple[str, str | None, str | None, str], Target] = {}
        self._starting: threading.Lock = threading.Lock()
        self.engine: Engine
        self._drain_timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> WasmRuntime:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def state(self) -> str:
        """``not started``, ``open``, ``draining`` or ``closed``."""
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether invocations are taken; false after a fork, until the next start()."""
        return self._state in ("open", "draining") and not self.engine.dead

    @property
    def debug(self) -> bool:
        """Whether callers are told the cause of a fault."""
        return self.settings.debug

    @property
    def deployment(self) -> Deployment:
        """What is being served. Raises RuntimeClosed before start()."""
        if self._deployment is None:
            raise RuntimeClosed(self._state)
        return self._deployment

    async def start(self) -> None:
        """Load everything, in threads. Does nothing where the runtime is open."""
        if self.is_open:
            return
        await asyncio.to_thread(self._start)
        try:
            await self.capabilities.open()
            await self.canaries.open(self.deployment, self.settings.canary_url)
        except BaseException:
            await self.close()
            raise
        self._state = "open"

    def _start(self) -> None:
        with self._starting:
            if self._deployment is not None and not self.engine.dead:
                return
            self.settings = settings = self._given_settings or load_settings()
            self.engine = engine = Engine.shared(
                EngineConfig(
                    max_instances=settings.max_instances,
                    workers=settings.workers or os.cpu_count() or 1,
                    nice=settings.guest_nice,
                    clock_resolution_ns=settings.clock_resolution_ms * 1_000_000,
                )
            )
            self.capabilities = Capabilities(CapabilitySettings(kv_url=settings.kv_url, queue_url=settings.queue_url))
            self._targets = {}
            self._deployment = deployment = deploy(self._config, settings, engine, self.capabilities)
            self.telemetry.configure(access_log=settings.access_log, prometheus_text=deployment.config.expose_endpoints)

    def target(
        self,
        name: str,
        version: str | None = None,
        policy: str | None = None,
        *,
        route: str = "",
        where: str = "",
    ) -> Target:
        """What a route or a call is bound to; bound once. Without a version: see invoke().

        Raises FunctionNotFound, ConfigError, PolicyViolation, MemoryLimitExceeded and RuntimeClosed.
        """
        if isinstance(version, int):
            version = str(version)  # as in YAML
        if version is None:
            version = self.canaries.version(name)
        key = (name, version, policy, route)
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = self.deployment.bind(name, version, policy, route=route, where=where)
        return target

    async def invoke(
        self, name: str, request: EdgeRequest, *, version: str | None = None, policy: str | None = None
    ) -> EdgeResponse:
        """Call a function without HTTP: under ``edge-none``, where nothing else is said.

        Without ``version`` it is the highest; where the function has a canary, the stable one until it is promoted.
        ``request.context`` is filled in.

        Raises FunctionNotFound, PolicyViolation, ConfigError (an unknown policy), RequestTooLarge,
        FunctionOverloaded, RuntimeClosed and FunctionError.
        """
        if not self.is_open:
            raise RuntimeClosed(self._state)
        target = self.target(name, version, policy, where="invoke")
        if request.body is not None and not isinstance(request.body, str):
            raise TypeError("EdgeRequest.body is a string or None; encode bytes and set is_base64_encoded")
        target.check_size(request)
        return await self.call(target, request)

    def stats(self) -> dict[str, int]:
        """Counters and gauges of this runtime; those of the engine are of the process.

        ``running`` invocations (queued ones included), ``live`` guests, ``busy`` and ``waiting`` guests of the
        worker threads, and how many invocations ended ``ok``, with each error's slug, or were given up.
        """
        stats = {"running": self._running, "live": 0, "busy": 0, "waiting": 0}
        if self._deployment is not None:
            engine = self.engine
            stats |= {
                "live": engine.ticker.live,
                "busy": engine.workers.busy,
                "waiting": engine.workers.waiting,
            }
        return stats | dict(self._counts)

    def drain(self) -> None:
        """Let what runs go on, until ``drain_timeout_ms`` is over; then end it. On the event loop."""
        if self._state == "open":
            self._state = "draining"
            logger.info("draining: %d invocations run", self._running)
            loop = asyncio.get_running_loop()
            self._drain_timer = loop.call_later(self.settings.drain_timeout_ms / 1000, self._cut)

    def _cut(self) -> None:
        self._state = "closed"
        if self._running:
            logger.warning("draining is over: %d invocations are ended", self._running)
        self._interruptibles.interrupt(Why.CLOSING)

    async def close(self) -> None:
        """End what still runs and free the modules. Does nothing where the runtime is not open."""
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        deployment, self._deployment = self._deployment, None
        if deployment is None:
            return
        self._cut()
        patience = time.monotonic() + 5
        while (self._running or deployment.live) and time.monotonic() < patience:
            await asyncio.sleep(0.001)
        await self.canaries.close()
        deployment.close()
        await self.capabilities.close()
        if not self.engine.ticker.live:
            self.engine.ticker.rest()
