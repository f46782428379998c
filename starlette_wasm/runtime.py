"""The one object that owns engine, functions, policies and router."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from types import TracebackType

from .bulkhead import Full
from .capabilities import Capabilities, CapabilitySettings, Session
from .deployment import Config, Deployment, deploy
from .engine import layout
from .engine.capi import EngineError
from .engine.driver import Invocation
from .engine.engine import Engine, EngineConfig, OutOfInstances
from .engine.instance import NO_STRINGS, End, Outcome
from .exceptions import (
    FunctionOverloaded,
    FunctionTrapped,
    InvalidFunctionResponse,
    RuntimeClosed,
    WasmError,
)
from .faults import fault_of
from .interrupt import Gone, Interrupted, Interruptible, Interruptibles, Why
from .messages import EdgeContext, EdgeRequest, EdgeResponse, is_request_id
from .protocols import ResponseError
from .serving import new_request_id
from .settings import WasmSettings, load_settings
from .target import Target
from .telemetry import Exchange, Telemetry, Watch, log_failure, log_guest, log_violations

logger = logging.getLogger("starlette_wasm")

_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
_LARGE = 256 << 10
"""Bytes of stdout from which a response is decoded beside the event loop."""


class WasmRuntime:
    """Runs functions. An async context manager; start() and close() may be called again after each other.

    ``config`` is the path of a ``wasm.yaml``, a mapping with the same keys, or an EdgeRouterConfig. What is wrong
    with it raises at start(): ConfigError, ModuleLoadError, FunctionNotFound, PolicyViolation or
    MemoryLimitExceeded, with a message that names file, key, value and mend.
    """

    def __init__(self, config: Config, settings: WasmSettings | None = None) -> None:
        self._config = config
        self._given_settings = settings
        self._state = "not started"
        self._deployment: Deployment | None = None
        self._targets: dict[tuple[str, str | None, str | None, str], Target] = {}
        self._starting: threading.Lock = threading.Lock()
        self._interruptibles = Interruptibles()
        self.settings: WasmSettings
        self.engine: Engine
        self.capabilities: Capabilities
        self._running = 0
        self._drain_timer: asyncio.TimerHandle | None = None
        self._counts: Counter[str] = Counter()
        self._next_overload_record = 0.0
        self.telemetry = Telemetry()

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
        """What a route or a call is bound to; bound once.

        Raises FunctionNotFound, ConfigError, PolicyViolation, MemoryLimitExceeded and RuntimeClosed.
        """
        if isinstance(version, int):
            version = str(version)  # as in YAML
        key = (name, version, policy, route)
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = self.deployment.bind(name, version, policy, route=route, where=where)
        return target

    async def invoke(
        self, name: str, request: EdgeRequest, *, version: str | None = None, policy: str | None = None
    ) -> EdgeResponse:
        """Call a function without HTTP: its highest version, under ``edge-none``, where nothing else is said.

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

    async def call(
        self,
        target: Target,
        request: EdgeRequest,
        *,
        route: str = "",
        client: tuple[str, int] | None = None,
        cold: int = 0,
        gone: Gone | None = None,
        headers: Mapping[str, str] | None = None,
        exchange: Exchange | None = None,
        attempt: int | None = None,
    ) -> EdgeResponse:
        """Run one invocation of ``target``; ``request.context`` is filled in.

        ``cold`` says when the wait for a start began, in ns since the epoch, 0 where there was none. ``gone`` ends
        it when the client goes away, which raises Interrupted. ``headers`` are those of the client, where
        ``request`` has others. ``exchange`` is the HTTP request that it is for, ``attempt`` which try this is, by
        default one more than failed in the exchange. Raises FunctionOverloaded, RuntimeClosed and FunctionError.
        """
        if not self.is_open:
            raise RuntimeClosed(self._state)
        bulkhead = target.bulkhead
        context = request.context = self.context(target, request.headers if headers is None else headers, bool(cold))
        with self.telemetry.watch(target, request, exchange=exchange, since=cold, attempt=attempt) as watch:
            guard = partial(Interruptible, self._interruptibles, gone, watch.outside)
            self._running += 1
            try:
                if bulkhead.free:
                    bulkhead.active += 1
                else:
                    watch.queued()
                    async with guard():
                        await bulkhead.wait()
                session: Session | None = None
                try:
                    plan = target.plan
                    deadline = time.monotonic() + plan.limits.time
                    request.context = context  # again: the request may be shared, and others came while this one waited
                    request = watch.executing(request, context)
                    if target.grants is not None:
                        session = Session(
                            self.capabilities,
                            target.grants,
                            deadline=deadline,
                            observer=watch.observer,
                            recorder=watch.recorder,
                        )
                    outcome = await Invocation(
                        plan,
                        target.protocol.encode(request),
                        _environ(target, request, context, route, client) if plan.module.reads_environ else NO_STRINGS,
                    ).run(deadline, guard, session)
                finally:
                    bulkhead.leave()
                    if session is not None and session.violations:
                        log_violations(target, session.violations, context)
                        watch.violated(session.violations)
                response = await self._response(target, outcome, context, watch)
            except WasmError as error:
                self._failed(error, context)
                raise
            except (Full, OutOfInstances) as error:
                overload = FunctionOverloaded(target.name, str(error), retry_after=_retry_after(target))
                self._failed(overload, context)
                raise overload from None
            except (EngineError, OSError) as error:
                trapped = FunctionTrapped(target.name, target.version, reason="not run")
                self._failed(trapped, context, error)
                raise trapped from error
            except Interrupted as error:
                self._counts[error.why.name.lower()] += 1
                if error.why is Why.CLOSING:
                    raise RuntimeClosed(self._state) from None
                raise
            finally:
                self._running -= 1
            self._counts["ok"] += 1
            watch.answered(response.status_code)
            return response

    def context(self, target: Target, headers: Mapping[str, str], cold: bool) -> EdgeContext:
        given = headers.get("x-request-id")
        traceparent = headers.get("traceparent")
        traced = traceparent is not None and _TRACEPARENT(traceparent) is not None
        return EdgeContext(
            given if given is not None and is_request_id(given) else new_request_id(),
            self.region(headers.get("x-region")),
            cold,
            target.name,
            target.version,
            target.policy.execution_timeout_ms,
            traceparent if traced else None,
            headers.get("tracestate") if traced else None,
        )

    def region(self, header: str | None) -> str:
        """The region of a request: the node's, or the one in its ``x-region`` where that is trusted."""
        if header is not None and self.settings.trust_region_header and _REGION(header):
            return header
        return self.settings.region

    async def _response(self, target: Target, outcome: Outcome, context: EdgeContext, watch: Watch) -> EdgeResponse:
        if outcome.stderr or outcome.denials:
            log_guest(target, outcome, context)
        if outcome.end is End.TRAP and outcome.places:
            outcome.frames = await target.function.symbols.frames(outcome)
        fault = fault_of(target, outcome)
        watch.executed(outcome, fault)
        if fault is not None:
            raise fault
        try:
            if len(outcome.stdout) > _LARGE:
                return await asyncio.to_thread(target.protocol.decode, outcome.stdout)
            return target.protocol.decode(outcome.stdout)
        except ResponseError as error:
            raise InvalidFunctionResponse(
                target.name, target.version, problem=error.problem, offset=error.offset
            ) from None

    def _failed(self, error: WasmError, context: EdgeContext, cause: Exception | None = None) -> None:
        self._counts[error.slug] += 1
        if isinstance(error, FunctionOverloaded):  # as many as clients like: one record a second
            now = time.monotonic()
            if now < self._next_overload_record:
                return
            self._next_overload_record = now + 1
        log_failure(error, context, cause)

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
        deployment.close()
        await self.capabilities.close()
        if not self.engine.ticker.live:
            self.engine.ticker.rest()


def _environ(
    target: Target, request: EdgeRequest, context: EdgeContext, route: str, client: tuple[str, int] | None
) -> bytes:
    values = [*target.environ, b"EDGE_REQUEST_ID=" + context.request_id.encode()]
    values.append(b"EDGE_REGION=" + context.region.encode())
    if context.traceparent is not None:
        values.append(b"TRACEPARENT=" + context.traceparent.encode())
    values += (
        f"{name}={value}".encode("utf-8", "replace")
        for name, value in target.protocol.environ(request, route=route or target.route, client=client)
    )
    return layout.strings(values)


def _retry_after(target: Target) -> int:
    return max(1, math.ceil(target.bulkhead.timeout))
