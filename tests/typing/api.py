"""A user's file, which is only type-checked: tests/test_typing.py runs mypy and pyright over it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import assert_type

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from starlette_wasm import (
    Call,
    EdgeRequest,
    EdgeResponse,
    ExecutionTimeout,
    FunctionError,
    Handler,
    SandboxPolicy,
    WasmMiddleware,
    WasmRoute,
    WasmRuntime,
    WasmSettings,
    wasm_endpoint,
    wasm_route,
)


@wasm_route("/greet/{name}", function="greeter", policy="edge-strict", methods=["GET"])
async def greet(request: Request, call: Call) -> Response:
    try:
        response = await call(request)
    except ExecutionTimeout as error:
        assert_type(error.function, str)
        return JSONResponse({"late": True})
    assert_type(response, Response)
    response.headers["x-served-by"] = "shop"
    return response


async def handler(request: Request, call: Call) -> Response:
    return await call(EdgeRequest(path="/x", method="GET"))


checked: Handler = handler
assert_type(greet, WasmRoute)


async def report(request: Request) -> Response:
    runtime: WasmRuntime = request.app.state.wasm
    try:
        answer = await runtime.invoke("report", EdgeRequest(path="/", method="POST", body="{}"))
    except FunctionError as error:
        return JSONResponse({"error": str(error)}, error.status)
    assert_type(answer, EdgeResponse)
    assert_type(answer.status_code, int)
    return Response(answer.body, answer.status_code)


def same(awaitable: Awaitable[Response]) -> Awaitable[Response]:
    return awaitable


settings = WasmSettings(region="eu-west-1")
policy = SandboxPolicy(name="p", max_memory_pages=64)
assert_type(policy.max_memory_pages, int)
app = Starlette(
    routes=[
        greet,
        WasmRoute("/raw", function="hello"),
        Route("/end", wasm_endpoint("hello")),
        Route("/report", report),
    ],
    middleware=[Middleware(WasmMiddleware, config="wasm.yaml", settings=settings)],
)
