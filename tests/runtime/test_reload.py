"""What changes while the app runs: taken whole, or refused whole; nothing that runs notices."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from apps import JSON, add_constant, add_function, client, config, config_file, eventually, run, settings
from starlette.applications import Starlette

from starlette_wasm import ConfigError, EdgeRequest, FunctionNotFound, RuntimeClosed, WasmError, WasmRoute, WasmRuntime
from starlette_wasm.asgi.middleware import WasmMiddleware
from starlette_wasm.config import watch
from starlette_wasm.config.watch import WatchedFiles
from starlette_wasm.runtime import reload_reminder
from starlette_wasm.runtime.reload import Rests

LONG: dict[str, JSON] = {"long": {"executionTimeoutMs": 600_000}}


def edit(file: Path, **keys: Any) -> None:
    """Write a config with some keys changed, as editors do: aside, then renamed."""
    aside = file.with_suffix(".tmp")
    aside.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **keys}))
    aside.rename(file)


def says(folder: Path, name: str, text: str, version: str = "1") -> None:
    add_constant(folder, name, b'{"status_code": 200, "body": "%s"}' % text.encode(), version)


async def text(runtime: WasmRuntime, name: str, **kwargs: Any) -> str:
    return (await runtime.invoke(name, EdgeRequest(path="/"), **kwargs)).body


@pytest.mark.parametrize("emptied", ["wasm.yaml", "policies/p.yaml", "functions/cgi_env/v1/function.yaml"])
@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_emptied_file_is_refused(tmp_path: Path, emptied: str, text: str) -> None:
    rules: JSON = {"/cgi": {"functionName": "cgi_env", "policy": "p"}}
    config_file(tmp_path, rules, policies={"p": {"allowedEnvVars": ["HOME"]}})

    async def main() -> None:
        async with (
            WasmRuntime(tmp_path / "wasm.yaml", settings(reload_interval_ms=20)) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            (tmp_path / emptied).write_text(text)
            await eventually(lambda: runtime.reloader.last, 20)
            assert runtime.reloader.last is not None
            assert f"{emptied}: has no content" in (runtime.reloader.last.refused or "")
            answer = await http.get("/cgi")
            assert answer.status_code == 201
            assert answer.json()["env"]["HOME"]

    run(main())


def test_a_reload_serves_new_rules_functions_and_policies(tmp_path: Path) -> None:
    file = config_file(tmp_path, {"/a": "hello"}, policies={"p": {}})

    async def main() -> None:
        async with (
            WasmRuntime(file, settings()) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            assert (await http.get("/a")).text == "hello"
            says(tmp_path, "other", "other")
            (tmp_path / "policies/q.yaml").write_text("maxQueue: 0\n")
            edit(file, rules=[{"pathPattern": "/b", "functionName": "other", "policy": "q"}])
            assert (await http.get("/b")).status_code == 404
            await runtime.reload()
            assert (await http.get("/b")).text == "other"
            assert (await http.get("/a")).status_code == 404
            assert runtime.reloader.last is not None
            assert runtime.reloader.last.refused is None

    run(main())


BROKEN: dict[str, tuple[Callable[[Path], object], type[WasmError], str]] = {
    "no yaml": (lambda folder: (folder / "wasm.yaml").write_text("rules: [\n  {a: b\n"), ConfigError, "wasm.yaml: "),
    "unknown key": (lambda folder: edit(folder / "wasm.yaml", ruels=[]), ConfigError, "did you mean rules"),
    "config gone": (lambda folder: (folder / "wasm.yaml").unlink(), ConfigError, "no such file"),
    "unknown function": (
        lambda folder: edit(folder / "wasm.yaml", rules=[{"pathPattern": "/a", "functionName": "nobody"}]),
        FunctionNotFound,
        "rules[0].functionName: function not found: nobody",
    ),
    "half a module": (
        lambda folder: os.truncate(folder / "functions/hello/v1/hello.wasm", 100),
        WasmError,
        "failed to load module",
    ),
    "a policy with a bad value": (
        lambda folder: (folder / "policies/p.yaml").write_text("maxQueue: many\n"),
        ConfigError,
        "maxQueue",
    ),
    "the function of a route": (
        lambda folder: [
            (folder / "functions/echo/v1/echo.wasm").unlink(),
            (folder / "functions/echo/v1").rmdir(),
            (folder / "functions/echo").rmdir(),
        ],
        FunctionNotFound,
        "route /route: function not found: echo",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_refused_and_changes_nothing(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = config_file(tmp_path, {"/a": "hello"}, functions=["echo"], policies={"p": {}}, exposeEndpoints=True)
    broken, kind, part = BROKEN[name]

    async def main() -> None:
        app = Starlette(routes=[WasmRoute("/route", function="echo")])
        async with (
            WasmRuntime(file, settings(reload_interval_ms=0)) as runtime,
            client(WasmMiddleware(app, runtime=runtime)) as http,
        ):
            assert (await http.get("/ready")).json()["reload"] is None
            served = runtime.deployment
            caplog.clear()
            broken(tmp_path)
            with pytest.raises(kind) as caught:
                await runtime.reload()
            assert runtime.deployment is served
            assert (await http.get("/a")).text == "hello"
            assert (await http.get("/route")).status_code == 200
            ready = await http.get("/ready")
            assert ready.status_code == 200
            assert ready.json()["reload"]["refused"] == caught.value.public
            assert part in str(caught.value)
            (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
            assert str(caught.value) in record.getMessage()

    run(main())


def test_a_refused_reload_is_said_again_until_one_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload_reminder, "FIRST", 0.02)
    monkeypatch.setattr(reload_reminder, "MOST", 0.05)
    file = config_file(tmp_path, {"/a": "hello"}, exposeEndpoints=True)
    whole = file.read_text()

    def said() -> int:
        return sum("a reload was refused 0 min ago" in message for message in caplog.messages)

    async def main() -> None:
        async with (
            WasmRuntime(file, settings(reload_interval_ms=0)) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            file.write_text("rules: 7")
            with pytest.raises(ConfigError):
                await runtime.reload()
            await eventually(lambda: said() >= 3, 30)
            assert "rules: 7 is not a list" in caplog.messages[-1]
            assert "\nstarlette_wasm_reload_refused 1.0" in (await http.get("/metrics")).text
            file.write_text(whole)
            await runtime.reload()
            before = said()
            assert "\nstarlette_wasm_reload_refused 0.0" in (await http.get("/metrics")).text
            await asyncio.sleep(0.2)
            assert said() == before
            file.write_text("rules: 7")
            with pytest.raises(ConfigError):
                await runtime.reload()
        before = said()
        await asyncio.sleep(0.2)
        assert said() == before

    run(main())


def test_a_config_can_be_given_and_is_kept_only_where_it_is_taken(tmp_path: Path) -> None:
    first = config(tmp_path, {"/a": "hello"}, functions=["echo"])

    async def main() -> None:
        async with WasmRuntime(first, settings()) as runtime:
            await runtime.reload({**first, "rules": [{"pathPattern": "/b", "functionName": "echo"}]})
            assert runtime.deployment.router.match("/b") is not None
            with pytest.raises(FunctionNotFound):
                await runtime.reload({**first, "rules": [{"pathPattern": "/c", "functionName": "nobody"}]})
            await runtime.reload()
            assert runtime.deployment.router.match("/b") is not None
            assert runtime.deployment.router.match("/a") is None

    run(main())


def test_modules_that_are_the_same_are_not_compiled_again(tmp_path: Path) -> None:
    says(tmp_path, "new", "old")
    wasm = config(tmp_path, functions=["hello"])

    async def main() -> None:
        async with WasmRuntime(wasm, settings(aot_cache=False)) as runtime:
            before = runtime.deployment.functions
            assert await text(runtime, "new") == "old"
            (tmp_path / "functions/new").rename(tmp_path / "gone")
            says(tmp_path, "new", "new")
            (tmp_path / "functions/hello/v1/function.yaml").write_text("description: other\n")
            await runtime.reload()
            after = runtime.deployment.functions
            assert after["hello", "1"].module is before["hello", "1"].module
            assert after["hello", "1"].source.manifest.description == "other"
            assert after["new", "1"].module is not before["new", "1"].module
            assert await text(runtime, "new") == "new"

    run(main())


def test_routes_and_calls_are_bound_anew(tmp_path: Path) -> None:
    says(tmp_path, "f", "one")
    wasm = config(tmp_path)

    async def main() -> None:
        app = Starlette(routes=[WasmRoute("/route", function="f")])
        async with (
            WasmRuntime(wasm, settings()) as runtime,
            client(WasmMiddleware(app, runtime=runtime)) as http,
        ):
            assert (await http.get("/route")).text == await text(runtime, "f") == "one"
            says(tmp_path, "f", "two", version="2")
            await runtime.reload()
            assert (await http.get("/route")).text == await text(runtime, "f") == "two"

    run(main())


def test_calls_under_way_end_with_what_they_began_with_and_then_it_is_freed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x").write_text("granted")
    file = config_file(
        tmp_path,
        {"/files": {"functionName": "files", "policy": "dir"}, "/sleep": "sleep_ms"},
        policies={"dir": {"allowedDirs": [{"hostPath": str(tmp_path / "data"), "guestPath": "/data"}]}},
    )
    add_function(tmp_path, "hello")

    async def main() -> None:
        async with (
            WasmRuntime(file, settings(reload_interval_ms=0)) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            old = runtime.deployment
            modules = [weakref.ref(old.functions[name, "1"].module) for name in ("files", "sleep_ms")]
            (directory,) = {each for target in old.bound for each in target.directories}
            descriptor = directory.path
            del old, directory
            body = asyncio.Event()

            async def slow() -> Any:
                yield b'{"op": "read", '
                await body.wait()
                yield b'"path": "/data/x"}'

            uploading = asyncio.create_task(http.post("/files", content=slow()))
            sleeping = asyncio.create_task(http.get("/sleep?ms=1500"))
            await eventually(lambda: runtime.stats()["live"])
            edit(file, rules=[{"pathPattern": "/hello", "functionName": "hello"}])
            for name in ("files", "sleep_ms"):
                (tmp_path / f"functions/{name}").rename(tmp_path / f"{name}-gone")
            await runtime.reload()
            assert (await http.get("/hello")).text == "hello"
            assert (await http.get("/files")).status_code == 404
            assert modules[0]() is not None  # of the upload, which waits; the other may have had the time to end
            assert os.path.isdir(descriptor)
            body.set()
            assert "granted" in (await uploading).text
            assert (await sleeping).status_code == 200
            del uploading, sleeping
            await eventually(lambda: gc.collect() is not None and not any(module() for module in modules))
            assert not os.path.isdir(descriptor) or os.readlink(descriptor) != str(tmp_path / "data")

    run(main())


def test_what_runs_counts_in_the_bulkhead_of_the_next(tmp_path: Path) -> None:
    wasm = config(
        tmp_path,
        {"/sleep": {"functionName": "sleep60", "policy": "one"}},
        policies={"one": {"maxConcurrency": 1, "maxQueue": 0, "executionTimeoutMs": 600_000}},
    )

    async def main() -> None:
        async with (
            WasmRuntime(wasm, settings()) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            sleeping = asyncio.create_task(http.get("/sleep"))
            await eventually(lambda: runtime.stats()["live"])
            await runtime.reload()
            await runtime.reload()
            assert (await http.get("/sleep")).status_code == 503
            (tmp_path / "policies/one.yaml").write_text("maxConcurrency: 2\nmaxQueue: 0\nexecutionTimeoutMs: 50\n")
            await runtime.reload()
            assert (await http.get("/sleep")).status_code == 504
            sleeping.cancel()

    run(main())


def test_reloads_run_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config_file(tmp_path, {"/a": "hello"}, functions=["echo"])

    async def main() -> None:
        async with WasmRuntime(file, settings(reload_interval_ms=0)) as runtime:
            load, running, most, loads = runtime.load, 0, 0, 0

            def counted(*given: Any) -> Any:
                nonlocal running, most, loads
                running, loads = running + 1, loads + 1
                most = max(most, running)
                try:
                    return load(*given)
                finally:
                    running -= 1

            monkeypatch.setattr(runtime, "load", counted)
            reloads = [asyncio.create_task(runtime.reload()) for _ in range(5)]
            await eventually(lambda: loads)
            edit(file, rules=[{"pathPattern": "/late", "functionName": "echo"}])
            await asyncio.gather(*reloads)
            assert (most, loads) == (1, 5)
            assert runtime.deployment.router.match("/late") is not None
            for _ in range(5):  # as signals do
                runtime.reloader.request()
            await eventually(lambda: loads > 5)
            assert loads == 6

    run(main())


def test_no_reload_is_taken_while_draining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wasm = config(tmp_path, {"/a": "hello"})

    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            served, load, loop = runtime.deployment, runtime.load, asyncio.get_running_loop()
            made: list[weakref.ref[Any]] = []

            def drained(*given: Any) -> Any:
                loop.call_soon_threadsafe(runtime.drain)
                deployment = load(*given)
                made.append(weakref.ref(deployment))
                return deployment

            monkeypatch.setattr(runtime, "load", drained)
            with pytest.raises(RuntimeClosed):  # begun before, and ended after
                await runtime.reload()
            assert (runtime.deployment, runtime.state) == (served, "draining")
            with pytest.raises(RuntimeClosed):
                await runtime.reload()
            assert len(made) == 1
            await eventually(lambda: gc.collect() is not None and made[0]() is None)
        with pytest.raises(RuntimeClosed):
            await runtime.reload()
        with pytest.raises(RuntimeClosed):
            await WasmRuntime(wasm, settings()).reload()

    run(main())


def test_a_runtime_that_closes_during_a_reload_is_closed(tmp_path: Path) -> None:
    wasm = config(tmp_path, {"/a": "hello"})

    async def main() -> None:
        runtime = WasmRuntime(wasm, settings())
        await runtime.start()
        reloading = asyncio.create_task(runtime.reload())
        await asyncio.sleep(0)
        await runtime.close()
        with pytest.raises(RuntimeClosed):
            await reloading
        assert runtime.state == "closed"
        async with runtime:
            assert await text(runtime, "hello") == "hello"
            await runtime.reload()

    run(main())


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """A folder with a config that says a of /a."""
    says(tmp_path, "a", "a")
    says(tmp_path, "b", "b")
    (tmp_path / "wasm.yaml").write_text(yaml.safe_dump({"rules": [{"pathPattern": "/x", "functionName": "a"}]}))
    return tmp_path


def watching(file: Path, change: Callable[[WasmRuntime, Callable[[str], Any]], Any], path: str = "/x") -> None:
    """Run ``change`` beside a runtime that looks often; it gets a function that waits for an answer."""

    async def main() -> None:
        async with (
            WasmRuntime(file, settings(reload_interval_ms=20)) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):

            async def until(wanted: str) -> None:
                async with asyncio.timeout(30):
                    while (await http.get(path)).text != wanted:
                        await asyncio.sleep(0.01)

            await until("a")
            await change(runtime, until)

    run(main())


RULE_B = [{"pathPattern": "/x", "functionName": "b"}]


def test_an_edit_of_the_file_is_seen(watched: Path) -> None:
    async def change(runtime: WasmRuntime, until: Callable[[str], Any]) -> None:
        edit(watched / "wasm.yaml", rules=RULE_B)
        await until("b")

    watching(watched / "wasm.yaml", change)


def test_the_swap_of_a_config_map_is_seen(watched: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As kubelet does it: files are links to ``..data/...``, and ``..data`` is a link that is replaced."""
    mount = tmp_path_factory.mktemp("config-map")

    def put(name: str, function: str) -> None:
        (mount / name).mkdir()
        rules = [{"pathPattern": "/x", "functionName": function, "policy": "p"}]
        config = {"functionsDir": str(watched / "functions"), "policiesDir": ".", "rules": rules}
        (mount / name / "wasm.conf").write_text(yaml.safe_dump(config))
        (mount / name / "p.yaml").write_text("maxQueue: 1\n")
        (mount / "..data_tmp").symlink_to(name)
        (mount / "..data_tmp").rename(mount / "..data")

    put("..2026_01", "a")
    for name in ("wasm.conf", "p.yaml"):
        (mount / name).symlink_to(f"..data/{name}")

    async def change(runtime: WasmRuntime, until: Callable[[str], Any]) -> None:
        put("..2026_02", "b")
        await until("b")

    watching(mount / "wasm.conf", change)


