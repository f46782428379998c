"""What happened in one call of a function, as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..capabilities import Violation
from ..exceptions import WasmError
from ..messages import EdgeRequest, EdgeResponse


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a guest's stderr. ``level`` is one of :mod:`logging`, as the line claims it."""

    level: int
    text: str


@dataclass(slots=True)
class Span:
    """A span of a call: the call itself, the guest's execution, a request of it, or one that it started.

    ``begin`` and ``seconds`` are of the monotonic clock; ``seconds`` is None for one that did not end.
    """

    name: str
    begin: float = 0.0
    seconds: float | None = None
    attributes: dict[str, str | bool | int | float] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    error: str | None = None
    children: list[Span] = field(default_factory=list)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Span]]:
        """Yield this span and all below it, each with its depth."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


@dataclass(slots=True)
class Call:
    """One call of a function.

    ``request`` is what the guest was given. ``response`` is None, and ``error`` set, for one that failed.
    """

    function: str
    version: str
    policy: str
    request: EdgeRequest
    response: EdgeResponse | None = None
    error: WasmError | None = None
    end: str = ""
    """How the guest ended: ``ok``, ``exit``, ``trap``, ``memory``, ``output`` or ``timeout``; empty if it never ran."""
    stderr: str = ""
    logs: list[Line] = field(default_factory=list)
    cpu_s: float = 0.0
    memory_bytes: int = 0
    host_calls: int = 0
    seconds: float = 0.0
    violations: list[Violation] = field(default_factory=list)
    """What the policy refused: to ``edge.call``, and in the file system."""
    span: Span = field(default_factory=lambda: Span(""))
    folder: Path | None = None
    """The folder of the module."""
    asked: EdgeRequest | None = field(default=None, repr=False)
    """The request as it came, before the context of the guest's span came into it."""

    @property
    def spans(self) -> list[Span]:
        """The spans that the guest started itself, the outermost ones."""
        return [span for _, span in self.span.walk() if span.attributes.get("kind") == "guest"]
