"""``Await``: what a guest waits for in the host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .values import Value


@dataclass(frozen=True, slots=True)
class Await:
    """Something of the host that the guest waits for. ``begin`` is called on the event loop, if it is not too late."""

    begin: Callable[[], Awaitable[Value]]
