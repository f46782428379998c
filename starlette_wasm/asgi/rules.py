"""``WasmRules``: the rules of a config as the last of an app's routes, behind everything that the app has."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from .._compat import get_route_path
from ..config.notation import KNOWN_METHODS
from ..config.router import Config
from ..config.settings import WasmSettings
from ..exceptions import ConfigError, WasmError
from ..runtime.runtime import WasmRuntime
from .body import replayed
from .guards import patterns_of, seams
from .middleware import WasmMiddleware
from .overlaps import overlaps
from .scope import RUNTIME
from .signals import ServerSignals
from .tenants import TenantOf

logger = logging.getLogger("starlette_wasm")

_REST = "starlette_wasm_rest"


class WasmRules(BaseRoute):
    """The last of an app's routes: middleware and routes come before the rules, each guard guards them.

    With ``config`` or ``runtime`` it owns the runtime; give the app ``lifespan=rules.lifespan``, so that what is wrong
    stops the start. Without them it serves the rules of the nearest WasmMiddleware, which then does not.
    In FastAPI ``app.include_router(rules.router())`` runs the dependencies of the app and of the include too.
    """

    rules_behind = True

    def __new__(cls, *given: Any, **named: Any) -> Self:
        """Raise ConfigError for an app, which middleware is given first."""
        if given and callable(given[0]):
            hint = "put WasmRules(...) behind the other routes, or write Middleware(WasmMiddleware, config=...)"
            raise ConfigError("WasmRules is a route, and not middleware", hint=hint)
        return super().__new__(cls)

    def __init__(
        self,
        config: Config | None = None,
        *,
        settings: WasmSettings | None = None,
        runtime: WasmRuntime | None = None,
        tenant: TenantOf | None = None,
    ) -> None:
        if tenant is not None and config is None and runtime is None:
            hint = "give it to the WasmMiddleware around the app"
            raise ConfigError("WasmRules without a config has no tenants of its own", key="tenant", hint=hint)
        if isinstance(config, WasmRuntime):
            raise ConfigError("a WasmRuntime is not a config", key="config", hint="write WasmRules(runtime=...)")
        if runtime is not None and not isinstance(runtime, WasmRuntime):
            what = f"{type(runtime).__name__} {runtime!r:.60} is not a WasmRuntime"
            raise ConfigError(what, key="runtime", hint="write WasmRules(config), or give runtime=WasmRuntime(config)")
        self.runtime = runtime
        self._server: WasmMiddleware | None = None
        self._looked = False
        self._attached = False
        """Whether a WasmMiddleware has started around it."""
        self._lends: dict[int, WasmMiddleware] = {}
        self._known: WasmRuntime | None = None
        """The match of the last request: middleware outside of WasmMiddleware asks what matches, too."""
        self.endpoint = self
        self.__name__ = self.__qualname__ = "wasm_rules"
        if config is not None or runtime is not None or settings is not None:
            self._server = WasmMiddleware(_not_found, config, settings=settings, runtime=runtime, tenant=tenant)
            self.runtime = self._server.runtime

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"WasmRules has no {name}; FastAPI's include_router takes WasmRules(...).router()")

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or not self.takes(scope, get_route_path(scope)):
            return Match.NONE, {}
        return Match.FULL, {"endpoint": self}

    def attach(self, runtime: WasmRuntime) -> None:
        """Learn, before the app starts, that a WasmMiddleware around it has a runtime."""
        self._attached = True

    def takes(self, scope: Scope, path: str) -> bool:
        """Return whether a rule serves ``path``; true before the start, which the request then waits for."""
        runtime = self.runtime or scope.get(RUNTIME) or self._known
        self._known = runtime
        if runtime is None or runtime.router is None:
            return True
        return self._serves(runtime, path)

    def _serves(self, runtime: WasmRuntime, path: str) -> bool:
        if runtime.router is not None and runtime.router.match(path) is not None:
            return True
        server = self._server
        return server is not None and server.endpoint(path) is not None

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._server_of(scope)(scope, receive, send)
        if self._server is not None and not self._looked and self._server.runtime.is_open:
            self._look(scope.get("app"), self._server)  # the app has no lifespan=rules.lifespan

    def _look(self, app: Any, server: WasmMiddleware) -> None:
        """Warn of what the app's guards and routes miss."""
        self._looked = True
        deployment = server.runtime.deployment
        for text in [*seams(app, patterns_of(deployment.config), behind=True), *overlaps(app, deployment, behind=True)]:
            logger.warning("%s", text)

    def _server_of(self, scope: Scope) -> WasmMiddleware:
        if self._server is not None:
            return self._server
        runtime: WasmRuntime | None = scope.get(RUNTIME)
        if runtime is None:
            raise _without_config()
        server = self._lends.get(id(runtime))
        if server is None or server.runtime is not runtime:
            server = self._lends[id(runtime)] = WasmMiddleware(_not_found, runtime=runtime)
        return server

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Open the runtime for an app's lifespan, and close it after. Raises what is wrong with the config."""
        server = self._server
        if server is None:
            if not self._attached and not any(
                each.cls is WasmMiddleware for each in getattr(app, "user_middleware", ())
            ):
                raise _without_config()
            yield
            return
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(server.opened())
            except WasmError as error:  # Starlette prints the traceback, which would hide the message
                raise error.with_traceback(None)  # noqa: B904
            self._look(app, server)
            signals = ServerSignals(server.runtime)
            signals.install()
            try:
                yield
            finally:
                signals.uninstall()

    @property
    def router(self) -> _Router:
        """What makes a FastAPI ``APIRouter`` when it is called: ``include_router(rules.router())``."""
        return _Router(self._make_router)

    def _make_router(self, **options: Any) -> Any:
        """Make a FastAPI ``APIRouter`` for ``include_router``; ``options`` are its own, such as ``dependencies``."""
        from fastapi import APIRouter
        from fastapi.routing import APIRoute

        rules = self

        class RulesRoute(APIRoute):
            """Matches if a rule does, so that dependencies run for those paths alone."""

            def __init__(self, *given: Any, **named: Any) -> None:
                super().__init__(*given, **named)
                self.rules_of = rules
                self.attach = rules.attach

            def matches(self, scope: Scope) -> tuple[Match, Scope]:
                match, child = super().matches(scope)
                if match is Match.NONE or not rules.takes(scope, "/" + child["path_params"][_REST]):
                    return Match.NONE, {}
                return match, child

        async def wasm_rules(request: Request) -> Response:
            return _Answer(rules, request)

        router = APIRouter(lifespan=self.lifespan, route_class=RulesRoute, **options)
        path, methods = f"/{{{_REST}:path}}", sorted(KNOWN_METHODS)
        router.add_api_route(path, wasm_rules, include_in_schema=False, response_model=None, methods=methods)
        return router


class _Router:
    """``WasmRules.router``, which is to be called; included as it is, it has not what FastAPI asks for."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, **options: Any) -> Any:
        """Make a FastAPI ``APIRouter`` for ``include_router``; ``options`` are its own, such as ``dependencies``."""
        return self._make(**options)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"WasmRules.router has no {name}: it is to be called, as include_router(rules.router())")


def _without_config() -> ConfigError:
    return ConfigError("WasmRules has no config", hint="give it config= or runtime=, or add WasmMiddleware")


class _Answer(Response):
    """Serves the request by the rules, below the prefix of the include."""

    def __init__(self, rules: WasmRules, request: Request) -> None:
        self._rules = rules
        self._request = request
        self.background = None
        super().__init__()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        params = dict(scope["path_params"])
        rest = "/" + params.pop(_REST)
        root = scope["path"].removesuffix(rest)
        inner = {**scope, "path_params": params, "root_path": root}
        await self._rules.handle(inner, replayed(self._request, receive), send)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    if "app" in scope:
        raise HTTPException(404)
    await PlainTextResponse("Not Found", 404)(scope, receive, send)
