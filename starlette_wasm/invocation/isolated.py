"""Invocations with ``edge.call`` denied without any telemetry: no log, metrics, tally, or place in a bulkhead."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..binding.target import NOTHING_GRANTED, Target
from ..capabilities import Session
from ..components.invocation import begin
from ..engine.capi import EngineError
from ..engine.engine import OutOfInstances
from ..engine.invocation import Guard
from ..engine.plan import NO_STRINGS, Plan
from ..exceptions import FunctionError
from ..functions.catalog import HealthCheck
from ..messages import EdgeContext, EdgeRequest, EdgeResponse
from ..protocols import ResponseError
from .faults import fault_of, host_lacks
from .invoker import decoded, environ_of
from .off_loop import is_large, off_loop

if TYPE_CHECKING:
    from .invoker import Invoker


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a function. The text of an error may hold what the guest wrote, or values of the host."""

    public: str
    """For an endpoint without authentication: the kind of fault."""
    detail: str
    """For the log."""

    def __str__(self) -> str:
        return self.detail


def instantiate(plan: Plan) -> Problem | None:
    """Make an instance and drop it, without running anything of the guest; on the event loop some 20 us.

    For a slow plan it may take long, and belongs in a thread. Gives what is wrong, or None. Raises OutOfInstances,
    which says nothing of the function.
    """
    try:
        instance = begin(plan, b"")
        instance.make()
        instance.close()
    except (EngineError, OSError, MemoryError) as error:
        return _fault(error)
    return None


def _fault(error: Exception) -> Problem:
    """What is wrong with the function. Raises OutOfInstances if it is the host that lacks something."""
    lack = host_lacks(error)
    if lack is not None:
        raise OutOfInstances(lack) from error
    return Problem("no instance of it can be made", str(error))


async def ask(invoker: Invoker, target: Target, check: HealthCheck) -> Problem | None:
    """Send a function its health check; its policy holds, but for ``edge.call``.

    Return what is wrong, or None. Raises OutOfInstances, which is not the function's fault.
    """
    request = EdgeRequest(path=check.path, method=check.method, url=f"http://localhost{check.path}")
    try:
        response = await run(invoker, target, request, nullcontext, timeout=check.timeout_ms / 1000)
    except FunctionError as error:
        return Problem(error.title, str(error).removeprefix(f"{target}: ").partition("\n")[0])
    except ResponseError as error:
        return Problem("its answer is not a response", f"its answer is not a response: {error.problem}")
    except (EngineError, OSError, MemoryError) as error:
        return _fault(error)
    status = response.status_code
    if status == check.status if check.status is not None else status < 400:
        return None
    wrong = f"it answered {status}, not {check.status or '200 to 399'}"
    return Problem(wrong, wrong)


async def run(
    invoker: Invoker,
    target: Target,
    request: EdgeRequest,
    guard: Guard,
    *,
    client: tuple[str, int] | None = None,
    timeout: float = math.inf,
) -> EdgeResponse:
    """``timeout`` bounds the time in the guest, in seconds, if it is less than the policy's.

    Raises FunctionError, ResponseError, EngineError, OSError, OutOfInstances, and what ``guard`` does.
    """
    context = request.context = invoker.context(target, request.headers, False)
    plan = target.plan
    limit = min(timeout, plan.limits.time)
    context.deadline_ms = round(limit * 1000)
    deadline = time.monotonic() + limit
    session = Session(invoker.capabilities, NOTHING_GRANTED, deadline=deadline) if target.grants is not None else None
    inputs = partial(_inputs, target, request, context, client)
    stdin, environ = await off_loop(target.tenant, inputs) if is_large(request) else inputs()
    outcome = await begin(plan, stdin, environ).run(deadline, guard, session)
    fault = fault_of(target, outcome, limit)
    if fault is not None:
        raise fault
    return await decoded(target, outcome.stdout)


def _inputs(
    target: Target, request: EdgeRequest, context: EdgeContext, client: tuple[str, int] | None
) -> tuple[bytes, bytes]:
    reads = target.plan.module.reads_environ
    environ = environ_of(target, request, context, "", client) if reads else NO_STRINGS
    return target.protocol.encode(request), environ
