"""Which runtime a log record comes from: several may share a process, and its loggers."""

from __future__ import annotations

from contextvars import ContextVar

RUNTIME: ContextVar[object | None] = ContextVar("starlette_wasm_runtime", default=None)
"""The runtime that runs a function in this context; None outside of calls."""
