"""What each function has of the compiling in one load, so that one with many or costly versions holds up no other."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable

from ..exceptions import CompileError
from ..sync.fair_scheduler import FairScheduler
from .catalog import FunctionSource


class CompileQueue:
    """The sources of one load, for several threads.

    A thread that is free takes a version of the function that holds the fewest; among equals they take turns.
    """

    def __init__(self, sources: Iterable[FunctionSource], threads: int) -> None:
        self._sources = tuple(sources)
        self._lock = threading.Lock()
        self._over = False
        self._waiting: FairScheduler[int] = FairScheduler(threads)
        for number, source in enumerate(self._sources):
            self._waiting.put(source.name, number)

    def work(self, load: Callable[[FunctionSource], None]) -> None:
        """Load what is next, until nothing is left or ``load`` has raised, here or in another thread."""
        while (found := self._take()) is not None:
            name, number = found
            try:
                load(self._sources[number])
            except BaseException:
                self._over = True
                raise
            finally:
                with self._lock:
                    self._waiting.release(name)

    def _take(self) -> tuple[str, int] | None:
        with self._lock:
            found = None if self._over else self._waiting.take()
            return None if found is None else (self._sources[found[1]].name, found[1])


class CpuBudget:
    """CPU seconds that the versions of each function may take together, to compile in one load."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def check(self, source: FunctionSource) -> None:
        """Raise CompileError if nothing is left for that function."""
        with self._lock:
            spent = self._spent[source.name]
        if spent >= self._seconds:
            raise CompileError(
                f"not compiled, as other versions of {source.name} took {spent:.0f} s of CPU time in this load already,"
                f" of {self._seconds:.0f} s that one function has (compile_cpu_s, tenfold)",
                file=source.file,
                hint="load again, as what was compiled is in the AOT cache, remove versions, or raise compile_cpu_s",
            )

    def spend(self, source: FunctionSource, seconds: float) -> None:
        with self._lock:
            self._spent[source.name] += seconds
