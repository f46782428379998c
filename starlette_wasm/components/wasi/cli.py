"""``wasi:cli``, ``wasi:clocks`` and ``wasi:random``; sockets, which are there and refused."""

from __future__ import annotations

import os
import time

from ..errors import CanonicalTrap
from ..values import Err, Value
from .host import GuestExit, WasiHost
from .offers import offer, refuse
from .streams import OutputStream, Pollable, stdin_of

_MOST_RANDOM = 1 << 20
MOST_NS = (1 << 63) - 1


@offer("wasi:cli/environment", "get-environment", "func() -> list<tuple<string, string>>")
def get_environment(host: WasiHost) -> Value:
    return list(host.environ)


@offer("wasi:cli/environment", "get-arguments", "func() -> list<string>")
def get_arguments(host: WasiHost) -> Value:
    return list(host.args)


@offer("wasi:cli/environment", "initial-cwd", "func() -> option<string>")
def initial_cwd(_: WasiHost) -> Value:
    return None


@offer("wasi:cli/exit", "exit", "func(status: result)")
def leave(_: WasiHost, status: Value) -> Value:
    raise GuestExit(int(isinstance(status, Err)))


@offer("wasi:cli/exit", "exit-with-code", "func(status-code: u8)")
def leave_with_code(_: WasiHost, code: int) -> Value:
    raise GuestExit(code)


@offer("wasi:cli/stdin", "get-stdin", "func() -> input-stream")
def get_stdin(host: WasiHost) -> Value:
    return stdin_of(host)


@offer("wasi:cli/stdout", "get-stdout", "func() -> output-stream")
def get_stdout(host: WasiHost) -> Value:
    return OutputStream(host.write_out)


@offer("wasi:cli/stderr", "get-stderr", "func() -> output-stream")
def get_stderr(host: WasiHost) -> Value:
    return OutputStream(host.write_err)


def no_terminal(_: WasiHost) -> Value:
    return None


for _name in ("stdin", "stdout", "stderr"):
    _kind = "terminal-input" if _name == "stdin" else "terminal-output"
    offer(f"wasi:cli/terminal-{_name}", f"get-terminal-{_name}", f"func() -> option<{_kind}>")(no_terminal)


@offer("wasi:clocks/monotonic-clock", "now", "func() -> u64")
def monotonic_now(host: WasiHost) -> Value:
    return host.monotonic()


@offer("wasi:clocks/monotonic-clock", "resolution", "func() -> u64")
def monotonic_resolution(host: WasiHost) -> Value:
    return host.resolution


@offer("wasi:clocks/monotonic-clock", "subscribe-duration", "func(when: u64) -> pollable")
def subscribe_duration(_: WasiHost, duration: int) -> Value:
    return Pollable(at_ns=min(time.monotonic_ns() + duration, MOST_NS))


@offer("wasi:clocks/monotonic-clock", "subscribe-instant", "func(when: u64) -> pollable")
def subscribe_instant(_: WasiHost, when: int) -> Value:
    return Pollable(at_ns=min(when, MOST_NS))


@offer("wasi:clocks/wall-clock", "now", "func() -> record {seconds: u64, nanoseconds: u32}")
def wall_now(host: WasiHost) -> Value:
    seconds, nanoseconds = divmod(host.realtime(), 1_000_000_000)
    return {"seconds": seconds, "nanoseconds": nanoseconds}


@offer("wasi:clocks/wall-clock", "resolution", "func() -> record {seconds: u64, nanoseconds: u32}")
def wall_resolution(host: WasiHost) -> Value:
    seconds, nanoseconds = divmod(host.resolution, 1_000_000_000)
    return {"seconds": seconds, "nanoseconds": nanoseconds}


@offer("wasi:random/random", "get-random-bytes", "func(len: u64) -> list<u8>")
@offer("wasi:random/insecure", "get-insecure-random-bytes", "func(len: u64) -> list<u8>")
def random_bytes(_: WasiHost, count: int) -> Value:
    if count > _MOST_RANDOM:
        raise CanonicalTrap(f"{count} random bytes are asked for, the most is {_MOST_RANDOM}")
    return os.urandom(count)


@offer("wasi:random/random", "get-random-u64", "func() -> u64")
@offer("wasi:random/insecure", "get-insecure-random-u64", "func() -> u64")
def random_u64(_: WasiHost) -> Value:
    return int.from_bytes(os.urandom(8), "little")


@offer("wasi:random/insecure-seed", "insecure-seed", "func() -> tuple<u64, u64>")
def insecure_seed(host: WasiHost) -> Value:
    if host.seed is None:
        host.seed = int(random_u64(host)), int(random_u64(host))
    return host.seed


class Network:
    """What ``instance-network`` gives: of no use, as nothing can be made with it."""


@offer("wasi:sockets/instance-network", "instance-network", "func() -> network")
def instance_network(_: WasiHost) -> Value:
    return Network()


@offer("wasi:sockets/tcp-create-socket", "create-tcp-socket", "func(address-family: enum {ipv4, ipv6}) -> result<...>")
@offer("wasi:sockets/udp-create-socket", "create-udp-socket", "func(address-family: enum {ipv4, ipv6}) -> result<...>")
def create_socket(_: WasiHost, family: str) -> Value:
    return Err("access-denied")


@offer(
    "wasi:sockets/ip-name-lookup", "resolve-addresses", "func(network: borrow<network>, name: string) -> result<...>"
)
def resolve_addresses(_: WasiHost, network: Network, name: str) -> Value:
    return Err("access-denied")


for _interface in ("tcp", "udp", "ip-name-lookup", "network"):
    refuse(f"wasi:sockets/{_interface}", ["*"], "no socket is granted")
