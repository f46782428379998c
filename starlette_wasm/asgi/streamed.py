"""Requests that a ``wasi:http`` handler answers as they come, and the choice of those."""

from __future__ import annotations

import time

from starlette.requests import ClientDisconnect
from starlette.types import Scope

from ..components.http_exchange import HttpExchange
from ..engine.fast_path import Completed, NotTaken, Started
from ..exceptions import FunctionError, WasmError
from ..functions.target import Target
from ..invocation.fast_path import COLD
from ..invocation.options import Caller, CallOptions
from ..messages import EdgeRequest
from ..runtime.runtime import WasmRuntime
from ..sync.cancel_scope import Interrupted
from .answer_sender import AnswerSender
from .body import read_body, read_first_part
from .body_feed import BodyFeed
from .coalesce import send_in_one_write
from .problems import has_handler, send_gone, send_problem
from .scope import body_follows, fitted, header
from .serve import Matched, request_of
from .tenants import hold_slot, take_request, usage_of


async def stream(
    runtime: WasmRuntime, target: Target, matched: Matched, tried: Completed | Started | NotTaken | None = None
) -> EdgeRequest | None:
    """Serve a request as serve() does, but with the body coming, and the answer leaving, while the guest runs.

    ``tried`` is as for serve().

    A fault behind the head of an answer is raised: the server then cuts the connection, so that nobody takes what was
    sent for the whole.
    """
    scope, receive, send = matched.scope, matched.receive, matched.exchange.send(matched.send)
    request: EdgeRequest | None = None
    sender: AnswerSender | None = None
    started = tried if isinstance(tried, Started) else None
    try:
        usage = await usage_of(runtime, scope) if runtime.tenancy.active else None
        take_request(usage, target)
        follows, body, began = body_follows(scope, target.max_body), b"", time.monotonic()
        if follows and matched.copied:
            follows, body = False, await read_body(runtime, receive, target.max_body)
        elif follows and (declared := _declared(scope)) is not None:
            body, follows = await read_first_part(runtime, receive, target.max_body, declared)
        if tried is None and not follows and usage is None and not matched.copied:
            tried = runtime.fast_path.run(
                target, scope, matched.path, matched.params, body, matched.region, matched.exchange, matched.route
            )
        if type(tried) is Completed:
            await send_in_one_write(receive, send, tried.status, fitted(scope, tried.headers), tried.body)
            return None
        started = tried if isinstance(tried, Started) else started
        content = body if matched.copied else b""
        request = await request_of(
            target, scope, content, path=matched.path, params=matched.params, waits=started is None
        )
        limit_ms, waited = runtime.settings.body_timeout_ms, time.monotonic() - began
        exchange = HttpExchange(most_out=target.policy.max_response_bytes, patience=limit_ms / 1000)
        exchange.request.put(body)
        feed = BodyFeed(exchange, receive, target.max_body, limit_ms, waited)
        sender = AnswerSender(exchange, scope, receive, send, request, feed.gone)
        expects = header(scope, b"expect") is not None
        caller = Caller(scope.get("client"), scope.get(COLD, 0), feed.wait_until_gone, matched.exchange, exchange)
        with hold_slot(usage, target):
            async with feed.running(follows=follows, expects=expects):
                await _call(runtime, target, request, CallOptions(caller, matched.route, started=started), sender)
    except WasmError as error:
        matched.exchange.failed(error)
        if (sender is not None and sender.begun) or (matched.raises and has_handler(scope, error)):
            raise
        context = None if request is None else request.context
        await send_problem(runtime.debug, error, scope, send, None if context is None else context.request_id)
        return request if isinstance(error, FunctionError) else None
    except (ClientDisconnect, Interrupted):
        if sender is None or not sender.begun:
            await send_gone(send)
        return None
    finally:
        if started is not None:
            started.invocation.drop()
    return request


def _declared(scope: Scope) -> int | None:
    """Return the length of a body that the client sends at once: 100 Continue is not expected. None: it may not."""
    found = None
    for name, value in scope["headers"]:
        if name == b"expect":
            return None
        if name == b"content-length" and value.isdigit():
            found = int(value)
    return found


async def _call(
    runtime: WasmRuntime, target: Target, request: EdgeRequest, options: CallOptions, sender: AnswerSender
) -> None:
    """Run the guest, and send what it answers."""
    exchange = options.caller.stream
    assert exchange is not None
    try:
        await runtime.invoker.call(target, request, options)
    except BaseException as error:
        if not exchange.finished or not isinstance(error, WasmError | Interrupted):
            await sender.stop()
            raise
        # A fault of a guest that has answered is in the log, and changes nothing of the answer.
    await sender.complete()
