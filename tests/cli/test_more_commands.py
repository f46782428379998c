"""``starlette-wasm policy``, ``pipeline``, ``test`` and ``bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from apps import GUESTS, config_file
from toolchains import aot_cache

from starlette_wasm.cli.main import main

SAMPLE = Path(__file__).parents[2] / "sample_app" / "wasm.yaml"


@pytest.fixture(autouse=True)
def shared_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the cache to one that has the sample's functions, which take seconds to compile."""
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(aot_cache()))


def rows(capsys: pytest.CaptureFixture[str], *arguments: str, config: Path = SAMPLE) -> Any:
    assert main([*arguments, "--config", str(config), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_policies_are_listed_with_their_users(capsys: pytest.CaptureFixture[str]) -> None:
    found = {row["policy"]: row for row in rows(capsys, "policy")}
    assert {"edge-none", "edge-strict", "edge-moderate", "sample-quote"} <= set(found)
    assert found["sample-quote"]["hosts"] == "http://127.0.0.1:8900"
    assert (found["edge-strict"]["from"], found["sample-cache"]["from"]) == ("the package", "policiesDir")
    assert found["edge-strict"]["used by"] == 2


def test_one_policy_is_shown_with_all_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "policy", "sample-cache")
    assert (found["kvNamespaces"], found["usedBy"]) == (["cache"], ["/api/v1/cache/{key}"])
    assert main(["policy", "sample-cache", "--config", str(SAMPLE)]) == 0
    assert "executionTimeoutMs" in capsys.readouterr().out


@pytest.mark.parametrize("tool", ["wasmtime", "wasmedge"])
def test_a_policy_becomes_options_of_a_tool(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "edge-strict", "--args", tool, "--config", str(SAMPLE)]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(tool)
    assert f"{tool} cannot enforce allowedHosts" in told.err


def test_policies_of_the_package_need_no_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["policy"]) == 0
    assert "edge-none" in capsys.readouterr().out
    assert main(["policy", "edge-strickt"]) == 1
    assert "no policy is called 'edge-strickt'; did you mean edge-strict?" in capsys.readouterr().err
    assert main(["policy", "mine"]) == 1
    told = capsys.readouterr().err
    assert "edge-strict; policiesDir is not set: name the folder of mine.yaml there" in told
    Path("wasm.yaml").write_text("policiesDir: .\nrules: []\n")
    assert main(["policy", "mine"]) == 1
    assert "policiesDir" not in capsys.readouterr().err
    assert main(["policy", "edge-none.yaml"]) == 1
    assert "write edge-none, without the ending of its file" in capsys.readouterr().err


def test_the_steps_of_a_pipeline_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "pipeline", "/api/v1/enrich")
    assert [(row["step"], row["function"], row["retries"], row["fallback"]) for row in found] == [
        ("1", "edge-processor", 0, "none"),
        ("2", "enrich", 2, "enrich"),
    ]
    assert main(["pipeline", "/nope", "--config", str(SAMPLE)]) == 1
    assert "has no pipeline at /nope" in capsys.readouterr().err


def test_steps_side_by_side_have_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parallel = {"parallel": [{"function": "echo"}, {"function": "log", "fallback": {"answer": {}}}]}
    file = config_file(tmp_path, functions=["echo", "log"], pipelines=[{"path": "/p", "steps": [parallel]}])
    found = rows(capsys, "pipeline", config=file)
    assert [(row["step"], row["fallback"]) for row in found] == [("1a", "none"), ("1b", "a fixed answer")]


def test_a_function_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config_file(tmp_path, {"/hello": "hello", "/trap": "trap"})
    [row] = rows(capsys, "bench", "hello", "--seconds", "0.2", config=file)
    assert row["requests"] > 0
    assert (row["failed"], row["way"]) == (0, "fast path")
    [row] = rows(capsys, "bench", "/hello", "--seconds", "0.1", "--concurrency", "3", config=file)
    assert (row["failed"], row["way"]) == (0, "by the rules")
    assert main(["bench", "/trap?mode=div0", "--seconds", "0.1", "--config", str(file)]) == 1
    assert main(["bench", "/nope", "--config", str(file)]) == 1
    assert "no rule serves the path /nope" in capsys.readouterr().err


def test_what_has_changed_is_built_before_the_tests(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "functions/f/v1"
    (folder / "src").mkdir(parents=True)
    (folder / "src/given.wasm").write_bytes((GUESTS / "hello.wasm").read_bytes())
    (folder / "function.yaml").write_text(yaml.safe_dump({"build": {"command": "cp src/given.wasm {output}"}}))
    (tmp_path / "wasm.yaml").write_text("rules: [{pathPattern: /f, functionName: f}]\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    test = tmp_path / "test_f.py"
    test.write_text("def test_f(wasm):\n    assert wasm.request('/f').status == 200\n")
    config = ["--config", str(tmp_path / "wasm.yaml")]
    assert main(["test", *config, "--", "-q", "-p", "no:cacheprovider"]) == 0
    assert "1 passed" in capfd.readouterr().out
    test.write_text("def test_f(wasm):\n    assert wasm.request('/f').status == 201\n")
    assert main(["test", "--no-build", *config, "--", "-q", "-p", "no:cacheprovider"]) == 1


@pytest.mark.parametrize("command", [["new", "hello"], ["lock"], ["gc"]])
def test_a_file_in_the_place_of_functions_is_told(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").touch()
    config = tmp_path / "wasm.yaml"
    config.write_text("functionsDir: taken\nrules: []\n")
    assert main([*command, "--config", str(config)]) == 1
    told = capsys.readouterr().err
    assert "taken" in told
    assert "irectory" in told


def test_a_config_that_is_not_text_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "wasm.yaml"
    config.write_bytes(b"\xff\xfe")
    assert main(["new", "hello", "--config", str(config)]) == 1
    assert "byte 0 is not UTF-8" in capsys.readouterr().err
    config.unlink()
    config.mkdir()
    assert main(["new", "hello", "--config", str(config)]) == 1
    assert "Is a directory" in capsys.readouterr().err
