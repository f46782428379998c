"""Refuses event loops that the engine cannot run on."""

from __future__ import annotations

import asyncio
import sys

from ..exceptions import ConfigError


def require_asyncio() -> None:
    """Raise ConfigError outside of asyncio, such as under trio, which Starlette itself supports."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        other = "trio" if "trio" in sys.modules else "something else"
        raise ConfigError(
            f"starlette-wasm runs on asyncio, and this server runs on {other}",
            hint="start it with asyncio or uvloop, such as hypercorn -k asyncio",
        ) from None
