"""What a handler reads and writes through streams.c, and where it wants it: the same comes of it as from Python.

The guest carries out what the path of its request says: reads and writes of any size, from and to any place, with any
handle, beside what changes its memory or drops its streams. More of the body comes, and the answer leaves,
whenever it waits, so that both ways see the same at the same time; or at once, in whatever pieces each way has. How
much may be written they see not: that is less in C.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import nullcontext
from typing import NamedTuple

from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.http_exchange import HttpExchange
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits

from .component_ways import component, way
from .source import Source

EXAMPLES = 20
"""In the test suite: each is two invocations, one of them in Python alone."""
TOKENS = (b"\0\x04\x10", b"\1\x04\xff", b"\2\7", b"\3\7\0", b"\3\7\3", b"\4\7\2", b"\x08\4", b"\x09\7", b"\x0a\1",
          b"\xff\xff\x0f\0", b"\0\0\x10\0", b"\xf8\xff\x0f\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80")  # fmt: skip
_MEMORY = 16 << 16
_RESULTS, _PATH, _DATA = 64, 64 << 10, 256 << 10
"""Where results are wanted, as a rule; where the path is; and from where on bytes are read to, and written from."""
_INPUT, _OUTPUT = 4, 7
"""The handles of the guest's streams."""
_BOUND, _ROOM = 700_000, 250_000
_SECONDS = 60
_MOST_CALLS = 30
_SIZES = (0, 1, 10, 1000, 1024, 4096, 65_536, 100_000, 131_072, 200_000, 600_000)