def test_a_copied_module_is_seen_when_it_is_whole(watched: Path) -> None:
    async def change(runtime: WasmRuntime, until: Callable[[str], Any]) -> None:
        module = (watched / "functions/b/v1/b.wasm").read_bytes()
        with (watched / "functions/a/v1/a.wasm").open("wb") as copy:
            for at in range(0, len(module), 16):
                copy.write(module[at : at + 16])
                copy.flush()
                await asyncio.sleep(0.001)
        await until("b")

    watching(watched / "wasm.yaml", change)


def test_half_a_module_is_refused_and_the_rest_taken(watched: Path) -> None:
    async def change(runtime: WasmRuntime, until: Callable[[str], Any]) -> None:
        module = (watched / "functions/b/v1/b.wasm").read_bytes()
        (watched / "functions/a/v1/a.wasm").write_bytes(module[:-20])
        await eventually(lambda: runtime.reloader.last, within=30)
        assert runtime.reloader.last is not None
        assert "failed to load module" in (runtime.reloader.last.refused or "")
        await until("a")
        (watched / "functions/a/v1/a.wasm").write_bytes(module)
        await until("b")

    watching(watched / "wasm.yaml", change)


def test_directories_that_come_later_are_seen(watched: Path) -> None:
    async def change(runtime: WasmRuntime, until: Callable[[str], Any]) -> None:
        edit(watched / "wasm.yaml", functionsDir="later", policiesDir="policies", rules=RULE_B)
        await eventually(lambda: runtime.reloader.last, within=30)
        (watched / "policies").mkdir()
        first = runtime.reloader.last
        (watched / "functions").rename(watched / "later")
        await until("b")
        assert runtime.reloader.last is not first
        says(watched / "new", "a", "three", version="3")
        (watched / "new/functions/a/v3").rename(watched / "later/a/v3")
        await eventually(lambda: ("a", "3") in runtime.deployment.functions, within=30)

    watching(watched / "wasm.yaml", change)


