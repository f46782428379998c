"""What modules are compiled for."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from starlette_wasm.config.settings import WasmSettings
from starlette_wasm.engine import processor
from starlette_wasm.engine.configuration import fingerprint
from starlette_wasm.exceptions import ConfigError


def test_native_code_depends_on_the_machines_features() -> None:
    assert platform.machine() in fingerprint(True)
    if Path("/proc/cpuinfo").exists():
        assert len(fingerprint(True)) > 80


def test_a_baseline_depends_on_the_architecture_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    here = fingerprint(True, processor="baseline"), fingerprint(True)
    monkeypatch.setattr(processor, "_this_machine", lambda: "another machine")
    assert fingerprint(True, processor="baseline") == here[0]
    assert fingerprint(True) != here[1]
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert fingerprint(True, processor="baseline") != here[0]


@pytest.mark.parametrize(
    ("machine", "system", "wanted", "target"),
    [
        ("x86_64", "linux", "baseline", ("x86_64-unknown-linux-gnu", "x86-64-v2")),
        ("AMD64", "linux", "x86-64-v3", ("x86_64-unknown-linux-gnu", "x86-64-v3")),
        ("aarch64", "linux", "baseline", ("aarch64-unknown-linux-gnu", "")),
        ("arm64", "darwin", "baseline", ("aarch64-apple-darwin", "")),
        ("x86_64", "linux", "native", None),
    ],
)
def test_a_processor_is_a_target_and_its_level(
    machine: str, system: str, wanted: processor.Processor, target: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr("sys.platform", system)
    assert processor.target_of(wanted) == target


def test_a_level_of_another_architecture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    from starlette_wasm.config.settings import load_settings

    monkeypatch.setenv("STARLETTE_WASM_PROCESSOR", "x86-64-v3")
    with pytest.raises(ConfigError, match="is not a level of aarch64"):
        load_settings()
    assert WasmSettings(processor="baseline").processor == "baseline"
