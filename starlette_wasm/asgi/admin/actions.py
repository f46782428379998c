"""What the admin API does: canaries, weights, circuits, reload, drain."""

from __future__ import annotations

import math

from starlette.responses import JSONResponse, Response

from .access import Refused
from .call import AdminCall

CANARY_ACTIONS = ("start", "pause", "resume", "promote", "abort")
_MOST_SECONDS = 86_400.0


async def move_canary(call: AdminCall) -> Response:
    """Start, pause, resume, promote or abort a canary; ``{"full": true}`` promotes by all steps at once.

    With ``{"expected": {"status": ..., "weight": ...}}`` it is done only if the canary is still there, else 409.
    """
    action = call.request.path_params["action"]
    if action not in CANARY_ACTIONS:
        raise Refused(404, f"no such action; known are {', '.join(CANARY_ACTIONS)}")
    canaries, function = call.runtime.canaries, call.function
    if function not in canaries.all:
        raise Refused(404, f"{function} has no canary")
    given = await call.json()
    expected = given.get("expected")
    if expected is not None and not isinstance(expected, dict):
        raise Refused(422, 'expected must be an object, such as {"status": "running"}')
    if action == "promote":
        moved = await canaries.promote(function, full=given.get("full") is True, expected=expected)
    else:
        moved = await getattr(canaries, action)(function, expected=expected)
    return JSONResponse({"function": function, "status": moved.status, "weight": moved.percent, "reason": moved.reason})


async def shift(call: AdminCall) -> Response:
    """Give a version other weight for a while, in this process: ``{"from", "to", "percent", "seconds"}``.

    The rules have their own weights again after ``seconds``, a day at most.
    """
    given = await call.json()
    source, to, percent, seconds = (given.get(key) for key in ("from", "to", "percent", "seconds"))
    if not isinstance(source, str) or not isinstance(to, str) or source == to:
        raise Refused(422, "from and to must be two versions, as strings")
    if not isinstance(percent, int) or isinstance(percent, bool) or not 0 <= percent <= 100:
        raise Refused(422, "percent must be a whole number from 0 to 100")
    number = seconds if isinstance(seconds, int | float) and not isinstance(seconds, bool) else math.nan
    if not 0 < number <= _MOST_SECONDS:
        raise Refused(422, f"seconds must be a number up to {_MOST_SECONDS:.0f}")
    call.runtime.shifts.start(call.function, source, to, percent, float(number))
    return JSONResponse({"function": call.function, "from": source, "to": to, "percent": percent, "seconds": seconds})


async def unshift(call: AdminCall) -> Response:
    """Give the rules of a function their own weights again, at once."""
    call.runtime.shifts.end(call.function)
    return Response(status_code=204)


async def reset_circuit(call: AdminCall) -> Response:
    """Close a circuit: ``{"circuit": NAME}``, with a name that the list of circuits has."""
    name = (await call.json()).get("circuit")
    if not isinstance(name, str) or not call.identity.may("operate", name.partition(" ")[0]):
        raise Refused(403 if isinstance(name, str) else 422, "circuit must be the name of one of your circuits")
    if not call.runtime.deployment.pipelines.reset_circuit(name):
        raise Refused(404, "no such circuit")
    return JSONResponse({"circuit": name, "state": "closed"})


async def reload(call: AdminCall) -> Response:
    """Load the config, policies and functions anew; what is refused changes nothing."""
    await call.runtime.reload()
    return JSONResponse({"functions": len(call.runtime.deployment.functions)})


async def drain(call: AdminCall) -> Response:
    """Begin the drain of this process: ``/ready`` turns to 503, and what runs goes on for ``drain_timeout_ms``."""
    call.runtime.drain()
    return JSONResponse({"state": call.runtime.state}, 202)
