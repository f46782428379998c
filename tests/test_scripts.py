"""The scripts, as a first reader meets them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(each.name for each in (ROOT / "scripts").iterdir() if each.is_file())


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_needs_no_set_up(name: str, tmp_path: Path) -> None:
    """Each script explains itself, in a checkout without .venv, and writes nothing."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "scripts" / name
    command = [sys.executable, script] if name.endswith(".py") else [script]
    environ = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path)}
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [*command, "--help"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) > 5
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("end", "told"), [(0, "3.13 passed"), (1, "3.13 FAILED")])
def test_each_python_has_an_environment_and_a_verdict(tmp_path: Path, end: int, told: str) -> None:
    """``test-pythons`` with an interpreter that only tells its version, and a set-up that makes one that ends so."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "test-pythons", tmp_path / "scripts")
    written = {
        "python": "echo 3.13",
        "scripts/setup": f"""mkdir -p "$SETUP_VENV/bin"
            printf '#!/bin/sh\necho "$*" >asked\nexit {end}\n' >"$SETUP_VENV/bin/python"
            chmod +x "$SETUP_VENV/bin/python" """,
    }
    for name, text in written.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "PYTHONS": str(tmp_path / "python")}
    done = subprocess.run(
        [tmp_path / "scripts" / "test-pythons", "tests/sync", "-q"],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (end, f"scripts/test-pythons: {told}\n")
    assert (tmp_path / "asked").read_text() == "-m pytest tests/sync -q\n"
