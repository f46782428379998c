"""What resources of the host have in common."""

from __future__ import annotations

from dataclasses import dataclass

from .values import Value


class HostResource:
    """A resource that wants to know when the guest has dropped it."""

    def dropped(self) -> None:
        """Called in whatever thread the guest is; at the end of the invocation nothing is dropped one by one."""


@dataclass(frozen=True, slots=True)
class IoError:
    """An ``error`` of ``wasi:io/error``, with the code that it stands for in another interface."""

    message: str
    http: Value = None
    """An ``error-code`` of ``wasi:http/types``."""
    file: str | None = None
    """An ``error-code`` of ``wasi:filesystem/types``."""

    def __str__(self) -> str:
        return self.message
