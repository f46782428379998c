"""An ordinary Starlette app to which Wasm functions were added.

Its own routes are below; ``wasm.yaml`` maps further paths to functions, and ``greet`` is a function with Python
around it. With ``OTEL_EXPORTER_OTLP_ENDPOINT`` in the environment it exports traces, metrics and logs. With a token
of 32 random characters as ``WASM_ADMIN_TOKEN`` the admin API and its dashboard are at ``/admin``.
"""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from starlette_wasm import (
    AdminToken,
    Call,
    ConfigError,
    WasmMiddleware,
    WasmRoute,
    WasmSettings,
    wasm_admin,
    wasm_route,
)

HERE = Path(__file__).parent
LARGE = ("go", "python")
"""Languages whose modules are too large to be kept with the sources: scripts/build-guests makes them."""

os.environ.setdefault("STARLETTE_WASM_LOG", "text")  # guests' stderr, canaries, progress: on stderr

# What the functions keep, shared by all workers.
STORE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "starlette-wasm-sample"
STORE.mkdir(mode=0o700, parents=True, exist_ok=True)


async def home(request: Request) -> Response:
    return PlainTextResponse("a native route; try /greet/Ada, or POST to /api/v1/process\n")


async def native(request: Request) -> Response:
    return JSONResponse({"native": True, "query": dict(request.query_params)})


def hello(language: str) -> Route | WasmRoute:
    """Make a function in one of the large languages; without its module, a route that names what builds it."""
    name = f"hello-{language}"
    if (HERE / "functions" / name / "v1" / f"{name}.wasm").is_file():
        return WasmRoute(f"/hello/{language}", function=name, policy="sample-large")

    async def missing(request: Request) -> Response:
        return PlainTextResponse(f"not built yet: run scripts/build-guests {name}, and start again\n", 503)

    return Route(f"/hello/{language}", missing)


def admin_token(token: str) -> AdminToken:
    """Return what is kept of the token; one that is too short ends the start with a line, not with a traceback."""
    try:
        return AdminToken.of(token, "admin", ["read", "operate", "deploy"])
    except ConfigError as error:
        raise SystemExit(f"WASM_ADMIN_TOKEN: {error}") from None


@wasm_route("/greet/{name}", function="greeter", policy="edge-none")
async def greet(request: Request, call: Call) -> Response:
    response = await call(request)
    response.headers["x-served-by"] = "sample-app"
    return response


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Take what is there once the functions are loaded from the garbage collector, which would look at it in vain."""
    gc.collect()
    gc.freeze()
    yield


middleware = [
    Middleware(
        WasmMiddleware,
        config=HERE / "wasm.yaml",
        settings=WasmSettings(
            trust_region_header=True,
            kv_url=f"sqlite:///{STORE / 'kv.db'}",
            canary_url=os.environ.get("STARLETTE_WASM_CANARY_URL") or f"sqlite:///{STORE / 'canary.db'}",
        ),
    )
]
if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
    from . import telemetry

    middleware.append(telemetry.export())  # inside: functions that are mapped have a server span of the runtime's

routes: list[BaseRoute] = [Route("/", home), Route("/native", native), *map(hello, LARGE), greet]
if token := os.environ.get("WASM_ADMIN_TOKEN"):
    routes.append(wasm_admin("/admin", tokens=[admin_token(token)]))

app = Starlette(routes=routes, middleware=middleware, lifespan=lifespan)
