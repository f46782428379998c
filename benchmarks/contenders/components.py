"""This package with functions that are components, and one that is a core module beside them."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware

from starlette_wasm import WasmMiddleware, WasmSettings

from .. import peers
from ..layout import work


def make_app() -> Starlette:
    """Return all functions of the folder, each at its name."""
    folder = work()
    names = sorted(each.name for each in (folder / "functions").iterdir())
    rules = [{"pathPattern": f"/{name}", "functionName": name, "policy": "bench"} for name in names]
    config = {"functionsDir": str(folder / "functions"), "policiesDir": str(folder / "policies"), "rules": rules}
    settings = WasmSettings(cache_dir=peers.folder() / "aot", compile_cpu_s=300)
    return Starlette(middleware=[Middleware(WasmMiddleware, config=config, settings=settings)])


def __getattr__(name: str) -> Any:
    if name == "app":
        return make_app()
    raise AttributeError(name)
