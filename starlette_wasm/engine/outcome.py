"""What came of an invocation, classed by the host alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class End(Enum):
    """How an invocation ended. Classed by the host alone."""

    OK = "ok"
    EXIT = "exit"
    TRAP = "trap"
    MEMORY = "memory"
    OUTPUT = "output"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal of the file system."""

    path: str
    write: bool


@dataclass(slots=True)
class Outcome:
    """What came of an invocation."""

    end: End
    stdout: bytes = b""
    stderr: bytes = b""
    stderr_dropped: int = 0
    exit_code: int = 0
    reason: str = ""
    frames: tuple[str, ...] = ()
    """The guest's functions at a trap, innermost first."""
    places: tuple[tuple[int, int], ...] = ()
    """The frames' trap locations: function of the linked module, and byte in it."""
    refused_pages: int = 0
    """Pages of the last refused ``memory.grow``, 0 if none was."""
    memory_bytes: int = 0
    """The guest's memory at the end, which is its peak: memories do not shrink."""
    denials: tuple[Denial, ...] = ()
    cpu_s: float = 0.0
    """Seconds of CPU that the guest used; for what ran in the first poll, of wall clock."""
    host_calls: int = 0
    """Calls of ``edge.call``."""
