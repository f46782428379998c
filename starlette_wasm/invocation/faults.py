"""The errors of the package for what became of an invocation."""

from __future__ import annotations

import errno
import math
import re

from ..engine import layout
from ..engine.capi import EngineError
from ..engine.engine import OutOfInstances
from ..engine.outcome import End, Outcome
from ..exceptions import (
    ExecutionTimeout,
    FunctionError,
    FunctionExited,
    FunctionOverloaded,
    FunctionTrapped,
    InvalidFunctionResponse,
    MemoryLimitExceeded,
)
from ..functions.target import Target
from ..sync.bulkhead import Full

REFUSED = (Full, OutOfInstances)
"""Raised if there is no place for an invocation."""
NOT_RUN = (*REFUSED, EngineError, OSError, MemoryError, RuntimeError)
"""Raised if a guest is not run; a RuntimeError may also be a fault of this package."""
_LACKS = {
    errno.ENOMEM: "memory",
    errno.EAGAIN: "threads",
    errno.EMFILE: "file descriptors of the process",
    errno.ENFILE: "file descriptors",
}
_SAYS = re.compile(r"[Cc]annot allocate memory|[Oo]ut of memory|os error 12\b|[Ff]ailed to (?:mmap|allocate)")


def host_lacks(error: BaseException | None) -> str | None:
    """Return what the host has too little of, if an error means that; the function is then not at fault."""
    while error is not None:
        lack = _lack(error)
        if lack is not None:
            return f"the host is out of {lack}"
        error = error.__cause__
    return None


def _lack(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError):
        return _LACKS.get(error.errno or 0)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "threads"
    if isinstance(error, EngineError) and _SAYS.search(str(error)):
        return "memory"
    return None


def fault_of(target: Target, outcome: Outcome, limit: float) -> FunctionError | None:
    """Return the error that an outcome is; None if the guest ended well, whatever it printed.

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


def failure_of(target: Target, error: Exception) -> FunctionOverloaded | FunctionTrapped | None:
    """Return the error for one of ``NOT_RUN``; None if that is a fault of this package."""
    lack = str(error) if isinstance(error, REFUSED) else host_lacks(error)
    if lack is not None:
        return FunctionOverloaded(target.name, lack, retry_after=max(1, math.ceil(target.bulkhead.timeout)))
    if isinstance(error, RuntimeError):
        return None
    return FunctionTrapped(target.name, target.version, reason="not run")  # such as a module that makes no instance
