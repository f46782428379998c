"""The interface ``starlette-wasm:edge/host``: capabilities and the log for components of the world ``edge``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from running import ask, assembled
from test_component_wasi import importing

from starlette_wasm.capabilities import frame
from starlette_wasm.engine.outcome import End

INTERFACE = "starlette-wasm:edge/host@0.1.0"
CALLING = importing(
    f"""(import "{INTERFACE}" (instance $e
     (export "call" (func (param "operation" u32) (param "payload" (list u8)) (result (list u8))))))""",
    '(core func $f (canon lower (func $e "call") (memory (core memory $l "mem")) (realloc (core func $l "realloc"))))',
    "(param i32 i32 i32 i32)",
    "(call $f (i32.const 6) (local.get 0) (local.get 1) (i32.const 16))",
)
"""It calls operation 6 with what it is asked, and answers with what comes back."""

LOGGING = importing(
    f'(import "{INTERFACE}" (instance $e (export "log" (func (param "line" string)))))',
    '(core func $f (canon lower (func $e "log") (memory (core memory $l "mem")) (realloc (core func $l "realloc"))))',
    "(param i32 i32)",
    "(call $f (local.get 0) (local.get 1))",
)


class Host:
    """Answers every call, at once or on the event loop."""

    def __init__(self, *, waits: bool) -> None:
        self.waits = waits
        self.asked: list[tuple[int, bytes]] = []

    def take(self, operation: int, payload: memoryview, room: int) -> bytes | Callable[[], Awaitable[bytes]]:
        self.asked.append((operation, bytes(payload)))
        return self._later if self.waits else frame.encode({"ok": True}, b"at once")

    async def _later(self) -> bytes:
        await asyncio.sleep(0.001)
        return frame.encode({"ok": True}, b"later")


def test_a_component_calls_the_host() -> None:
    for waits, body in ((False, b"at once"), (True, b"later")):
        host = Host(waits=waits)
        outcome = ask(assembled(CALLING), "a frame", host=host)
        assert outcome.end is End.OK, outcome
        assert host.asked == [(6, b"a frame")]
        assert frame.decode(outcome.stdout) == ({"ok": True}, body)


def test_a_call_without_a_host_traps() -> None:
    outcome = ask(assembled(CALLING), "a frame")
    assert (outcome.end, outcome.reason) == (End.TRAP, "there is nothing here that answers calls of the host")


def test_a_component_logs_lines() -> None:
    outcome = ask(assembled(LOGGING), "[INFO] grüße")
    assert outcome.stderr.decode() == "[INFO] grüße\n"


def test_only_callers_count_as_calling() -> None:
    assert assembled(CALLING).uses_edge
    assert not assembled(LOGGING).uses_edge
