"""What the engine does to its process: exits, forks, leaks, allocation on demand, the ticker."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
import tomllib
from functools import cache
from pathlib import Path

import psutil
import pytest
from apps import eventually
from support import GUESTS, answer, ask, command, invoke, run

from starlette_wasm.engine import capi, library
from starlette_wasm.engine import engine as engine_module
from starlette_wasm.engine import ticker as ticker_module
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits, Preopen
from starlette_wasm.engine.ticker import HotTimer, NativeTimer, ThreadTimer

HERE = Path(__file__).parent
FORKS = ("-W", "ignore:This process:DeprecationWarning")
"""Python 3.15 raises where 3.12 to 3.14 only wrote: that forking beside threads is not safe, which is tested here."""


def python(code: str, *, prelude: str = "", **options) -> subprocess.CompletedProcess[str]:
    """Run a program with ``support`` imported, an ``engine`` and ``load(name)``."""
    program = f"""{prelude}
import asyncio, os, sys, threading, time
sys.path.insert(0, {str(HERE)!r})
from support import *
from starlette_wasm.engine.engine import *
engine = Engine.shared(EngineConfig())
def load(name, engine=engine):
    return Module.compile(engine, (GUESTS / f"{{name}}.wasm").read_bytes())
{code}"""
    environ = os.environ | {"RUST_BACKTRACE": "0"}
    return subprocess.run(
        [sys.executable, "-W", "error", *FORKS, "-c", program],
        capture_output=True, text=True, timeout=120, env=environ, check=False, **options,
    )  # fmt: skip


def clean(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


# The end of the interpreter


@pytest.mark.parametrize(
    "code",
    [
        "for _ in range(20): run(load('hello')), run(load('trap'), b'{\"query\":{\"mode\":\"div0\"}}')",
        "grant = (Preopen(os.getcwd(), '/data', True),)\n"
        "for _ in range(20): ask(load('files'), body={'op': 'write', 'path': '/data/x', 'data': 'x'}, preopens=grant)",
        "run(load('spin'), limits=Limits(time=0.1))",
        "async def main():\n"
        "    tasks = [asyncio.create_task(invoke(load(n), b'{}')) for n in ('spin', 'spin', 'spin', 'sleep60')]\n"
        "    await asyncio.sleep(0.05)\n"
        "asyncio.run(main())",
        "threading.Thread(target=run, args=(load('spin'),), daemon=True).start(); time.sleep(0.05)",
    ],
    ids=["plain", "files", "timeout", "cancelled", "running"],
)
def test_the_interpreter_ends_cleanly_after_guests_ran(code, tmp_path):
    for _ in range(10 if "grant" in code else 4):
        clean(python(code, cwd=tmp_path))


# Fork


FORK = """
hello, spin = load("hello"), load("spin")
assert run(hello).end is End.OK and run(spin, limits=Limits(time=0.05)).end is End.TIMEOUT
child = os.fork()
if not child:
    assert engine.dead and not engine.ticker.armed
    mine = Engine.shared(EngineConfig())
    assert mine is not engine and not mine.dead
    for _ in range(3):
        assert run(load("hello", mine)).end is End.OK
        assert run(load("spin", mine), limits=Limits(time=0.05)).end is End.TIMEOUT
    sys.exit(7)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
assert not engine.dead
assert run(hello).end is End.OK and run(spin, limits=Limits(time=0.05)).end is End.TIMEOUT
"""


WITHOUT_NATIVE = "from starlette_wasm.engine.native import library; library.native = None"
BOTH_TICKERS = pytest.mark.parametrize(
    "prelude", [pytest.param("", marks=pytest.mark.native), WITHOUT_NATIVE], ids=["native", "posix"]
)


@pytest.mark.parametrize(
    "prelude", [pytest.param("", marks=pytest.mark.native), WITHOUT_NATIVE], ids=["native", "posix"]
)
def test_a_forked_child_makes_an_engine_of_its_own(prelude):
    for _ in range(3):
        clean(python(FORK, prelude=prelude))


@pytest.mark.parametrize(
    "prelude", [pytest.param("", marks=pytest.mark.native), WITHOUT_NATIVE], ids=["native", "posix"]
)
def test_a_fork_while_guests_run_leaves_both_processes_able_to_run_more(prelude):
    running = "threading.Thread(target=run, args=(load('spin'),), daemon=True).start(); time.sleep(0.05)\n"
    clean(python(running + FORK, prelude=prelude))


@pytest.mark.parametrize("guest", ["sleep60", "spin"])
def test_a_forked_child_frees_nothing_of_a_guest_of_its_parent(guest):
    """It waits for the host, or runs in a thread: the child has neither, and must not wait for locks of either."""
    code = f"""
