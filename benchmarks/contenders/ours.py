"""This package: as an app with rules and routes, and without HTTP."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from starlette_wasm import Call, EdgeRequest, WasmMiddleware, WasmRuntime, wasm_route
from starlette_wasm.asgi.scope import RUNTIME

from ..layout import GUESTS, add_function, work
from .calls import HEADERS, POST, Loop, time_awaits

_PATHS = {
    "/job": ("job", "bench"),
    "/process": ("edge-processor", "bench"),
    "/body": ("body", "bench"),
    "/list": ("list", "bench"),
    "/rows": ("rows", "bench"),
    "/trusted-rows": ("rows", "bench-trusted"),
    "/mandelbrot": ("mandelbrot", "bench"),
    "/spin": ("spin", "bench"),
    "/spin-200ms": ("spin", "bench-200ms"),
    "/trap": ("trap", "bench"),
    "/exit3": ("exit3", "bench"),
    "/garbage": ("garbage", "bench"),
}


def config() -> dict[str, Any]:
    return {
        "functionsDir": str(work() / "functions"),
        "policiesDir": str(work() / "policies"),
        "rules": [
            {"pathPattern": path, "functionName": name, "policy": policy} for path, (name, policy) in _PATHS.items()
        ],
    }


@wasm_route("/route", function="job", policy="bench")
async def route(request: Request, call: Call) -> Response:
    response = await call(request)
    response.headers["x-served-by"] = "bench"
    return response


async def native(request: Request) -> Response:
    return JSONResponse({"message": "hello"})


async def ping(request: Request) -> Response:
    return Response("pong")


async def stats(request: Request) -> Response:
    runtime: WasmRuntime = request.scope[RUNTIME]
    return JSONResponse(runtime.stats())


def make_app(runtime: WasmRuntime | None = None) -> Starlette:
    of = {"config": config()} if runtime is None else {"runtime": runtime}
    routes = [route, Route("/native", native), Route("/stats", stats), Route("/ping", ping)]
    return Starlette(routes=routes, middleware=[Middleware(WasmMiddleware, **of)])


def make_one() -> Starlette:
    """Make an app with one function and no more, for the memory of an idle process."""
    functions = work() / "one"
    add_function(functions, "job", (GUESTS / "job.wasm").read_bytes())
    rules = [{"pathPattern": "/job", "functionName": "job"}]
    return Starlette(middleware=[Middleware(WasmMiddleware, config={"functionsDir": str(functions), "rules": rules})])


def __getattr__(name: str) -> Any:
    if name in ("app", "one"):
        return make_app() if name == "app" else make_one()
    raise AttributeError(name)


class InProcess:
    """``runtime.invoke``: a fresh instance, the message encoded, the answer decoded and checked."""

    def __init__(self, function: str = "job") -> None:
        self._loop = Loop()
        self._function = function
        self._request = (
            EdgeRequest(POST["path"], POST["method"], HEADERS, body=POST["body"])
            if function == "edge-processor"
            else EdgeRequest()
        )
        self._runtime = WasmRuntime(config())
        self._loop.run(self._runtime.start())

    def round(self, calls: int) -> dict[str, float]:
        return self._loop.run(time_awaits(self._invoke, calls))  # type: ignore[no-any-return]

    async def _invoke(self) -> object:
        return await self._runtime.invoke(self._function, self._request, policy="bench")

    def answer(self) -> str:
        response = self._loop.run(self._runtime.invoke(self._function, self._request, policy="bench"))
        return response.body  # type: ignore[no-any-return]
