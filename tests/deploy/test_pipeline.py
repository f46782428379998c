"""``deploy/canary-pipeline`` over two regions, each a real server; and ``canary wait`` and ``--url`` alone."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from apps import add_constant, add_flaky
from ports import free_port

from starlette_wasm.cli.languages import Lang
from starlette_wasm.cli.main import main
from starlette_wasm.cli.scaffold import new_app

PIPELINE = Path(__file__).parents[2] / "deploy" / "canary-pipeline"
WORKFLOW = PIPELINE.parent / "github" / "canary.yml"
TOKEN = "t" * 32
APP = f"""
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette_wasm import AdminToken, WasmMiddleware, WasmSettings, wasm_admin

tokens = [AdminToken.of({TOKEN!r}, "pipeline", ["read", "operate"])]
settings = WasmSettings(canary_url="sqlite://", reload_interval_ms=100)
app = Starlette(
    routes=[wasm_admin(tokens=tokens)],
    middleware=[Middleware(WasmMiddleware, config="wasm.yaml", settings=settings)],
)
"""
CANARY = {"functionName": "hello", "stableVersion": "1", "canaryVersion": "2", "steps": [50, 100], "stepSeconds": 0.5}


def write_config(folder: Path, *, canary: bool, versions: tuple[str, str] = ("1", "2")) -> None:
    config: dict[str, Any] = {"rules": [{"pathPattern": "/hello", "functionName": "hello", "version": "1"}]}
    if canary:
        config["rules"] = [{"pathPattern": "/hello", "functionName": "hello"}]
        stable, tried = versions
        named = {"stableVersion": stable, "canaryVersion": tried}
        config["canaries"] = [{**CANARY, **named, "latencyP99ThresholdMs": 10_000}]
    (folder / "wasm.yaml").write_text(yaml.safe_dump(config))


class Region:
    """A node, and clients that ask it all the time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "app.py").write_text(APP)
        add_constant(folder, "hello", b'{"status_code": 200, "body": "1"}', "1")
        write_config(folder, canary=False)
        self.port = free_port()
        self.admin = f"http://127.0.0.1:{self.port}/admin"
        self.failed = 0
        self._stop = threading.Event()

    def serve(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(self.port), "--log-level", "warning"]
        log = (self.folder / "log").open("wb")
        process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        log.close()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return process
            except OSError:
                assert process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
        raise AssertionError("does not listen")

    def ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self._stop.is_set():
            connection.request("GET", "/hello")
            answer = connection.getresponse()
            answer.read()
            self.failed += answer.status != 200
            time.sleep(0.002)
        connection.close()

    def end(self, asking: threading.Thread, process: subprocess.Popen[bytes]) -> None:
        self._stop.set()
        asking.join(60)
        process.terminate()
        process.wait(60)


@contextmanager
def regions(folder: Path, *names: str) -> Iterator[list[Region]]:
    found = [Region(folder / name) for name in names]
    processes = [each.serve() for each in found]
    clients = [threading.Thread(target=each.ask) for each in found]
    for each in clients:
        each.start()
    try:
        yield found
    finally:
        for region, asking, process in zip(found, clients, processes, strict=True):
            region.end(asking, process)


def repository(folder: Path) -> Path:
    """Where the pipeline runs: both versions, and a config with their canary."""
    folder.mkdir()
    for version in ("1", "2"):
        answer = f'{{"status_code": 200, "body": "{version}"}}'
        add_constant(folder, "hello", answer.encode(), version)
    write_config(folder, canary=True)
    return folder


