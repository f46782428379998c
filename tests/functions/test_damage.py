"""The short form of ``scripts/damage-cache``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from damage_cache import flip_bits

HERE = Path(__file__).parent


def test_flipped_bits_are_never_loaded_and_always_hinted(tmp_path):
    assert flip_bits(tmp_path / "cache", 400, seed=1, mend_every=100) == 4


def test_killed_writers_leave_whole_code_or_none():
    """In a process that has no threads, since it forks."""
    command = [sys.executable, str(HERE.parents[1] / "tools" / "damage_cache.py"), "--kills", "60", "--flips", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("60 writers killed")
