"""start() and close() that come at once, fail, are cut short, or are inherited by a forked child."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from apps import JSON, add_constant, client, config, config_file, eventually, run, settings
from bombs import loops
from starlette.applications import Starlette

from starlette_wasm import ConfigError, EdgeRequest, RuntimeClosed, WasmMiddleware, WasmRoute, WasmRuntime
from starlette_wasm.functions import compiler
from starlette_wasm.sync.backoff import Backoff

CANARY = {"functionName": "f", "stableVersion": "1", "canaryVersion": "2"}
HERE = Path(__file__).parents[1]


def with_canary(folder: Path, **keys: Any) -> JSON:
    for version in ("1", "2"):
        add_constant(folder, "f", b'{"status_code": 200, "body": "v%s"}' % version.encode(), version)
    return config(folder, {"/f": {"functionName": "f"}}, canaries=[CANARY], **keys)


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, which may fork."""
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)],
        cwd=folder,
        env={"PYTHONPATH": str(HERE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )


async def body(runtime: WasmRuntime, name: str = "hello") -> str:
    return (await runtime.invoke(name, EdgeRequest())).body


def test_a_forked_child_of_a_started_runtime_runs_its_canaries_and_closes_at_once(tmp_path: Path) -> None:
    """The parent has an invocation and a rollout under way, and a lock of the canary's store open."""
    for version in ("1", "2"):
        add_constant(tmp_path, "f", b'{"status_code": 200, "body": "v%s"}' % version.encode(), version)
    config_file(
        tmp_path,
        {"/f": {"functionName": "f"}},
        functions=["sleep60"],
        policies={"long": {"executionTimeoutMs": 600_000}},
        canaries=[CANARY | {"stepSeconds": 1.5}],
    )
    code = """
        import asyncio, os, sys, time
        from starlette_wasm import EdgeRequest, WasmRuntime
        from apps import eventually, settings

        runtime = WasmRuntime("wasm.yaml", settings(canary_url="sqlite:///canary.db"))

        async def before():
            await runtime.start()
            asyncio.create_task(runtime.invoke("sleep60", EdgeRequest(), policy="long"))
            await eventually(lambda: runtime.stats()["live"], 60)
            runtime.shadows.tasks.add(asyncio.current_task())

        async def works(who):
            assert (await runtime.invoke("f", EdgeRequest())).body == "v1"
            seen = runtime.canaries.all["f"].revision
            assert seen
            await runtime.canaries.promote("f")
            await eventually(lambda: runtime.canaries.all["f"].revision > seen, 60)

        async def child():
            assert not runtime.is_open
            await runtime.start()
            assert runtime.stats()["running"] == runtime.stats()["shadows"] == 0
            await works("child")
            begin = time.monotonic()
            await runtime.close()
            assert time.monotonic() - begin < 30, "it waits for what the parent runs"

        async def unused():
            await runtime.close()
            assert runtime.state == "closed"

        loop = asyncio.new_event_loop()
        loop.run_until_complete(before())
        for main in (child, unused):
            if not (pid := os.fork()):
                try:
                    asyncio.run(main())
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        runtime.shadows.tasks.clear()
        loop.run_until_complete(works("parent"))
        loop.run_until_complete(runtime.close())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        print("done")
    """
    done = python(code, tmp_path)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_forked_child_makes_request_ids_of_its_own(tmp_path: Path) -> None:
    config_file(tmp_path, {"/hello": "hello"})
    code = """
        import asyncio, os
        from apps import app, client, settings
        from starlette_wasm.engine.fast_path import NOT_TAKEN, Completed, FastPath
        from starlette_wasm.invocation.fast_path import FastPathRunner

        asks = []
        def watched(ask):
            def each(*given):
                found = ask(*given)
                if found is not NOT_TAKEN:
                    asks.append(found)
                return found
            return each
        FastPath.dispatch = watched(FastPath.dispatch)
        FastPathRunner.answer = watched(FastPathRunner.answer)

        async def ids(count):
            async with client(app("wasm.yaml")) as http:
                return [(await http.get("/hello")).headers["x-request-id"] for _ in range(count)]

        before = asyncio.run(ids(2))
        if not (pid := os.fork()):
            print(*asyncio.run(ids(4)), flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        print(*before, *asyncio.run(ids(4)))
        assert all(type(each) in (Completed, tuple) for each in asks[1:]), asks
    """
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    found = done.stdout.split()
    assert len(found) == len(set(found)) == 10


def test_a_start_that_is_cancelled_leaves_the_others_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wasm = with_canary(tmp_path)

    async def main() -> None:
        runtime = WasmRuntime(wasm, settings())
        reached, go_on = asyncio.Event(), asyncio.Event()
        opened = runtime.canaries.open

        async def slow(*given: Any) -> None:
            reached.set()
            await go_on.wait()
            await opened(*given)

        monkeypatch.setattr(runtime.canaries, "open", slow)
        first = asyncio.create_task(runtime.start())
        await reached.wait()
        others = [asyncio.create_task(runtime.start()) for _ in range(3)]
        await asyncio.sleep(0.01)
        first.cancel()
        go_on.set()
        await asyncio.gather(*others)
        with pytest.raises(asyncio.CancelledError):
            await first
        assert runtime.state == "open"
        assert await body(runtime, "f") == "v1"
        await runtime.canaries.promote("f")
        await runtime.close()

    run(main())


def test_a_start_that_failed_leaves_it_not_started_and_is_not_final(tmp_path: Path) -> None:
    """Also if it had been closed before: a route with a runtime of its own starts it again."""
    wasm = with_canary(tmp_path)
    store = tmp_path / "missing" / "canary.db"

    async def main() -> None:
        runtime = WasmRuntime(wasm, settings(canary_url=f"sqlite:///{store}"))
        for _ in range(2):
            with pytest.raises(ConfigError, match="canary_url"):
                await runtime.start()
            assert runtime.state == "not started"
            store.parent.mkdir()
            await runtime.start()
            await runtime.close()
            assert runtime.state == "closed"
            for file in store.parent.iterdir():
                file.unlink()
            store.parent.rmdir()
        with pytest.raises(ConfigError, match="canary_url"):
            await runtime.start()
        runtime._start_backoff = Backoff()  # the pause is over
        store.parent.mkdir()
        async with client(Starlette(routes=[WasmRoute("/r", function="f", runtime=runtime)])) as http:
            assert (await http.get("/r")).text == "v1"
        await runtime.close()

    run(main())


def test_a_close_that_is_still_under_way_closes_nothing_of_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another event loop, in another thread."""
    wasm = with_canary(tmp_path)
    runtime = WasmRuntime(wasm, settings())
    closing, go_on, started = threading.Event(), threading.Event(), threading.Event()
    closed = runtime.canaries.close

    async def slow() -> None:
        monkeypatch.undo()
        closing.set()
        await asyncio.to_thread(go_on.wait, 60)
        await closed()

    monkeypatch.setattr(runtime.canaries, "close", slow)

    async def one() -> None:
        await runtime.start()
        await runtime.close()

    async def two() -> None:
        starting = asyncio.create_task(runtime.start())
        await asyncio.sleep(0.05)
        started.set()
        await starting
        assert runtime.state == "open"
        assert await body(runtime, "f") == "v1"
        await runtime.canaries.promote("f")
        await runtime.close()

    def let_go() -> None:
        assert started.wait(60)
        go_on.set()

    threads = [threading.Thread(target=run, args=(one(),)), threading.Thread(target=let_go)]
    for thread in threads:
        thread.start()
    assert closing.wait(60)
    run(two())
    for thread in threads:
        thread.join(60)
    assert runtime.state == "closed"


def compiling() -> list[psutil.Process]:
    """The processes that compile for this one."""
    return [each for each in psutil.Process().children() if compiler._BOOTSTRAP in each.cmdline()]


@pytest.mark.parametrize("how", ["reload", "start", "cancel"])
def test_nothing_waits_for_what_compiles_when_the_runtime_closes(tmp_path: Path, how: str) -> None:
    """Neither close() nor the loop's end, which waits for threads; and the modules are not held to have failed."""
    wasm = config(tmp_path, {"/a": "hello"})
    bombs = [tmp_path / f"functions/bomb{number}/v1/bomb{number}.wasm" for number in range(3)]

    async def main() -> None:
        runtime = WasmRuntime(wasm, settings(aot_cache=False, reload_interval_ms=0, compile_threads=2))
        if how == "reload":
            await runtime.start()
        for bomb in bombs:
            bomb.parent.mkdir(parents=True)
            bomb.write_bytes(loops(1000, 12_000))
        loading = asyncio.create_task(runtime.reload() if how == "reload" else runtime.start())
        await eventually(compiling, 60)
        if how == "cancel":
            loading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loading
            assert runtime.state == "not started"
        else:
            await runtime.close()
            assert runtime.state == "closed"
            with pytest.raises(RuntimeClosed):
                await loading
        assert not compiling()
        assert runtime.stats()["failing"] == 0
        for bomb in bombs:
            bomb.unlink()
            bomb.parent.rmdir()
            bomb.parent.parent.rmdir()
        async with runtime, client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
            assert (await http.get("/a")).text == "hello"

    run(main())
