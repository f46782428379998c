"""``CompileBackoff``: a module that could not be compiled is not compiled again at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..exceptions import ModuleLoadError
from ..sync.backoff import Backoff
from .catalog import FunctionSource

logger = logging.getLogger("starlette_wasm")


class CompileBackoff:
    """The files that could not be compiled, across reloads: each waits twice as long after each failure in a row.

    A file with other bytes is compiled at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._backoff = Backoff(clock)

    def __len__(self) -> int:
        """Return how many files failed when last compiled."""
        return len(self._backoff)

    @contextmanager
    def compiling(self, source: FunctionSource, digest: str) -> Iterator[None]:
        """Count a failure of the block. Raise the error of the last failure instead, as long as its pause lasts."""
        self._backoff.check(source.file, digest)
        try:
            yield
        except ModuleLoadError as error:
            pause = self._backoff.failed(source.file, error, digest)
            logger.info("%s is not compiled again within %.0f s", source, pause)
            raise

    def loaded(self, source: FunctionSource) -> None:
        """Forget the failures of a file, which was loaded."""
        self._backoff.succeeded(source.file)
