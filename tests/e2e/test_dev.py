"""``starlette-wasm dev``, with builds that take no compiler."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from apps import GUESTS
from processes import SHORT

from starlette_wasm.config.settings import WINCH_IS_HERE
from starlette_wasm.engine import capi

APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_wasm import WasmRules

rules = WasmRules("wasm.yaml")
app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("one")), rules], lifespan=rules.lifespan)
"""


class Dev:
    """The command, in a project of one function that copies its source."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.source = folder / "functions/f/v1/src/given.wasm"
        self.source.parent.mkdir(parents=True)
        command = {"build": {"command": "sh src/make.sh {output}"}}
        (self.source.parent / "make.sh").write_text("cp src/given.wasm $1\n")
        (self.source.parents[1] / "function.yaml").write_text(yaml.safe_dump(command))
        (folder / "wasm.yaml").write_text("rules: [{pathPattern: /f, functionName: f}]\n")
        self.put("hello")
        self.log = folder.parent / f"{folder.name}.log"
        self.output = self.log.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "starlette_wasm", "dev", "--port", "0", *arguments],
            cwd=folder,
            env=os.environ | {"STARLETTE_WASM_CACHE_DIR": str(folder.parent / "aot"), "PYTHONUNBUFFERED": "1"},
            stdout=self.output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def put(self, guest: str) -> None:
        shutil.copyfile(GUESTS / f"{guest}.wasm", self.source.with_name("new"))
        self.source.with_name("new").replace(self.source)

    def wait(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def said(self, text: str, times: int = 1) -> None:
        self.wait(lambda: self.log.read_text().count(text) >= times)

    def url(self) -> str:
        self.said("serving http://")
        found = re.search(r"serving (http://\S+)", self.log.read_text())
        assert found
        return found[1]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
        self.output.close()


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=60)


def connected(dev: Dev) -> httpx.Client:
    return httpx.Client(base_url=dev.url(), timeout=60, limits=SHORT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    return made


@pytest.fixture
def dev(folder: Path) -> Iterator[Dev]:
    (folder / "app.py").write_text(APP)
    started = Dev(folder)
    try:
        yield started
    finally:
        started.close()


def test_a_change_is_built_and_swapped_in(dev: Dev) -> None:
    with connected(dev) as client:
        first = client.get("/f").text
        assert client.get("/f", headers={"host": "evil.example"}).status_code == 421
        dev.put("echo")
        answers = []

        def changed() -> bool:
            answers.append(client.get("/f"))
            return answers[-1].text != first

        dev.wait(changed)
        assert {answer.status_code for answer in answers} == {200}
        dev.said("f v1: built, ", 2)
        assert re.search(r"GET    /f +200 +[\d.]+ ms +\d+ KiB  f v1", dev.log.read_text())

        dev.source.with_name("make.sh").write_text("echo src/f.c:1:2: error: no >&2; exit 1\n")
        dev.said("src/f.c:1:2: error: no")
        dev.said("what was served is served on")
        assert client.get("/f").text.startswith('{"path":"/f"')
    assert dev.stop() == 0


def test_a_quick_build_answers_before_the_other(dev: Dev) -> None:
    def process() -> int | None:
        text = (home / "pid").read_text() if (home / "pid").exists() else ""
        return int(text) if text.endswith("\n") else None

    with connected(dev) as client:
        home = dev.source.parents[1]
        build = {"quick": "cp src/given.wasm {output}", "command": "sh src/full.sh {output}"}
        (dev.source.with_name("full.sh")).write_text("echo $$ > pid; exec sleep 1000\n")
        (home / "function.yaml").write_text(yaml.safe_dump({"build": build}))
        dev.said("f v1: built", 2)
        dev.put("echo")
        dev.wait(lambda: client.get("/f").text.startswith('{"path":"/f"'))
        dev.wait(process)
        first = process()
        shutil.copy(GUESTS / "hello.wasm", home / "full.wasm")
        dev.source.with_name("full.sh").write_text("cp full.wasm $1\n")
        dev.said("f v1: built by build.command, ")
        assert first is not None
        dev.wait(lambda: not Path(f"/proc/{first}").exists())
        assert not client.get("/f").text.startswith('{"path":"/f"')
        dev.source.with_name("full.sh").write_text("exec sleep 1000\n")
        dev.put("trap")
        dev.wait(lambda: client.get("/f?mode=div0").status_code == 500)
    assert dev.stop() == 0
    assert "f v1: only built quickly; run starlette-wasm build f" in dev.log.read_text()


def test_a_signal_ends_what_builds(dev: Dev) -> None:
    dev.url()
    pid = dev.source.parents[1] / "pid"
    dev.source.with_name("make.sh").write_text("echo $$ > pid; exec sleep 1000\n")
    dev.wait(lambda: pid.exists() and pid.read_text().endswith("\n"))
    dev.process.terminate()
    dev.process.wait(60)
    dev.wait(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())


def test_what_winch_cannot_compile_is_taken_all_the_same(folder: Path) -> None:
    beyond = """(module (table 1 externref) (memory (export "memory") 1)
      (func (export "_start") (drop (table.get 0 (i32.const 0)))))"""
    dev = Dev(folder)
    try:
        url = dev.url()
        dev.source.with_name("new").write_bytes(capi.assemble(beyond))
        dev.source.with_name("new").replace(dev.source)
        if WINCH_IS_HERE:
            dev.said("f v1 is beyond the quick compiler: starting again with the other one")
            dev.said("serving http://", 2)
        dev.wait(lambda: get(f"{url}/f").status_code == 502)  # it answers nothing
        assert dev.stop() == 0
    finally:
        dev.close()


def test_a_fault_is_a_page_in_a_browser(dev: Dev) -> None:
    with connected(dev) as client:
        dev.put("trap")
        dev.said("f v1: built, ", 2)
        answer = client.get("/f?mode=div0", headers={"accept": "text/html,*/*"})
        assert (answer.status_code, answer.headers["content-type"]) == (500, "text/html; charset=utf-8")
        for part in (
            "<h1>f v1: wasm trap: integer divide by zero</h1>",
            "trap_div0",
            "EdgeRequest",
            "&quot;mode&quot;",
        ):
            assert part in answer.text
        plain = client.get("/f?mode=div0")
        assert plain.headers["content-type"] == "application/problem+json"
        dev.said("       f v1: wasm trap: integer divide by zero", 2)


def test_a_change_of_the_app_starts_it_again(dev: Dev, folder: Path) -> None:
    url = dev.url()
    (folder / "app.py").write_text(APP.replace('"one"', '"two"'))
    dev.said("serving http://", 2)
    assert get(url).text == "two"
    assert get(f"{url}/f").status_code == 200
    assert dev.stop() == 0


def test_a_config_that_is_wrong_waits_for_its_change(folder: Path) -> None:
    dev = Dev(folder)
    try:
        url = dev.url()
        assert get(f"{url}/f").status_code == 200
        assert get(f"{url}/nope").text == "no rule serves this path\n"
        (folder / "wasm.yaml").write_text("rules: [{pathPattern: /f, functionName: g}]\n")
        dev.said("wasm.yaml:1: rules[0].functionName: function not found: g")
        assert get(f"{url}/f").status_code == 200
        (folder / "wasm.yaml").write_text("rules: [{pathPattern: /g, functionName: f}]\n")
        dev.said("the config has changed, ")
        assert get(f"{url}/g").status_code == 200
        assert dev.stop() == 0
    finally:
        dev.close()


def test_an_app_that_is_not_there_ends_it(folder: Path) -> None:
    (folder / "shop.py").write_text(APP)
    (folder / "conftest.py").write_text("")
    dev = Dev(folder, "ap:app")
    try:
        assert dev.process.wait(120) == 1
        assert "there is no module 'ap' here; run it where the module is; here are shop:app\n" in dev.log.read_text()
    finally:
        dev.close()


def test_an_app_that_does_not_start_waits(folder: Path) -> None:
    (folder / "app.py").write_text(APP.replace("wasm.yaml", "other.yaml"))
    (folder / "other.yaml").write_text("rules: [{pathPattern: /f, functionName: g}]\n")
    dev = Dev(folder)
    try:
        dev.said("waiting for a change; q quits")
        told = dev.log.read_text()
        assert "other.yaml:1: rules[0].functionName: function not found: g" in told
        assert "cannot be had" not in told
        assert "deployment.py" not in told  # no traceback of ours hides the message
        (folder / "other.yaml").write_text("rules: [{pathPattern: /f, functionName: f}]\n")
        assert get(f"{dev.url()}/f").status_code == 200
        assert dev.stop() == 0
    finally:
        dev.close()


def test_a_port_that_is_taken_ends_it(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        dev = Dev(folder, "--port", str(port))
        try:
            assert dev.process.wait(120) == 1
            assert f"port {port} of 127.0.0.1 cannot be had; give another with --port" in dev.log.read_text()
        finally:
            dev.close()
