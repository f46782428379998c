"""Whole requests of a warm component, through component_path.c: the answer is the one that comes from Python.

One guest is of the world edge. It gives back the request that it has read, which is not an answer, or the bytes whose
hexadecimal digits the path has, and may trap, grow, spoil its memory, or return what lies outside. The other is a
handler of ``wasi:http`` that carries out the script in its path, and prints what it reads of its request.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.fast_path import ComponentFastPath
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.engine.fast_path import Completed, Speech, Started
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits
from starlette_wasm.invocation.context import context_of
from starlette_wasm.invocation.inputs import own_environ
from starlette_wasm.messages import EdgeRequest
from starlette_wasm.protocols import ResponseError
from starlette_wasm.protocols.edge import EdgeProtocol
from starlette_wasm.protocols.headers import render, with_request_id

from .component_ways import component, way
from .source import Source
from .ways import NAME, TIMEOUT_MS, VARIABLES, VERSION, settings_of, target_of

EXAMPLES = 60
"""In the test suite: each is two invocations, one of them in Python alone."""
_ANSWER = "f02r23b34w45o13B50F40."
"""A script that ends with an answer."""
TOKENS = (b"cookie", b"te", b"x-a", b"traceparent", b"a=1&b=2", b"%2F", b"%C3%A9", b"+", b'"', b"\\", b"\xc3\xa9",
          b"\xff", b'{"status_code":200,"headers":{"a":"b"},"body":"c"}', b'{"status_code":204}',
          b'"is_base64_encoded":true', _ANSWER.encode(), b"D02N23d33d34j38Y30I24J40J40", b"m00s00u00p00h02e20",
          b"E00A00", b"h02r23o13.")  # fmt: skip
_SECONDS, _REGION, _ID = 60, "eu", "r-1"
_NAMES = (b"host", b"cookie", b"traceparent", b"tracestate", b"x-a", b"accept", b"te", b"upgrade", b"content-type")
_HEADERS = ((), ("x-a",), ("content-type", "set-cookie"), ("content-length",), ("connection",))
_HANDLER = (Path(__file__).parents[2] / "guests" / "components" / "http_calls.wasm").read_bytes()
_PATH = '{"path":"'
_ODD = "".join(
    f"(if (i32.eq (local.get $first) (i32.const {ord(letter)})) (then {what}))"
    for letter, what in {
        "t": "unreachable",
        "g": "(drop (memory.grow (i32.const 3)))",
        "G": "(drop (memory.grow (i32.const 65000)))",
        "s": "(memory.fill (i32.const 1024) (i32.const 255) (i32.const 60000))",
        "o": "(return (i32.const 0x7ffffff0))",
        "u": "(return (i32.const 18))",
        "l": "(i32.store (i32.const 20) (i32.const 0x7fffffff)) (return (i32.const 16))",
        "e": "(i32.store (i32.const 20) (i32.const 0)) (return (i32.const 16))",
        "p": "(global.set $after (i32.const 1))",
    }.items()
)
_EDGE = f"""(component
 (core module $m
  (memory (export "mem") 32)
  (global $after (mut i32) (i32.const 0)) (global $uses (mut i32) (i32.const 0))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 131072))
  (func (export "post") (param i32) (if (global.get $after) (then unreachable)))
  (func $digit (param $c i32) (result i32)
   (i32.and (i32.sub (local.get $c) (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $c) (i32.const 58))))
    (i32.const 15)))
  (func $say (param $from i32) (local $to i32)
   (local.set $to (i32.const 65536))
   (block $done (loop $next
    (br_if $done (i32.lt_u (i32.load8_u (local.get $from)) (i32.const 48)))
    (i32.store8 (local.get $to) (i32.or (i32.shl (call $digit (i32.load8_u (local.get $from))) (i32.const 4))
     (call $digit (i32.load8_u offset=1 (local.get $from)))))
    (local.set $from (i32.add (local.get $from) (i32.const 2)))
    (local.set $to (i32.add (local.get $to) (i32.const 1))) (br $next)))
   (i32.store (i32.const 16) (i32.const 65536))
   (i32.store (i32.const 20) (i32.sub (local.get $to) (i32.const 65536))))
  (func (export "handle") (param $at i32) (param $size i32) (result i32) (local $first i32)
   (if (global.get $uses) (then unreachable))
   (global.set $uses (i32.const 1))
   (if (i32.load8_u (i32.const 30000)) (then unreachable))
   (i32.store8 (i32.const 30000) (i32.const 1))
   (local.set $first (i32.load8_u offset={len(_PATH)} (local.get $at)))
   (i32.store (i32.const 16) (local.get $at)) (i32.store (i32.const 20) (local.get $size))
   {_ODD}
   (if (i32.eq (local.get $first) (i32.const {ord("=")}))
    (then (call $say (i32.add (local.get $at) (i32.const {len(_PATH) + 1})))))
   (i32.const 16)))
 (core instance $i (instantiate $m))
 (func (export "handle") (param "request" string) (result string)
  (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc"))
   (post-return (core func $i "post")))))"""


class Asked(NamedTuple):
    """What dispatch() is given."""

    scope: dict[str, Any]
    path: str
    params: dict[str, str]
    body: bytes


def check(data: bytes) -> None:
    source = Source(data)
    handles = source.flag()
    asked = _asked(source, handles)
    found = asyncio.run(_in_c(_HANDLER if handles else _EDGE, asked))
    if found is None:
        return
    outcome = asyncio.run(_in_python(_HANDLER if handles else _EDGE, asked, handles))
    if isinstance(found, Outcome):
        assert _told(found) == _told(outcome)
        return
    assert outcome.end is End.OK, outcome.reason
    try:
        response = EdgeProtocol().decode(outcome.stdout)
    except ResponseError as error:
        raise AssertionError(f"component_path.c took what is refused: {error}") from None
    status, headers, content = render(response, asked.scope["method"], checked=True)
    assert found[:3] == (status, with_request_id(headers, _ID), content)


def _told(outcome: Outcome) -> tuple[Any, ...]:
    return outcome.end, outcome.reason, outcome.stdout, outcome.stderr


def _asked(source: Source, handles: bool) -> Asked:
    path = source.pick((_ANSWER, "m00s00u00p00h02e20D02N23d33d34f05r56o16.", "", "")) if handles else ""
    path += source.pick(("", "=", "=", "=", "t", "g", "G", "s", "o", "u", "l", "e", "p")) if not handles else ""
    path += _answer(source).hex() if path == "=" else _text(source)
    body = source.bytes() * source.pick((1, 1, 1, 500))
    headers = [(b"host", b"a.org"), (b"x-request-id", _ID.encode())]
    for _ in range(source.integer(0, 5)):
        name = source.bytes().lower() if source.integer(0, 15) == 15 else source.pick(_NAMES)
        value = source.bytes() if source.integer(0, 7) == 7 else source.pick((b"a, b", b"%20+", b'"', b"\xe9"))
        if name != b"x-request-id":
            headers.append((name, value))
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": source.pick(("GET", "POST", "HEAD", "DELETE")),
        "scheme": source.pick(("http", "https")),
        "path": f"/{path}",
        "query_string": source.pick((b"", b"a=1&a=2", b"a=%20+%C3%A9&b", source.bytes())),
        "headers": headers,
    }
    params = {_text(source): "v" for _ in range(source.integer(0, 2))}
    return Asked(scope, path, params, body)


def _text(source: Source) -> str:
    return source.text().encode(errors="replace").decode()


def _answer(source: Source) -> bytes:
    """Return what the guest is to give back: an answer of most kinds, or anything."""
    if source.integer(0, 3) == 3:
        return source.bytes()
    body = _text(source) * source.pick((1, 1, 300))
    status, encoded = source.pick((200, 201, 204, 304, 404, 500, 99, "200")), source.flag()
    headers = {name: source.pick(("v", "é", ["v", "w"], "3")) for name in source.pick(_HEADERS)}
    parts = {"status_code": status, "headers": headers, "is_base64_encoded": encoded,
             "body": base64.b64encode(body.encode()).decode() if encoded else body}  # fmt: skip
    return json.dumps(parts, ensure_ascii=source.flag()).encode()


_PLAIN = Asked(
    {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": f"/{_ANSWER}",
     "query_string": b"",
     "headers": [(b"host", b"a.org"), (b"x-request-id", b"r-0")]}, _ANSWER, {}, b"",
)  # fmt: skip


@cache
def _fast_path(guest: str | bytes) -> tuple[ComponentFastPath, ComponentPlan]:
    with way(True):
        plan = ComponentPlan(component(guest, True), Limits(time=_SECONDS))
        protocol = "http" if plan.component.makes_http_calls else "edge"
        speech = Speech(protocol, EdgeProtocol().end(NAME, VERSION, TIMEOUT_MS))
        return ComponentFastPath(plan, speech, VARIABLES), plan


async def _in_c(guest: str | bytes, asked: Asked) -> Completed | Outcome | None:
    """Return what one call of C makes of a request; None if it does not take it."""
    path_of, plan = _fast_path(guest)
    if path_of._encode(*asked, _REGION, None, None) is None:
        return None
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        plan.memory.cpu_score = 0  # on a slow machine, too, it may begin on the event loop
        found = path_of._begun(path_of._dispatch_in_c, *asked, _REGION, None, None)
        await asyncio.sleep(0)  # what is kept is restored now
        if isinstance(found, Started):
            return await _ended(found)
        if isinstance(found, tuple):
            return Completed(*found)
        tried = path_of._try(*_PLAIN, _REGION, None, None)  # this leaves an instance to use again
        if isinstance(tried, Started):
            await _ended(tried)
        await asyncio.sleep(0 if isinstance(tried, Completed) else 0.01)  # the event loop's share may be used up
    raise AssertionError("no instance was left to C")


async def _ended(started: Started) -> Outcome:
    with started:
        return await started.invocation.run(time.monotonic() + _SECONDS, nullcontext)


async def _in_python(guest: str | bytes, asked: Asked, handles: bool) -> Outcome:
    """Return what comes of the same request without C."""
    request = EdgeRequest.from_scope(asked.scope, asked.body, path=asked.path, params=asked.params)
    of = target_of("edge", "/")
    context = request.context = context_of(settings_of(_REGION), of, request.headers, cold=False)
    environ = own_environ(of, context.request_id, context.region, context.traceparent)
    with way(False):
        plan = ComponentPlan(component(guest, False), Limits(time=_SECONDS))
        invocation = ComponentInvocation(plan, EdgeProtocol().encode(request), environ)
        return await invocation.run(time.monotonic() + _SECONDS, nullcontext)
