from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_tool_compares_a_traced_request() -> None:
    argv = [sys.executable, "tools/traced_request.py", "--only", "1.0", "--rounds", "1"]
    done = subprocess.run(argv, check=True, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert re.fullmatch(r"SDK 1.0: native / mapped [0-9.]+, spanned / mapped [0-9.]+; p10 in us: .+\n", done.stdout)
