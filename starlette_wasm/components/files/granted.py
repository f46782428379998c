"""The directories that one invocation may open."""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable

from ...engine.plan import Limits, Preopen
from .budget import FileBudget
from .descriptor import Descriptor


class Files:
    """The granted directories: opened when the guest asks, and closed at the end with all that it left open."""

    def __init__(self, preopens: Collection[Preopen], limits: Limits, tenant: Hashable = None) -> None:
        self._preopens = preopens
        self._roots: list[tuple[Descriptor, str]] | None = None
        self.budget = FileBudget(limits, tenant)

    def roots(self) -> list[tuple[Descriptor, str]]:
        """Return each granted directory, and the guest's name for it. Raises OSError."""
        if self._roots is None:
            self._roots = []
            try:
                for each in self._preopens:
                    self._roots.append((self._root(each), each.guest))
            except OSError:  # so that a guest that asks again is not given some of them
                self.close()
                raise
        return self._roots

    def _root(self, given: Preopen) -> Descriptor:
        number = os.open(given.host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        modes = ("read", "write") if given.writable else ("read",)
        return Descriptor(number, self.budget, writable=given.writable, modes=modes)

    def close(self) -> None:
        for each in [*self.budget.opened, *(root for root, _ in self._roots or ())]:
            each.close()
        self._roots = None
