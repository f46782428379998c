"""``WasmMiddleware``: serves the paths that the config maps to functions, passes everything else through."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

from starlette.routing import BaseRoute, Host, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._compat import get_route_path
from ..config.router import Config, RouteRule, Stickiness
from ..config.settings import WasmSettings
from ..engine.fast_path import NOT_TAKEN, Completed, NotTaken, Started
from ..exceptions import (
    ConfigError,
    FunctionNotFound,
    FunctionOverloaded,
    FunctionUnavailable,
    RequestTooLarge,
    RuntimeClosed,
    WasmError,
)
from ..functions.target import Target
from ..invocation.fast_path import COLD
from ..messages import EdgeRequest
from ..runtime.deployment import Deployment
from ..runtime.event_loop import require_asyncio
from ..runtime.runtime import WasmRuntime
from ..telemetry import PickedBy, RequestTelemetry, Variant
from ..traffic.audience import AudienceRouter
from ..traffic.choices import Choice, Match, Reason, Refusal
from ..traffic.cookies import cookie_value
from .coalesce import answer_at_once, send_in_one_write
from .discovery import each_function, find_functions, has_own_middleware
from .endpoints import Endpoint, answer, find_endpoint
from .guards import patterns_of, seams
from .openapi import describe
from .overlaps import overlaps
from .problems import send_method_not_allowed, send_problem
from .scope import RUNTIME, SENT_AS, adopt, asked_version, body_follows, fitted, header, region_of, tell_route
from .serve import Matched, serve
from .signals import ServerSignals
from .templates import each_route, routes_of, rule_template
from .tenants import CLAIM, TenantOf, host_of, tenant_of

if TYPE_CHECKING:
    from ..pipelines.plan import Pipeline

logger = logging.getLogger("starlette_wasm")

_SAFE = ("GET", "HEAD")
Chosen: TypeAlias = "tuple[Target | Pipeline, Target | Pipeline | None, str]"
"""What serves a request, what is tried on a copy of it, and its region."""


class WasmMiddleware:
    """Pure ASGI. Owns a WasmRuntime for the app's lifetime, made of ``config`` and ``settings`` or given.

    Middleware inside of it does not see the paths that its rules serve: authentication and CORS belong outside
    (before it in Starlette's list; added after it with ``add_middleware``). Without lifespan the runtime starts
    at the first request. A runtime that is open already stays open.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Config | None = None,
        *,
        settings: WasmSettings | None = None,
        runtime: WasmRuntime | None = None,
        tenant: TenantOf | None = None,
    ) -> None:
        """Take ``tenant``, which names a request's tenant; without it the hosts of ``tenants`` in the config do."""
        self.app = app
        self._tenant = tenant
        self._wrong: Exception | None = None
        if runtime is None:
            if config is None:
                # Starlette builds middleware inside the lifespan call: what is raised here would be taken for
                # an app without lifespan. It is answered as startup.failed instead.
                self._wrong = ConfigError("WasmMiddleware has no config", hint="give it config= or runtime=")
                config = {}
            runtime = WasmRuntime(config, settings)
        elif config is not None or settings is not None:
            self._wrong = ConfigError("WasmMiddleware has both runtime= and config= or settings=", hint="give one")
        self.runtime = runtime
        self._stopped = False  # closed by the end of a lifespan, not by the runtime's owner
        self._ready = False  # started, and the app's routes are checked
        self._opening: asyncio.Task[None] | None = None
        self._lazy_signals = ServerSignals(runtime)
        self._behind = False
        """Whether a WasmRules among the routes serves the rules."""
        self._said: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await (self._lifespan if kind == "lifespan" else self.app)(scope, receive, send)
            return
        runtime = self.runtime
        if not (self._ready and runtime.is_open) and await self._wait_for_start(scope, receive, send):
            return
        scope[RUNTIME] = runtime
        if kind == "http":
            path: str = get_route_path(scope) if scope.get("root_path") else scope["path"]
            router = runtime.router
            assert router is not None
            if self._tenant is not None:
                scope[CLAIM] = self._tenant
            if self._behind:
                match = None
            elif type(router) is AudienceRouter:
                match = router.match_for(path, host_of(scope), await tenant_of(runtime, scope))
            else:
                match = router.match(path)
            if match is not None:
                settings = runtime.request_settings
                adopt(scope, settings)
                route = match.pattern
                if scope.get("root_path"):
                    route = rule_template(scope, route)
                tell_route(scope, route)
                exchange = runtime.telemetry.exchange(scope, route, since=scope.get(COLD, 0))
                chosen: Chosen | Refusal | None = None
                started = None
                if exchange.idle and not runtime.tenancy.active:
                    only = match.group.only  # as in _choose(), without the call
                    if (
                        only is None
                        or runtime.health.healthy is not None
                        or settings.allow_version_header
                        or settings.trust_region_header
                    ):
                        chosen = self._choose(match, scope, exchange)
                    else:
                        chosen = only.target, None, settings.region
                    if type(chosen) is tuple and chosen[1] is None:
                        target, _, region = chosen
                        found = answer_at_once(runtime, target, region, path, match.params, scope, receive, send)
                        if found is None:
                            return
                        if type(found) is tuple:
                            status, headers, body = found
                            if SENT_AS in scope:
                                headers = fitted(scope, headers)
                            await send_in_one_write(receive, send, status, headers, body)
                            return
                        started = found if isinstance(found, Started) else None
                        if scope["method"] not in _SAFE:  # it may have a body
                            matched = Matched(scope, receive, send, path, match.params, region, exchange)
                            await serve(runtime, target, matched, tried=started)
                            return
                with exchange:
                    tried = await self._serve(match, (scope, receive, send), path, exchange, chosen, started)
                if tried is not None:
                    self._shadow(*tried, scope)
                return
            if (endpoint := find_endpoint(runtime.deployment.config, path)) is not None:
                await answer(endpoint, runtime, scope, send)
                return
        await self.app(scope, receive, send)

    async def _wait_for_start(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Start, and leave in the scope since when the request waits. Return whether it was answered instead."""
        runtime = self.runtime
        if runtime.state == "closed" and self._ready and not self._stopped:  # by its owner, or at the end of a drain
            await self._serve_closed(scope, receive, send)
            return True
        if not runtime.is_open:
            scope[COLD] = time.time_ns()
        await self._open()
        return False

    async def _serve(
        self,
        match: Match[RouteRule, Target | Pipeline],
        connection: tuple[Scope, Receive, Send],
        path: str,
        exchange: RequestTelemetry,
        chosen: Chosen | Refusal | None,
        started: Started | None,
    ) -> tuple[Target | Pipeline, EdgeRequest] | None:
        """Answer a request by the rules of its path. Return what is to be tried on a copy of it.

        ``chosen`` is what serves it, if that is known, and ``started`` a guest that has begun for it.
        """
        runtime = self.runtime
        scope, receive, send = connection
        if chosen is None:
            chosen = self._choose(match, scope, exchange)
        if isinstance(chosen, Refusal):
            await self._refuse(chosen, match, exchange, scope, send)
            return None
        target, shadow, region = chosen
        tried: Completed | Started | NotTaken | None = started
        follows = _body_follows(scope, target) if started is None else False
        if started is None and follows is False and not runtime.tenancy.active:  # else serve() asks for the quota first
            tried = runtime.fast_path.run(target, scope, path, match.params, b"", region, exchange)
        elif started is None and shadow is not None:
            tried = NOT_TAKEN  # the copy needs the body
        request: EdgeRequest | None
        if isinstance(tried, Completed):
            exchange.answered(tried.status)  # the span may end with the last part of the body
            headers = tried.headers if SENT_AS not in scope else fitted(scope, tried.headers)
            await send_in_one_write(receive, send, tried.status, headers, tried.body)
            if shadow is None:
                return None
            request = EdgeRequest.from_scope(scope, b"", path=path, params=match.params)
        else:
            matched = Matched(scope, receive, send, path, match.params, region, exchange)
            matched.copied = shadow is not None
            request = await serve(runtime, target, matched, tried=tried, follows=follows)
        return None if shadow is None or request is None else (shadow, request)

    def _choose(
        self, match: Match[RouteRule, Target | Pipeline], scope: Scope, exchange: RequestTelemetry
    ) -> Chosen | Refusal:
        """Choose by weight, health, stickiness, version and region."""
        runtime = self.runtime
        only, healthy, settings = match.group.only, runtime.health.healthy, runtime.request_settings
        if only is not None and healthy is None and not settings.allow_version_header:
            if exchange.idle:
                trusted = settings.trust_region_header
                return only.target, None, region_of(settings, scope) if trusted else settings.region
            if runtime.deployment.stickiness is None:
                exchange.picked(PickedBy.WEIGHT, only.weight)
                return only.target, None, region_of(settings, scope)
        deployment = runtime.deployment
        stickiness = deployment.stickiness
        version = asked_version(runtime, scope)
        sticky_key = _sticky_key(scope, stickiness) if stickiness else None
        region = region_of(settings, scope)
        choice = match.group.pick(
            scope["method"], region, healthy=healthy, forced_version=version, sticky_key=sticky_key
        )
        if isinstance(choice, Choice):
            target, trial, shadow = choice.target, choice.trial, None
            if trial is None and exchange.idle:
                return target, None, region
            by = PickedBy.FORCED if version is not None else PickedBy.STICKY if sticky_key else PickedBy.WEIGHT
            if trial is None:
                exchange.picked(by, choice.weight)
            else:
                if by is not PickedBy.FORCED:  # a request for a forced version does not count as a sample
                    target, shadow = trial.target, trial.shadow
                by = PickedBy.STEP if by is PickedBy.WEIGHT else by
                exchange.picked(by, trial.percent, Variant.CANARY if trial.is_canary else Variant.STABLE)
            return target, shadow, region
        default = deployment.default
        if choice.reason is Reason.NO_RULE and default is not None and (healthy is None or healthy(default)):
            exchange.picked(PickedBy.NO_RULE, None, Variant.DEFAULT)
            return default, None, region
        return choice

    async def _refuse(
        self,
        refusal: Refusal,
        match: Match[RouteRule, Target | Pipeline],
        exchange: RequestTelemetry,
        scope: Scope,
        send: Send,
    ) -> None:
        """Send 405, or 503, or 404 for a version that is not served."""
        runtime, name = self.runtime, match.group.function
        send = exchange.send(send)
        if refusal.reason is Reason.METHOD_NOT_ALLOWED:
            await send_method_not_allowed(scope, send, refusal.allowed)
            return
        version = asked_version(runtime, scope)
        error: WasmError
        if refusal.reason is Reason.VERSION_NOT_FOUND:
            error = FunctionNotFound(name, version)
        else:
            unhealthy = runtime.health.healthy is not None and isinstance(
                match.group.pick(scope["method"], region_of(runtime.request_settings, scope), forced_version=version),
                Choice,
            )
            reason = "nothing that serves this region is healthy" if unhealthy else "no rule serves this region"
            error = FunctionOverloaded(name, reason)
        exchange.failed(error)
        await send_problem(runtime.debug, error, scope, send, None)

    def _shadow(self, shadow: Target | Pipeline, request: EdgeRequest, scope: Scope) -> None:
        """Try a canary on a copy of a safe request that was answered."""
        healthy = self.runtime.health.healthy
        if request.method in _SAFE and (healthy is None or healthy(shadow)):
            assert isinstance(shadow, Target), "a pipeline has no canary"
            self.runtime.shadows.copy(shadow, request, scope.get("client"))

    async def _serve_closed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send 503 for the paths that the rules serve; everything else is the app's."""
        router = self.runtime.router
        if scope["type"] == "http" and router is not None and router.match(get_route_path(scope)) is not None:
            adopt(scope, self.runtime.request_settings)
            await send_problem(self.runtime.debug, RuntimeClosed(self.runtime.state), scope, send, None)
        else:
            scope[RUNTIME] = self.runtime
            await self.app(scope, receive, send)

    async def _open(self) -> None:
        """Start for a request; concurrent ones share it, and one that is cancelled does not end it."""
        require_asyncio()
        loop = asyncio.get_running_loop()
        if self._opening is None or self._opening.done() or self._opening.get_loop() is not loop:
            self._opening = loop.create_task(self._start(for_request=True))
        await asyncio.shield(self._opening)
        self._lazy_signals.install()

    async def _start(self, *, for_request: bool = False) -> None:
        """Start, and check the routes of the app."""
        if self._wrong is not None:
            raise self._wrong.with_traceback(None)  # or it grows with each time it is raised
        await self.runtime.start(for_request=for_request)
        self._check_start()
        self._stopped = False
        self._ready = True

    def check(self, runtime: WasmRuntime, deployment: Deployment) -> None:
        """Bind the functions that the app's routes name to what ``runtime`` serves next. Raises what bind() does."""
        routes = routes_of(self.app)
        for path, wasm, route in each_function(routes):
            if (wasm.runtime or self.runtime) is runtime:
                with suppress(FunctionUnavailable):  # it is left out, and in the log; requests get 503
                    target = wasm.target(deployment, path, where=f"route {path}")
                    describe(route, target.function.source.manifest.openapi)
        if runtime is self.runtime:
            self._behind = any(_takes_rules(route) for route in _all_routes(routes))
            self._warn(deployment)

    def _warn(self, deployment: Deployment) -> None:
        """Name what does not guard, and what cannot be reached; again after a reload that changes it."""
        texts = [
            *seams(self.app, patterns_of(deployment.config), behind=self._behind),
            *overlaps(self.app, deployment, behind=self._behind),
        ]
        if self._said != (said := "\n".join(texts)):
            self._said = said
            for text in texts:
                logger.warning("%s", text)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Give the runtime, started and checked; close it after, unless it was open before."""
        ours = not self.runtime.is_open
        try:
            await self._start()
            yield
        finally:
            if ours:
                await self.runtime.close()
                self._stopped = True

    def endpoint(self, path: str) -> Endpoint | None:
        """Return what answers ``path``, if the config sets ``exposeEndpoints``."""
        return find_endpoint(self.runtime.deployment.config, path) if self.runtime.is_open else None

    def _check_start(self) -> None:
        for route in _all_routes(routes_of(self.app)):
            attach = getattr(getattr(route, "original_route", route), "attach", None)
            if callable(attach):  # the admin API
                attach(self.runtime)
        for runtime in {
            self.runtime,
            *(wasm.runtime or self.runtime for _, wasm in find_functions(routes_of(self.app))),
        }:
            runtime.binders.add(self)
            if runtime.is_open:  # a route's own runtime may be opened by the app, later
                self.check(runtime, runtime.deployment)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start before the app does, close after it has."""
        ours = False
        try:
            require_asyncio()
            ours = not self.runtime.is_open
            await self._start()
        except Exception as error:
            if ours:
                await self.runtime.close()
            await receive()
            message = str(error) if isinstance(error, WasmError) else traceback.format_exc()
            await send({"type": "lifespan.startup.failed", "message": message})
            raise  # as Starlette does: its TestClient looks for that
        signals = ServerSignals(self.runtime)

        async def closing_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                signals.install()
                self.runtime.telemetry.exclusions.remember(self.app)
            elif ours:
                await self.runtime.close()
            await send(message)

        try:
            await self.app(scope, receive, closing_send)
        finally:
            signals.uninstall()
            if ours:
                await self.runtime.close()
                self._stopped = True


def _body_follows(scope: Scope, target: Target | Pipeline) -> bool | None:
    """Return whether there may be a body; None if the request is too large, which is raised when it is asked again."""
    try:
        return body_follows(scope, target.max_body)
    except RequestTooLarge:
        return None


def _sticky_key(scope: Scope, stickiness: Stickiness) -> str | None:
    """Return the caller's key; None for one without, or an empty one: they must not count as one caller."""
    if stickiness.header is not None:
        key = header(scope, stickiness.header.lower().encode("latin-1"))
    else:
        cookies = header(scope, b"cookie")
        key = cookie_value(cookies, stickiness.cookie or "") if cookies else None
    return key if key and key.strip(' \t,"') else None


def _takes_rules(route: object) -> bool:
    """Return whether it is a WasmRules without a runtime of its own."""
    rules = getattr(getattr(route, "original_route", route), "rules_of", route)
    return getattr(rules, "rules_behind", False) and getattr(rules, "runtime", None) is None


def _all_routes(routes: Sequence[BaseRoute]) -> Iterator[object]:
    for route in each_route(routes):
        yield route
        kind = getattr(route, "original_route", route)
        if isinstance(kind, Mount | Host) and not has_own_middleware(route.app):
            yield from _all_routes(routes_of(route.app))
