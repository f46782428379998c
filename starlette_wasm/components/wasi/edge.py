"""``starlette-wasm:edge/host``: the capabilities of a policy and the log, for components of the world ``edge``."""

from __future__ import annotations

from ..calls import Await
from ..errors import CanonicalTrap
from ..values import Value
from .host import WasiHost
from .offers import offer

EDGE_HOST = "starlette-wasm:edge/host@0.1.0"


@offer(EDGE_HOST, "call", "func(operation: u32, payload: list<u8>) -> list<u8>")
def call(host: WasiHost, operation: int, payload: bytes) -> Value | Await:
    if host.edge_call is None:
        raise CanonicalTrap("there is nothing here that answers calls of the host")
    return host.edge_call(operation, payload)


@offer(EDGE_HOST, "log", "func(line: string)")
def log(host: WasiHost, line: str) -> Value:
    host.write_err(line.encode("utf-8", "replace") + b"\n")
    return None