from starlette_wasm.engine import capi, timed
timed._LEAST = -1.0  # as on a slow machine, what a turn takes counts
loop = asyncio.new_event_loop()
task = loop.create_task(invoke(load("{guest}"), b"{{}}"))
loop.run_until_complete(asyncio.sleep(0.1))
assert engine.state.live == 1
coroutine = task.get_coro()
child = os.fork()
if not child:
    freed = []
    for name in ("store_delete", "future_delete", "drop_failure"):
        setattr(capi, name, lambda *_: freed.append(name))
    engine.workers.withdraw = lambda job: freed.append("its thread")
    coroutine.close()
    os._exit(3 if freed else 7)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
task.cancel()
loop.run_until_complete(asyncio.wait([task]))
loop.close()
"""
    clean(python(code))


# Engines


def test_engines_with_the_same_configuration_are_one():
    assert Engine.shared(EngineConfig()) is Engine.shared(EngineConfig())


def test_a_small_address_space_means_instances_on_demand():
    code = """
assert not engine.pooled and "pooled=False" in engine.fingerprint
for _ in range(5):
    assert run(load("hello")).end is End.OK
    assert run(load("spin"), limits=Limits(time=0.1)).end is End.TIMEOUT
"""
    limit = """
import resource, logging, sys
logging.basicConfig(stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_AS, (32 << 30, 32 << 30))
"""
    out = clean(python(code, prelude=limit))
    assert "cannot reserve address space for 1000 guests" in out
    assert "lower max_instances or raise the limit (ulimit -v)" in out


@pytest.fixture(scope="module")
def on_demand():
    """``on_demand(name or text)``: a module of an engine without a pool."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "_can_reserve", lambda instances: False)
        engine = Engine(EngineConfig(max_instances=50))
    assert not engine.pooled
    modules: dict[str, Module] = {}

    def module(name: str) -> Module:
        if name not in modules:
            wasm = capi.assemble(name) if name.startswith("(") else (GUESTS / f"{name}.wasm").read_bytes()
            modules[name] = Module.compile(engine, wasm)
        return modules[name]

    return module


def test_guests_on_demand_do_what_guests_of_the_pool_do(on_demand, tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    grant = (Preopen(str(tmp_path), "/data", False),)
    assert ask(on_demand("files"), body={"op": "read", "path": "/data/a.txt"}, preopens=grant)["data"] == "hello"
    assert run(on_demand("recurse")).reason == "call stack exhausted"
    assert run(on_demand("alloc"), limits=Limits(memory_pages=100)).end is End.MEMORY
    assert run(on_demand("exit3")).exit_code == 3
    assert ask(on_demand("sleep_ms"), query={"ms": "20"}) == {"slept": 20}
    assert answer(run(on_demand("clocks")))["monotonic_res_ns"] == 1_000_000
    assert run(on_demand("spin"), limits=Limits(time=0.1)).end is End.TIMEOUT
    outcome = run(on_demand("trap"), json.dumps({"query": {"mode": "oob"}}).encode())
    assert outcome.reason == "out of bounds memory access"


def test_an_io_memory_that_moves_as_it_grows_is_followed(on_demand):
    stdin = os.urandom(3 << 20).hex().encode()
    body = """(local $n i32) (local $i i32)
      (i64.store (i32.const 24) (i64.const 5000000))
      (loop $on
        (i32.store (i32.const 128) (i32.const 256)) (i32.store (i32.const 132) (i32.const 60000))
        (drop (call $fd_read (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 140)))
        (local.set $n (i32.load (i32.const 140)))
        (if (local.get $n)
          (then
            (call $print (i32.const 256) (local.get $n))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (if (i32.eqz (i32.rem_u (local.get $i) (i32.const 40)))
              (then
                (drop (memory.grow (i32.const 7)))
                (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 160)))))
            (br $on))))
      (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 64)))
      (call $print (i32.const 64) (i32.const 8))"""
    module = on_demand(command(body, "fd_read", "poll_oneoff", "clock_time_get"))
    outcome = run(module, stdin, limits=Limits(stdout=16 << 20))
    assert outcome.end is End.OK
    assert outcome.stdout[:-8] == stdin
    assert abs(int.from_bytes(outcome.stdout[-8:], "little") / 1e9 - time.time()) < 10


def test_guests_on_demand_run_side_by_side(on_demand):
    async def main():
        sleep = [invoke(on_demand("sleep_ms"), b'{"query":{"ms":"50"}}') for _ in range(40)]
        spin = [invoke(on_demand("spin"), limits=Limits(time=0.1)) for _ in range(5)]
        return await asyncio.gather(*sleep, *spin)

    assert [outcome.end for outcome in asyncio.run(main())] == [End.OK] * 40 + [End.TIMEOUT] * 5


# The ticker


def test_the_ticker_rests_when_no_guest_has_come_for_a_while_and_starts_again(guest, engine):
    async def main():
        for _ in range(2):
            await invoke(guest("hello"))
            assert engine.ticker.armed
            await eventually(lambda: not engine.ticker.armed)
            assert (await invoke(guest("spin"), limits=Limits(time=0.05))).end is End.TIMEOUT

    asyncio.run(main())


def test_a_ticker_that_another_thread_puts_to_rest_meanwhile_is_armed_again(engine, monkeypatch):
    async def main():
        ticker, loop = engine.ticker, asyncio.get_running_loop()
        ticker.ensure_armed()
        resting = threading.Thread(target=ticker.rest)

        class Loop:
            """Asked whether it is closed, it lets the other thread run."""

            def is_closed(self):
                resting.start()
                resting.join(0.2)
                return False

        monkeypatch.setattr(ticker, "_loop", Loop())
        ticker.ensure_armed()
        resting.join()
        assert (engine.state.starts_until_check > 0) == ticker.armed
        monkeypatch.setattr(ticker, "_loop", loop)
        for _ in range(3):
            ticker.ensure_armed()
            assert ticker.armed
            assert 0 < engine.state.starts_until_check <= ticker_module._STARTS_UNTIL_CHECK

    asyncio.run(main())


def test_the_ticker_does_not_rest_while_a_guest_is_alive(guest, engine):
    async def main():
        task = asyncio.create_task(invoke(guest("sleep_ms"), b'{"query":{"ms":"60000"}}'))
        for _ in range(6):
            await asyncio.sleep(0.1)
            assert engine.ticker.armed
            engine.ticker.rest()
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())


