"""Waiting for a task that was cancelled, without swallowing that the one who waits is cancelled, too."""

from __future__ import annotations

import asyncio
from typing import Any


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended. Raises what it has raised, unless that is its cancellation."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