def run_pipeline(folder: Path, version: str, registry: str, found: list[Region]) -> subprocess.CompletedProcess[str]:
    bin = Path(sys.executable).parent
    deploy = (
        f'for file in wasm.yaml functions.lock; do cp "$file" "{folder.parent}/$REGION/.new-$file"; done; '
        f'cd "{folder.parent}/$REGION"; mv .new-functions.lock functions.lock; starlette-wasm sync; '
        f"mv .new-wasm.yaml wasm.yaml"
    )
    environ = {
        **os.environ,
        "PATH": f"{bin}:{os.environ['PATH']}",
        "BUILD": "true",
        "TEST": "true",
        "DEPLOY": deploy,
        "WAIT_SECONDS": "120",
        "WASM_ADMIN_TOKEN": TOKEN,
    }
    named = [f"{each.folder.name}={each.admin}" for each in found]
    command = [str(PIPELINE), "hello", version, f"oci://{registry}/pipeline/{folder.parent.name}", *named]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=280, check=False)


def test_a_good_version_gets_everywhere_and_a_bad_one_nowhere(tmp_path: Path, registry: str) -> None:
    folder = repository(tmp_path / "repository")
    # The version before is in the registry already, as it is if a rollout begins.
    at = ["--config", str(folder / "wasm.yaml")]
    assert main(["push", "hello@1", f"oci://{registry}/pipeline/{tmp_path.name}", *at]) == 0
    with regions(tmp_path, "ap", "eu") as found:
        ran = run_pipeline(folder, "2", registry, found)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert [each.failed for each in found] == [0, 0]
        assert ran.stdout.index("canary of hello v2 in ap") < ran.stdout.index("canary of hello v2 in eu")
        assert "Stable: " in ran.stdout
        config = yaml.safe_load((folder / "wasm.yaml").read_text())
        assert not config.get("canaries")
        assert config["rules"][0].get("version", "2") == "2"
        assert 'version = "2"' in (folder / "functions.lock").read_text()

        add_flaky(folder, "hello", b'{"status_code": 200, "body": "3"}', 200, "3")
        write_config(folder, canary=True, versions=("2", "3"))
        ran = run_pipeline(folder, "3", registry, found)
        assert ran.returncode == 1, ran.stdout + ran.stderr
        assert found[0].failed
        assert not found[1].failed
        assert not (found[1].folder / "functions/hello/v3").exists()
        assert "ap has rolled v3 back" in ran.stdout
        assert "in eu" not in ran.stdout
        assert yaml.safe_load((folder / "wasm.yaml").read_text())["canaries"]


def test_a_canary_is_waited_for_and_moved_by_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WASM_ADMIN_TOKEN", TOKEN)
    with regions(tmp_path, "ap") as [region]:
        at = ["--url", region.admin]
        assert main(["canary", "wait", *at, "--timeout", "0"]) == 2
        assert "no canary yet" in capsys.readouterr().out
        add_constant(region.folder, "hello", b'{"status_code": 200, "body": "2"}', "2")
        config = yaml.safe_load((region.folder / "wasm.yaml").read_text())
        config["rules"][0].pop("version")
        config["canaries"] = [{**CANARY, "stepSeconds": 600, "latencyP99ThresholdMs": 10_000}]
        (region.folder / "new").write_text(yaml.safe_dump(config))
        (region.folder / "new").replace(region.folder / "wasm.yaml")
        until = time.monotonic() + 60
        while main(["canary", "pause", *at]) != 0:
            assert time.monotonic() < until
        assert main(["canary", "wait", *at, "--timeout", "0.1"]) == 2
        assert "v2 paused at 50 %" in capsys.readouterr().out
        assert main(["canary", "wait", *at, "--timeout", "0.1", "--canary-version", "3"]) == 2
        assert main(["canary", "abort", "hello", *at]) == 0
        assert main(["canary", "wait", "hello", *at, "--timeout", "60"]) == 1
        assert main(["canary", "start", "hello", *at]) == 0
        assert main(["canary", "promote", "hello", "--full", *at]) == 0
        assert main(["canary", "wait", "hello", *at, "--timeout", "60"]) == 0


