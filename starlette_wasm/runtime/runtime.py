"""The one object that owns engine, functions, policies and router."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import Context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from ..canary.controller import Canaries
from ..canary.place import Place
from ..canary.shadow import Shadows
from ..capabilities import Capabilities, CapabilitySettings
from ..capabilities.backends import has_redis
from ..config.router import Config
from ..config.settings import RequestSettings, WasmSettings, load_settings, split_list
from ..engine.engine import Engine, EngineConfig
from ..engine.fast_path import NotTaken
from ..engine.library import unmap_cold_pages
from ..engine.native.library import warn_if_missing
from ..exceptions import RuntimeClosed
from ..functions.compile_backoff import CompileBackoff
from ..functions.descriptors import raise_limit
from ..functions.load_cancellation import LoadCancellation
from ..functions.target import Target, check_answers
from ..invocation.fast_path import FastPathRunner
from ..invocation.invoker import Invoker
from ..invocation.off_loop import check_size
from ..invocation.options import PYTHON, Caller, CallOptions
from ..invocation.runtime_state import ACCEPTING
from ..messages import EdgeRequest, EdgeResponse
from ..sync.backoff import Backoff
from ..sync.fair_lock import FairLock
from ..telemetry import Exclusions, Telemetry, show_logs
from ..telemetry.events.events import Events
from .announcements import announce_failed_start, announce_left_out
from .background_tasks import BackgroundTasks
from .deployment import Deployment, deploy
from .event_loop import require_asyncio
from .health import Health
from .registry_poller import RegistryPoller
from .reload import Reloader
from .surroundings import CanarySurroundings
from .tenancy import Tenancy, pay
from .weight_shifts import WeightShifts

if TYPE_CHECKING:
    from ..pipelines.breaker import Circuit
    from ..pipelines.plan import Pipeline
    from .rule_router import RuleRouter
    from .shared_quotas import SharedQuotas

logger = logging.getLogger("starlette_wasm")

_START = "start"
_GRACE = 0.7
"""Seconds that close() waits for guests and threads to end: a server is to stop a second after its grace period."""


class Binder(Protocol):
    """Binds functions outside of the rules, such as those of an app's routes."""

    def check(self, runtime: WasmRuntime, deployment: Deployment) -> None:
        """Bind them all to a deployment that is to be served next. Raises what bind() does, to refuse it."""


