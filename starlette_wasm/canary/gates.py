"""What may be asked before each step: an HTTP endpoint of the operator, or a Python callable."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

from ..config.router import CanaryHook

logger = logging.getLogger("starlette_wasm")


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is about to be taken, from ``percent`` to ``next_percent``."""

    function: str
    stable_version: str
    canary_version: str
    percent: int
    next_percent: int


Gate: TypeAlias = Callable[[Step], bool | Awaitable[bool]]
"""Whether the step may be taken."""

T = TypeVar("T")

_GRACE_SECONDS = 1.0
GATE_SECONDS = 5.0
"""What a Python gate may take."""


async def check_gates(step: Step, hooks: Sequence[CanaryHook], gates: Sequence[Gate]) -> str | None:
    """Return what is against the step, None if nobody is. A gate that fails, or takes too long, is."""
    for number, hook in enumerate(hooks):
        try:
            async with asyncio.timeout(hook.timeout_ms / 1000 + _GRACE_SECONDS):
                problem = await _in_thread(partial(_post, hook, step))
        except TimeoutError:  # it sends a byte from time to time, and urllib waits for the next one
            problem = "did not answer in time"
        if problem is not None:
            # Anybody may read the answer in /ready and /metrics/canary, and a URL may hold a token.
            logger.debug("canary of %s: hooks[%d] (%s) %s", step.function, number, _host(hook.url), problem)
            return f"hooks[{number}] {problem}"
    for gate in gates:
        try:
            async with asyncio.timeout(GATE_SECONDS):
                # Of an async function the thread would make a coroutine, which nobody awaits if it comes too late.
                answer = gate(step) if inspect.iscoroutinefunction(gate) else await _in_thread(partial(gate, step))
                passed = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            # As above: the text of an error may hold values.
            logger.warning("canary of %s: the gate %s failed: %s", step.function, _name(gate), error)
            return f"the gate {_name(gate)} failed: {type(error).__name__}"
        if not passed:
            return f"the gate {_name(gate)} is closed"
    return None


async def _in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread of its own: one that hangs takes no place from others, and ends with the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.done():  # nobody waits any more
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(T, result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name="starlette-wasm-gate", daemon=True).start()
    return await done


def _post(hook: CanaryHook, step: Step) -> str | None:
    import http.client
    import urllib.error  # a third of a megabyte with what they import, for few
    import urllib.request

    body = json.dumps(asdict(step)).encode()
    request = urllib.request.Request(hook.url, body, {"content-type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=hook.timeout_ms / 1000):
            return None  # anything but 2xx raises
    except urllib.error.HTTPError as error:
        error.close()
        return f"answered {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"did not answer: {type(getattr(error, 'reason', error)).__name__}"


def _host(url: str) -> str:
    """Return what of a URL is not a secret: not who logs in, and not always the path."""
    return urlsplit(url).hostname or ""


def _name(gate: Gate) -> str:
    return getattr(gate, "__qualname__", type(gate).__name__)
