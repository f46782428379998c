"""``wasi:cli``, ``wasi:clocks`` and ``wasi:random`` of WASI 0.3: what differs from 0.2, and the rest as it is there;
sockets, which are there and refused.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

from ..awaited import Await
from ..pipes import Pipe
from ..values import Err, Ok, Value
from . import cli
from .ends import BytesSource, FutureValue, Printed
from .host import WasiHost
from .offers import offer, refuse

_CODE = "enum {io, illegal-byte-sequence, pipe}"
_WRITE = f"func(data: stream<u8>) -> future<result<_, {_CODE}>>"


@offer("wasi:cli/stdin@0.3", "read-via-stream", f"func() -> tuple<stream<u8>, future<result<_, {_CODE}>>>")
def read_stdin(host: WasiHost) -> Value:
    return Pipe(source=BytesSource(host.stdin)), Pipe(source=FutureValue(Ok()))


@offer("wasi:cli/stdout@0.3", "write-via-stream", _WRITE)
def write_stdout(host: WasiHost, data: Pipe) -> Value:
    return _printed(host, data, Printed(host.write_out))


@offer("wasi:cli/stderr@0.3", "write-via-stream", _WRITE)
def write_stderr(host: WasiHost, data: Pipe) -> Value:
    return _printed(host, data, Printed(host.write_err))


def _printed(host: WasiHost, data: Pipe, printed: Printed) -> Value:
    host.attach(data, printed)
    return Pipe(source=printed.done)


@offer("wasi:clocks/monotonic-clock@0.3", "wait-for", "async func(how-long: u64)")
def wait_for(_: WasiHost, duration: int) -> Value | Await:
    return _sleep(duration)


@offer("wasi:clocks/monotonic-clock@0.3", "wait-until", "async func(when: u64)")
def wait_until(_: WasiHost, when: int) -> Value | Await:
    return _sleep(when - time.monotonic_ns())


def _sleep(nanoseconds: int) -> Value | Await:
    if nanoseconds <= 0:
        return None
    return Await(partial(asyncio.sleep, min(nanoseconds, cli.MOST_NS) / 1e9))


offer("wasi:clocks/monotonic-clock@0.3", "now", "func() -> u64")(cli.monotonic_now)
offer("wasi:clocks/monotonic-clock@0.3", "get-resolution", "func() -> u64")(cli.monotonic_resolution)
offer("wasi:clocks/system-clock@0.3", "now", "func() -> record {seconds: s64, nanoseconds: u32}")(cli.wall_now)
offer("wasi:clocks/system-clock@0.3", "get-resolution", "func() -> u64")(cli.monotonic_resolution)
offer("wasi:cli/environment@0.3", "get-environment", "func() -> list<tuple<string, string>>")(cli.get_environment)
offer("wasi:cli/environment@0.3", "get-arguments", "func() -> list<string>")(cli.get_arguments)
offer("wasi:cli/environment@0.3", "get-initial-cwd", "func() -> option<string>")(cli.initial_cwd)
offer("wasi:cli/exit@0.3", "exit", "func(status: result)")(cli.leave)
offer("wasi:cli/exit@0.3", "exit-with-code", "func(status-code: u8)")(cli.leave_with_code)
offer("wasi:random/random@0.3", "get-random-bytes", "func(max-len: u64) -> list<u8>")(cli.random_bytes)
offer("wasi:random/random@0.3", "get-random-u64", "func() -> u64")(cli.random_u64)
offer("wasi:random/insecure@0.3", "get-insecure-random-bytes", "func(max-len: u64) -> list<u8>")(cli.random_bytes)
offer("wasi:random/insecure@0.3", "get-insecure-random-u64", "func() -> u64")(cli.random_u64)
offer("wasi:random/insecure-seed@0.3", "get-insecure-seed", "func() -> tuple<u64, u64>")(cli.insecure_seed)
for _name in ("stdin", "stdout", "stderr"):
    _kind = "terminal-input" if _name == "stdin" else "terminal-output"
    offer(f"wasi:cli/terminal-{_name}@0.3", f"get-terminal-{_name}", f"func() -> option<{_kind}>")(cli.no_terminal)


def _denied(*_: object) -> Value:
    return Err(("access-denied", None))


_DENIED = "variant {access-denied, ...}"
for _name in ("tcp-socket", "udp-socket"):
    _kind = f"func(address-family: enum {{ipv4, ipv6}}) -> result<{_name}, {_DENIED}>"
    offer("wasi:sockets/types@0.3", f"[static]{_name}.create", _kind)(_denied)
refuse("wasi:sockets/types@0.3", ["*"], "no socket is granted")
offer("wasi:sockets/ip-name-lookup@0.3", "resolve-addresses", f"async func(name: string) -> result<..., {_DENIED}>")(
    _denied
)