_GUEST = f"""(component
 (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
 (alias export $errors "error" (type $error))
 (import "wasi:io/streams@0.2.0" (instance $io
  (alias outer 1 $error (type $e))
  (export "input-stream" (type $in (sub resource))) (export "output-stream" (type $out (sub resource)))
  (type $v (variant (case "last-operation-failed" (own $e)) (case "closed")))
  (export "stream-error" (type $se (eq $v)))
  (export "[method]input-stream.read"
   (func (param "self" (borrow $in)) (param "len" u64) (result (result (list u8) (error $se)))))
  (export "[method]input-stream.blocking-read"
   (func (param "self" (borrow $in)) (param "len" u64) (result (result (list u8) (error $se)))))
  (export "[method]output-stream.check-write" (func (param "self" (borrow $out)) (result (result u64 (error $se)))))
  (export "[method]output-stream.write"
   (func (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $se)))))
  (export "[method]output-stream.blocking-write-and-flush"
   (func (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $se)))))))
 (alias export $io "input-stream" (type $input))
 (alias export $io "output-stream" (type $output))
 (import "wasi:http/types@0.2.0" (instance $http
  (alias outer 1 $input (type $in)) (alias outer 1 $output (type $out))
  (export "incoming-request" (type $request (sub resource))) (export "incoming-body" (type $incoming (sub resource)))
  (export "response-outparam" (type $param (sub resource))) (export "fields" (type $fields (sub resource)))
  (export "outgoing-response" (type $response (sub resource))) (export "outgoing-body" (type $body (sub resource)))
  (type $c (variant (case "internal-error" (option string))))
  (export "error-code" (type $code (eq $c)))
  (export "[method]incoming-request.path-with-query" (func (param "self" (borrow $request)) (result (option string))))
  (export "[method]incoming-request.consume"
   (func (param "self" (borrow $request)) (result (result (own $incoming)))))
  (export "[method]incoming-body.stream" (func (param "self" (borrow $incoming)) (result (result (own $in)))))
  (export "[constructor]fields" (func (result (own $fields))))
  (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $response))))
  (export "[method]outgoing-response.body" (func (param "self" (borrow $response)) (result (result (own $body)))))
  (export "[method]outgoing-body.write" (func (param "self" (borrow $body)) (result (result (own $out)))))
  (export "[static]outgoing-body.finish"
   (func (param "this" (own $body)) (param "trailers" (option (own $fields))) (result (result (error $code)))))
  (export "[static]response-outparam.set" (func (param "param" (own $param))
   (param "response" (result (own $response) (error $code)))))))
 (alias export $http "incoming-request" (type $request))
 (alias export $http "response-outparam" (type $outparam))
 (core func $drop_in (canon resource.drop $input))
 (core func $drop_out (canon resource.drop $output))
 (core module $memory
  (memory (export "mem") {_MEMORY >> 16})
  (global $room (export "room") (mut i32) (i32.const {_PATH}))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (global.get $room)))
 (core instance $l (instantiate $memory))
 (alias core export $l "mem" (core memory $mem))
 (alias core export $l "realloc" (core func $realloc))
 (core func $read (canon lower (func $io "[method]input-stream.read") (memory $mem) (realloc $realloc)))
 (core func $wait (canon lower (func $io "[method]input-stream.blocking-read") (memory $mem) (realloc $realloc)))
 (core func $check (canon lower (func $io "[method]output-stream.check-write") (memory $mem)))
 (core func $write (canon lower (func $io "[method]output-stream.write") (memory $mem)))
 (core func $flush (canon lower (func $io "[method]output-stream.blocking-write-and-flush") (memory $mem)))
 (core func $path (canon lower (func $http "[method]incoming-request.path-with-query")
  (memory $mem) (realloc $realloc)))
 (core func $consume (canon lower (func $http "[method]incoming-request.consume") (memory $mem)))
 (core func $stream (canon lower (func $http "[method]incoming-body.stream") (memory $mem)))
 (core func $fields (canon lower (func $http "[constructor]fields")))
 (core func $response (canon lower (func $http "[constructor]outgoing-response")))
 (core func $body (canon lower (func $http "[method]outgoing-response.body") (memory $mem)))
 (core func $writer (canon lower (func $http "[method]outgoing-body.write") (memory $mem)))
 (core func $finish (canon lower (func $http "[static]outgoing-body.finish") (memory $mem) (realloc $realloc)))
 (core func $set (canon lower (func $http "[static]response-outparam.set") (memory $mem) (realloc $realloc)))
 (core module $m
  (import "l" "mem" (memory {_MEMORY >> 16})) (import "l" "room" (global $room (mut i32)))
  (import "" "read" (func $read (param i32 i64 i32))) (import "" "wait" (func $wait (param i32 i64 i32)))
  (import "" "check" (func $check (param i32 i32)))
  (import "" "write" (func $write (param i32 i32 i32 i32))) (import "" "flush" (func $flush (param i32 i32 i32 i32)))
  (import "" "drop_in" (func $drop_in (param i32))) (import "" "drop_out" (func $drop_out (param i32)))
  (import "" "path" (func $path (param i32 i32))) (import "" "consume" (func $consume (param i32 i32)))
  (import "" "stream" (func $stream (param i32 i32))) (import "" "fields" (func $fields (result i32)))
  (import "" "response" (func $response (param i32) (result i32)))
  (import "" "body" (func $body (param i32 i32))) (import "" "writer" (func $writer (param i32 i32)))
  (import "" "finish" (func $finish (param i32 i32 i32 i32)))
  (import "" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
  (func $number (param $at i32) (result i64) (local $i i32) (local $n i64)
   (loop $on
    (local.set $n (i64.or (i64.shl (local.get $n) (i64.const 4))
     (i64.extend_i32_u (i32.sub (i32.load8_u (local.get $at)) (i32.const 97)))))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 16))))
   (local.get $n))
  (func $part (param $at i32) (param $of i32) (result i32)
   (i32.wrap_i64 (call $number (i32.add (local.get $at) (i32.shl (local.get $of) (i32.const 4))))))
  (func $do (param $what i32) (param $handle i32) (param $size i64) (param $from i32) (param $into i32)
   (if (i32.eq (local.get $what) (i32.const 0))
    (then (call $read (local.get $handle) (local.get $size) (local.get $into))))
   (if (i32.eq (local.get $what) (i32.const 1))
    (then (call $wait (local.get $handle) (local.get $size) (local.get $into))))
   (if (i32.eq (local.get $what) (i32.const 2)) (then (call $check (local.get $handle) (local.get $into))
    (i64.store offset=8 (local.get $into)
     (i64.extend_i32_u (i64.ne (i64.load offset=8 (local.get $into)) (i64.const 0))))))
   (if (i32.eq (local.get $what) (i32.const 3)) (then
    (call $write (local.get $handle) (local.get $from) (i32.wrap_i64 (local.get $size)) (local.get $into))))
   (if (i32.eq (local.get $what) (i32.const 4)) (then
    (call $flush (local.get $handle) (local.get $from) (i32.wrap_i64 (local.get $size)) (local.get $into))))
   (if (i32.eq (local.get $what) (i32.const 5)) (then (global.set $room (local.get $from))))
   (if (i32.eq (local.get $what) (i32.const 6)) (then (drop (memory.grow (i32.const 1)))))
   (if (i32.eq (local.get $what) (i32.const 7)) (then unreachable))
   (if (i32.eq (local.get $what) (i32.const 8)) (then (call $drop_in (local.get $handle))))
   (if (i32.eq (local.get $what) (i32.const 9)) (then (call $drop_out (local.get $handle)))))
  (func (export "handle") (param $request i32) (param $out i32) (local $response i32) (local $body i32)
   (local $at i32) (local $end i32)
   (call $path (local.get $request) (i32.const 0))
   (local.set $at (i32.add (i32.load (i32.const 4)) (i32.const 1)))
   (local.set $end (i32.add (i32.load (i32.const 4)) (i32.load (i32.const 8))))
   (global.set $room (i32.const {_DATA}))
   (call $consume (local.get $request) (i32.const 0))
   (call $stream (i32.load (i32.const 4)) (i32.const 0))
   (local.set $response (call $response (call $fields)))
   (call $body (local.get $response) (i32.const 0))
   (local.set $body (i32.load (i32.const 4)))
   (call $writer (local.get $body) (i32.const 0))
   (call $set (local.get $out) (i32.const 0) (local.get $response) (i32.const 0) (i32.const 0) (i32.const 0))
   (loop $on (if (i32.lt_u (local.get $at) (local.get $end)) (then
    (call $do (call $part (local.get $at) (i32.const 0)) (call $part (local.get $at) (i32.const 1))
     (call $number (i32.add (local.get $at) (i32.const 32))) (call $part (local.get $at) (i32.const 3))
     (call $part (local.get $at) (i32.const 4)))
    (local.set $at (i32.add (local.get $at) (i32.const 80))) (br $on))))
   (call $flush (i32.const {_OUTPUT}) (i32.const 0) (i32.const 4096) (i32.const 4096))
   (call $drop_out (i32.const {_OUTPUT}))
   (call $finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 4096))))
 (core instance $i (instantiate $m (with "l" (instance $l)) (with "" (instance
  (export "read" (func $read)) (export "wait" (func $wait)) (export "check" (func $check))
  (export "write" (func $write)) (export "flush" (func $flush)) (export "drop_in" (func $drop_in))
  (export "drop_out" (func $drop_out)) (export "path" (func $path)) (export "consume" (func $consume))
  (export "stream" (func $stream)) (export "fields" (func $fields)) (export "response" (func $response))
  (export "body" (func $body)) (export "writer" (func $writer)) (export "finish" (func $finish))
  (export "set" (func $set))))))
 (func $h (param "request" (own $request)) (param "response-out" (own $outparam)) (canon lift (core func $i "handle")))
 (instance $e (export "handle" (func $h)))
 (export "wasi:http/incoming-handler@0.2.0" (instance $e)))"""


