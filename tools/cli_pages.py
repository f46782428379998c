"""Writes the part of docs/cli.md that the commands say of themselves: ``python tools/cli_pages.py``."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

from starlette_wasm.cli.app import PANELS, run

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
BEGIN = "<!-- from here on: tools/cli_pages.py -->\n"


def pages() -> str:
    """Return the help of every command, as Markdown."""
    parts = []
    for panel, commands in PANELS.items():
        parts.append(f"\n## {panel}\n")
        parts += [f"\n### {name}\n\n```text\n{_help(name)}```\n" for name in commands]
    return "".join(parts)


def _help(name: str) -> str:
    text = io.StringIO()
    with redirect_stdout(text):
        run([name, "--help"])
    return "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines()) + "\n"


def rendered() -> str:
    """Return the page as it is to be: what was written by hand, and behind it what the commands say."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[0] + BEGIN + pages()


if __name__ == "__main__":
    PAGE.write_text(rendered(), encoding="utf-8")
