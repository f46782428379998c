"""Guests that are asked on the fast path of an engine of their own."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Hashable
from typing import Any

from support import command

from starlette_wasm.engine import capi
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.fast_path import Completed, FastPath, NotTaken, Speech, Started
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.plan import Limits, Plan
from starlette_wasm.protocols.edge import EdgeProtocol

SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"a.org")]}
ANSWER = json.dumps({"status_code": 200, "body": "A"})
_AT = ANSWER.index("A")
# Says how often it was here before, by a letter in its memory and one in a global.
COUNTS = command(
    f"""(i32.store8 (i32.const {_AT}) (i32.add (i32.load8_u (i32.const {_AT}))
          (i32.add (global.get $calls) (i32.load8_u (i32.const 60000)))))
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store8 (i32.const 60000) (i32.add (i32.load8_u (i32.const 60000)) (i32.const 1)))
        (call $print (i32.const 0) (i32.const {len(ANSWER)}))""",
    more=f"(global $calls (mut i32) (i32.const 0)) (data (i32.const 0) {json.dumps(ANSWER)})",
)


_numbers = itertools.count(1)


def fresh_engine(max_instances: int = 3, check_restored_every: int = 10_000) -> Engine:
    """One that no other test has used."""
    resolution = 1_000_000 + next(_numbers)
    return Engine.shared(
        EngineConfig(
            max_instances=max_instances, clock_resolution_ns=resolution, check_restored_every=check_restored_every
        )
    )


def fast_path(
    engine: Engine,
    guest: str = COUNTS,
    tenant: Hashable = None,
    limits: Limits = Limits(),  # noqa: B008
) -> FastPath:
    plan = Plan(Module.compile(engine, capi.assemble(guest)), limits, tenant=tenant)
    return FastPath(plan, Speech("edge", EdgeProtocol().end("f", "1", 5000)), ())


def ask(asked: FastPath, body: bytes = b"", path: str = "/") -> Completed | Started | NotTaken:
    return asked.dispatch(SCOPE, path, {}, body, "")


def bodies(found: list[Completed | Started | NotTaken]) -> set[bytes]:
    assert all(isinstance(each, Completed) for each in found)
    return {each.body for each in found if isinstance(each, Completed)}


def run(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


async def swept() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
