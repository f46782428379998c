"""extism: a plugin compiled once, a fresh instance of it for every call."""

from __future__ import annotations

import json
from typing import Any

import wasmtime
from extism import Plugin  # type: ignore[import-not-found]
from extism.extism import CompiledPlugin  # type: ignore[import-not-found]
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..layout import GUESTS
from .calls import time_calls

_compiled = CompiledPlugin(bytes(wasmtime.wat2wasm((GUESTS / "job.extism.wat").read_text())), wasi=False)


def call(request: bytes) -> Any:
    with Plugin(_compiled) as plugin:
        return plugin.call("handle", request)


async def job(request: Request) -> Response:
    document = {"path": request.url.path, "method": request.method, "headers": dict(request.headers)}
    return Response(call(json.dumps(document).encode()), media_type="application/json")


app = Starlette(routes=[Route("/job", job)])


class InProcess:
    """A plugin made, called and freed."""

    def __init__(self, function: str = "job") -> None:
        self._request = b'{"path":"/","method":"GET","headers":{},"body":null,"query":{}}'

    def round(self, calls: int) -> dict[str, float]:
        return time_calls(lambda: call(self._request), calls)

    def answer(self) -> str:
        text: str = call(self._request).decode()
        return text
