"""What the commands print: tables and colour on a terminal, plain text off it, JSON if it is asked for."""

from __future__ import annotations

import json as json_module
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from ..exceptions import WasmError
from .lines import with_lines
from .table import Row, plain_table

_STYLES = {
    "ok": "green",
    "running": "green",
    "promoted": "green",
    "compiled": "green",
    "warning": "yellow",
    "paused": "yellow",
    "error": "red",
    "failed": "red",
    "rolled-back": "red",
}
"""Styles of cells that hold one of these words."""
_MOST_BELOW = 4
"""Rows that are printed below each other if a table of them is too wide."""


def console() -> Console:
    """Return the console of stdout, as it is at this moment."""
    return Console(highlight=False, soft_wrap=False)


def error_console() -> Console:
    """Return the console of stderr, as it is at this moment."""
    return Console(stderr=True, highlight=False)


def show_rows(rows: Sequence[Row], *, json: bool = False, empty: str = "nothing to list") -> None:
    """Print rows of the same keys, or ``empty`` if there are none."""
    if json:
        show_json(rows)
    elif not rows:
        print(empty)
    elif console().is_terminal:
        _show_styled(rows)
    else:
        print(plain_table(rows))


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json_module.dumps(value, indent=2, default=str))


def show_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names with their values, which may have several lines."""
    out = console()
    width = max(len(name) for name, _ in fields) + 2
    if out.is_terminal:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in fields:
            table.add_row(name, Text(value))
        out.print(table)
        return
    for name, value in fields:
        for index, line in enumerate(value.splitlines() or [""]):
            print(f"{'' if index else name:{width}}{line}".rstrip())


def show_text(text: str, style: str = "", *, error: bool = False) -> None:
    """Print text as it is, on stderr if it is no result; in a style on a terminal."""
    out = error_console() if error else console()
    if out.is_terminal:
        out.print(Text(text, style), soft_wrap=True)
    else:
        print(text, file=sys.stderr if error else sys.stdout)


def warn(text: str) -> None:
    """Print a warning, on stderr."""
    show_text(f"warning: {text}", "yellow", error=True)


def fail(command: str, error: WasmError | str) -> None:
    """Print an error on stderr, with the line of the file that it is about."""
    text = f"starlette-wasm {command}: {with_lines(str(error))}"
    out = error_console()
    if out.is_terminal:
        out.print(Text.assemble(("error ", "bold red"), text), soft_wrap=True)
    else:
        print(text, file=sys.stderr)


def _show_styled(rows: Sequence[Row]) -> None:
    """Print a table, or a few rows that are too wide for one below each other."""
    out = console()
    widths = [max(len(key), *(len(str(row[key])) for row in rows)) + 2 for key in rows[0]]
    if sum(widths) <= out.width or len(rows) > _MOST_BELOW:
        out.print(_table(rows))
        return
    for index, row in enumerate(rows):
        if index:
            out.print()
        show_fields([(key, str(value)) for key, value in row.items()])


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for key in rows[0]:
        table.add_column(key, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(value), _STYLES.get(str(value), "")) for value in row.values()))
    return table


class _Loaded(logging.Handler):
    """Moves a progress bar by the records of the loader."""

    def __init__(self, progress: Progress, title: str) -> None:
        super().__init__()
        self._progress = progress
        self._task = progress.add_task(title, total=None)

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and str(record.msg).startswith("loaded %s"):
            name, done, total, _ = record.args
            self._progress.update(self._task, completed=int(str(done)), total=int(str(total)), description=str(name))


class _Warnings(logging.Handler):
    """Prints warnings, but for those of single calls: a command shows them itself."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING and not hasattr(record, "function"):
            print(record.getMessage(), file=sys.stderr)


@contextmanager
def own_call_logs() -> Iterator[None]:
    """Keep what single calls log off stderr for the block, since the command shows it in its own form."""
    logger, handler = logging.getLogger("starlette_wasm"), _Warnings()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def working(title: str) -> Iterator[None]:
    """Show that something is going on for as long as the block takes; off a terminal as one line on stderr."""
    out = error_console()
    if not out.is_terminal:
        print(title, file=sys.stderr, flush=True)
        yield
        return
    with out.status(title):
        yield


@contextmanager
def loading(title: str = "compiling") -> Iterator[None]:
    """Show on a terminal how far the loading of functions is, for as long as the block takes."""
    out = error_console()
    if not out.is_terminal:
        yield
        return
    logger = logging.getLogger("starlette_wasm.functions.loader")
    level, propagate = logger.level, logger.propagate
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=out, transient=True) as progress:
        handler = _Loaded(progress, title)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
