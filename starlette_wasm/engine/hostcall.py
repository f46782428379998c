"""Host calls: from a guest's import to an awaitable and back.

A call is answered at once, or leaves an awaitable with its invocation; the driver awaits it on the event loop and
polls the guest again. No exception crosses into wasmtime.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from . import capi, layout
from .callback import AsyncHost, define_async, define_native
from .configuration import WASI
from .native.library import native

if TYPE_CHECKING:
    from .invocation import Invocation

SUCCESS, TOO_BIG, BADF, FAULT, INVAL, NOSYS = 0, 1, 8, 21, 28, 52
MAX_PAYLOAD = 64 << 20
_SUBSCRIPTION, _EVENT = 48, struct.Struct("<QHBxxxxxQHxxxxxx")
_CLOCK, _READ, _WRITE = 0, 1, 2
_MAX_SUBSCRIPTIONS = 64
_FREE_CALLS, _QUICK_CALLS = 64, 1024
"""How many calls of an invocation are answered at once, and how many without a pause: each holds the GIL."""
EDGE_CALL, POLL_ONEOFF = 1, 2
"""What host_calls.c notes, as native.h numbers it."""


def define(linker: int, live: dict[int, Invocation]) -> list[Any]:
    """Define the asynchronous host functions; what is returned must live as long as the linker."""

    def poll_oneoff(data: int, context: int, arguments: Sequence[int]) -> int | None:
        return _poll_oneoff(live[data], *(argument & 0xFFFFFFFF for argument in arguments))

    def resume(data: int) -> int | None:
        return live[data].take_result()

    def failed(data: int, error: BaseException) -> None:
        live[data].fail(error)

    def edge_call(data: int, context: int, arguments: Sequence[int]) -> int | None:
        return _edge_call(live[data], arguments[0], *(argument & 0xFFFFFFFF for argument in arguments[1:]))

    def edge_take(data: int, context: int, arguments: Sequence[int]) -> int | None:
        return _edge_take(live[data], arguments[0] & 0xFFFFFFFF)

    def component_step(data: int, context: int, arguments: Sequence[int]) -> int | None:
        live[data].wait_for_host(arguments[0], arguments[1] & 0xFFFFFFFF, 0)
        return None

    def paced(host: AsyncHost) -> AsyncHost:
        def call(data: int, context: int, arguments: Sequence[int]) -> int | None:
            return _paced(live[data], host(data, context, arguments))

        return call

    functions: list[tuple[str, int, AsyncHost]] = [("component_step", 2, component_step)]
    if native is not None:
        define_native(linker, WASI, "component_step_native", [capi.I32] * 2, native.component_step)
        define_native(linker, WASI, "poll_oneoff", [capi.I32] * 4, native.ask, POLL_ONEOFF)
        define_native(linker, WASI, "edge_call", [capi.I32] * 3, native.ask, EDGE_CALL)
        define_native(linker, WASI, "edge_take", [capi.I32], native.take)
    else:
        functions += [("poll_oneoff", 4, poll_oneoff), ("edge_call", 3, edge_call), ("edge_take", 1, edge_take)]
    return [
        define_async(linker, WASI, name, [capi.I32] * count, paced(function), resume, failed)
        for name, count, function in functions
    ]


def answer(invocation: Invocation, asked: int, arguments: Sequence[int]) -> int | None:
    """Answer what host_calls.c has noted. None: it waits, or is left to the driver."""
    if asked == POLL_ONEOFF:
        return _paced(invocation, _poll_oneoff(invocation, *arguments))
    operation, payload, length, _ = arguments
    return _paced(invocation, _edge_call(invocation, (operation ^ 1 << 31) - (1 << 31), payload, length))


def _paced(invocation: Invocation, result: int | None) -> int | None:
    """Return the result of a call that was answered at once, or None: after many calls the guest waits for it."""
    invocation.calls += 1
    if result is not None and invocation.calls > _FREE_CALLS:
        pause = 0 if invocation.calls <= _QUICK_CALLS else 0.001
        invocation.wait_for(partial(_later, result, pause))
        return None
    return result


def _edge_call(invocation: Invocation, operation: int, payload: int, length: int) -> int | None:
    """Note what ``edge.call`` asks, and nothing more: the driver reads it while the guest waits.

    This runs on the guest's stack, if nothing that recurses or that others have written may run.
    """
    invocation.forget_result()
    if payload + length > invocation.guest_size():
        return -FAULT
    if length > MAX_PAYLOAD:
        return -TOO_BIG
    if invocation.host is None:
        return -NOSYS
    invocation.wait_for_host(operation, payload, length)
    return None


def _edge_take(invocation: Invocation, out: int) -> int:
    """Write the result of the last call into the guest's memory, for ``edge.take``."""
    result, invocation.result = invocation.result, None
    if result is None:
        return INVAL
    if out + len(result) > invocation.guest_size():
        return FAULT
    invocation.write(out, result)
    return SUCCESS


def _poll_oneoff(invocation: Invocation, subscriptions: int, events: int, count: int, out: int) -> int | None:
    """Serve ``poll_oneoff`` of WASI preview 1: what is ready at once, else the clocks that run out first."""
    if not 0 < count <= _MAX_SUBSCRIPTIONS:
        return INVAL
    memory = invocation.guest_memory()
    if max(subscriptions + _SUBSCRIPTION * count, events + _EVENT.size * count, out + 4) > len(memory):
        return FAULT
    ready: list[tuple[int, int, int, int, int]] = []
    clocks: list[tuple[int, int]] = []  # nanoseconds from now, userdata
    now = time.monotonic_ns(), time.time_ns()
    streams, missing = invocation.descriptors()
    for i in range(count):
        at = subscriptions + _SUBSCRIPTION * i
        userdata, kind = struct.unpack_from("<QB", memory, at)
        if kind == _CLOCK:
            clock, timeout, _, flags = struct.unpack_from("<IxxxxQQH", memory, at + 16)
            if clock > 3:
                ready.append((userdata, INVAL, kind, 0, 0))
                continue
            if flags & 1:
                timeout -= now[1] if clock == 0 else now[0]
            clocks.append((max(timeout, 0), userdata))
        elif kind in (_READ, _WRITE):
            (fd,) = struct.unpack_from("<I", memory, at + 16)
            stream = streams.index(fd) if fd in streams else None
            if missing >> i & 1 or (stream is not None and (kind == _READ) != (stream == 0)):
                ready.append((userdata, BADF, kind, 0, 0))
            else:
                ready.append((userdata, SUCCESS, kind, invocation.stdin_left() if stream == 0 else 65536, 0))
        else:
            return INVAL
    wait = 0
    if not ready:
        wait = min(timeout for timeout, _ in clocks)
        ready = [(userdata, SUCCESS, _CLOCK, 0, 0) for timeout, userdata in clocks if timeout == wait]
    for i, event in enumerate(ready):
        _EVENT.pack_into(memory, events + _EVENT.size * i, *event)
    struct.pack_into("<I", memory, out, len(ready))
    if wait < layout.SHORTEST_SLEEP_NS:
        return SUCCESS
    invocation.wait_for(partial(_sleep, wait / 1e9))
    return None


async def _later(result: int, pause: float) -> int:
    """Give an answer that was there at once, when the event loop has had its turn."""
    await asyncio.sleep(pause)
    return result


async def _sleep(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return SUCCESS
