"""How a guest ended that the host has ended."""

from __future__ import annotations

from ..engine.outcome import End, Outcome
from .errors import CanonicalTrap, OutOfTime
from .http_exchange import InvalidHead
from .wasi.host import GuestExit, OutputOverflow


def class_end(outcome: Outcome, end: CanonicalTrap, stdout: bytes) -> None:
    """Note how a guest ended that has printed ``stdout``."""
    outcome.frames = ()
    if isinstance(end, OutputOverflow):
        outcome.end = End.OUTPUT
    elif isinstance(end, InvalidHead):  # which whoever decodes it finds too, and explains
        outcome.end, outcome.stdout = End.OK, str(end).encode()
    elif isinstance(end, OutOfTime):
        outcome.end = End.TIMEOUT
    elif isinstance(end, GuestExit):
        outcome.end, outcome.exit_code = (End.EXIT if end.code else End.OK), end.code
        outcome.stdout = stdout
    else:
        outcome.end, outcome.reason = End.TRAP, str(end)
