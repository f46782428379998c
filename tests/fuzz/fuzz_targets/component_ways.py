"""Components by way of C, and by Python alone, which says what is right."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any
from unittest.mock import patch

from starlette_wasm.components import module as module_
from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.module import ComponentModule
from starlette_wasm.engine import capi
from starlette_wasm.engine.native.library import native

from .ways import engine


def way(natively: bool) -> AbstractContextManager[Any]:
    """Return a context in which components are run with C, or without it."""
    return patch.object(module_, "native", native if natively else None)


@cache
def component(guest: str | bytes, natively: bool) -> ComponentModule:
    with way(natively):
        return ComponentModule(engine(), *_compiled(guest))


@cache
def _compiled(guest: str | bytes) -> tuple[bytes, dict[str, object]]:
    return compile_component(engine().ptr, capi.assemble(guest) if isinstance(guest, str) else guest)
