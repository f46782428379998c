"""fast_path.c, and the Python code that says what is right, on the same request and on the same answer."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from types import NoneType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from opentelemetry.trace import SpanContext

from starlette_wasm import SandboxPolicy, WasmSettings
from starlette_wasm.asgi import scope as of_scope
from starlette_wasm.config.settings import RequestSettings
from starlette_wasm.engine import capi
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.fast_path import NO_SEGMENTS, Called, Completed, Encoded, FastPath, Inputs, Speech, Started
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.native.library import PAUSED
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import NO_STRINGS, Limits, Plan
from starlette_wasm.exceptions import RequestTooLarge
from starlette_wasm.functions.catalog import FunctionManifest
from starlette_wasm.invocation.context import context_of
from starlette_wasm.invocation.inputs import args_of, environ_of, own_environ
from starlette_wasm.messages import EdgeRequest, EdgeResponse, is_request_id
from starlette_wasm.protocols import ResponseError, get_protocol
from starlette_wasm.protocols.cgi import segments_of
from starlette_wasm.protocols.edge import EdgeProtocol
from starlette_wasm.protocols.headers import render, with_request_id
from starlette_wasm.telemetry.spans import CallSpans, header_of

_IMPORTS = "".join(
    f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) (result i32)))'
    for name, params in (
        ("fd_read", "i32 i32 i32 i32"),
        ("fd_write", "i32 i32 i32 i32"),
    )
)
_ENVIRON = "".join(
    f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param i32 i32) (result i32)))'
    for name in ("environ_sizes_get", "environ_get")
)
_READ = """(i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 983040))
           (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))"""
_WRITE = "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
_MEMORY = '(memory (export "memory") 16)'

ECHO = f'(module {_IMPORTS} {_MEMORY} (func (export "_start") {_READ} {_WRITE}))'
"""Prints its stdin, which is not an answer."""
ECHO_ENVIRON = f"""(module {_IMPORTS} {_ENVIRON} {_MEMORY} (func (export "_start")
    (drop (call $environ_sizes_get (i32.const 16) (i32.const 20)))
    (drop (call $environ_get (i32.const 1024) (i32.const 16384)))
    (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 8)) {_WRITE}
    (i32.store (i32.const 0) (i32.const 16384)) (i32.store (i32.const 4) (i32.load (i32.const 20))) {_WRITE}
    {_READ} {_WRITE}))"""
"""Prints how many variables there are and their size, the variables, and its stdin."""
ECHO_ARGS = ECHO_ENVIRON.replace("environ_sizes_get", "args_sizes_get").replace("environ_get", "args_get")
"""The same of its arguments."""
SAY = f"""(module {_IMPORTS} {_MEMORY}
    (func $digit (param $c i32) (result i32)
      (i32.sub (local.get $c) (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $c) (i32.const 58)))))
    (func (export "_start") (local $from i32) (local $to i32)
      {_READ}
      (local.set $from (i32.const {65536 + len('{"path":"')}))
      (local.set $to (i32.const 65536))
      (block $done (loop $next
        (br_if $done (i32.eq (i32.load8_u (local.get $from)) (i32.const 34)))
        (i32.store8 (local.get $to)
          (i32.or (i32.shl (call $digit (i32.load8_u (local.get $from))) (i32.const 4))
            (call $digit (i32.load8_u offset=1 (local.get $from)))))
        (local.set $from (i32.add (local.get $from) (i32.const 2)))
        (local.set $to (i32.add (local.get $to) (i32.const 1)))
        (br $next)))
      (i32.store (i32.const 4) (i32.sub (local.get $to) (i32.const 65536)))
      {_WRITE}))"""
"""Prints the bytes whose hexadecimal digits the path of its request has."""
SAYS = {
    "edge": SAY,
    "wws": SAY.replace(str(65536 + len('{"path":"')), str(65536 + len('{"url":"http://a.org/'))),
    "cgi": f'(module {_IMPORTS} {_MEMORY} (func (export "_start") {_READ} {_WRITE}))',
}
"""Print what compare_answer() gives them: in the path, or as the body."""

NAME, VERSION, TIMEOUT_MS = "f", "1", 5000
VARIABLES = (b"EDGE_FUNCTION=f", b"EMPTY=", "UMLAUT=ä".encode())
PLAIN_SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "query_string": b"",
    "headers": [(b"host", b"a.org")],
}
_NEW_ID = re.compile(r"[0-9a-f]{32}").fullmatch


@cache
def engine() -> Engine:
    return Engine.shared(EngineConfig())


@cache
def fast_path(guest: str, protocol: str = "edge", route: str = "/") -> tuple[FastPath, Plan]:
    plan = Plan(Module.compile(engine(), capi.assemble(guest)), Limits())
    segments = segments_of(route)
    speech = Speech(
        protocol,
        EdgeProtocol().end(NAME, VERSION, TIMEOUT_MS),
        route.encode(),
        NO_SEGMENTS if segments is None else segments,
    )
    return FastPath(plan, speech, VARIABLES), plan


@cache
def settings_of(region: str) -> RequestSettings:
    return RequestSettings.of(WasmSettings(region=region))


@cache
def target_of(protocol: str, route: str) -> Any:
    """What the oracles look at of a target."""
    return SimpleNamespace(
        name=NAME,
        version=VERSION,
        route=route,
        policy=SandboxPolicy(execution_timeout_ms=TIMEOUT_MS),
        protocol=get_protocol(protocol),
        environ=VARIABLES,
        function=SimpleNamespace(source=SimpleNamespace(manifest=FunctionManifest())),
    )


def rested(guest: str, protocol: str = "edge", route: str = "/") -> FastPath:
    """The fast path of a guest, of which no invocation before counts as slow: the machine may be busy elsewhere."""
    found, plan = fast_path(guest, protocol, route)
    plan.memory.cpu_score = 0
    return found


async def ended(started: Started) -> Outcome:
    """What comes of a guest that was left to Python."""
    return await started.invocation.run(time.monotonic() + TIMEOUT_MS / 1000, nullcontext)


def compare_request(
    scope: Any,
    body: Any,
    path: str,
    params: Any,
    region: str = "eu",
    *,
    environ: bool = False,
    span: SpanContext | None = None,
    protocol: str = "edge",
    route: str = "/",
) -> bool:
    """Whether fast_path.c took the request. Raises if the guest got anything else than from Python.

    ``span`` is one of the host's, of which the guest is told in place of the client's. With ``environ`` the guest shows
    its environment too, and in cgi its arguments.
    """
    request_id = ""
    for guest in (
        (ECHO_ENVIRON, ECHO_ARGS) if environ and protocol == "cgi" else (ECHO_ENVIRON,) if environ else (ECHO,)
    ):
        found = asyncio.run(_seen(rested(guest, protocol, route), scope, body, path, params, region, span))
        assert engine().state.live == 0
        if found is None:
            return False
        request_id, outcome = found
        request = EdgeRequest.from_scope(scope, body, path=path, params=params)
        target = target_of(protocol, route)
        context = request.context = context_of(settings_of(region), target, request.headers, cold=False)
        if is_request_id(request.headers.get("x-request-id", "")):
            assert request_id == context.request_id
        else:
            assert _NEW_ID(request_id)
            assert request_id != context.request_id
            context.request_id = request_id
        if span is not None:
            spans: Any = SimpleNamespace(context=span)
            request = CallSpans.hand_over(spans, request, context)
        expected = target.protocol.encode(request)
        if environ:
            client = scope.get("client")
            made = environ_of if guest is ECHO_ENVIRON else args_of
            given = (target, request, context, "", client) if made is environ_of else (target, request, "", client)
            block = made(*given)
            count = int.from_bytes(block[:4], "little")
            expected = block[:8] + block[8 + 4 * count :] + expected
        assert (outcome.end, outcome.stdout) == (End.OK, expected)
        if span is None:
            encoded = rested(guest, protocol, route).encode(scope, path, params, body, region)
            assert encoded is not None
            context.request_id = encoded.request_id
            assert encoded == _expected(fast_path(guest, protocol, route)[1], target, request, scope.get("client"))
            _compare_head(rested(guest, protocol, route), scope, body, path, params, region, encoded)
            seen = asyncio.run(_run(rested(guest, protocol, route), Inputs(*encoded[:3])))
            assert (seen.end, len(seen.stdout)) == (End.OK, len(outcome.stdout))
            assert seen.stdout.endswith(encoded.stdin)
    return True


def _compare_head(
    path_of: FastPath, scope: Any, body: Any, path: str, params: Any, region: str, encoded: Encoded
) -> None:
    """Raise if answer() takes a request that may have a body, or gives its guest anything else."""
    scope = {"http_version": "1.1", **scope}
    found = asyncio.run(_head(path_of, scope, path, params, region))
    assert engine().state.live == 0
    odd = any(
        name == b"expect" or (name == b"content-length" and not value.isdigit()) for name, value in scope["headers"]
    )
    assert (found is not None) == (_bodiless(scope) and not odd)
    if found is not None and not body:
        request_id, outcome = found
        assert outcome.end is End.OK
        assert outcome.stdout.endswith(encoded.stdin.replace(encoded.request_id.encode(), request_id.encode()))


def _bodiless(scope: Any) -> bool:
    """Whether Python finds that a request has no body, and that its head is not too large."""
    with patch.object(of_scope, "native", None):
        try:
            return not of_scope.body_follows(scope, 1 << 30)
        except RequestTooLarge:
            return False


async def _head(path_of: FastPath, scope: Any, path: str, params: Any, region: str) -> tuple[str, Outcome] | None:
    """What a guest got, with its id; None if C did not take the request."""
    found = path_of.answer(scope, path, params, None, region, None, None)
    if found is None and path_of._lend():
        found = path_of.answer(scope, path, params, None, region, None, None)
    if found is None:
        return None
    started = path_of.settled(found)
    assert isinstance(started, Started), "that was no answer"
    return started.request_id, await ended(started)


def compare_call(request: EdgeRequest, region: str = "eu", *, environ: bool = False, protocol: str = "edge") -> bool:
    """Whether fast_path.c took a call from Python. Raises if the guest got anything else than from Python."""
    found = asyncio.run(_called(rested(ECHO_ENVIRON if environ else ECHO, protocol), request, region))
    assert engine().state.live == 0
    if found is None:
        return False
    request_id, outcome = found
    target = target_of(protocol, "/")
    context = context_of(settings_of(region), target, request.headers, cold=False)
    if is_request_id(request.headers.get("x-request-id", "")):
        assert request_id == context.request_id
    else:
        assert _NEW_ID(request_id)
        context.request_id = request_id
    expected = target.protocol.encode(replace(request, context=context))
    if environ:
        block = own_environ(target, context.request_id, context.region, context.traceparent)
        expected = block[:8] + block[8 + 4 * int.from_bytes(block[:4], "little") :] + expected
    assert (outcome.end, outcome.stdout) == (End.OK, expected)
    return True


async def _called(path_of: FastPath, request: EdgeRequest, region: str) -> tuple[str, Outcome] | None:
    found = path_of.call(request, region)
    assert not isinstance(found, Called), "that was no answer"
    return (found.request_id, await ended(found)) if isinstance(found, Started) else None


def _expected(plan: Plan, target: Any, request: EdgeRequest, client: Any) -> tuple[bytes, bytes, int, str, str | None]:
    """What encode() is to give, made by Python."""
    context, environ, args = request.context, NO_STRINGS, b""
    assert context is not None
    if plan.module.reads_environ:
        environ = environ_of(target, request, context, "", client)
        assert target.protocol.name == "cgi" or environ == own_environ(
            target, context.request_id, context.region, context.traceparent
        )
    if plan.module.reads_args and target.protocol.name == "cgi":
        args = args_of(target, request, "", client)
    at = len(environ) if args else 0
    return target.protocol.encode(request), environ + args, at, context.request_id, context.traceparent


async def _run(path_of: FastPath, inputs: Inputs) -> Outcome:
    """What comes of a guest whose inputs are written."""
    found = path_of.run(inputs)
    assert found is not None
    if isinstance(found, Outcome):
        return found
    return await found.run(time.monotonic() + TIMEOUT_MS / 1000, nullcontext)


async def _seen(
    path_of: FastPath, scope: Any, body: Any, path: str, params: Any, region: str, span: SpanContext | None
) -> tuple[str, Outcome] | None:
    trace: tuple[str, str | None] | tuple[()] = () if span is None else header_of(span)
    found = path_of.dispatch(scope, path, params, body, region, *trace)
    assert not isinstance(found, Completed), "that was no answer"
    return (found.request_id, await ended(found)) if isinstance(found, Started) else None


def compare_answer(stdout: bytes, request_id: bytes = b"r-1", method: str = "GET", protocol: str = "edge") -> bool:
    """Whether fast_path.c took the answer. Raises where Python refuses it, or would have sent something else."""
    answer, outcome = asyncio.run(_said(stdout, request_id, method, protocol))
    assert engine().state.live == 0
    decoded = rested(SAYS[protocol], protocol).decode(stdout, request_id.decode(), method)
    if protocol != "cgi":
        _compare_called(stdout, protocol)
        if len(stdout) < 30_000:  # a longer one, whose path has it in hexadecimal, is too long a head
            assert asyncio.run(_answered_head(stdout, request_id, method, protocol)) == (answer and answer[:3])
    if answer is None:
        assert decoded is None
        assert outcome is not None
        assert (outcome.end, outcome.stdout) == (End.OK, stdout)
        return False
    try:
        response = get_protocol(protocol).decode(stdout)
    except ResponseError as error:
        raise AssertionError(f"fast_path.c took what is refused: {error}") from None
    status, headers, content = render(response, method, checked=True)
    assert answer[:3] == decoded == (status, with_request_id(headers, request_id.decode()), content)
    assert [type(each) for each in answer] == [int, list, bytes, int, int, NoneType, bool, int]
    assert 0 < answer.ran_ns < TIMEOUT_MS * 1_000_000
    assert answer.pages < 100
    return True


def _compare_called(stdout: bytes, protocol: str) -> None:
    """Raise if a caller in Python would get anything else than from Python."""
    called = asyncio.run(_answered(rested(SAYS[protocol], protocol), stdout))
    assert engine().state.live == 0
    if called is None:
        return
    expected = get_protocol(protocol).decode(stdout)
    found = EdgeResponse.of_guest(called.status, called.headers, called.body, called.declared)
    assert (found, found._length) == (expected, expected._length)
    assert list(found.headers) == list(expected.headers)


async def _answered(path_of: FastPath, stdout: bytes) -> Called | None:
    found = path_of.call(EdgeRequest(path=stdout.hex(), url=f"http://a.org/{stdout.hex()}"), "eu")
    if isinstance(found, Started):
        await ended(found)
    return found if isinstance(found, Called) else None


async def _answered_head(stdout: bytes, request_id: bytes, method: str, protocol: str) -> tuple[Any, ...] | None:
    """What answer() gives; None if it leaves the answer to Python."""
    headers = [*PLAIN_SCOPE["headers"], (b"x-request-id", request_id)]
    path = stdout.hex()
    scope = {**PLAIN_SCOPE, "method": method, "headers": headers, "http_version": "1.1", "path": f"/{path}"}
    for _ in range(1000):
        path_of = rested(SAYS[protocol], protocol)
        found = path_of.answer(scope, path, {}, None, "eu", None, None)
        if found is None:
            assert path_of._lend()
            continue
        if len(found) == 3:
            return found
        settled = path_of.settled(found)
        if isinstance(settled, Completed):
            return settled[:3]
        paused = settled.invocation._begun == PAUSED  # the machine is busy elsewhere
        await ended(settled)
        if not paused:
            return None
    raise AssertionError("no guest has ended in its first poll")


async def _said(
    stdout: bytes, request_id: bytes, method: str, protocol: str
) -> tuple[Completed | None, Outcome | None]:
    headers = [*PLAIN_SCOPE["headers"], (b"x-request-id", request_id)]
    scope = {**PLAIN_SCOPE, "method": method, "headers": headers}
    path, body = stdout.hex(), b""
    if protocol == "wws":
        scope["path"] = f"/{path}"
    elif protocol == "cgi":
        body = stdout
    for _ in range(1000):
        found = rested(SAYS[protocol], protocol).dispatch(scope, path, {}, body, "eu")
        if isinstance(found, Completed):
            return found, None
        assert isinstance(found, Started)
        assert found.request_id.encode() == request_id
        paused = found.invocation._begun == PAUSED  # the machine is busy elsewhere, which says nothing of the answer
        outcome = await ended(found)
        if not paused:
            return None, outcome
    raise AssertionError("no guest has ended in its first poll")