@pytest.mark.parametrize(
    ("lacking", "kind"),
    [
        pytest.param([], HotTimer, marks=pytest.mark.native),
        (["native"], NativeTimer),
        (["native", "posix"], ThreadTimer),
    ],
)
def test_each_kind_of_timer_ends_what_spins_and_rests(monkeypatch, lacking, kind):
    class Missing:
        def __init__(self, engine: int) -> None:
            raise OSError("no timers here")

    if "native" in lacking:
        monkeypatch.setattr(ticker_module, "native", None)
    if "posix" in lacking:
        monkeypatch.setattr(ticker_module, "NativeTimer", Missing)
    engine = Engine(EngineConfig(max_instances=5))
    assert isinstance(engine.ticker._timer, kind)
    assert engine.ticker.native == (kind is not ThreadTimer)
    spin = Module.compile(engine, (GUESTS / "spin.wasm").read_bytes())
    hello = Module.compile(engine, (GUESTS / "hello.wasm").read_bytes())

    async def main():
        for _ in range(2):
            assert (await invoke(spin, limits=Limits(time=0.1))).end is End.TIMEOUT
            assert (await invoke(hello)).end is End.OK
            end = time.monotonic() + 60
            while engine.ticker.armed:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)

    asyncio.run(main())


# Leaks


def test_three_thousand_guests_of_all_kinds_leave_memory_descriptors_and_threads_as_they_were(tmp_path):
    # Of a small pool each slot has been used, and keeps what it keeps, after the first 1,000.
    engine = Engine(EngineConfig(max_instances=60))

    @cache
    def guest(name: str) -> Module:
        return Module.compile(engine, (GUESTS / f"{name}.wasm").read_bytes())

    (tmp_path / "a.txt").write_text("hello")
    grant = (Preopen(str(tmp_path), "/data", True),)

    def edge(body=None, **query: str) -> bytes:
        return json.dumps({"body": json.dumps(body), "query": query}).encode()

    mix = [
        (guest("hello"), {}),
        (guest("echo"), {"stdin": b"x" * 100_000}),
        (guest("trap"), {"stdin": edge(mode="oob")}),
        (guest("recurse"), {}),
        (guest("exit3"), {}),
        (guest("alloc"), {"limits": Limits(memory_pages=64)}),
        (guest("garbage"), {}),
        (guest("flood_stdout"), {"limits": Limits(stdout=1 << 20)}),
        (guest("sleep_ms"), {"stdin": edge(ms="1")}),
        (guest("sleep60"), {"limits": Limits(time=0.001)}),
        (guest("spin"), {"limits": Limits(time=0.003)}),
        (guest("files"), {"stdin": edge({"op": "write", "path": "/data/x", "data": "x"}), "preopens": grant}),
        (guest("files"), {"stdin": edge({"op": "read", "path": "/data/../../x"}), "preopens": grant}),
        (guest("manyfds"), {"stdin": edge(path="/data/a.txt"), "preopens": grant}),
        (guest("exit0"), {}),
    ]
    process = psutil.Process()

    async def some(count: int) -> None:
        for at in range(0, count, 25):
            batch = (mix[(at + i) % len(mix)] for i in range(25))
            await asyncio.gather(*(invoke(module, **options) for module, options in batch))
        await eventually(lambda: not engine.state.live)
        await asyncio.sleep(0.05)

    def held() -> tuple[int, int, int]:
        gc.collect()
        return process.memory_info().rss, process.num_fds(), threading.active_count()

    async def main():
        await some(1000)
        rss, fds, threads = held()
        await some(2000)
        await eventually(lambda: process.num_fds() <= fds)  # wasmtime closes files in the background
        await eventually(lambda: threading.active_count() <= threads)
        return held()[0] - rss

    assert asyncio.run(main()) < 24 << 20


