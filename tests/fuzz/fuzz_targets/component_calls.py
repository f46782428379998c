"""What a component asks of its host, and gives it, through component.c: the same comes of it as from Python.

The guest carries out what its request says: calls with arguments of any kind, room for results anywhere, an answer
anywhere. Each request is made twice, so that the second may find an instance that was brought back to its first state.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext

from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits

from .component_ways import component, way
from .source import Source

EXAMPLES = 40
"""In the test suite: each is four invocations, half of them from Python."""
TOKENS = (b"\3\x10", b"\3\x40\x42\x0f", b"\4", b"\5\xff\xff\xff\xff", b"\6\1", b"\7", b"\x08\1", b"\x09\1", b"\x09\2",
          b"\xff\xff\7\0", b"\0\0\4\0", b"\xf8\xff\7\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80")  # fmt: skip
_MEMORY, _CHANGING = 8 << 16, 4 << 16
"""The guest's memory, and from where on there may be what differs between two runs: times and random bytes."""
_LONG = 200_000
"""Bytes of a long answer."""
_SECONDS = 60
_MOST_CALLS = 40
_REQUEST = 4096

_GUEST = f"""(component
 (import "wasi:clocks/monotonic-clock@0.2.0" (instance $mono
  (export "now" (func (result u64))) (export "resolution" (func (result u64)))))
 (import "wasi:random/random@0.2.0" (instance $random
  (export "get-random-bytes" (func (param "len" u64) (result (list u8))))
  (export "get-random-u64" (func (result u64)))))
 (import "wasi:clocks/wall-clock@0.2.0" (instance $wall
  (type $r (record (field "seconds" u64) (field "nanoseconds" u32))) (export "datetime" (type $x (eq $r)))
  (export "now" (func (result $x)))))
 (core func $now (canon lower (func $mono "now")))
 (core func $resolution (canon lower (func $mono "resolution")))
 (core func $u64 (canon lower (func $random "get-random-u64")))
 (core module $memory (import "" "now" (func $now (result i64)))
  (memory (export "mem") {_MEMORY >> 16})
  (global $room (export "room") (mut i32) (i32.const {_REQUEST}))
  (global $asks (export "asks") (mut i32) (i32.const 0))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
   (if (global.get $asks) (then (drop (call $now)))) (global.get $room)))
 (core instance $l (instantiate $memory (with "" (instance (export "now" (func $now))))))
 (core func $bytes (canon lower (func $random "get-random-bytes")
  (memory (core memory $l "mem")) (realloc (core func $l "realloc"))))
 (core func $time (canon lower (func $wall "now") (memory (core memory $l "mem"))))
 (core module $m
  (import "l" "mem" (memory {_MEMORY >> 16}))
  (import "l" "room" (global $room (mut i32))) (import "l" "asks" (global $asks (mut i32)))
  (import "" "now" (func $now (result i64))) (import "" "resolution" (func $resolution (result i64)))
  (import "" "u64" (func $u64 (result i64))) (import "" "bytes" (func $bytes (param i64 i32)))
  (import "" "time" (func $time (param i32)))
  (global $after (mut i32) (i32.const 0))
  (func $half (param $at i32) (result i32) (i32.sub (i32.load8_u (local.get $at)) (i32.const 96)))
  (func $number (param $at i32) (result i64) (local $i i32) (local $n i64)
   (loop $on
    (local.set $n (i64.or (i64.shl (local.get $n) (i64.const 4)) (i64.extend_i32_u (call $half (local.get $at)))))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 16))))
   (local.get $n))
  (func $do (param $what i32) (param $a i64) (param $b i32)
   (if (i32.eq (local.get $what) (i32.const 0)) (then (drop (call $now))))
   (if (i32.eq (local.get $what) (i32.const 1)) (then (drop (call $resolution))))
   (if (i32.eq (local.get $what) (i32.const 2)) (then (drop (call $u64))))
   (if (i32.eq (local.get $what) (i32.const 3)) (then (call $bytes (local.get $a) (local.get $b))))
   (if (i32.eq (local.get $what) (i32.const 4)) (then (call $time (local.get $b))))
   (if (i32.eq (local.get $what) (i32.const 5)) (then (global.set $room (local.get $b))))
   (if (i32.eq (local.get $what) (i32.const 6)) (then (drop (memory.grow (local.get $b)))))
   (if (i32.eq (local.get $what) (i32.const 7)) (then unreachable))
   (if (i32.eq (local.get $what) (i32.const 8)) (then (global.set $asks (local.get $b))))
   (if (i32.eq (local.get $what) (i32.const 9)) (then (global.set $after (local.get $b)))))
  (func (export "post") (param i32)
   (if (i32.eq (global.get $after) (i32.const 1)) (then (drop (call $now))))
   (if (i32.eq (global.get $after) (i32.const 2)) (then unreachable)))
  (func (export "handle") (param $at i32) (param $size i32) (result i32) (local $end i32)
   (global.set $room (i32.const {_CHANGING}))
   (local.set $end (i32.add (local.get $at) (local.get $size)))
   (i32.store (i32.const 16) (i32.wrap_i64 (call $number (local.get $at))))
   (i32.store (i32.const 20) (i32.wrap_i64 (call $number (i32.add (local.get $at) (i32.const 16)))))
   (i32.store (i32.const 24) (i32.wrap_i64 (call $number (i32.add (local.get $at) (i32.const 32)))))
   (local.set $at (i32.add (local.get $at) (i32.const 48)))
   (loop $on (if (i32.lt_u (local.get $at) (local.get $end)) (then
    (call $do (i32.wrap_i64 (call $number (local.get $at))) (call $number (i32.add (local.get $at) (i32.const 16)))
     (i32.wrap_i64 (call $number (i32.add (local.get $at) (i32.const 32)))))
    (local.set $at (i32.add (local.get $at) (i32.const 48))) (br $on))))
   (i32.load (i32.const 24))))
 (core instance $i (instantiate $m (with "l" (instance $l)) (with "" (instance
  (export "now" (func $now)) (export "resolution" (func $resolution)) (export "u64" (func $u64))
  (export "bytes" (func $bytes)) (export "time" (func $time))))))
 (func (export "handle") (param "request" string) (result string)
  (canon lift (core func $i "handle") (memory (core memory $l "mem")) (realloc (core func $l "realloc"))
   (post-return (core func $i "post")))))"""


