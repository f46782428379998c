"""A directory, entry by entry: it may have any number of them."""

from __future__ import annotations

import os

from ..resources import HostResource
from .descriptor import Descriptor


class Listing(HostResource):
    """Raises OSError."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._budget = descriptor.budget
        self._budget.check_open()
        number = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor.directory)
        try:
            self._entries = os.scandir(number)
        except BaseException:
            os.close(number)
            raise
        self._number: int | None = number  # entries are looked at by it
        self._budget.opened.add(self)

    def next(self) -> os.DirEntry[str] | None:
        return next(self._entries, None)

    def dropped(self) -> None:
        self.close()

    def close(self) -> None:
        self._budget.opened.discard(self)
        self._entries.close()
        number, self._number = self._number, None
        if number is not None:
            os.close(number)