def test_compiling_and_closing_modules_leaves_nothing(engine):
    wasm = (GUESTS / "trap.wasm").read_bytes()
    process = psutil.Process()

    def some(count: int) -> tuple[int, int]:
        for _ in range(count):
            module = Module.compile(engine, wasm)
            run(module, b"{}")
            module.close()
        gc.collect()
        return process.memory_info().rss, process.num_fds()

    rss, fds = some(30)
    rss_after, fds_after = some(60)
    assert fds_after <= fds
    assert rss_after - rss < 16 << 20


def test_code_survives_serialising_and_loading(engine):
    module = Module.compile(engine, (GUESTS / "files.wasm").read_bytes())
    again = Module.load(engine, module.serialize(), json.loads(json.dumps(module.facts)))
    module.close()
    assert again.host == module.host
    assert (again.uses_files, again.min_pages) == (module.uses_files, module.min_pages)
    assert ask(again, body={"op": "stat", "path": "/"})["ok"] is False
    again.close()


# Crash reporters


@pytest.mark.parametrize(
    "enable", ["import faulthandler; faulthandler.enable()", ""], ids=["enabled late", "left alone"]
)
def test_a_trap_is_no_crash_where_the_app_enables_faulthandler_after_the_engine(enable):
    code = f"""
trapping = load('trap')
{enable}
print(run(trapping, b'{{"query":{{"mode":"oob"}}}}').reason)"""
    assert clean(python(code)) == "out of bounds memory access\n"


def test_a_trap_is_no_crash_beside_an_engine_of_the_app():
    code = 'print(run(load(\'trap\'), b\'{"query":{"mode":"oob"}}\').reason)'
    own = "import wasmtime; engine_of_the_app = wasmtime.Engine()"
    assert clean(python(code, prelude=own)) == "out of bounds memory access\n"


# Versions


@pytest.mark.parametrize(
    ("version", "old"),
    [("50.0.1", False), ("50.0.2", False), ("50.1.0", False), ("50.0.0", True), ("50.0.1.dev3", False)],
)
def test_an_older_wasmtime_than_the_lowest_safe_one_is_warned_of(monkeypatch, caplog, version, old):
    monkeypatch.setattr(library, "VERSION", version)
    Engine(EngineConfig(max_instances=2))
    wanted = f"wasmtime {version} is installed, and the lowest safe version is 50.0.1: pip install -U 'wasmtime<51'"
    assert (wanted in caplog.text) == old


def test_the_lowest_safe_version_is_the_one_that_is_asked_for():
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())["project"]
    lowest = ".".join(map(str, library.LOWEST_SAFE))
    assert f"wasmtime>={lowest},<{library.MAJOR + 1}" in project["dependencies"]


@pytest.mark.skipif(sys.platform != "linux", reason="files in memory are of Linux")
@pytest.mark.parametrize("there", [True, False])
def test_large_code_is_mapped_from_a_file(engine: Engine, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Module.compile(engine, (GUESTS / "hello.wasm").read_bytes())
    code, facts = made.serialize(), made.facts
    made.close()
    monkeypatch.setattr(capi, "_AS_FILE", 1)
    if not there:
        monkeypatch.setattr(capi.os, "memfd_create", _refuse)
    before = Path("/proc/self/maps").read_text().count("starlette-wasm-code")
    module = Module.load(engine, memoryview(bytearray(code)), facts)
    assert run(module, b"").end is End.OK
    after = Path("/proc/self/maps").read_text().count("starlette-wasm-code")
    assert (after > before) is there
    module.close()


def _refuse(*_: object) -> int:
    raise OSError(38, "no files in memory")
