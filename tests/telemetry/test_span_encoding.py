"""``tools/span_encoding.py`` prints a figure for each way."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tool_prints_each_way() -> None:
    argv = [sys.executable, "tools/span_encoding.py", "--batch", "20", "--rounds", "1"]
    done = subprocess.run(argv, check=True, cwd=ROOT, capture_output=True, text=True, timeout=300)
    lines = [re.fullmatch(r"(.+?) +[0-9.]+ µs a span", line) for line in done.stdout.splitlines()]
    assert [line and line[1] for line in lines] == ["OTLPSpanExporter", "FastSpanExporter", "without C"]
