"""What comes of restored instances that are compared with their first state, which is done every so often.

A difference is a fault of this package, or of the kernel: what one request has left could reach the next one.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

from .native.library import EngineState

if TYPE_CHECKING:
    from .module import Module

logger = logging.getLogger("starlette_wasm.engine")

_REPORTED = 2
"""Of ``faulty``: the fault is in the log."""


class RestoreChecks:
    """Those of one engine: restore.c counts its own, components/restore.py notes each."""

    def __init__(self, state: EngineState) -> None:
        self.modules: WeakSet[Module] = WeakSet()
        """Those whose instances restore.c may have compared."""
        self._state = state
        self._lock = threading.Lock()
        self._noted = self._found = 0
        self._callback = ctypes.PYFUNCTYPE(None)(self._report)
        state.report = ctypes.cast(self._callback, ctypes.c_void_p)

    @property
    def checks(self) -> int:
        """How many instances were compared."""
        return int(self._state.checks) + self._noted

    @property
    def faults(self) -> int:
        """How many of them were not as at first."""
        return int(self._state.faults) + self._found

    def note(self, label: str, fault: str | None) -> None:
        """Count an instance of a component that was compared. ``fault`` is the place of a difference."""
        with self._lock:
            self._noted += 1
            self._found += fault is not None
        if fault is not None:
            _log(label, fault)

    def _report(self) -> None:
        """Log what restore.c has found."""
        for module in list(self.modules):
            state = module.state
            if state.faulty == 1:
                state.faulty = _REPORTED
                _log(module.label, place("the io memory" if state.fault_in_io else "the memory", state.fault_at))


def place(memory: str, offset: int) -> str:
    """Name a byte of a memory, and not its value, which may be of a request."""
    return f"{memory}, at offset {offset} ({offset:#x})"


def _log(label: str, fault: str) -> None:
    logger.error(
        "%s: a restored instance differs from its first state in %s. It is thrown away, and each request gets a fresh "
        "instance from now on, until the function is loaded again. Report this: it is a fault of starlette-wasm or of "
        "the kernel",
        label,
        fault,
    )
