"""What each function has of the compiling in one load."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from starlette_wasm.engine.engine import Engine
from starlette_wasm.exceptions import CompileError
from starlette_wasm.functions.catalog import FunctionManifest, FunctionSource
from starlette_wasm.functions.compile_shares import CompileQueue, CpuBudget
from starlette_wasm.functions.compiler import CompileLimits, Compiler, CompilerError
from starlette_wasm.functions.loader import load_all

GUESTS = Path(__file__).parent.parent / "guests"


def source(name: str, version: int, guest: str = "hello") -> FunctionSource:
    return FunctionSource(name, str(version), GUESTS / f"{guest}.wasm", FunctionManifest())


def versions(name: str, count: int) -> list[FunctionSource]:
    return [source(name, version) for version in range(1, count + 1)]


def test_versions_of_functions_are_compiled_in_turn() -> None:
    order: list[str] = []
    queue = CompileQueue([*versions("a", 3), *versions("b", 2), *versions("c", 1)], 1)
    queue.work(lambda each: order.append(f"{each.name}{each.version}"))
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_slow_function_holds_one_process_while_others_wait() -> None:
    order: list[str] = []
    slow = threading.Event()

    def load(each: FunctionSource) -> None:
        if each.name == "slow":
            order.append(f"slow{each.version}")
            assert slow.wait(60)
        else:
            order.append(f"quick{each.version}")
            if each.version == "3":
                slow.set()

    queue = CompileQueue([*versions("slow", 4), *versions("quick", 3)], 2)
    with ThreadPoolExecutor(2) as pool:
        for thread in [pool.submit(queue.work, load) for _ in range(2)]:
            thread.result(60)
    assert [each for each in order if each != "slow1"][:3] == ["quick1", "quick2", "quick3"]
    assert len(order) == 7


def test_after_a_failure_nothing_more_is_loaded() -> None:
    seen: list[str] = []

    def load(each: FunctionSource) -> None:
        seen.append(each.version)
        raise OSError("gone")

    queue = CompileQueue(versions("a", 3), 1)
    with pytest.raises(OSError, match="gone"):
        queue.work(load)
    queue.work(load)
    assert seen == ["1"]


def test_a_function_without_cpu_time_left_is_not_compiled() -> None:
    budget = CpuBudget(10)
    budget.spend(source("a", 1), 6)
    budget.check(source("a", 2))
    budget.spend(source("a", 2), 6)
    with pytest.raises(CompileError, match="other versions of a took 12 s of CPU time in this load already") as raised:
        budget.check(source("a", 3))
    assert raised.value.file == str(GUESTS / "hello.wasm")
    budget.check(source("b", 1))


def test_the_budget_of_one_function_is_not_that_of_another(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(CompileLimits, "function_cpu_s", 1e-4)
    sources = [source("costly", 1), source("costly", 2, "spin"), source("other", 1, "files")]
    with pytest.raises(CompileError, match="other versions of costly took"):
        load_all(engine, sources, None, 1)
    assert "loaded costly v1" in caplog.text
    assert "loaded other v1" in caplog.text
    assert "not compiled again within" not in caplog.text


def test_a_compiler_tells_the_cpu_time_of_a_module() -> None:
    it = Compiler(True, CompileLimits())
    try:
        it.compile((GUESTS / "hello.wasm").read_bytes())
        assert 0 < it.cpu_s < CompileLimits().cpu_s
    finally:
        it.close()


def test_a_module_whose_process_ends_is_charged_in_full() -> None:
    it = Compiler(True, CompileLimits(cpu_s=7))
    try:
        guest = (GUESTS / "hello.wasm").read_bytes()
        it.compile(guest)
        assert it._process is not None
        it._process.kill()
        time.sleep(0.05)
        with pytest.raises(CompilerError):
            it.compile(guest)
        assert it.cpu_s == 7
    finally:
        it.close()
