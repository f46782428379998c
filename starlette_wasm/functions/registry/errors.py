"""What may go wrong between this process and a registry."""

from __future__ import annotations

from ...exceptions import WasmError


class RegistryError(WasmError):
    """A registry, an artifact or a lock file is not as it must be. ``hint`` is what to do."""

    slug = "registry"

    def __init__(self, problem: str, *, source: str = "", hint: str = "") -> None:
        self.problem = problem
        self.source = source
        self.hint = hint
        where = f"{source}: " if source else ""
        super().__init__(f"{where}{problem}{f'; {hint}' if hint else ''}")


class SignatureRefused(RegistryError):
    """An artifact has no signature that one of the required keys has made."""

    slug = "signature-refused"