class WasmRuntime:
    """Runs functions. An async context manager; start() and close() may be called again after each other.

    ``config`` is the path of a ``wasm.yaml``, a mapping with the same keys, or an EdgeRouterConfig. What is wrong
    with it raises at start(): ConfigError, ModuleLoadError, FunctionNotFound, PolicyViolation or
    MemoryLimitExceeded, with a message that names file, key, value and hint.
    """

    def __init__(self, config: Config, settings: WasmSettings | None = None) -> None:
        self.settings: WasmSettings
        self.request_settings: RequestSettings
        self.capabilities: Capabilities
        self._state = "not started"
        self.is_open = False
        """Whether invocations are taken; false after a fork, until the next start()."""
        self._given_settings = settings
        self._deployment: Deployment | None = None
        self.router: RuleRouter | None = None
        """The rules in force; after close() those that were, until the next start()."""
        self.binders: WeakSet[Binder] = WeakSet()
        """The functions that may refuse a reload."""
        self.notes: dict[str, str] = {}
        """Further notes in the body of ``/ready``, by topic; it does not change its status."""
        self.telemetry = Telemetry()
        self.invoker = Invoker(self)
        self.fast_path = FastPathRunner(self, self.invoker.counts)
        self.health = Health(self)
        self.reloader = Reloader(self, config)
        self.registry_poller = RegistryPoller(self)
        self.shifts = WeightShifts(self)
        self.tenancy = Tenancy(self.telemetry)
        self._quotas: SharedQuotas | None = None
        self._background: list[asyncio.Task[None]] = []
        self._inherited: list[Capabilities] = []
        self.events = Events()
        self.canaries = Canaries(CanarySurroundings(self))
        self.shadows = Shadows(self.invoker)
        self.loads = BackgroundTasks()
        self._closes = 0
        self._turns = FairLock()
        """The lock of start() and close(), which may come at once, and on several event loops."""
        self.engine: Engine
        self._drain_timer: asyncio.TimerHandle | None = None
        self._start_backoff = Backoff()
        self._compile_backoff = CompileBackoff()
        _runtimes.add(self)

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

    def _enter(self, state: str) -> None:
        self._state = state
        self.is_open = state in ACCEPTING

    @property
    def debug(self) -> bool:
        """Whether callers get the cause of a fault."""
        return self.settings.debug

    @property
    def deployment(self) -> Deployment:
        """What is being served. Raises RuntimeClosed before start()."""
        if self._deployment is None:
            raise RuntimeClosed(self._state)
        return self._deployment

    def serves(self, function: str) -> bool:
        """Return whether a function is part of what is served."""
        deployment = self._deployment
        return deployment is not None and any(name == function for name, _ in deployment.functions)

    async def start(self, *, for_request: bool = False) -> None:
        """Load everything, in threads. Do nothing if the runtime is open; waits for a close() under way.

        Raises RuntimeClosed if close() came meanwhile. One that failed leaves the runtime ``not started``.

        ``for_request``: as there may be many, a start that failed is not tried again at once. The same error is
        raised until a pause is over: 1 s first, twice as long each time, 5 minutes at most.
        """
        require_asyncio()
        if self.is_open:
            return
        if for_request:
            self._start_backoff.check(_START)
        closes = self._closes
        async with self._turns:
            if self.is_open:  # by another start(), which came first
                return
            if self._closes != closes:  # while it waited
                raise RuntimeClosed(self._state)
            if for_request:  # again: others waited here too while the first one failed
                self._start_backoff.check(_START)
            try:
                await self._open()
            except BaseException as error:
                closed = isinstance(error, RuntimeClosed)
                if isinstance(error, Exception) and not closed:
                    self._start_backoff.failed(_START, error)
                    await announce_failed_start(self, error)
                deployment, self._deployment = self._deployment, None
                if deployment is not None:
                    await self._free(deployment, time.monotonic() + _GRACE)
                self._enter("closed" if closed else "not started")
                raise
            self._start_backoff.succeeded(_START)

    async def _open(self) -> None:
        if self._deployment is not None and self.engine.dead:
            self._forget()
        if self._deployment is None:  # else a drain has closed it, and nobody has freed it
            self.settings = self._given_settings or load_settings()
            await self.registry_poller.first(self.reloader.config, self.settings)
            self._deployment = await self.loads.run(self._deploy)
        await self.capabilities.open()
        self.events.configure(self.deployment.config.events, self.settings.region)  # canaries announce their start
        self._configure_telemetry(self.deployment)  # and their weight
        place = Place(self.settings.region, self.settings.canary_prefix)
        await self.canaries.open(self.deployment, self.settings.canary_url, place, self.settings.canary_waves_url)
        self.telemetry.exclusions = Exclusions(split_list(self.settings.untraced_paths))
        self.adopt(self.deployment)
        self._enter("open")
        loop = asyncio.get_running_loop()
        works = [
            self.health.run(),
            self.reloader.run(self.settings.reload_interval_ms / 1000),
            self.registry_poller.run(),
        ]
        if self._quotas is None and has_redis(self.settings.canary_url):
            from .shared_quotas import SharedQuotas  # needs the Redis client

            self._quotas = SharedQuotas(self.tenancy, self.settings, self.notes)
        if self._quotas is not None:
            works.append(self._quotas.run())
        # In a context of its own: the first request may be what starts the runtime, inside its span.
        self._background = [loop.create_task(work, context=Context()) for work in works]
        for task in self._background:
            task.add_done_callback(_tell_of_failure)

    def _forget(self) -> None:
        """Forget, in a forked child, what runs in the parent, and what it opened: they are the parent's alone."""
        self._inherited.append(self.capabilities)  # freeing it would touch the parent's files
        self._enter("not started")
        self._deployment = None
        self._background = []
        self._drain_timer = None
        self.invoker.forget()
        self.loads = BackgroundTasks()
        self.shadows = Shadows(self.invoker)
        self.canaries.forget()
        self.events.forget()
        self._quotas = None

    def _deploy(self, stop: LoadCancellation) -> Deployment:
        settings = self.settings
        show_logs(settings.log)
        warn_if_missing()
        raise_limit(settings.max_open_files)  # before anything is bound: guests have a share of it
        self.request_settings = RequestSettings.of(settings)
        self.engine = engine = Engine.shared(
            EngineConfig(
                max_instances=settings.max_instances,
                workers=settings.workers or os.cpu_count() or 1,
                nice=settings.guest_nice,
                clock_resolution_ns=settings.clock_resolution_ms * 1_000_000,
                winch=settings.compiler == "winch",
                processor=settings.processor,
                check_restored_every=settings.check_restored_every,
            )
        )
        self.capabilities = self.make_capabilities(
            CapabilitySettings(
                kv_url=settings.kv_url,
                queue_url=settings.queue_url,
                max_namespace_bytes=settings.max_namespace_mb << 20,
                max_queue_bytes=settings.max_queue_mb << 20,
            )
        )
        deployment = self.reloader.first(
            lambda config: deploy(config, settings, engine, self.capabilities, self._compile_backoff, None, stop)
        )
        unmap_cold_pages()
        return deployment

    def make_capabilities(self, settings: CapabilitySettings) -> Capabilities:
        """Make what guests may use beyond WASI; a subclass may stub it. In a thread."""
        return Capabilities(settings)

    def load(self, config: Config, binders: Iterable[Binder], stop: LoadCancellation) -> Deployment:
        """Load what would be served in place of the present deployment, checked, in a thread. Raise as start() does."""
        deployment = deploy(
            config, self.settings, self.engine, self.capabilities, self._compile_backoff, self.deployment, stop
        )
        for binder in binders:
            binder.check(self, deployment)
        return deployment

    def adopt(self, deployment: Deployment) -> None:
        """Serve it from now on, on the event loop: the one place where what is served changes.

        Calls under way end with the one that they began with, which frees its modules and directories with the
        last of them.
        """
        self.events.configure(deployment.config.events, self.settings.region)
        announce_left_out(self.events, deployment.left_out, self._deployment if self._state == "open" else None)
        if self._state == "open":
            self.canaries.attach(deployment)
        self._deployment = deployment
        self.router = deployment.router
        self.tenancy.configure(deployment.config.tenants)
        if self.tenancy.active:
            self.telemetry.listen(pay)
        self.shifts.apply()
        self._configure_telemetry(deployment)
        self.health.adopt(deployment)
        self.capabilities.keep(target.grants for target in deployment.bound if target.grants is not None)

    def _configure_telemetry(self, deployment: Deployment) -> None:
        self.telemetry.configure(
            access_log=self.settings.access_log, prometheus_text=deployment.config.expose_endpoints
        )

    async def reload(self, config: Config | None = None) -> None:
        """Load everything anew, beside what is served, and serve it from then on.

        ``config`` takes the place of the runtime's own. Modules that are the same are not compiled again. Reloads run
        one at a time. Settings stay as they are.

        Raises what start() does, and RuntimeClosed if the runtime is not open; what was served is then served on,
        and the log and the body of ``/ready`` give the reason.
        """
        await self.reloader.reload(config)

    def target(
        self,
        name: str,
        version: str | None = None,
        policy: str | None = None,
        *,
        route: str = "",
        where: str = "",
    ) -> Target:
        """Bind what a route or a call is bound to, once. Without a version: see invoke().

        Raises FunctionNotFound, ConfigError, PolicyViolation, MemoryLimitExceeded and RuntimeClosed.
        """
        if version is None:
            version = self.canaries.version(name)
        deployment = self._deployment or self.deployment
        target = deployment.targets.get((name, version, policy, route))
        return deployment.target(name, version, policy, route=route, where=where) if target is None else target

    async def invoke(
        self, name: str, request: EdgeRequest, *, version: str | None = None, policy: str | None = None
    ) -> EdgeResponse:
        """Call a function without HTTP: under ``edge-none``, by default.

        Without ``version`` it is the highest; if the function has a canary, the stable one until it is promoted.
        ``request.context`` is filled in.

        Raises FunctionNotFound, PolicyViolation, ConfigError (an unknown policy), RequestTooLarge,
        FunctionOverloaded, RuntimeClosed and FunctionError.
        """
        if not self.is_open:
            raise RuntimeClosed(self._state)
        target = self.target(name, version, policy, where="invoke")
        check_answers(target.function)
        if request.body is not None and not isinstance(request.body, str):
            raise TypeError("EdgeRequest.body is a string or None; encode bytes and set is_base64_encoded")
        if request.body is not None:
            await check_size(target, request)
        found = self.fast_path.call(target, request)
        if isinstance(found, EdgeResponse):
            return found
        if isinstance(found, NotTaken):
            return await self.invoker.call(target, request)
        with found:
            return await self.invoker.call(target, request, CallOptions(started=found))

    async def call(
        self,
        name: str,
        export: str,
        /,
        *arguments: Any,
        version: str | None = None,
        policy: str | None = None,
        **named: Any,
    ) -> Any:
        """Call a function that a component exports, ``func`` or ``ns:pkg/interface#func``, with Python values.

        Version, policy, deadline, bulkhead and trace are those of invoke(). A record is a dataclass or a dict, an enum
        an enum or a string, and the error of a ``result`` is raised as ResultError.

        Raises ExportNotFound, TypeError and ValueError (which name the parameter), ResultError, and what
        invoke() raises.
        """
        if not self.is_open:
            raise RuntimeClosed(self._state)
        target = self.target(name, version, policy, where="call")
        from ..invocation import typed_calls  # with all that components need

        return await typed_calls.call(self.invoker, target, export, arguments, named)

    def interface(
        self, name: str, interface: str = "", *, version: str | None = None, policy: str | None = None
    ) -> Any:
        """Return the functions of an interface as coroutine methods; ``starlette-wasm stubs`` writes their types."""
        from ..invocation import typed_calls

        return typed_calls.TypedInterface(
            lambda: self.target(name, version, policy, where="call"), self.invoker, interface
        )

    async def call_pipeline(self, pipeline: Pipeline, request: EdgeRequest, caller: Caller = PYTHON) -> EdgeResponse:
        """Call as Invoker.call() does, for all steps of a pipeline. Raises PipelineTimeout too."""
        from ..pipelines.runner import run  # not loaded if there are no pipelines

        return await run(self.invoker, self.canaries.version, pipeline, request, caller)

    async def run_pipeline(self, path: str, request: EdgeRequest) -> EdgeResponse:
        """Run the pipeline of a path pattern, and of the request's method, without HTTP.

        ``request.context`` is filled in.

        Raises ConfigError (there is none), PipelineTimeout and what invoke() raises.
        """
        if not self.is_open:
            raise RuntimeClosed(self._state)
        return await self.call_pipeline(self.deployment.pipelines.find(path, request.method), request)

    def stats(self) -> dict[str, int]:
        """Return counters and gauges of this runtime; those of the engine are of the process.

        ``running`` invocations (queued ones included), ``live`` guests, instances ``prepared`` for requests to come
        (one of a function that is asked often, 16 at most), ``busy`` and ``waiting`` guests of the worker threads,
        how many of these threads are ``stuck`` past the end of their guest and how many were ``replaced`` for that;
        ``restore_checks``, restored instances that were compared with their first state, and ``restore_faults``, those
        that differed from it;
        how many modules are ``failing`` to compile; and how many invocations ended ``ok``, with each error's slug, or
        were given up. ``shadows`` are the copies for canaries that run, and ``shadows_dropped`` those that were not
        made or not counted. With pipelines also how many run, their ``retries``, ``fallbacks`` and timeouts, and the
        circuits not closed.
        """
        gauges = ("running", "live", "prepared", "busy", "waiting", "stuck", "replaced")
        stats = dict.fromkeys((*gauges, "restore_checks", "restore_faults"), 0)
        stats |= {"running": self.invoker.running, "failing": len(self._compile_backoff)}
        stats |= {"shadows": len(self.shadows.tasks), "shadows_dropped": self.shadows.dropped}
        if self._deployment is not None:
            engine = self.engine
            stats |= {
                "live": engine.state.live,
                "prepared": engine.prepared,
                "busy": sum(workers.busy for workers in engine.pools),
                "waiting": sum(workers.waiting for workers in engine.pools),
                "stuck": sum(workers.stuck for workers in engine.pools),
                "replaced": sum(workers.replaced for workers in engine.pools),
                "restore_checks": engine.restore_checks.checks,
                "restore_faults": engine.restore_checks.faults,
                **self._deployment.pipelines.stats(),
            }
        return stats | dict(self.invoker.counts)

    @property
    def circuits(self) -> Mapping[str, Circuit]:
        """The state of each circuit breaker, by ``name v1 (policy)``: of the functions that pipelines have called."""
        return self.deployment.pipelines.circuits()

    def drain(self) -> None:
        """Let what runs go on, until ``drain_timeout_ms`` is over; then end it. On the event loop."""
        if self._state == "open":
            self._enter("draining")
            logger.info("draining: %d invocations run", self.invoker.running)
            self.telemetry.hurry()  # a server without lifespan ends the process next
            self._end_background()
            loop = asyncio.get_running_loop()
            self._drain_timer = loop.call_later(self.settings.drain_timeout_ms / 1000, self._cut)

    def _cut(self) -> None:
        self._enter("closed")
        if self.invoker.running:
            logger.warning("draining is over: %d invocations are ended", self.invoker.running)
        self.invoker.interrupt()

    def _end_background(self) -> list[asyncio.Task[None]]:
        """Give those that are yet to end, on this event loop."""
        here = asyncio.get_running_loop()
        tasks, self._background = [*self._background, *self.shadows.tasks], []
        for task in tasks:
            if task.get_loop() is here:
                task.cancel()
            elif not self.engine.dead:
                with suppress(RuntimeError):  # its loop is closed, and the task has ended
                    task.get_loop().call_soon_threadsafe(task.cancel)
        return [task for task in tasks if task.get_loop() is here]

    async def close(self) -> None:
        """End what still runs, a start or reload under way too, and free the modules.

        Do nothing if the runtime is not open.
        """
        self._closes += 1
        self.loads.stop()
        async with self._turns:
            await self._close()

    async def _close(self) -> None:
        if self._deployment is not None and self.engine.dead:
            self._forget()
            self._enter("closed")
            return
        await asyncio.gather(*self._end_background(), return_exceptions=True)
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        deployment, self._deployment = self._deployment, None
        if deployment is None:
            return
        self._cut()
        grace = time.monotonic() + _GRACE
        while (self.invoker.running > 0 or deployment.live) and time.monotonic() < grace:
            await asyncio.sleep(0.001)
        await self._free(deployment, grace)
        await self.telemetry.flush(self.settings.flush_timeout_ms)

    async def _free(self, deployment: Deployment, grace: float) -> None:
        """Free all. ``grace`` is until when its threads are waited for, on time.monotonic()."""
        self.shifts.close()
        quotas, self._quotas = self._quotas, None
        if quotas is not None:
            await quotas.close()
        await self.canaries.close()
        deployment.close()
        await self.capabilities.close()
        await self.engine.rest(grace)
        await self.events.close()


_runtimes: WeakSet[WasmRuntime] = WeakSet()


def _after_fork() -> None:
    for runtime in list(_runtimes):
        runtime.is_open = False  # the engine is the parent's


os.register_at_fork(after_in_child=_after_fork)


def _tell_of_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("work in the background has ended", exc_info=error)
