"""Answers one ASGI request with a function or a pipeline, for the middleware and the routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ..engine.fast_path import Completed, NotTaken, Started
from ..exceptions import FunctionError, WasmError
from ..functions.target import Target
from ..invocation.execution import EncodedRequest
from ..invocation.fast_path import COLD
from ..invocation.off_loop import LONGEST_WAIT, is_large_scope, off_loop, rendered
from ..invocation.options import Caller, CallOptions
from ..messages import EdgeRequest
from ..protocols.headers import with_request_id
from ..sync.cancel_scope import Interrupted
from ..telemetry import RequestTelemetry
from .body import gone, read_body
from .coalesce import send_in_one_write
from .problems import has_handler, send_gone, send_problem
from .scope import SENT_AS, Headers, body_follows, fitted
from .templates import rule_template
from .tenants import hold_slot, take_request, usage_of

if TYPE_CHECKING:
    from ..pipelines.plan import Pipeline
    from ..runtime.runtime import WasmRuntime


Answer = tuple[int, Headers, bytes]


@dataclass(slots=True, eq=False)
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
    """Whether a shadow copy will need the whole request; if not, a guest may get the body as it arrives."""


async def serve(
    runtime: WasmRuntime,
    target: Target | Pipeline,
    matched: Matched,
    *,
    follows: bool | None = None,
    tried: Started | NotTaken | None = None,
) -> EdgeRequest | None:
    """Answer a request with a function or a pipeline. Faults become problem+json.

    ``tried`` is the result of the fast path, and ``follows`` that of body_follows(); None if it was not called.

    Return the EdgeRequest for a shadow copy if a guest has decided the answer. None for faults of the host, for clients
    that went away, and where C alone handled the request.
    """
    if target.streams:
        from .streamed import stream  # which imports this

        assert isinstance(target, Target)
        return await stream(runtime, target, matched, tried)
    scope, receive, exchange = matched.scope, matched.receive, matched.exchange
    send = exchange.send(matched.send)
    answering = _Answering(runtime, target, matched)
    try:
        usage = await usage_of(runtime, scope) if runtime.tenancy.active else None
        if usage is not None:
            take_request(usage, target)
        limit = target.max_body
        body = b""
        if body_follows(scope, limit) if follows is None else follows:
            body = await read_body(runtime, receive, limit)
        if usage is None:
            found = answering.at_once(body) if tried is None and exchange.idle else tried
            status, headers, content = found if isinstance(found, tuple) else await answering.answer(body, found)
        else:
            with hold_slot(usage, target):
                status, headers, content = await answering.answer(body, tried)
    except WasmError as error:
        exchange.failed(error)
        if matched.raises and has_handler(scope, error):
            raise
        await send_problem(runtime.debug, error, scope, send, answering.request_id)
        return answering.request if isinstance(error, FunctionError) else None
    except (ClientDisconnect, Interrupted):
        await send_gone(send)
        return None
    if SENT_AS in scope:
        headers = fitted(scope, headers)
    await send_in_one_write(receive, send, status, headers, content)
    return answering.request


class _Answering:
    """One request on its way to a function or a pipeline and back, once its body is there."""

    __slots__ = ("_encoded", "_matched", "_runtime", "_target", "request")

    def __init__(self, runtime: WasmRuntime, target: Target | Pipeline, matched: Matched) -> None:
        self._runtime = runtime
        self._target = target
        self._matched = matched
        self._encoded: EncodedRequest | None = None
        self.request: EdgeRequest | None = None
        """The request, if it was not for C alone."""

    @property
    def request_id(self) -> str | None:
        """What the guest got; None if there is none."""
        if self._encoded is not None:
            return self._encoded.request_id
        context = None if self.request is None else self.request.context
        return None if context is None else context.request_id

    def at_once(self, body: bytes) -> Answer | Started | None:
        """Answer on the fast path, if nobody listens. Return its guest if it has begun one, and gives no answer."""
        matched = self._matched
        found = self._runtime.fast_path.answer(
            self._target, matched.scope, matched.path, matched.params, body, matched.region, matched.exchange.trace,
            matched.route,
        )  # fmt: skip
        return None if isinstance(found, NotTaken) else found

    async def answer(self, body: bytes, tried: Started | NotTaken | None) -> Answer:
        """Return the answer; ``tried`` is as for serve(). Raises what Invoker.call() does."""
        runtime, target, matched = self._runtime, self._target, self._matched
        scope = matched.scope
        given = target, scope, matched.path, matched.params, body, matched.region, matched.exchange, matched.route
        if tried is None:
            found = runtime.fast_path.run(*given)
            if type(found) is Completed:
                return found.status, found.headers, found.body
            tried = found if isinstance(found, Started) else None
        if isinstance(tried, Started):
            with tried:
                return await self._respond(body, tried)
        encoded = self._encoded = None if matched.copied else runtime.fast_path.encode(*given)
        if encoded is None:
            return await self._respond(body, None)
        assert isinstance(target, Target), "a pipeline takes requests"
        options = partial(self._options, body)
        return await runtime.invoker.answer(target, encoded, scope["method"], matched.region, options)

    def _options(self, body: bytes, started: Started | None = None) -> CallOptions:
        """Return who waits for the answer, and what else a call is given."""
        matched = self._matched
        on_disconnect = partial(gone, matched.scope, matched.receive, bool(body))
        caller = Caller(matched.scope.get("client"), matched.scope.get(COLD, 0), on_disconnect, matched.exchange)
        return CallOptions(caller, matched.route, started=started)

    async def _respond(self, body: bytes, started: Started | None) -> Answer:
        """Answer with objects for the request and the response, in Python."""
        runtime, target, matched = self._runtime, self._target, self._matched
        scope = matched.scope
        request = self.request = await request_of(
            target, scope, body, path=matched.path, params=matched.params, waits=started is None
        )
        options = self._options(body, started)
        if isinstance(target, Target):
            response = await runtime.invoker.call(target, request, options)
        else:
            response = await runtime.call_pipeline(target, request, options.caller)
        assert request.context is not None
        status, headers, content = await rendered(target.tenant, response, scope["method"])
        return status, with_request_id(headers, request.context.request_id), content


async def request_of(
    target: Target | Pipeline, scope: Scope, body: bytes, *, path: str, params: Mapping[str, object], waits: bool
) -> EdgeRequest:
    """Return the EdgeRequest of a scope, made in a thread if it is large and ``waits`` is true.

    Pass ``waits=False`` once a guest has begun: it holds an instance, and its head is cheap to read, or fast_path.c
    would not have taken it.
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
