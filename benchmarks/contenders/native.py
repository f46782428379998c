"""Starlette without this package: the same answers from Python, and from native code."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import json
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..layout import work
from .calls import HEADERS, POST, time_calls


async def job(request: Request) -> Response:
    return JSONResponse({"message": "hello"})


async def process(request: Request) -> Response:
    return JSONResponse(process_text(await request.body()))


async def body(request: Request) -> Response:
    return Response(await request.body(), media_type="text/plain")


async def mandelbrot(request: Request) -> Response:
    return JSONResponse(python_mandelbrot())


async def native_mandelbrot(request: Request) -> Response:
    return JSONResponse(await asyncio.to_thread(_library("mandelbrot")))


async def ping(request: Request) -> Response:
    return Response("pong")


async def native_rows(request: Request) -> Response:
    return JSONResponse(await asyncio.to_thread(_library("rows"), int(request.query_params["rows"])))


app = Starlette(
    routes=[
        Route("/job", job),
        Route("/process", process, methods=["GET", "POST"]),
        Route("/body", body, methods=["GET", "POST"]),
        Route("/mandelbrot", mandelbrot),
        Route("/native-mandelbrot", native_mandelbrot),
        Route("/rows", native_rows),
        Route("/ping", ping),
    ]
)


def process_text(text: bytes) -> dict[str, str]:
    """Do what edge-processor does with a hash."""
    document = json.loads(text)
    value = 5381
    for byte in document["data"].encode():
        value = (value * 33 + byte) & 0xFFFF_FFFF_FFFF_FFFF
    return {"result": f"{value:x}"}


def python_mandelbrot(side: int = 256, most: int = 200) -> int:
    total = 0
    for y in range(side):
        for x in range(side):
            cr, ci, zr, zi, n = 3.0 * x / side - 2.0, 2.0 * y / side - 1.0, 0.0, 0.0, 0
            while n < most and zr * zr + zi * zi <= 4.0:
                zr, zi = zr * zr - zi * zi + cr, 2.0 * zr * zi + ci
                n += 1
            total += n
    return total


_loaded: dict[str, Callable[..., int]] = {}


def _library(name: str) -> Callable[..., int]:
    function = _loaded.get(name)
    if function is None:
        function = _loaded[name] = getattr(ctypes.CDLL(str(work() / f"{name}.so")), name)
        function.restype = ctypes.c_uint
    return function


class InProcess:
    """The same logic called in Python: a request's JSON decoded, an answer's JSON encoded."""

    def __init__(self, function: str = "job") -> None:
        calls: dict[str, Callable[[], object]] = {
            "job": self._job,
            "edge-processor": self._process,
            "mandelbrot": python_mandelbrot,
            "native-mandelbrot": lambda: _library("mandelbrot")(),
            "sha256": lambda: int(hashlib.sha256(bytes(range(256)) * 4096).hexdigest()[:8], 16),
            "native-sha256": lambda: _library("sha256")(),
        }
        self._call = calls[function]
        self._request = json.dumps({"headers": HEADERS, **POST}).encode()

    def _job(self) -> str:
        return json.dumps({"message": "hello"})

    def _process(self) -> str:
        return json.dumps(process_text(json.loads(self._request)["body"]))

    def round(self, calls: int) -> dict[str, float]:
        return time_calls(self._call, calls)

    def answer(self) -> str:
        return str(self._call())
