"""Gives canaries copies of requests whose answers nobody gets: only how they did is counted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..engine.capi import EngineError
from ..engine.engine import OutOfInstances
from ..exceptions import FunctionError, RequestTooLarge
from ..invocation.isolated import run
from ..invocation.off_loop import TooBusy, check_size
from ..invocation.options import Caller, CallOptions
from ..messages import EdgeRequest
from ..sync.cancel_scope import Interrupted

if TYPE_CHECKING:
    from ..functions.target import Target
    from ..invocation.invoker import Invoker

logger = logging.getLogger("starlette_wasm")

MOST = 2
"""Copies that run at once in a runtime. Beyond them, a function may run one if none of its own runs."""
_LOG_SECONDS = 1.0


class Shadows:
    """The copies of one runtime. They take no place in a bulkhead, and are not in traces, metrics or the access log."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker
        self._next_line = 0.0
        self._running: Counter[str] = Counter()
        self.tasks: set[asyncio.Task[None]] = set()
        """The copies under way."""
        self.dropped = 0
        """Requests that were not copied as too many ran, and copies that are not evidence about the canary."""

    def copy(self, target: Target, request: EdgeRequest, client: tuple[str, int] | None) -> None:
        """Give ``target``, which is isolated and has a tally, a copy of a request that was answered.

        Returns at once, and raises nothing. While the runtime drains there are no copies.
        """
        if self._invoker.runtime.state != "open":
            return
        if len(self.tasks) >= MOST and self._running[target.name]:
            self.dropped += 1
            return
        # In a context of its own: no part of the request's span.
        task = asyncio.get_running_loop().create_task(
            self._run(target, replace(request, context=None), client), context=Context()
        )
        self.tasks.add(task)
        self._running[target.name] += 1
        task.add_done_callback(partial(self._ended, target.name))

    def _ended(self, function: str, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._running -= Counter({function: 1})

    async def _run(self, target: Target, request: EdgeRequest, client: tuple[str, int] | None) -> None:
        tally = target.tally
        assert tally is not None
        begin = time.monotonic()
        try:
            await check_size(target, request)
            options = CallOptions(Caller(client))
            response = await run(self._invoker, target, request, partial(self._invoker.guard, None), options)
        except FunctionError as error:
            tally.failed(time.monotonic() - begin, error)
            self._tell(error)
        except (RequestTooLarge, EngineError, OSError, OutOfInstances, TooBusy, Interrupted):
            self.dropped += 1
        except Exception:
            self.dropped += 1
            logger.exception("a copy of a request for %s was not run", target)
        else:
            tally.answered(time.monotonic() - begin, response.status_code)

    def _tell(self, error: FunctionError) -> None:
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + _LOG_SECONDS
            logger.warning("in the shadow: %s", error)
