"""What ``dev`` prints."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.text import Text
from starlette.types import Scope

from ..engine.printable import escape
from ..exceptions import WasmError
from ..runtime.reload import REFUSED
from ..testing.calls import Call
from ..testing.recorder import level_name
from . import output
from .build_runner import BuildError
from .call_output import LEVELS


def say(text: str, style: str = "") -> None:
    """Print a line, at once."""
    out = output.console()
    if out.is_terminal:
        out.print(Text(text, style), soft_wrap=True)
    else:
        print(text, flush=True)


def fail(error: WasmError) -> None:
    """Print what is wrong."""
    output.fail("dev", error)


def reload_refused(error: WasmError) -> None:
    """Print why a reload was refused."""
    fail(error)
    say("what was served is served on", "dim")


@contextmanager
def without_refusals() -> Iterator[None]:
    """Keep the log's record of a refused reload off the terminal for the block: it is printed once, with its line."""
    logger = logging.getLogger("starlette_wasm")
    logger.addFilter(_is_other)
    try:
        yield
    finally:
        logger.removeFilter(_is_other)


def _is_other(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(REFUSED)


def build_failed(error: WasmError, *, served: bool = True) -> None:
    """Print why a build failed, the compiler's words as they are; ``served``: an older module goes on answering."""
    if not isinstance(error, BuildError):
        fail(error)
        return
    head, _, rest = str(error).partition("\n")
    say(head, "bold red")
    if rest:
        say(rest)
    if served:
        say("what was served is served on", "dim")


def request(scope: Scope, status: int, seconds: float, calls: list[Call]) -> None:
    """Print a line for a request, and below it what its functions logged and failed with."""
    style = "green" if status < 400 else "yellow" if status < 500 else "red"
    memory = max((call.memory_bytes for call in calls), default=0)
    functions = " > ".join(f"{call.function} v{call.version}" for call in calls) or "native"
    used = f"{memory >> 10} KiB" if calls else ""
    path = escape(scope["path"])
    say(f"{scope['method']:6} {path:32} {status} {seconds * 1000:9.2f} ms {used:>9}  {functions}", style)
    for call in calls:
        for line in call.logs:
            name = level_name(line.level)
            say(f"       {name:8} {escape(line.text)}", LEVELS[name])
        for violation in call.violations:
            say(f"       refused  {escape(violation.message)}", "red")
        if call.error is not None:
            say(f"       {call.error}".replace("\n", "\n       "), "red")
