"""Runs scripts in the guest ``wasi_probe``, here and with wasmtime's own component API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import wasmtime
from running import compiled
from wasmtime import component as oracle

from starlette_wasm.capabilities import Capabilities, CapabilitySettings, Session, Violation
from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.config.policy import SandboxPolicy
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits, Preopen

PROBE = Path(__file__).parents[1] / "guests" / "components" / "wasi_probe.wasm"
NOTHING = SandboxPolicy()


@dataclass
class Probe:
    """What the probe is run with."""

    policy: SandboxPolicy = NOTHING
    settings: CapabilitySettings = field(default_factory=CapabilitySettings)
    limits: Limits = field(default_factory=lambda: Limits(memory_pages=250))
    preopens: tuple[Preopen, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 60
    violations: list[Violation] = field(default_factory=list)
    """Of the last run."""

    def run(self, script: str) -> Outcome:
        plan = ComponentPlan(compiled(PROBE.read_bytes()), self.limits, preopens=self.preopens, config=self.config)
        return asyncio.run(self._run(plan, script))

    async def _run(self, plan: ComponentPlan, script: str) -> Outcome:
        capabilities = Capabilities(self.settings)
        deadline = time.monotonic() + self.seconds
        session = Session(capabilities, capabilities.grants(self.policy, "probe"), deadline=deadline)
        try:
            return await ComponentInvocation(plan, script.encode()).run(deadline, nullcontext, session)
        finally:
            self.violations = session.violations
            await capabilities.close()

    def ask(self, script: str) -> Any:
        """What the script gives: ``{"ok": ...}`` or ``{"error": ...}``."""
        outcome = self.run(script)
        assert outcome.end is End.OK, outcome
        return json.loads(outcome.stdout)

    def value(self, script: str) -> Any:
        """What the script returns."""
        answer = self.ask(script)
        assert "ok" in answer or answer == {}, answer
        return answer.get("ok")


_OURS = {
    "wasi:keyvalue/store@0.2.0-draft2": (
        "bucket open [method]bucket.get [method]bucket.set [method]bucket.delete [method]bucket.exists "
        "[method]bucket.list-keys"
    ),
    "wasi:keyvalue/atomics@0.2.0-draft2": "bucket cas [static]cas.new [method]cas.current increment swap",
    "wasi:keyvalue/batch@0.2.0-draft2": "bucket get-many set-many delete-many",
    "wasi:config/store@0.2.0-rc.1": "get get-all",
    "wasi:logging/logging@0.1.0-draft": "log",
}
"""What the probe imports that wasmtime's component API lacks."""


def _not_there(*_: object) -> None:
    raise AssertionError("wasmtime has no such function")


@cache
def _oracle() -> tuple[wasmtime.Engine, oracle.Linker, oracle.Component]:
    engine = wasmtime.Engine()
    component = oracle.Component(engine, PROBE.read_bytes())
    linker = oracle.Linker(engine)
    linker.add_wasip2()
    linker.add_wasi_http()
    for interface, names in _OURS.items():
        with linker.root() as root, root.add_instance(interface) as instance:
            for name in names.split():
                if name in ("bucket", "cas"):
                    instance.add_resource(name, oracle.ResourceType.host(1 if name == "bucket" else 2), lambda *_: None)
                else:
                    instance.add_func(name, _not_there)
    return engine, linker, component


def ask_wasmtime(script: str, preopens: tuple[Preopen, ...] = ()) -> Any:
    """What wasmtime's component API gives for the script."""
    engine, linker, component = _oracle()
    store = wasmtime.Store(engine)
    config = wasmtime.WasiConfig()
    for each in preopens:
        config.preopen_dir(each.host, each.guest, each.writable)
    store.set_wasi(config)
    store.set_wasi_http()
    function = linker.instantiate(store, component).get_func(store, "handle")
    assert function is not None
    answer = function(store, script)
    function.post_return(store)
    return json.loads(answer)