def check(data: bytes) -> None:
    request = _request(Source(data))
    one, other = (asyncio.run(_ask(way, request)) for way in (True, False))
    assert one == other, [(each.end, each.reason, len(each.stdout), each.host_calls) for each in (*one, *other)]


def _request(source: Source) -> bytes:
    """Numbers of 64 bits: where the answer is noted, its size, what is returned, and the calls with their arguments."""
    numbers = [_place(source, 0, _CHANGING - _LONG), _size(source, (0, 3, 100, 8192, 8193, _LONG), 32)]
    numbers.append(source.pick([17, 18, 4096, _MEMORY - 8, _MEMORY - 4, 0xFFFFFFFC]) if _rarely(source) else 16)
    for _ in range(_MOST_CALLS):
        if not source.more():
            break
        what = source.pick([0, 1, 2, 3, 3, 3, 4, 4, 5, 6, 8, 9, 7 if _rarely(source) else 3])
        place = (
            source.integer(0, 3) * (what != 8 or _rarely(source))
            if what in (6, 8, 9)
            else _place(source, _CHANGING, _MEMORY)
        )
        numbers += [what, _size(source, (0, 1, 8, 255, 256, 257, 10_000, 65_536, 65_537), 64), place]
    return b"".join(bytes(96 + (each >> shift & 15) for shift in range(60, -4, -4)) for each in numbers)


def _rarely(source: Source) -> bool:
    return source.integer(0, 15) == 15


def _size(source: Source, usual: tuple[int, ...], bits: int) -> int:
    return source.integer(_MEMORY, (1 << bits) - 1) if _rarely(source) else source.pick(usual)


def _place(source: Source, first: int, end: int) -> int:
    """Give a place from ``first`` to ``end``, or one beyond the memory."""
    if _rarely(source):
        return source.integer(_MEMORY, (1 << 32) - 1)
    place = source.integer(first, end - 1)
    return place - (place % 8 if source.integer(0, 15) else 0)


async def _ask(natively: bool, request: bytes) -> list[Outcome]:
    found = []
    with way(natively):
        plan = ComponentPlan(component(_GUEST, natively), Limits(time=_SECONDS))
        for _ in range(2):
            invocation = ComponentInvocation(plan, request)
            found.append(await invocation.run(time.monotonic() + _SECONDS, nullcontext))
            found[-1].cpu_s = 0
            if found[-1].end is not End.OK:
                found[-1].host_calls = 0  # one that ends the guest may count or not
            await asyncio.sleep(0)  # what is kept is restored now
    return found
