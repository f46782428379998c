from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from bombs import body, loops, module

from starlette_wasm.engine import bounds
from starlette_wasm.engine.binary import DATA, ELEMENT, EXPORT, GLOBAL, TABLE, TYPE, leb, name
from starlette_wasm.engine.compile import InvalidModuleError, UnsupportedModuleError
from starlette_wasm.engine.configuration import compiling_engine
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.module import Module
from starlette_wasm.functions import compile_child, compiler
from starlette_wasm.functions.compiler import CompileLimits, Compiler, CompilerError

GUESTS = Path(__file__).parent.parent / "guests"
HELLO = (GUESTS / "hello.wasm").read_bytes()
BOMB = loops(1000, 12_000)
"""86 KiB; the limits of the tests below end it long before it is compiled."""


@pytest.fixture
def compilers():
    """``compilers(**limits)``: a compiler, ended with the test."""
    made: list[Compiler] = []

    def make(**limits: float) -> Compiler:
        made.append(Compiler(True, CompileLimits(**limits)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def pid(which: Compiler) -> int:
    assert which._process is not None
    return which._process.pid


@pytest.mark.parametrize("guest", ["hello", "files", "edge_rust"])
def test_the_code_is_what_the_engine_itself_would_make(engine, compilers, guest):
    wasm = (GUESTS / f"{guest}.wasm").read_bytes()
    here = Module.compile(engine, wasm)
    code, facts = compilers().compile(wasm)
    assert code == here.serialize()
    assert facts == here.facts


def test_an_engine_without_a_pool_takes_the_code_made_for_it(monkeypatch):
    monkeypatch.setattr("starlette_wasm.engine.engine._can_reserve", lambda instances: False)
    engine = Engine(EngineConfig(max_instances=2))
    assert not engine.pooled
    without = Compiler(False, CompileLimits())
    code, facts = without.compile(HELLO)
    without.close()
    assert code == Module.compile(engine, HELLO).serialize()
    Module.load(engine, code, facts).close()


def test_one_process_compiles_one_module_after_the_other(compilers):
    it = compilers()
    it.compile(HELLO)
    first = pid(it)
    for bad in (b"", b"\0asm\1\0\0\0\1"):
        with pytest.raises(InvalidModuleError):
            it.compile(bad)
    with pytest.raises(UnsupportedModuleError, match="exports no function _start"):
        it.compile(module(body(), more={EXPORT: b"\1" + name("memory") + b"\2\0"}))
    it.compile(HELLO)
    assert pid(it) == first
    it.close()
    assert not psutil.pid_exists(first)


def test_the_process_imports_neither_asyncio_nor_the_rest_of_the_package(compilers):
    it = compilers()
    it.compile(HELLO)
    mapped = {Path(each.path).name for each in psutil.Process(pid(it)).memory_maps()}
    assert any("wasmtime" in each for each in mapped)
    assert not any(word in each for each in mapped for word in ("pydantic", "_asyncio", "_ssl"))


# Limits


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"cpu_s": 1}, r"takes more than 1 s of CPU time \(compile_cpu_s\); split its .* or raise compile_cpu_s"),
        ({"wall_s": 0.5}, r"takes more than 0.5 s \(compile_timeout_s\); .* raise compile_timeout_s"),
        ({"memory": 128 << 20}, r"takes more than 128 MiB of memory \(compile_memory_mb\); .* raise compile_memory_mb"),
    ],
)
def test_a_bomb_ends_its_process_and_nothing_else(compilers, limits, message):
    assert len(BOMB) < 100_000
    it = compilers(**limits)
    with pytest.raises(CompilerError, match=message):
        it.compile(BOMB)
    others = compilers()
    others.compile(HELLO)
    if "wall_s" not in limits:
        it.compile(HELLO)


def test_the_process_dumps_no_core_writes_no_files_and_goes_first_where_memory_is_short(compilers):
    it = compilers(memory=100 << 20)
    it.compile(HELLO)
    limits = Path(f"/proc/{pid(it)}/limits").read_text()
    values = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()[1:]}
    assert values["Max core file size"] == values["Max file size"] == ["0", "0"]
    space = int(values["Max address space"][1])
    assert 100 << 20 < space < 1 << 30
    assert Path(f"/proc/{pid(it)}/oom_score_adj").read_text() == "1000\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])
def test_a_process_that_dies_is_an_error_and_the_next_module_gets_a_new_one(compilers, number):
    it = compilers()
    it.compile(HELLO)
    before = pid(it)
    os.kill(before, number)
    with pytest.raises(CompilerError, match="was killed" if number == signal.SIGKILL else f"ended with -{number:d}"):
        it.compile(HELLO)
    it.compile(HELLO)
    assert pid(it) != before


def test_an_interrupt_from_the_terminal_does_not_end_it(compilers):
    it = compilers()
    it.compile(HELLO)
    os.kill(pid(it), signal.SIGINT)
    it.compile(HELLO)


def test_compilers_leave_no_descriptors_threads_or_processes(compilers):
    def held() -> tuple[int, int, int]:
        me = psutil.Process()
        return me.num_fds(), threading.active_count(), len(me.children())

    it = compilers(cpu_s=1)
    it.compile(HELLO)
    it.close()
    before = held()
    for _ in range(3):
        it.compile(HELLO)
        it.close()
    it.compile(HELLO)
    os.kill(pid(it), signal.SIGKILL)
    with pytest.raises(CompilerError):
        it.compile(HELLO)
    assert held() == before


