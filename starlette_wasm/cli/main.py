"""``starlette-wasm``: all commands with the extra ``cli``, ``check`` and ``compile`` without it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Return the exit code: 0 only on success."""
    if importlib.util.find_spec("typer") is None or importlib.util.find_spec("rich") is None:
        from . import plain

        return plain.run(argv)
    from . import app

    return app.run(argv)