def test_what_cannot_be_read_is_looked_at_all_the_same(watched: Path) -> None:
    (watched / "functions/loop").symlink_to("loop")
    (watched / "functions/dangling.wasm").symlink_to("nowhere")
    looked = {str(entry[0]): len(entry) for entry in WatchedFiles(watched / "wasm.yaml").snapshot()}
    assert looked[str(watched / "functions/dangling.wasm")] == 1
    assert looked[str(watched / "functions/a/v1/a.wasm")] == 6
    assert str(watched / "functions/loop") not in looked
    assert WatchedFiles("no\0file").snapshot() == {(f"{Path.cwd()}/no\0file",)}


def test_files_of_a_config_without_a_file_are_watched_too(watched: Path) -> None:
    async def main() -> None:
        wasm = {"functionsDir": str(watched / "functions"), "rules": []}
        async with WasmRuntime(wasm, settings(reload_interval_ms=20)) as runtime:
            says(watched, "c", "c")
            await eventually(lambda: ("c", "1") in runtime.deployment.functions, within=30)

    run(main())


def test_a_change_is_seen_while_the_pool_of_threads_is_full(watched: Path) -> None:
    async def main() -> None:
        file = watched / "wasm.yaml"
        async with WasmRuntime(file, settings(reload_interval_ms=20)) as runtime:
            gate = threading.Event()
            full = [asyncio.ensure_future(asyncio.to_thread(gate.wait, 60)) for _ in range(64)]
            edit(file, rules=RULE_B)
            await eventually(lambda: runtime.reloader.last, within=30)
            gate.set()
            await asyncio.gather(*full)

    run(main())