# Where no process can be started


def test_where_no_process_can_be_started_the_error_says_why_and_what_to_do(compilers, monkeypatch):
    def refused(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(CompilerError, match=r"Too many open files; raise the limit .* or fill the AOT cache"):
        compilers().compile(HELLO)


@pytest.mark.parametrize("frozen", [True, False])
def test_an_executable_that_is_no_python_is_not_run(compilers, monkeypatch, frozen):
    if frozen:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(compiler, "get_executable", lambda: "")
    with pytest.raises(CompilerError, match=r"is not a Python; name one with multiprocessing.set_executable\(\)"):
        compilers().compile(HELLO)


def test_an_executable_that_does_something_else_is_named(compilers, monkeypatch):
    monkeypatch.setattr(compiler, "get_executable", lambda: "/bin/false")
    with pytest.raises(CompilerError, match="ended with 1; see whether '/bin/false' is the Python that runs the app"):
        compilers().compile(HELLO)


@pytest.mark.parametrize("how", ["-c", "stdin"])
def test_it_works_from_any_kind_of_program(how):
    program = (
        "from pathlib import Path\n"
        "from starlette_wasm.functions.compiler import *\n"
        "it = Compiler(True, CompileLimits())\n"
        f"print(len(it.compile(Path({str(GUESTS / 'hello.wasm')!r}).read_bytes())[0]))\n"
        "it.close()\n"
    )
    command = [sys.executable, "-W", "error", *(("-c", program) if how == "-c" else ())]
    done = subprocess.run(
        command, input=program if how == "stdin" else "", capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 10_000


# What the process does, here


def test_requests_are_answered_in_order_until_they_end():
    requests = b"".join(compile_child.REQUEST.pack(len(each)) + each for each in (HELLO, b"?"))
    answers = io.BytesIO()
    compile_child.serve(compiling_engine(True), 3600, io.BytesIO(requests), answers)
    data = answers.getvalue()
    found = []
    while data:
        facts, code = compile_child.ANSWER.unpack(data[:16])
        found.append((json.loads(data[16 : 16 + facts]), code))
        data = data[16 + facts + code :]
    (first, size), (second, nothing) = found
    assert first["facts"]["imports"] == ["fd_write", "proc_exit"]
    assert size > 10_000
    assert second.pop("cpu_s") >= 0
    assert second == {"invalid": "it does not begin like a WebAssembly module"}
    assert nothing == 0


# Bounds


def at_bounds(kind: str, over: int) -> bytes:
    """A module with as much of something as it may have, and ``over`` more."""
    most = {what.split()[0]: count for count, what in bounds._COUNTS.values()}
    n = most.get(kind, 0) + over
    table = {TABLE: b"\1\x70\0" + leb(bounds.TABLE_ELEMENTS + (over if kind == "tables" else 0))}
    if kind == "locals":
        return module(body(), body(i64_locals=bounds.LOCALS + over))
    if kind == "body":
        return module(body(b"\1" * (bounds.BODY - 2 + over)))
    if kind == "functions":
        return module(*[body()] * n)
    more = {
        "types": {TYPE: leb(n) + b"\x60\0\0" * n},
        "globals": {GLOBAL: leb(n) + b"\x7f\0\x41\0\x0b" * n},
        "exports": {
            EXPORT: leb(n)
            + name("memory")
            + b"\2\0"
            + name("_start")
            + b"\0\0"
            + b"".join(name(str(i)) + b"\0\0" for i in range(n - 2))
        },
        "element": table | {ELEMENT: leb(n) + b"\0\x41\0\x0b\0" * n},
        "data": {DATA: leb(n) + b"\0\x41\0\x0b\0" * n},
        "tables": table,
    }[kind]
    return module(body(), more=more)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("types", "it has 10,001 types; the most is 10,000"),
        ("functions", "it has 100,001 functions; the most is 100,000"),
        ("globals", "it has 10,001 globals; the most is 10,000"),
        ("exports", "it has 50,001 exports; the most is 50,000"),
        ("element", "it has 10,001 element segments; the most is 10,000"),
        ("locals", "it has 10,001 locals in function 1 of its code; the most is 10,000"),
        ("body", "it has 2,097,153 bytes in function 0 of its code; the most is 2,097,152"),
        ("tables", "it has 100,001 elements in a table; the most is 100,000"),
    ],
)
def test_a_module_out_of_bounds_is_refused_before_it_is_compiled(compilers, kind, message):
    it = compilers()
    with pytest.raises(UnsupportedModuleError, match=message):
        it.compile(at_bounds(kind, 1))
    bounds.check(at_bounds(kind, 0))


def test_as_many_data_segments_as_go_makes_are_taken(compilers):
    """Go's linker and wasmtime have the same bound as this."""
    bounds.check(at_bounds("data", 0))
    with pytest.raises(InvalidModuleError, match="data segments count exceeds limit of 100000"):
        compilers().compile(at_bounds("data", 1))


def test_imports_are_bounded(compilers):
    one = name("wasi_snapshot_preview1") + name("sched_yield") + b"\0\1"
    more = {TYPE: b"\2\x60\0\0\x60\0\1\x7f", 2: leb(1001) + one * 1001}
    more[EXPORT] = b"\2" + name("memory") + b"\2\0" + name("_start") + b"\0" + leb(1001)
    with pytest.raises(UnsupportedModuleError, match="it has 1,001 imports; the most is 1,000"):
        compilers().compile(module(body(), more=more))
