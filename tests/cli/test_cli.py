"""The command line, on real configs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from apps import config_file

from starlette_wasm.cli.main import main

SAMPLE = Path(__file__).parents[2] / "sample_app" / "wasm.yaml"
"""Two of its functions take seconds to compile, which check does each time: one test takes it as it is."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(tmp_path / "aot"))


def of_the_sample(folder, *names):
    """Return a functionsDir with these of the sample's functions."""
    for name in names:
        shutil.copytree(SAMPLE.parent / "functions" / name, folder / "functions" / name)
    return str(folder / "functions")


def test_check_lists_the_rules(capsys):
    assert main(["check", str(SAMPLE), "--json"]) == 0
    rules = json.loads(capsys.readouterr().out)
    assert {"path", "function", "version", "weight", "regions", "policy"} == set(rules[0])
    assert [rule["weight"] for rule in rules[:2]] == [80, 20]


@pytest.mark.parametrize("command", ["check", "compile"])
def test_who_only_looks_makes_no_stores(capsys, tmp_path, monkeypatch, command):
    policy = "kvNamespaces: [a]\nqueues: [b]\n"
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/all.yaml").write_text(policy)
    config = {
        "functionsDir": of_the_sample(tmp_path, "edge-cache"),
        "policiesDir": str(tmp_path / "policies"),
        "rules": [{"pathPattern": "/cache", "functionName": "edge-cache", "policy": "all"}],
    }
    (tmp_path / "wasm.yaml").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    assert main([command, "wasm.yaml"]) == 0
    assert capsys.readouterr().out
    assert not list(tmp_path.glob("*.db*"))
    monkeypatch.setenv("STARLETTE_WASM_KV_URL", "sqlite:////no/such/folder/kv.db")
    # An image is built without the folders that its containers get: compile() does not ask for them.
    assert main([command, "wasm.yaml"]) == (1 if command == "check" else 0)
    assert ("/no/such/folder" in capsys.readouterr().err) is (command == "check")


def test_check_lists_the_pipelines(capsys, tmp_path):
    config = {
        "functionsDir": of_the_sample(tmp_path, "edge-processor", "greeter", "quote", "edge-fallback"),
        "pipelines": [
            {
                "path": "/enrich",
                "steps": [
                    {"function": "edge-processor", "version": "2"},
                    {
                        "parallel": [
                            {"function": "greeter", "fallback": {"answer": {}}},
                            {"function": "quote", "policy": "edge-strict", "fallback": {"function": "edge-fallback"}},
                        ],
                        "merge": {"function": "edge-processor"},
                    },
                ],
            }
        ],
    }
    (tmp_path / "wasm.yaml").write_text(json.dumps(config))
    assert main(["check", str(tmp_path / "wasm.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "path": "/enrich",
            "function": "edge-processor > [greeter (else answer) + quote (else edge-fallback)] > edge-processor",
            "version": "2, 2, 1, 3",
            "weight": 100,
            "regions": "all",
            "policy": "edge-none, edge-strict",
        }
    ]


def test_compile_fills_the_cache_once(capsys, tmp_path):
    file = str(config_file(tmp_path, {"/hello": "hello", "/echo": "echo"}))
    assert main(["compile", file, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert {row["code"] for row in first} == {"compiled"}
    assert len(list((tmp_path / "aot").glob("*.cwasm"))) == len(first)
    assert len(first) == 2
    assert main(["compile", file]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(first) + 1
    assert all(line.endswith("in the AOT cache already") for line in lines[1:])


def test_what_is_wrong_goes_to_stderr_and_the_exit_code(capsys, tmp_path):
    file = tmp_path / "wasm.yaml"
    file.write_text("functionsDir: nowhere\n")
    assert main(["check", str(file)]) == 1
    message = capsys.readouterr().err
    assert "nowhere" in message
    assert "functionsDir" in message


def test_check_says_that_the_c_library_is_missing(tmp_path):
    code = f"""if True:
        import ctypes, sys
        loaded = ctypes.CDLL
        class CDLL(loaded):
            def __init__(self, name, *given, **more):
                if "_native" in str(name):
                    raise OSError("no such library")
                super().__init__(name, *given, **more)
        ctypes.CDLL = CDLL
        from starlette_wasm.cli.main import main
        sys.exit(main(["check", {str(config_file(tmp_path, {"/hello": "hello"}))!r}]))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0
    assert "the C library of this package is missing" in done.stderr
    assert "no such library" in done.stderr


def test_a_config_without_rules_is_said_to_be_in_order(capsys, tmp_path):
    (tmp_path / "functions").mkdir()
    (tmp_path / "wasm.yaml").write_text("{}")
    assert main(["check", str(tmp_path / "wasm.yaml")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/wasm.yaml is in order, and has no rules to list\n"
    assert main(["check", str(tmp_path / "wasm.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_all_that_is_wrong_in_a_file_is_told(capsys, tmp_path):
    file = tmp_path / "wasm.yaml"
    file.write_text("rules: [{pathPatern: /a, functionName: f, weight: -1}, {pathPattern: b, functionName: f}]\n")
    assert main(["check", str(file)]) == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(f"starlette-wasm check: {file}:1: rules[0].pathPatern: unknown key")
    assert rest == [
        f"{file}:1: rules[0].weight: -1 is too small; the least is 0",
        f"{file}:1: rules[1].pathPattern: 'b' does not start with /; write /b",
    ]


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"starlette-wasm {version('starlette-wasm')}\n"
