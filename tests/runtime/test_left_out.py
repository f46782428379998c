"""One bad function, or a grant that cannot be had, does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apps import add_function, client, config_file, run, settings
from starlette.applications import Starlette

from starlette_wasm import FunctionUnavailable, WasmMiddleware, WasmRoute, WasmRuntime
from starlette_wasm.config.policy import SandboxPolicy, resolve_dirs
from starlette_wasm.exceptions import GrantError, WasmError
from starlette_wasm.functions.open_directory import OpenDirectory

RULES = {"/bad": "bad", "/good": "hello"}


def bad_config(folder: Path, **more: Any) -> Path:
    add_function(folder, "bad", "hello")
    return config_file(folder, RULES, functions=["echo"], exposeEndpoints=True, **more)


BROKEN: dict[str, Callable[[Path], object]] = {
    "manifest": lambda folder: (folder / "function.yaml").write_text("protokol: cgi"),
    "manifest of 1 MiB": lambda folder: (folder / "function.yaml").write_text("description: " + "x" * (1 << 20)),
    "module": lambda folder: (folder / "bad.wasm").write_bytes(b"\0asm\1\0\0\0\xff"),
    "no module": lambda folder: (folder / "bad.wasm").unlink(),
    "link": lambda folder: (folder / "function.yaml").symlink_to("/etc/hostname"),
    "variable": lambda folder: (folder / "function.yaml").write_text("envVars: [NOT_GRANTED]"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_bad_function_is_left_out_at_start(tmp_path: Path, kind: str) -> None:
    file = bad_config(tmp_path, badFunctions="leave-out")
    BROKEN[kind](tmp_path / "functions/bad/v1")

    async def main() -> None:
        app = Starlette(routes=[WasmRoute("/route", function="bad"), WasmRoute("/other", function="echo")])
        async with (
            WasmRuntime(file, settings(reload_interval_ms=0)) as runtime,
            client(WasmMiddleware(app, runtime=runtime)) as http,
        ):
            assert [(await http.get(path)).status_code for path in ("/good", "/other")] == [200, 200]
            for path in ("/bad", "/route"):
                answer = await http.get(path)
                assert (answer.status_code, answer.json()["status"]) == (503, 503)
            ready = await http.get("/ready")
            assert ready.status_code == 503
            (reason,) = ready.json()["reasons"]
            assert reason.startswith("bad")
            assert "is unhealthy: left out: " in reason
            assert ready.json()["functions"]["bad"]["1"]["healthy"] is False
            with pytest.raises(FunctionUnavailable):
                runtime.target("bad")

    run(main())


@pytest.mark.parametrize("kind", BROKEN)
def test_a_bad_function_refuses_all_by_default(tmp_path: Path, kind: str) -> None:
    file = bad_config(tmp_path)
    BROKEN[kind](tmp_path / "functions/bad/v1")

    async def main() -> None:
        with pytest.raises(WasmError):
            async with WasmRuntime(file, settings()):
                pass

    run(main())


def test_a_bad_function_is_left_out_at_a_reload_and_comes_back(tmp_path: Path) -> None:
    file = bad_config(tmp_path, badFunctions="leave-out", defaultFunction="echo")
    manifest = tmp_path / "functions/bad/v1/function.yaml"

    async def main() -> None:
        async with (
            WasmRuntime(file, settings(reload_interval_ms=0)) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            assert (await http.get("/bad")).text == "hello"
            manifest.write_text("protokol: sk-live-0123456789")
            await runtime.reload()
            assert (await http.get("/bad")).status_code == 200
            assert (await http.get("/bad")).text != "hello"  # the default function
            ready = await http.get("/ready")
            assert (ready.status_code, ready.json()["reasons"]) == (200, [])
            (note,) = ready.json()["notes"]
            assert str(manifest) in note
            assert "0123456789" not in ready.text
            manifest.unlink()
            await runtime.reload()
            assert (await http.get("/bad")).text == "hello"
            assert (await http.get("/ready")).json()["notes"] == []

    run(main())


def test_a_pipeline_and_a_canary_with_a_bad_version_are_left_out(tmp_path: Path) -> None:
    add_function(tmp_path, "hello")
    add_function(tmp_path, "hello", version="2")
    canary = {"functionName": "hello", "stableVersion": "1", "canaryVersion": "2"}
    pipelines = [{"path": "/p", "steps": [{"function": "hello"}, {"function": "bad"}], "methods": ["GET"]}]
    file = bad_config(tmp_path, badFunctions="leave-out", canaries=[canary], pipelines=pipelines)
    for name in ("bad/v1/bad.wasm", "hello/v2/hello.wasm"):
        (tmp_path / "functions" / name).unlink()

    async def main() -> None:
        async with (
            WasmRuntime(file, settings(reload_interval_ms=0)) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            assert (await http.get("/p")).status_code == 503
            assert (await http.get("/good")).text == "hello"
            assert runtime.canaries.all == {}

    run(main())


def granted(folder: Path) -> SandboxPolicy:
    mapping = {"hostPath": str(folder / "outer/pub"), "guestPath": "/d"}
    return SandboxPolicy.model_validate({"allowedDirs": [mapping]})


def test_a_grant_that_leads_elsewhere_leaves_out_its_functions(tmp_path: Path) -> None:
    (tmp_path / "outer/pub").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    policies = {"p": {"allowedDirs": [{"hostPath": str(tmp_path / "outer/pub"), "guestPath": "/d"}]}}
    file = bad_config(tmp_path, policies=policies)
    text = file.read_text()
    file.write_text(text.replace("functionName: bad", "functionName: bad\n  policy: p"))

    async def main() -> None:
        async with (
            WasmRuntime(file, settings(reload_interval_ms=0)) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            assert (await http.get("/bad")).text == "hello"
            (tmp_path / "outer/pub").rename(tmp_path / "outer/real")
            (tmp_path / "outer/pub").symlink_to("../secret")
            await runtime.reload()
            assert (await http.get("/bad")).status_code == 503
            assert (await http.get("/good")).text == "hello"
            assert str(tmp_path / "secret") not in (await http.get("/ready")).text

    run(main())


def test_a_directory_is_opened_without_a_link_on_the_way(tmp_path: Path) -> None:
    """What was checked may be another thing when it is opened."""
    (tmp_path / "outer/pub/in").mkdir(parents=True)
    (tmp_path / "secret/in").mkdir(parents=True)
    for path, below in ((tmp_path / "outer/pub", ""), (tmp_path / "outer/pub", "in")):
        directory = OpenDirectory(path / below)
        assert os.path.samefile(directory.path, path / below)
        directory.close()
        (granted_now,) = resolve_dirs(granted(tmp_path))
        path.rename(tmp_path / "outer/real")
        path.symlink_to("../secret")
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            OpenDirectory(path / below)
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            OpenDirectory(granted_now.host_path)
        with pytest.raises(GrantError, match="goes through the symlink"):
            resolve_dirs(granted(tmp_path))
        path.unlink()
        (tmp_path / "outer/real").rename(path)
