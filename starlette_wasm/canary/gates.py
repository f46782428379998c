"""What may be asked before each step: an HTTP endpoint of the operator, or a Python callable."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

from ..config.router import CanaryHook


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

GATE_SECONDS = 5.0
"""What a Python gate may take."""


async def ask(step: Step, hooks: Sequence[CanaryHook], gates: Sequence[Gate]) -> str | None:
    """What is against the step; None where everybody lets it pass. A gate that fails, or takes too long, does not."""
    for hook in hooks:
        problem = await asyncio.to_thread(_post, hook, step)
        if problem is not None:
            return f"{hook.url} {problem}"
    for gate in gates:
        try:
            async with asyncio.timeout(GATE_SECONDS):
                answer = gate(step)
                passed = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            return f"the gate {_name(gate)} failed: {str(error) or type(error).__name__}"
        if not passed:
            return f"the gate {_name(gate)} is closed"
    return None


def _post(hook: CanaryHook, step: Step) -> str | None:
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
    except (OSError, ValueError) as error:
        return f"did not answer: {error}"


def _name(gate: Gate) -> str:
    return getattr(gate, "__qualname__", type(gate).__name__)
