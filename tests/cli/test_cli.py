"""The command line, on real configs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from starlette_wasm.cli.main import main

SAMPLE = Path(__file__).parents[2] / "sample_app" / "wasm.yaml"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(tmp_path / "aot"))


def test_check_lists_the_rules(capsys):
    assert main(["check", str(SAMPLE), "--json"]) == 0
    rules = json.loads(capsys.readouterr().out)
    assert {"path", "function", "version", "weight", "regions", "policy"} == set(rules[0])
    assert [rule["weight"] for rule in rules[:2]] == [80, 20]


def test_check_lists_the_pipelines(capsys, tmp_path):
    config = {
        "functionsDir": str(SAMPLE.parent / "functions"),
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
            "version": "2, 1, 1, 3",
            "weight": 100,
            "regions": "all",
            "policy": "edge-none, edge-strict",
        }
    ]


def test_compile_fills_the_cache_once(capsys, tmp_path):
    assert main(["compile", str(SAMPLE), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert {row["code"] for row in first} == {"compiled"}
    assert len(list((tmp_path / "aot").glob("*.cwasm"))) == len(first)
    assert main(["compile", str(SAMPLE)]) == 0
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
