"""The plain wasmtime-py recipe: WasiConfig, stdin bytes, stdout callback, a fresh Store, ``_start``."""

from __future__ import annotations

import ctypes
import json
import time
from pathlib import Path
from typing import Any

import wasmtime
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from wasmtime import _bindings as c_api

from ..layout import GUESTS, unique, work
from .calls import HEADERS, POST, time_calls

_EMPTY = b'{"path":"/","method":"GET","headers":{},"body":null,"query":{}}'


class Recipe:
    """One module, pre-instantiated, and the limits that a careful host sets."""

    def __init__(self) -> None:
        config = wasmtime.Config()
        config.epoch_interruption = True
        self.engine = wasmtime.Engine(config)
        self.linker = wasmtime.Linker(self.engine)
        self.linker.define_wasi()

    def load(self, module: wasmtime.Module) -> Any:
        return self.linker.instantiate_pre(module)

    def invoke(self, pre: Any, request: bytes) -> bytes:
        out: list[bytes] = []
        wasi = wasmtime.WasiConfig()
        stdin = c_api.wasm_byte_vec_t()
        data = ctypes.cast(ctypes.c_char_p(request), ctypes.POINTER(ctypes.c_ubyte))
        c_api.wasm_byte_vec_new(ctypes.byref(stdin), len(request), data)
        c_api.wasi_config_set_stdin_bytes(wasi.ptr(), ctypes.byref(stdin))
        wasi.stdout_custom = out.append
        store = wasmtime.Store(self.engine)
        store.set_wasi(wasi)
        store.set_limits(memory_size=16 << 20)
        store.set_epoch_deadline(1000)
        try:
            pre.instantiate(store).exports(store)["_start"](store)
        except wasmtime.ExitTrap as end:
            if end.code:
                raise
        finally:
            store.close()
        return b"".join(out)


class Routes:
    """The recipe in a Starlette route: called in place, which is the fastest way to do it."""

    def __init__(self) -> None:
        self._recipe = Recipe()
        functions = work() / "functions"
        self._modules = {
            name: self._recipe.load(self._module(functions / name / "v1" / f"{name}.wasm")) for name in ("job", "body")
        }

    def _module(self, file: Path) -> wasmtime.Module:
        return wasmtime.Module.from_file(self._recipe.engine, str(file))

    async def endpoint(self, request: Request) -> Response:
        document = {
            "path": request.url.path,
            "method": request.method,
            "headers": dict(request.headers),
            "query": dict(request.query_params),
            "body": (await request.body()).decode() or None,
        }
        module = self._modules[request.url.path[1:]]
        answer = json.loads(self._recipe.invoke(module, json.dumps(document).encode()))
        return Response(answer["body"], answer["status_code"], answer.get("headers"))


def make_app() -> Starlette:
    endpoint = Routes().endpoint
    return Starlette(routes=[Route(f"/{name}", endpoint, methods=["GET", "POST"]) for name in ("job", "body")])


def __getattr__(name: str) -> Any:
    if name == "app":
        return make_app()
    raise AttributeError(name)


class InProcess:
    """Bytes in, bytes out: no message is encoded or decoded."""

    def __init__(self, function: str = "job") -> None:
        self._recipe = Recipe()
        file = work() / "functions" / function / "v1" / f"{function}.wasm"
        self._pre = self._recipe.load(wasmtime.Module.from_file(self._recipe.engine, str(file)))
        self._request = json.dumps({"headers": HEADERS, **POST}).encode() if function == "edge-processor" else _EMPTY

    def _call(self) -> bytes:
        return self._recipe.invoke(self._pre, self._request)

    def round(self, calls: int) -> dict[str, float]:
        return time_calls(self._call, calls)

    def answer(self) -> str:
        body: str = json.loads(self._call())["body"]
        return body


class Cold:
    """From a module's bytes, or a file of compiled code, to its first answer; in milliseconds."""

    def __init__(self) -> None:
        self._recipe = Recipe()
        self._number = 0
        self._file = work() / "job.cwasm"
        module = wasmtime.Module(self._recipe.engine, (GUESTS / "job.wasm").read_bytes())
        self._file.write_bytes(module.serialize())

    def round(self) -> dict[str, float]:
        self._number += 1
        guest = unique((GUESTS / "job.wasm").read_bytes(), self._number)
        begin = time.perf_counter()
        self._recipe.invoke(self._recipe.load(wasmtime.Module(self._recipe.engine, guest)), _EMPTY)
        compiled = time.perf_counter()
        module = wasmtime.Module.deserialize_file(self._recipe.engine, str(self._file))
        self._recipe.invoke(self._recipe.load(module), _EMPTY)
        cached = time.perf_counter()
        return {"compile": (compiled - begin) * 1e3, "cached": (cached - compiled) * 1e3}