class Seen(NamedTuple):
    """What came of a request."""

    end: End
    reason: str
    broken: str
    answer: bytes
    given: int
    unread: int


def check(data: bytes) -> None:
    source = Source(data)
    parts = [_content(source.pick((1, 100, 1024, 3000, 70_000, 150_000))) for _ in range(source.integer(0, 5))]
    keeps_up = len(data) % 2 == 1  # which leaves the inputs of the corpus what they are
    path = _path(source, _ROOM if keeps_up else None)
    one, other = (asyncio.run(_ask(way, path, parts, keeps_up=keeps_up)) for way in (True, False))
    assert one == other, [(each._replace(answer=b""), len(each.answer)) for each in (one, other)]


def _content(size: int) -> bytes:
    return bytes(each % 251 for each in range(size))


def _path(source: Source, most: int | None = None) -> str:
    """Five numbers of 64 bits for each call: which one, a handle, a size, and two places.

    ``most`` bounds what is written in all, so that no way comes to an end of its room.
    """
    calls = [(3, _OUTPUT, 70_000, _DATA, _RESULTS)] if source.integer(0, 7) else []
    left = None if most is None else most - 80_000
    while source.more() and len(calls) < _MOST_CALLS:
        what = source.pick([0, 0, 1, 2, 2, 3, 3, 4, 5, 6, 8 if _rarely(source) else 0, 9 if _rarely(source) else 3])
        handle = source.integer(0, 9) if _rarely(source) else _INPUT if what in (0, 1, 8) else _OUTPUT
        size = source.integer(0, (1 << 64) - 1) if _rarely(source) else source.pick(_SIZES)
        if what == 4:  # more than there can be room for would wait for somebody to take it meanwhile
            size %= _ROOM
        if left is not None and what in (3, 4):
            size = min(size, left)
            left -= size
        calls.append((what, handle, size, _place(source, _DATA), _place(source, _RESULTS)))
    numbers = [number for call in calls for number in call]
    return "".join(chr(97 + (number >> shift & 15)) for number in numbers for shift in range(60, -4, -4))


