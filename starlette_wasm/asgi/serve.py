"""From an ASGI request to a function and back: shared by the middleware and the routes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ..engine.fast_path import Completed, NotTaken, Started
from ..exceptions import FunctionError, WasmError
from ..functions.target import Target
from ..invocation.fast_path import COLD
from ..invocation.off_loop import LONGEST_WAIT, is_large_scope, off_loop, rendered
from ..invocation.options import Caller, CallOptions
from ..messages import EdgeRequest
from ..sync.cancel_scope import Interrupted
from ..telemetry import RequestTelemetry
from .body import gone_of, read_body
from .coalesce import send_in_one_write
from .problems import has_handler, send_gone, send_problem, with_request_id
from .scope import body_follows, fitted
from .templates import rule_template
from .tenants import ask, place_of, usage_of

if TYPE_CHECKING:
    from ..pipelines.plan import Pipeline
    from ..runtime.runtime import WasmRuntime


@dataclass(slots=True)
class Matched:
    """A request for which a rule or a route was found."""

    scope: Scope
    receive: Receive
    send: Send
    path: str
    """The path inside the mount."""
    params: dict[str, str]
    region: str
    exchange: RequestTelemetry
    route: str = ""
    """The path pattern for the guest's environment, if it is not the target's."""
    raises: bool = False
    """Whether faults are raised for which the app has an exception handler."""
    copied: bool = False
    """Whether the request is needed again, for a shadow copy; else its body may go to the guest as it comes."""


async def serve(
    runtime: WasmRuntime,
    target: Target | Pipeline,
    matched: Matched,
    *,
    follows: bool | None = None,
    tried: Completed | Started | NotTaken | None = None,
) -> EdgeRequest | None:
    """Answer a request with a function or a pipeline. Gives the request, if a guest has decided the answer.

    Faults become problem+json. ``tried`` is what the fast path gave, and ``follows`` what body_follows() gave; None if
    they were not asked. An answer of the fast path leaves no request.
    """
    if type(target) is Target and target.streams:
        from .streamed import stream  # which imports this

        return await stream(runtime, target, matched)
    scope, receive, exchange = matched.scope, matched.receive, matched.exchange
    path, params = matched.path, matched.params
    send = exchange.send(matched.send)
    request: EdgeRequest | None = None
    try:
        usage = await usage_of(runtime, scope) if runtime.tenancy.active else None
        ask(usage, target)
        limit = target.max_body
        body = b""
        found = tried
        if body_follows(scope, limit) if follows is None else follows:
            body = await read_body(runtime, receive, limit)
        with place_of(usage, target):
            if tried is None:
                found = runtime.fast_path.run(
                    target, scope, path, params, body, matched.region, exchange, matched.route
                )
            if type(found) is Completed:
                status, headers, content = found.status, found.headers, found.body
            else:
                started = found if isinstance(found, Started) else None
                with started or nullcontext():
                    request = await request_of(target, scope, body, path=path, params=params, waits=started is None)
                    caller = Caller(scope.get("client"), scope.get(COLD, 0), gone_of(scope, receive, body), exchange)
                    if isinstance(target, Target):
                        options = CallOptions(caller, matched.route, started=started)
                        response = await runtime.invoker.call(target, request, options)
                    else:
                        response = await runtime.call_pipeline(target, request, caller)
                assert request.context is not None
                status, headers, content = await rendered(target.tenant, response, scope["method"])
                headers = with_request_id(headers, request.context.request_id)
    except WasmError as error:
        exchange.failed(error)
        if matched.raises and has_handler(scope, error):
            raise
        await send_problem(runtime.debug, error, scope, send, request)
        return request if isinstance(error, FunctionError) else None
    except (ClientDisconnect, Interrupted):
        await send_gone(send)
        return None
    await send_in_one_write(receive, send, status, fitted(scope, headers), content)
    return request


async def request_of(
    target: Target | Pipeline, scope: Scope, body: bytes, *, path: str, params: Mapping[str, object], waits: bool
) -> EdgeRequest:
    """``EdgeRequest.from_scope()``, in a thread if the request is large.

    Not if a guest has begun, which ``waits`` denies: it holds an instance, and fast_path.c only takes a head that is
    cheap to read.
    """
    read = partial(EdgeRequest.from_scope, scope, body, path=path, params=params)
    if waits and is_large_scope(scope, body):
        limit = target.plan.limits.time if isinstance(target, Target) else LONGEST_WAIT
        request = await off_loop(target.tenant, read, limit)
    else:
        request = read()
    if scope.get("root_path") and (type(target) is not Target or target.protocol.name == "cgi"):
        request.mount = rule_template(scope, "")
    return request
