"""What an invocation came to, as an error of the package."""

from __future__ import annotations

import math

from ..binding.target import Target
from ..engine import layout
from ..engine.outcome import End, Outcome
from ..exceptions import (
    ExecutionTimeout,
    FunctionError,
    FunctionExited,
    FunctionTrapped,
    InvalidFunctionResponse,
    MemoryLimitExceeded,
)


def fault_of(target: Target, outcome: Outcome, limit: float) -> FunctionError | None:
    """The error that an outcome is; None where the guest ended well, whatever it printed.

    ``limit`` is the time that it had, in seconds.
    """
    who = (target.name, target.version)
    if outcome.end is End.OK:
        return None
    if outcome.end is End.TIMEOUT:
        return ExecutionTimeout(*who, limit_ms=math.ceil(limit * 1000))
    if outcome.end is End.EXIT:
        return FunctionExited(*who, code=outcome.exit_code)
    if outcome.end is End.MEMORY:
        pages = outcome.memory_bytes // layout.PAGE + outcome.refused_pages
        return MemoryLimitExceeded(*who, limit_pages=target.policy.max_memory_pages, asked_pages=pages)
    if outcome.end is End.OUTPUT:
        limit = target.policy.max_response_bytes
        return InvalidFunctionResponse(*who, problem=f"more than {limit} bytes (maxResponseBytes)", offset=limit)
    return FunctionTrapped(*who, reason=outcome.reason, frames=outcome.frames)
