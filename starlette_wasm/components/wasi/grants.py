"""Which functions a guest can use only by what its policy grants."""

from __future__ import annotations

from ..flat_plan import ImportedFunction
from .edge import EDGE_HOST


def asks_host(function: ImportedFunction) -> bool:
    """Return whether a capability carries it out: an outbound request, a key/value store, ``call`` of ``edge``."""
    if function.interface == EDGE_HOST:
        return function.name == "call"
    return function.interface.startswith(("wasi:http/outgoing-handler@", "wasi:http/client@", "wasi:keyvalue/"))


def opens_files(function: ImportedFunction) -> bool:
    return function.interface.startswith("wasi:filesystem/")
