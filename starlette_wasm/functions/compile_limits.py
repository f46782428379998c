"""What compiling a module may cost, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CompileLimits:
    """What compiling one module may cost."""

    cpu_s: int = 60
    """Seconds of CPU time."""
    wall_s: float = 300.0
    """Seconds on the clock, the start of the process included."""
    memory: int = 2 << 30
    """Bytes of address space, beside what the process has from the start."""
    module: int = 64 << 20
    """Bytes of the module."""

    @property
    def function_cpu_s(self) -> int:
        """Seconds of CPU time for all versions of one function together, in one load."""
        return 10 * self.cpu_s


class CompilerError(Exception):
    """A module was not compiled, though nothing is known to be wrong with it. ``hint`` is what to do."""

    def __init__(self, problem: str, hint: str) -> None:
        self.problem = problem
        self.hint = hint
        super().__init__(f"{problem}; {hint}")
