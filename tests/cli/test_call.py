"""``starlette-wasm call``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from apps import add_function, config_file
from toolchains import aot_cache

from starlette_wasm.cli.main import main
from starlette_wasm.engine import capi

SAMPLE = Path(__file__).parents[2] / "sample_app" / "wasm.yaml"


@pytest.fixture(autouse=True)
def shared_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the cache to one that has the sample's functions, which take seconds to compile."""
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(aot_cache()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    add_function(tmp_path, "late", "sleep_ms")
    policies = {"counting": {"kvNamespaces": ["calls"]}}
    rules = {
        "/log/{key}": "log",
        "/trap": "trap",
        "/stage": {"functionName": "stage", "policy": "counting", "regions": ["eu"]},
    }
    return config_file(tmp_path, rules, functions=["echo"], policies=policies)


def call(file: Path, *arguments: str) -> int:
    return main(["call", *arguments, "--config", str(file)])


def test_the_body_goes_to_stdout(file: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert call(file, "log", "-d", "INFO: x") == 0
    told = capfdbinary.readouterr()
    assert (told.out, told.err) == (b"{}", b"")


def test_a_function_is_called_as_its_rule_would(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(file, "stage", "-d", "x", "--json") == 0
    answer = json.loads(capfd.readouterr().out)
    assert (answer["body"], answer["calls"][0]["policy"], answer["calls"][0]["hostCalls"]) == (
        "stage(x)",
        "counting",
        1,
    )
    assert call(file, "log@1", "--path", "/log/7", "--json") == 0
    request = json.loads(capfd.readouterr().out)["calls"][0]["request"]
    assert (request["params"], request["path"]) == ({"key": "7"}, "/log/7")


def test_a_path_goes_by_the_rules(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(file, "/stage", "-d", "x", "--region", "eu") == 0
    assert capfd.readouterr().out == "stage(x)"
    assert call(file, "--path", "/stage", "-i", "-f") == 1
    assert capfd.readouterr().out.startswith("HTTP/1.1 503 ")
    assert call(file, "/nope") == 1
    assert "no rule serves the path /nope; the patterns are /log/{key}, /trap, /stage" in capfd.readouterr().err


def test_verbose_shows_all_of_it(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(file, "stage", "--policy", "edge-none", "-v", "-X", "PUT", "-H", "x-a: b", "--trace") == 0
    told = capfd.readouterr().err
    for part in ('"method": "PUT"', '"x-a": "b"', "refused by the policy: kv namespace not allowed: calls",
                 "ended: ok; CPU ", "< HTTP/1.1 200 OK", "*   execute  "):  # fmt: skip
        assert part in told


def test_a_failure_is_told_with_its_frames(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(file, "trap", "--path", "/trap?mode=div0") == 1
    told = capfd.readouterr().err
    assert "starlette-wasm call: trap v1: wasm trap: " in told
    assert "\n  at " in told


SAYS = r"""(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
 (memory (export "memory") 1) (data (i32.const 8) "\10\00\00\00\0a\00\00\00") (data (i32.const 16) "index is 6")
 (func (export "_start") (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 0))) unreachable))"""


def test_a_failure_is_told_with_what_was_logged(file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "functions/says/v1"
    home.mkdir(parents=True)
    (home / "says.wasm").write_bytes(capi.assemble(SAYS))
    assert call(file, "says") == 1
    told = capfd.readouterr().err
    assert told.index("* info     index is 6\n") < told.index("starlette-wasm call: says v1: wasm trap: ")


def test_a_body_comes_from_a_file(file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "body.txt").write_text("from a file")
    assert call(file, "log", "-d", f"@{tmp_path / 'body.txt'}", "-v") == 0
    assert "* info     from a file" in capfd.readouterr().err
    assert call(file, "log", "-d", "@nope.txt") == 1
    assert "nope.txt cannot be read" in capfd.readouterr().err


def test_repeated_calls_are_counted(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(file, "log", "--repeat", "5") == 0
    assert "* 5 requests: 5 of 200" in capfd.readouterr().err


def test_outbound_requests_can_be_stubbed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stubs = tmp_path / "stubs.yaml"
    stubs.write_text("GET http://127.0.0.1:8900/quote: {status: 200, json: {quote: less}, delayMs: 1}\n")
    assert call(SAMPLE, "quote", "--stub-http", str(stubs)) == 0
    assert json.loads(capfd.readouterr().out) == {"quote": "less"}
    stubs.write_text("http://127.0.0.1:8900/*: {error: tls-failed}\n")
    assert call(SAMPLE, "quote", "--stub-http", str(stubs), "--fail") == 1
    assert "tls-failed" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 1, "nothing to call; name a function, or a path with --path"),
        (["ehco"], 1, "late, log, stage, trap; did you mean echo?"),
        (["nope"], 1, "function not found: nope; known functions: echo, late, log, stage, trap"),
        (["log@9"], 1, "log v9"),
        (["log", "--policy", "nope"], 1, "no policy is called 'nope'"),
        (["log", "-H", "nothing"], 2, "is not NAME:VALUE"),
    ],
)
def test_mistakes_have_a_remedy(
    file: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert call(file, *arguments) == code
    assert message in " ".join(capfd.readouterr().err.split())


def test_nothing_is_left_behind(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert call(file, "stage", "-d", "x") == 0
    assert sorted(tmp_path.iterdir()) == before
