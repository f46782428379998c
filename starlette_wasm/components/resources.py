"""What resources of the host have in common."""

from __future__ import annotations

from dataclasses import dataclass

from .values import Value


class HostResource:
    """A resource that wants to know when the guest has dropped it."""

    def dropped(self) -> None:
        """Note that it is dropped, in whatever thread the guest is; not at the end of the invocation."""


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
