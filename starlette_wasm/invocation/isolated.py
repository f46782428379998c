"""Invocations with ``edge.call`` denied without any telemetry: no log, metrics, tally, or place in a bulkhead."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..components.kinds import begin
from ..engine.capi import EngineError
from ..engine.engine import OutOfInstances
from ..engine.invocation import Guard
from ..engine.plan import Plan
from ..exceptions import FunctionError, InvalidFunctionResponse
from ..functions.catalog import HealthCheck
from ..functions.target import Target
from ..messages import EdgeRequest, EdgeResponse
from .faults import host_lacks
from .off_loop import TooBusy
from .options import DEFAULT_OPTIONS, CallOptions
from .request_execution import RequestExecution

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
    """Return what is wrong with the function. Raises OutOfInstances if it is the host that lacks something."""
    lack = host_lacks(error)
    if lack is not None:
        raise OutOfInstances(lack) from error
    return Problem("no instance of it can be made", str(error))


async def check_health(invoker: Invoker, target: Target, check: HealthCheck) -> Problem | None:
    """Send a function its health check; its policy holds, but for ``edge.call``.

    Return what is wrong, or None. Raises OutOfInstances, which is not the function's fault.
    """
    request = EdgeRequest(path=check.path, method=check.method, url=f"http://localhost{check.path}")
    try:
        response = await run(invoker, target, request, nullcontext, CallOptions(timeout=check.timeout_ms / 1000))
    except InvalidFunctionResponse as error:
        return Problem("its answer is not a response", f"its answer is not a response: {error.problem}")
    except FunctionError as error:
        return Problem(error.title, str(error).removeprefix(f"{target}: ").partition("\n")[0])
    except TooBusy as error:
        raise OutOfInstances(str(error)) from None
    except (EngineError, OSError, MemoryError) as error:
        return _fault(error)
    status = response.status_code
    if status == check.status if check.status is not None else status < 400:
        return None
    wrong = f"it answered {status}, not {check.status or '200 to 399'}"
    return Problem(wrong, wrong)


async def run(
    invoker: Invoker, target: Target, request: EdgeRequest, guard: Guard, options: CallOptions = DEFAULT_OPTIONS
) -> EdgeResponse:
    """Run one invocation that may ask nothing of the host, and that nobody hears of.

    Raises FunctionError, EngineError, OSError, MemoryError, OutOfInstances, TooBusy, and what ``guard`` raises.
    """
    runtime = invoker.runtime

    async def nested(callee: Target, asked: EdgeRequest, given: CallOptions) -> EdgeResponse:
        return await run(invoker, callee, asked, nullcontext, given)

    execution = RequestExecution(target, request, runtime.request_settings, nested, options)
    grants = None if target.grants is None else target.grants.nothing()
    return await execution.response(await execution.run(runtime.capabilities, grants, guard))
