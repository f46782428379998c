"""``starlette-wasm stubs``, and what ``inspect`` shows of a component."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from starlette_wasm.cli.app import run
from starlette_wasm.engine import capi

TEXT = """(component (core module $m (memory (export "mem") 3)
 (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
 (core instance $i (instantiate $m))
 (func (export "add-up") (param "a" u8) (param "class" u8) (result u32) (canon lift (core func $i "add"))))"""


@pytest.fixture
def component(tmp_path: Path) -> Path:
    file = tmp_path / "sum-up.wasm"
    file.write_bytes(capi.assemble(TEXT))
    return file


def test_stubs_are_printed_or_written(component: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stubs", str(component)]) == 0
    printed = capsys.readouterr().out
    assert "class SumUp(Protocol):\n    async def add_up(self, a: int, class_: int) -> int: ...\n" in printed
    target = component.parent / "stubs" / "sum_up.pyi"
    assert run(["stubs", str(component), "-o", str(target)]) == 0
    assert target.read_text() == printed


def test_only_components_have_stubs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.wasm"
    file.write_bytes(capi.assemble("(module)"))
    assert run(["stubs", str(file)]) == 1
    assert f"{file}: is not a component" in capsys.readouterr().err


def test_inspect_shows_wit_and_memory_of_components(component: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(component)]) == 0
    shown = capsys.readouterr().out
    assert "export add-up: func(a: u8, class: u8) -> u32;" in shown
    assert "3 pages (192 KiB) at least" in shown
    assert "maxMemoryPages: at least 3" in shown
    assert run(["inspect", str(component), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["pages"], facts["error"], facts["fastPath"]) == (3, None, False)
    assert facts["slowBecause"].startswith("it is a component")
