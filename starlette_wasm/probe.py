"""One look at whether a function works, which nobody is told of: no log, metrics, tally, or place in a bulkhead."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from .capabilities import Grants, Session
from .engine.capi import EngineError
from .engine.driver import Invocation
from .engine.instance import Instance
from .engine.plan import NO_STRINGS, Plan
from .faults import fault_of
from .functions.catalog import HealthCheck
from .invoker import environ_of
from .messages import EdgeRequest
from .policy import SandboxPolicy
from .protocols import ResponseError

if TYPE_CHECKING:
    from .invoker import Invoker
    from .target import Target

_NOTHING_GRANTED = Grants.of(SandboxPolicy())


def instantiate(plan: Plan) -> str | None:
    """Make an instance and drop it, without running anything of the guest; on the event loop, some 20 us.

    Gives what is wrong, or None. Raises OutOfInstances, which says nothing of the function.
    """
    try:
        instance = Instance(plan, b"")
        instance.make()
        instance.close()
    except (EngineError, OSError) as error:
        return str(error)
    return None


async def ask(invoker: Invoker, target: Target, check: HealthCheck) -> str | None:
    """Send a function its health check, with ``edge.call`` denied; its policy holds for the rest.

    Gives what is wrong, or None. Raises OutOfInstances, which says nothing of the function.
    """
    request = EdgeRequest(path=check.path, method=check.method, url=f"http://localhost{check.path}")
    context = request.context = invoker.context(target, {}, False)
    plan = target.plan
    limit = min(check.timeout_ms / 1000, plan.limits.time)
    context.deadline_ms = round(limit * 1000)
    deadline = time.monotonic() + limit
    session = Session(invoker.capabilities, _NOTHING_GRANTED, deadline=deadline) if target.grants is not None else None
    try:
        outcome = await Invocation(
            plan,
            target.protocol.encode(request),
            environ_of(target, request, context, "", None) if plan.module.reads_environ else NO_STRINGS,
        ).run(deadline, nullcontext, session)
        fault = fault_of(target, outcome, limit)
        if fault is not None:
            return str(fault).removeprefix(f"{target}: ").partition("\n")[0]
        response = await asyncio.to_thread(target.protocol.decode, outcome.stdout)
    except ResponseError as error:
        return f"its answer is no response: {error.problem}"
    except (EngineError, OSError) as error:
        return str(error)
    status = response.status_code
    if status == check.status if check.status is not None else status < 400:
        return None
    return f"it answered {status}, not {check.status or '200 to 399'}"
