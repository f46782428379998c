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
        [*command, "--help"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=10, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) > 5
    assert sorted(tmp_path.rglob("*")) == before