def test_a_slow_disk_does_not_put_looks_off(watched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = watch._entry

    def slow(path: str) -> watch.Entry:
        time.sleep(0.1)
        return fast(path)

    async def main() -> None:
        file = watched / "wasm.yaml"
        async with WasmRuntime(file, settings(reload_interval_ms=20)) as runtime:
            monkeypatch.setattr(watch, "_entry", slow)
            await asyncio.sleep(0.7)  # a look has been slow
            edit(file, rules=RULE_B)
            await eventually(lambda: runtime.reloader.last, within=60)

    run(main())


def test_looks_at_many_files_rest_in_between_and_not_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "functions").mkdir()
    for number in range(1000):
        (tmp_path / f"functions/{number}.yaml").touch()
    worked, rested = itertools.count(), []
    monkeypatch.setattr(time, "thread_time", lambda: next(worked) * 0.001)
    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds=None: rested.append(seconds))
    rests = Rests()
    files = WatchedFiles({"functionsDir": str(tmp_path / "functions"), "rules": []})
    assert files.snapshot(rests.rest) == files.snapshot()
    assert len(rested) > 10
    assert 0.02 < rested[0] < 0.2
    for _ in range(1000):
        rests.rest()
    assert sum(rested) == pytest.approx(1.5)


def test_nothing_is_loaded_where_nothing_changes_or_nobody_looks(watched: Path) -> None:
    async def main() -> None:
        file = watched / "wasm.yaml"
        async with (
            WasmRuntime(file, settings(reload_interval_ms=5)) as looks,
            WasmRuntime(file, settings(reload_interval_ms=0)) as never,
        ):
            await asyncio.sleep(0.2)
            assert looks.reloader.last is None
            edit(file, rules=RULE_B)
            await eventually(lambda: looks.reloader.last, within=30)
            assert never.reloader.last is None

    run(main())


