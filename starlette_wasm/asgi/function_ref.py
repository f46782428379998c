"""``FunctionRef``: the function that a route or endpoint names, and how a request gets to its runtime."""

from __future__ import annotations

import time
from dataclasses import dataclass

from starlette.types import Scope

from ..config.names import is_function_name
from ..exceptions import ConfigError
from ..functions.target import Target
from ..invocation.fast_path import COLD
from ..runtime.deployment import Deployment
from ..runtime.runtime import WasmRuntime
from ..telemetry import NO_TELEMETRY, RequestTelemetry
from .scope import RUNTIME, adopt, tell_route
from .templates import Place


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """The function, version and policy that a route or endpoint names."""

    function: str
    version: str | None
    policy: str | None
    runtime: WasmRuntime | None

    def __post_init__(self) -> None:
        """Raise ConfigError for what can name nothing, as where it is written: not only with the first request."""
        if not isinstance(self.function, str):
            what = f"a function is named by its name, not by {type(self.function).__name__} {self.function!r:.60}"
            hint = "write wasm_endpoint('NAME'), or @wasm_route(PATH, function='NAME')"
            raise ConfigError(what, key="function", hint=hint)
        for key in ("version", "policy"):
            given = getattr(self, key)
            if given is not None and not isinstance(given, str):
                what = f"{given!r:.60} is {type(given).__name__}, not text"
                raise ConfigError(what, key=key, hint=f"write {key}={str(given)[:60]!r}")
        if not is_function_name(self.function):
            raise ConfigError(
                f"{self.function!r:.80} cannot be the name of a function",
                key="function",
                hint="give the name of its folder in functionsDir, such as greeter",
            )
        if self.runtime is not None and not isinstance(self.runtime, WasmRuntime):
            what = f"{type(self.runtime).__name__} {self.runtime!r:.60} is not a WasmRuntime"
            raise ConfigError(what, key="runtime", hint="give runtime=WasmRuntime(config)")

    def target(self, server: WasmRuntime | Deployment, path: str, *, where: str = "") -> Target:
        """Bind to a runtime, or to what it serves next; ``path`` is the route's pattern."""
        return server.target(self.function, self.version, self.policy, route=path, where=where)

    def received(self, scope: Scope, place: Place) -> RequestTelemetry:
        """Note a request in its scope: its id and the template of its route. Return it for whoever listens."""
        runtime: WasmRuntime | None = self.runtime or scope.get(RUNTIME)
        if runtime is None:
            tell_route(scope, place.route)
            return NO_TELEMETRY
        adopt(scope, runtime.request_settings)
        tell_route(scope, place.route)
        route = place.whole(scope) if scope.get("root_path") else place.route
        return runtime.telemetry.exchange(scope, route, since=scope.get(COLD, 0))

    async def runtime_for(self, scope: Scope) -> tuple[WasmRuntime, int]:
        """Return the runtime of a request, and since when it waited for it to start: ns since the epoch, or 0."""
        runtime = self.runtime or scope.get(RUNTIME)
        if runtime is None:
            raise ConfigError(
                f"the route of function {self.function!r} has no runtime",
                hint="add WasmMiddleware to the app, or give the route runtime=",
            )
        if self.runtime is None or runtime.is_open or runtime.state == "closed":
            return runtime, scope.get(COLD, 0)
        since = scope[COLD] = time.time_ns()
        await runtime.start(for_request=True)
        return runtime, since
