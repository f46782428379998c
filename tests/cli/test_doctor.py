"""``starlette-wasm doctor``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from apps import config_file

from starlette_wasm.cli import checkup, doctor, toolchains
from starlette_wasm.cli.checkup import Finding
from starlette_wasm.cli.main import main


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(tmp_path / "aot"))


def test_each_finding_has_a_result_and_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--config", str(config_file(tmp_path, {"/hello": "hello"})), "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert {row["result"] for row in found} <= {"ok", "warning"}
    assert [row["check"] for row in found][:5] == ["python", "C compiler", "native extension", "wasmtime", "engine"]
    assert all(row["remedy"] for row in found if row["result"] != "ok")
    assert found[-1]["found"].endswith("1 rules, 1 versions of functions")


def test_a_wrong_config_is_an_error_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text("# first\nrules: [{pathPattern: /a, functionName: nope}]\n")
    (tmp_path / "functions").mkdir()
    assert main(["doctor", "--config", str(file)]) == 1
    assert f"{file}:2: rules[0].functionName: function not found: nope" in capsys.readouterr().out


def test_a_folder_of_others_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(folder))
    found = checkup.cache()
    assert found.result == "warning"
    assert "STARLETTE_WASM_CACHE_DIR" in found.remedy


def test_limits_of_the_machine_are_seen() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200));"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30));"
        "from starlette_wasm.cli import checkup; print(checkup.files().result, checkup.address_space().found)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["warning", "at", "most", "3072", "MiB"]


def test_a_toolchain_that_is_not_here_names_its_line() -> None:
    absent = toolchains.Toolchain("x", ("x",), lambda: None, (), (1,), "python -m pip install x")
    old = toolchains.Toolchain(
        "y", ("y",), lambda: [sys.executable, "-c", "print('y 0.9')"], (), (1, 0), "apt-get install y"
    )
    broken = toolchains.Toolchain("z", ("z",), lambda: [sys.executable, "-c", "exit(1)"], (), (1,), "")
    assert toolchains.find(absent).problem == "is not here"
    assert toolchains.find(old).problem == "is 0.9, older than 1.0"
    assert toolchains.find(broken).problem == "does not run"


def test_zig_and_go_are_found_where_pip_puts_them() -> None:
    for toolchain in (toolchains.ZIG, toolchains.GO):
        found = toolchains.find(toolchain)
        assert found.problem is None
        assert found.version


def test_nothing_is_mended_without_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "mended"
    command = f"python -c \"open('{marker}', 'w').close()\""
    monkeypatch.setattr(doctor, "everything", lambda config: [Finding("it", "warning", "broken", "mend it", command)])
    answers = iter([False, True])
    monkeypatch.setattr("typer.confirm", lambda *given, **more: next(answers))
    assert main(["doctor", "--fix"]) == 0
    assert not marker.exists()
    assert main(["doctor", "--fix"]) == 0
    assert marker.exists()
    assert "it: done" in capsys.readouterr().out