def test_many_reloads_leave_memory_files_and_modules_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    wasm = config(
        tmp_path,
        {"/a": "hello", "/files": {"functionName": "files", "policy": "dir"}},
        policies={"dir": {"allowedDirs": [{"hostPath": str(tmp_path / "data"), "guestPath": "/data"}]}},
    )
    process = psutil.Process()
    modules: list[weakref.ref[Any]] = []

    async def main() -> None:
        async with WasmRuntime(wasm, settings(reload_interval_ms=0, aot_cache=False)) as runtime:

            async def reloads(count: int) -> None:
                for number in range(count):
                    (tmp_path / "functions/hello").rename(tmp_path / f"gone-{len(modules)}")
                    says(tmp_path, "hello", f"{len(modules)} {number}")
                    await runtime.reload()
                    assert await text(runtime, "hello") == f"{len(modules)} {number}"
                    modules.append(weakref.ref(runtime.deployment.functions["hello", "1"].module))
                gc.collect()

            await reloads(10)
            memory, files = process.memory_info().rss, process.num_fds()
            await reloads(40)
            assert sum(module() is not None for module in modules) == 1
            assert process.num_fds() <= files + 1
            assert process.memory_info().rss - memory < 16 << 20

    run(main(), 900)


def test_a_replaced_deployment_needs_no_garbage_collector(tmp_path: Path) -> None:
    file = config_file(tmp_path, {"/a": "hello"}, functions=["echo"])

    async def main() -> None:
        async with (
            WasmRuntime(file, settings(reload_interval_ms=0)) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            await http.get("/a")
            gc.disable()
            try:
                old = weakref.ref(runtime.deployment)
                await runtime.reload()
                await http.get("/a")
                assert old() is None
            finally:
                gc.enable()

    run(main())


def test_messages_to_a_stopped_server_do_not_see_the_old_rules(tmp_path: Path) -> None:
    """After close() the paths of the last rules answer 503, and no others."""
    file = config_file(tmp_path, {"/old": "hello"})

    async def main() -> None:
        runtime = WasmRuntime(file, settings(reload_interval_ms=0))
        async with runtime, client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
            await http.get("/old")
            edit(file, rules=[{"pathPattern": "/new", "functionName": "hello"}])
            await runtime.reload()
            await runtime.close()
            assert (await http.get("/new")).status_code == 503
            assert (await http.get("/old")).status_code == 404

    run(main())


SECRETS: dict[str, Callable[[Path, str], object]] = {
    "a value of the config": lambda folder, text: edit(folder / "wasm.yaml", healthCheckIntervalMs=text),
    "a value of a policy": lambda folder, text: (folder / "policies/p.yaml").write_text(f"allowedHosts: ['{text}@h']"),
    "a key": lambda folder, text: (folder / "policies/p.yaml").write_text(f"{text}: 1"),
    "all of a policy": lambda folder, text: (folder / "policies/p.yaml").write_text(text),
    "a name in YAML": lambda folder, text: (folder / "policies/p.yaml").write_text(f"a: *{text}"),
    "a manifest": lambda folder, text: (folder / "functions/hello/v1/function.yaml").write_text(f"protocol: {text}"),
    "a function": lambda folder, text: edit(folder / "wasm.yaml", rules=[{"pathPattern": "/a", "functionName": text}]),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_ready_names_what_is_wrong_without_its_value(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = config_file(tmp_path, {"/a": "hello"}, policies={"p": {}}, exposeEndpoints=True)
    secret = "sk-live:0123456789 abcdef"

    async def main() -> None:
        async with (
            WasmRuntime(file, settings(reload_interval_ms=0)) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            SECRETS[kind](tmp_path, secret)
            with pytest.raises(WasmError):
                await runtime.reload()
            answer = (await http.get("/ready")).text
            assert "0123456789" not in answer
            assert str(tmp_path) in answer
            assert kind == "a name in YAML" or "0123456789" in caplog.text

    run(main())


def test_a_link_out_of_the_functions_is_not_followed(watched: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever deploys a function may link to a file that changes all the time, or that takes long to look at."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.yaml").write_text("a: 1")
    (outside / "v9").mkdir()
    (outside / "v9" / "a.wasm").write_bytes(b"")
    home = watched / "functions" / "a"
    (home / "v1" / "function.yaml").symlink_to(outside / "secret.yaml")
    (home / "v9").symlink_to(outside / "v9")
    (home / "v8").symlink_to(home / "v1")
    files = WatchedFiles(watched / "wasm.yaml")
    before = files.snapshot()
    named = {str(entry[0]) for entry in before}
    assert str(home / "v1" / "function.yaml") in named
    assert str(home / "v8" / "a.wasm") in named  # one that stays inside is followed
    assert str(home / "v9" / "a.wasm") not in named
    (outside / "secret.yaml").write_text("a: 22")
    (outside / "v9" / "b.wasm").write_bytes(b"")
    assert files.snapshot() == before
    (home / "v1" / "function.yaml").unlink()
    assert files.snapshot() != before
