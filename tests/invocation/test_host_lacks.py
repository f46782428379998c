"""What the host lacks is no fault of a function."""

from __future__ import annotations

import errno

import pytest

from starlette_wasm.engine.capi import EngineError
from starlette_wasm.invocation.faults import host_lacks


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (MemoryError(), "memory"),
        (OSError(errno.ENOMEM, "mmap"), "memory"),
        (OSError(errno.EMFILE, "open"), "file descriptors of the process"),
        (OSError(errno.ENFILE, "open"), "file descriptors"),
        (RuntimeError("can't start new thread"), "threads"),
        (EngineError("mmap failed: Cannot allocate memory (os error 12)"), "memory"),
        (caused(EngineError("a guest thread failed"), MemoryError()), "memory"),
    ],
)
def test_a_lack_of_the_host_is_named(error: Exception, lack: str) -> None:
    assert host_lacks(error) == f"the host is out of {lack}"


@pytest.mark.parametrize(
    "error", [EngineError("the module is closed"), OSError(errno.ENOENT, "open"), RuntimeError("other"), None]
)
def test_other_errors_are_none_of_the_host(error: Exception | None) -> None:
    assert host_lacks(error) is None