def _rarely(source: Source) -> bool:
    return source.integer(0, 15) == 15


def _place(source: Source, first: int) -> int:
    """Give a place behind ``first``, or seldom anywhere, at the end of the memory and beyond."""
    if not _rarely(source):
        return first + 8 * source.integer(0, 63)
    ends = (_MEMORY - 16, _MEMORY - 12, _MEMORY - 8, _MEMORY - 1, _MEMORY, 0xFFFFFFF8, 0xFFFFFFFF)
    return source.pick((0, first + 1, first + 2, first + 4, *ends))


async def _ask(natively: bool, path: str, parts: list[bytes], *, keeps_up: bool = False) -> Seen:
    message = {"path": "/", "method": "POST", "headers": {"host": "h"}, "query": {}, "body": None,
               "is_base64_encoded": False, "url": f"http://h/{path}"}  # fmt: skip
    exchange = HttpExchange(most_out=_BOUND, patience=0)
    left, answer = list(parts), []

    def go_on() -> None:
        if exchange.response is not None:
            answer.append(exchange.response.take_pieces(_BOUND))
        if left:
            exchange.request.put(left.pop(0))
        exchange.request.closed = not left

    def take(data: bytes | memoryview) -> bool:
        answer.append(bytes(data))
        return True

    go_on()
    exchange.on_wait = go_on
    if keeps_up:
        exchange.hand_on = take
    with way(natively):
        invocation = ComponentInvocation(
            ComponentPlan(component(_GUEST, natively), Limits(time=_SECONDS)), json.dumps(message).encode()
        )
        invocation.exchange = exchange
        outcome = await invocation.run(time.monotonic() + _SECONDS, nullcontext)
    if exchange.response is not None:
        answer.append(exchange.response.take_pieces(_BOUND))
    request = exchange.request
    return Seen(outcome.end, outcome.reason, exchange.broken, b"".join(answer), request.total, len(request))
