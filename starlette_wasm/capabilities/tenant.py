"""For whom a store or queue is asked: whose share of it is used."""

from __future__ import annotations

from contextvars import ContextVar

tenant: ContextVar[str] = ContextVar("starlette_wasm_tenant", default="")
"""Empty: the app itself."""

MAX_WAITING = 256
"""Calls of one tenant that may wait for a store or queue."""
