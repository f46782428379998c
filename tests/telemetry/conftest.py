from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from apps import config, settings
from collecting import Collector, Make

from starlette_wasm import WasmRuntime
from starlette_wasm.telemetry import Telemetry, guest_log


@pytest.fixture(autouse=True)
def full_shares() -> None:
    """Let no function lack what an earlier test has used up of its share."""
    guest_log._shares.clear()


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def make(tmp_path: Path, collector: Collector) -> Make:
    """Makes a runtime, of the arguments of ``apps.config``, that tells the collector."""

    def make(*args: Any, telemetry: Telemetry | None = None, access_log: bool = False, **kwargs: Any) -> WasmRuntime:
        given = settings(access_log=access_log, kv_url=f"sqlite:///{tmp_path}/kv.db")
        runtime = WasmRuntime(config(tmp_path, *args, **kwargs), given)
        runtime.telemetry = telemetry or collector.telemetry()
        return runtime

    return make
