"""The command line of an installation without typer and rich."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from starlette_wasm.cli import plain

SAMPLE = Path(__file__).parents[2] / "sample_app" / "wasm.yaml"


def bare(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m starlette_wasm`` if typer, rich and ruamel.yaml cannot be found."""
    code = f"""if True:
        import importlib.machinery, sys
        found = importlib.machinery.PathFinder.find_spec
        def find_spec(name, *given):
            return None if name.split(".")[0] in ("typer", "rich", "ruamel") else found(name, *given)
        importlib.machinery.PathFinder.find_spec = find_spec
        sys.argv[1:] = {list(arguments)!r}
        from starlette_wasm.cli.main import main
        code = main()
        assert not {{"typer", "rich", "ruamel"}} & set(sys.modules)
        sys.exit(code)
    """
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)


def test_check_needs_no_extra() -> None:
    done = bare("check", str(SAMPLE))
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split() == ["path", "function", "version", "weight", "regions", "policy"]


def test_the_others_say_what_to_install() -> None:
    done = bare("call", "hello")
    assert done.returncode == 1
    assert done.stderr == (
        "starlette-wasm call: needs the extra cli; run python -m pip install 'starlette-wasm[cli]'\n"
    )


def test_plain_errors_have_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text("# a comment\nrules:\n  - pathPattern: a\n    functionName: f\n")
    assert plain.run(["check", str(file)]) == 1
    assert f"{file}:3: rules[0].pathPattern: 'a' does not start with /" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["check", "--nope"], ["nope"], []])
def test_what_is_not_understood_ends_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert plain.run(arguments) == 2
    assert "usage:" in capsys.readouterr().err


def test_the_plain_check_prints_json_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plain.run(["check", str(SAMPLE), "--json"]) == 0
    assert capsys.readouterr().out.startswith("[\n")
    (tmp_path / "functions").mkdir()
    (tmp_path / "wasm.yaml").write_text("{}")
    assert plain.run(["check", str(tmp_path / "wasm.yaml")]) == 0
    assert "is in order" in capsys.readouterr().out
