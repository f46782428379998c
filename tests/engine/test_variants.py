"""The copy of the package that scripts/test --pure runs on; --sanitize takes longer than a test may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import variants

LOOK = """
import starlette_wasm
from starlette_wasm.engine.native import library
print(starlette_wasm.__file__, library.native)
"""


def test_the_pure_variant_has_no_c_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "WORK", tmp_path)
    command = [sys.executable, "-P", "-c", LOOK]
    done = subprocess.run(command, env=variants.pure(), capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    file, native = done.stdout.split()
    assert Path(file).is_relative_to(tmp_path)
    assert native == "None"
