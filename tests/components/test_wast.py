"""Files of the kind that the component model tests implementations with, run by tools/component_wast.py."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from component_wast import reasons, summary
from wast_file import run_file
from wast_text import Form, Text, WastError, read_forms
from wast_values import same

from starlette_wasm.components.scheduler import ONE_STACK

ROOT = Path(__file__).parents[2]
FILES = sorted((Path(__file__).parent / "wast").glob("*.wast"))


@pytest.mark.parametrize("path", FILES, ids=[each.stem for each in FILES])
def test_commands_of_a_file_pass(path: Path) -> None:
    results = asyncio.run(run_file(path))
    assert not [each for each in results if each.status == "failed"]
    assert len([each for each in results if each.status == "passed"]) > 10


WRONG = """
(component $c (core module $m (func (export "f") (result i32) (i32.const 1)) (func (export "stop") unreachable))
  (core instance $i (instantiate $m))
  (func (export "f") (result u32) (canon lift (core func $i "f")))
  (func (export "stop") (canon lift (core func $i "stop"))))
(assert_return (invoke "f") (u32.const 2))
(assert_return (invoke "g") (u32.const 1))
(assert_trap (invoke "f") "unreachable")
(assert_return (invoke "stop"))
(assert_invalid (component) "nothing is wrong with it")
(assert_trap (component) "nothing is wrong with it")
(component (core instance (instantiate 0)))
(assert_return (invoke "f") (u32.const 1))
(component (import "f" (func $f)) (core func (canon lower (func $f))))
(component (core func (canon error-context.drop)))
(component $ (
"""


def test_what_does_not_hold_fails(tmp_path: Path) -> None:
    path = tmp_path / "wrong.wast"
    path.write_text(WRONG.rpartition("(component")[0])
    statuses = [each.status for each in asyncio.run(run_file(path))]
    assert statuses == ["passed", *["failed"] * 7, *["not run"] * 3]
    path.write_text(WRONG)
    (result,) = asyncio.run(run_file(path))
    assert (result.status, result.detail) == ("failed", "line 16: a list has no end")


def test_counts_and_reasons_are_given(tmp_path: Path) -> None:
    path = tmp_path / "some.wast"
    path.write_text("(component)(component (core func (canon error-context.drop)))(module)")
    found = {path: asyncio.run(run_file(path))}
    assert summary(found) == [f"{path}: 1 passed, 0 failed, 2 not run", "1 files: 1 passed, 0 failed, 2 not run"]
    assert [each.partition("not run: ")[2][:40] for each in reasons(found)] == [
        "refused: it uses error-context.drop of t", "core modules are wasmtime's"
    ]  # fmt: skip


def test_the_command_fails_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.wast").write_text('(assert_invalid (component) "")')
    command = [sys.executable, "tools/component_wast.py", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "a.wast:1: failed: assert_invalid: Failed: it is taken, and is invalid" in done.stdout


def test_texts_are_read() -> None:
    (form,) = read_forms('(a ;; no\n "b\\"\\n\\41\\u{e9}" (; (; x ;) ;) (c -0x1_0))')
    assert isinstance(form.items[2], Form)
    assert (form.head, form.items[1], form.items[2].items) == ("a", Text(b'b"\nA\xc3\xa9'), ("c", "-0x1_0"))


@pytest.mark.parametrize("text", ["(a", "a", "(; (a)", '("a)', ")"])
def test_broken_texts_are_errors(text: str) -> None:
    with pytest.raises(WastError, match="line 1"):
        read_forms(text)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (float("nan"), float("nan"), True),
        (0.0, -0.0, False),
        ([1.0], [1.0], True),
        ({"a": 1}, {"a": 2}, False),
        (1, 2, False),
    ],
)
def test_values_are_compared(one: Any, other: Any, equal: bool) -> None:
    assert same(one, other) is equal


def test_one_stack_is_named_where_it_is_missed(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "wast" / "inner_tasks.wast").read_text()
    path = tmp_path / "one.wast"
    last = text.rindex("(component instance $s")
    path.write_text(f'{text[:last]}(component instance $s $one-stack)\n(invoke "run" (bool.const false))')
    result = asyncio.run(run_file(path))[-1]
    assert (result.status, result.detail) == ("not run", ONE_STACK)
