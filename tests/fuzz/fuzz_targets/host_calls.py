"""``edge.call``, ``edge.take`` and ``poll_oneoff`` with any arguments: results and memory are what the rules say.

The guest carries out a script that lies in its memory, where what the host writes may change it, and prints all of its
memory at the end. A plain re-telling of the rules does the same.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import cache

from starlette_wasm.engine import capi
from starlette_wasm.engine.invocation import Invocation
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits, Plan

from .source import Source
from .ways import engine

EXAMPLES = 60
TOKENS = (b"\0\1\0\0\0", b"\0\2\0\0\0", b"\1\0\4\0\0", b"\2", b"\xff\xff\1\0", b"\0\0\2\0", b"\xff\xff\xff\xff",
          b"\xd0\xff\1\0", b"\0\0\0\x80", struct.pack("<QQIIQQQ", 7, 0, 1, 0, 1000, 0, 0),
          struct.pack("<QQIIQQQ", 8, 1, 0, 0, 0, 0, 0), struct.pack("<QQIIQQQ", 9, 2, 1, 0, 0, 0, 0))  # fmt: skip
SUCCESS, BADF, FAULT, INVAL, NOSYS = 0, 8, 21, 28, 52
_MEMORY = 2 << 16
_SCRIPT, _LOG, _MOST_CALLS, _SIZE = 4096, 2048, 40, 17
_SECONDS = 60
_LONGEST_NS = 1_000_000
_SUBSCRIPTION, _EVENT = struct.Struct("<QBxxxxxxxIxxxxQQHxxxxxx"), struct.Struct("<QHBxxxxxQHxxxxxx")

_GUEST = f"""(module
 (import "edge" "call" (func $call (param i32 i32 i32) (result i32)))
 (import "edge" "take" (func $take (param i32) (result i32)))
 (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
 (memory (export "memory") {_MEMORY >> 16})
 (func $do (param $at i32) (result i32) (local $a i32) (local $b i32) (local $c i32)
  (local.set $a (i32.load offset=1 (local.get $at)))
  (local.set $b (i32.load offset=5 (local.get $at)))
  (local.set $c (i32.load offset=9 (local.get $at)))
  (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 0))
   (then (return (call $call (local.get $a) (local.get $b) (local.get $c)))))
  (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 1)) (then (return (call $take (local.get $a)))))
  (call $poll (local.get $a) (local.get $b) (local.get $c) (i32.load offset=13 (local.get $at))))
 (func (export "_start") (local $i i32)
  (i32.store (i32.const 0) (i32.const {_SCRIPT})) (i32.store (i32.const 4) (i32.const {_MEMORY - _SCRIPT}))
  (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
  (i64.store (i32.const 0) (i64.const 0)) (i32.store (i32.const 8) (i32.const 0))
  (loop $on
   (i32.store offset={_LOG} (i32.shl (local.get $i) (i32.const 2))
    (call $do (i32.add (i32.const {_SCRIPT}) (i32.mul (local.get $i) (i32.const {_SIZE})))))
   (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {_MOST_CALLS}))))
  (i32.store (i32.const 0) (i32.const 0)) (i32.store (i32.const 4) (i32.const {_MEMORY}))
  (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""


class _TooLongError(Exception):
    """A script that sleeps for longer than a test should."""


def check(data: bytes) -> None:
    source = Source(data)
    has_host = source.integer(0, 7) != 7
    script = _script(source)
    try:
        expected = _Model(script, has_host).run()
    except _TooLongError:
        return
    outcome = asyncio.run(_ask(script, has_host))
    assert outcome.end is End.OK, outcome.reason
    assert len(outcome.stdout) == _MEMORY
    if outcome.stdout != expected:
        at = next(at for at in range(_MEMORY) if outcome.stdout[at] != expected[at])
        raise AssertionError((at, outcome.stdout[at : at + 4], expected[at : at + 4]))


def _script(source: Source) -> bytes:
    """Calls, then what they may point to."""
    calls = b""
    for _ in range(_MOST_CALLS):
        what = source.integer(0, 2)
        if what == 2:
            numbers = [_place(source), _place(source), source.pick([1, 2, 3, 64, 65, source.integer(0, 70)])]
        else:
            numbers = [source.integer(0, 7), _place(source), source.pick([0, 4, 100, 9000, source.integer(0, 1 << 32)])]
        if what == 1:
            numbers[0] = _place(source)
        calls += struct.pack("<B4I", what, *(each & 0xFFFFFFFF for each in numbers), _place(source))
    subscriptions = b""
    while source.more() and len(subscriptions) < 64 * _SUBSCRIPTION.size:
        kind = source.pick([0, 0, 1, 2, 1, 2, source.integer(0, 255)])
        clock_or_fd = source.pick([0, 1, 2, 3, source.integer(0, (1 << 32) - 1)])
        timeout = source.pick([0, 1, 999, 1000, 1001, 200_000])
        subscriptions += _SUBSCRIPTION.pack(
            source.integer(0, (1 << 64) - 1), kind, clock_or_fd, timeout, 0, source.integer(0, 1)
        )
    return calls + subscriptions


def _place(source: Source) -> int:
    """Give one of the subscriptions, or any place, or one at the end of the memory or beyond."""
    match source.integer(0, 7):
        case 0:
            return source.integer(0, (1 << 32) - 1)
        case 1:
            return _MEMORY - source.integer(0, 100)
        case 2 | 3:
            return source.integer(0, _MEMORY - 1)
    return _SCRIPT + _MOST_CALLS * _SIZE + _SUBSCRIPTION.size * source.integer(0, 63)


def _answer(operation: int, payload: bytes) -> bytes:
    """What the host of these tests gives."""
    return [b"", payload[:100][::-1], b"x" * (len(payload) % 5000), b"\xff" * 8][operation & 3]


class _Host:
    def take(self, operation: int, payload: memoryview, room: int) -> bytes | Callable[[], Awaitable[bytes]]:
        answer = _answer(operation, bytes(payload))

        async def later() -> bytes:
            await asyncio.sleep(0)
            return answer

        return later if operation & 4 else answer


@cache
def _module() -> Module:
    return Module.compile(engine(), capi.assemble(_GUEST))


async def _ask(script: bytes, has_host: bool) -> Outcome:
    plan = Plan(_module(), Limits(time=_SECONDS, stdout=_MEMORY))
    host = _Host() if has_host else None
    return await Invocation(plan, script).run(time.monotonic() + _SECONDS, nullcontext, host)


class _Model:
    """The guest and its host."""

    def __init__(self, script: bytes, has_host: bool) -> None:
        self.memory = bytearray(_MEMORY)
        self.memory[_SCRIPT : _SCRIPT + len(script)] = script
        self.has_host = has_host
        self.result: bytes | None = None
        self.slept = 0

    def run(self) -> bytearray:
        for number in range(_MOST_CALLS):
            what, *arguments = struct.unpack_from("<B4I", self.memory, _SCRIPT + _SIZE * number)
            found = [self.call, self.take, self.poll][min(what, 2)](*arguments)
            struct.pack_into("<i", self.memory, _LOG + 4 * number, found)
        struct.pack_into("<II", self.memory, 0, 0, _MEMORY)
        return self.memory

    def call(self, operation: int, at: int, size: int, _: int) -> int:
        self.result = None
        if at + size > _MEMORY:
            return -FAULT
        if not self.has_host:
            return -NOSYS
        self.result = _answer(operation, bytes(self.memory[at : at + size]))
        return len(self.result)

    def take(self, at: int, *_: int) -> int:
        result, self.result = self.result, None
        if result is None:
            return INVAL
        if at + len(result) > _MEMORY:
            return FAULT
        self.memory[at : at + len(result)] = result
        return SUCCESS

    def poll(self, subscriptions: int, events: int, count: int, out: int) -> int:
        if not 0 < count <= 64:
            return INVAL
        if max(subscriptions + 48 * count, events + 32 * count, out + 4) > _MEMORY:
            return FAULT
        ready: list[tuple[int, ...]] = []
        clocks: list[tuple[int, int]] = []
        for i in range(count):
            given = _SUBSCRIPTION.unpack_from(self.memory, subscriptions + 48 * i)
            userdata, kind, clock_or_fd, timeout, _, flags = given
            if kind > 2:
                return INVAL
            if kind:
                error, size = self._stream(kind, clock_or_fd)
                ready.append((userdata, error, kind, size, 0))
            elif clock_or_fd > 3:
                ready.append((userdata, INVAL, 0, 0, 0))
            elif flags & 1 and timeout > _LONGEST_NS:
                raise _TooLongError
            else:
                clocks.append((0 if flags & 1 else timeout, userdata))
        if not ready:
            wait = min(timeout for timeout, _ in clocks)
            self._sleep(wait)
            ready = [(userdata, SUCCESS, 0, 0, 0) for timeout, userdata in clocks if timeout == wait]
        for i, event in enumerate(ready):
            _EVENT.pack_into(self.memory, events + 32 * i, *event)
        struct.pack_into("<I", self.memory, out, len(ready))
        return SUCCESS

    @staticmethod
    def _stream(kind: int, fd: int) -> tuple[int, int]:
        """Stdin is read to its end, and stdout and stderr can be written to."""
        if (kind, fd) == (1, 0):
            return SUCCESS, 0
        return (SUCCESS, 65536) if kind == 2 and fd in (1, 2) else (BADF, 0)

    def _sleep(self, nanoseconds: int) -> None:
        self.slept += nanoseconds
        if self.slept > 10 * _LONGEST_NS:
            raise _TooLongError
