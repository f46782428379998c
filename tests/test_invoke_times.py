from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_tool_compares_guests() -> None:
    argv = [sys.executable, "tools/invoke_times.py", "--rounds", "1", "--calls", "1", "--against", str(ROOT)]
    done = subprocess.run(argv, check=True, cwd=ROOT, capture_output=True, text=True, timeout=300)
    head, *rows = done.stdout.splitlines()
    assert head.split("  ")[-1].strip() == "/ hand-made"
    assert len(rows) == 4
    assert all(re.search(r"( +[0-9.]+ us){3}( +[0-9.]+){3}$", row) for row in rows), done.stdout