@pytest.mark.parametrize(
    ("url", "token", "problem"),
    [
        ("ftp://127.0.0.1/admin", TOKEN, "is not the address of an admin API"),
        ("http://[::1/admin", TOKEN, "is not the address of an admin API"),
        ("http://127.0.0.1:x/admin", TOKEN, "is not the address of an admin API"),
        ("http://127.0.0.1:9/admin", None, "needs a token"),
        ("http://127.0.0.1:9/admin", TOKEN, "cannot be reached"),
    ],
)
def test_a_call_that_is_wrong_is_told(
    url: str, token: str | None, problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WASM_ADMIN_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("WASM_ADMIN_TOKEN", token)
    assert main(["canary", "status", "--url", url]) == 1
    assert problem in " ".join(capsys.readouterr().err.split())


def test_waiting_for_nobody_is_undecided(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WASM_ADMIN_TOKEN", TOKEN)
    assert main(["canary", "wait", "--url", "http://127.0.0.1:9/admin", "--timeout", "0"]) == 2
    assert "cannot be reached" in " ".join(capsys.readouterr().out.split())


def test_the_workflow_runs_the_script_safely() -> None:
    """Inputs reach the shell by its environment, actions are pinned to commits, and permissions are named."""
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    steps = workflow["jobs"]["canary"]["steps"]
    for step in steps:
        assert "${{" not in step.get("run", "")
        if "uses" in step:
            assert len(step["uses"].partition("@")[2]) == 40
    assert any("deploy/canary-pipeline" in step.get("run", "") for step in steps)
    assert shutil.which("sh")
    subprocess.run(["sh", "-n", str(PIPELINE)], check=True, timeout=60)


def test_the_workflow_installs_a_wheel_of_the_repository(tmp_path: Path) -> None:
    """By the very command of its step, in the folder of a new app, with no index and without dependencies."""
    root = PIPELINE.parents[1]
    new_app(tmp_path / "shop", Lang.C)
    environ = {**os.environ, "STARLETTE_WASM_PURE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path / "shop", root]
    subprocess.run(wheel, env=environ, check=True, timeout=280)
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["canary"]["steps"]
    [command] = [step["run"] for step in steps if "pip install" in step.get("run", "")]
    environ |= {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_TARGET": str(tmp_path / "site")}
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path / "shop",
        env=environ,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/starlette_wasm/cli/main.py").is_file()


def test_the_pipeline_runs_the_tests_of_the_project(tmp_path: Path) -> None:
    """By a command that exists as it is written: a name would be taken for a file of tests."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "starlette-wasm").write_text('#!/bin/sh\necho "$@" >> called\n[ "$1" != push ]\n')
    (tools / "starlette-wasm").chmod(0o755)
    given = ["hello", "2", "oci://127.0.0.1/x", "one=http://127.0.0.1"]
    environment = {"PATH": f"{tools}:{os.environ['PATH']}"}
    subprocess.run([PIPELINE, *given], cwd=tmp_path, env=environment, timeout=60, check=False)
    assert (tmp_path / "called").read_text().splitlines()[:3] == ["build hello", "check wasm.yaml", "test"]
    (tmp_path / "test_hello.py").write_text("def test_it():\n    pass\n")
    write_config(tmp_path, canary=False)
    add_constant(tmp_path, "hello", b'{"status_code": 200}', "1")
    assert main(["test", "--no-build", "--config", str(tmp_path / "wasm.yaml")]) == 0


def test_what_is_given_to_the_pipeline_is_not_run(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "starlette-wasm").write_text('#!/bin/sh\necho "$@" >> called\n[ "$1" != check ]\n')
    (tools / "starlette-wasm").chmod(0o755)
    given = ["hello; touch broken", "2", "oci://127.0.0.1/x", "one=http://127.0.0.1"]
    environment = {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run([PIPELINE, *given], cwd=tmp_path, env=environment, timeout=60, check=False)
    assert done.returncode != 0
    assert (tmp_path / "called").read_text().startswith("build hello; touch broken\n")
    assert not (tmp_path / "broken").exists()
