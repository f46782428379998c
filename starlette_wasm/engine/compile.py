"""From a guest's bytes to compiled code: validate, check the bounds, link, compile."""

from __future__ import annotations

import json
from typing import Any

from . import bounds, capi, remedies
from .binary import COMPONENT_PREAMBLE, PREAMBLE, UnsupportedError


class InvalidModuleError(Exception):
    """The bytes are not a WebAssembly module, or a damaged one."""


class UnsupportedModuleError(Exception):
    """A valid module that is not a WASI command, exceeds the bounds, or uses what the engine lacks.

    ``hint`` is how to build it instead.
    """

    def __init__(self, problem: str, hint: str | None = None) -> None:
        self.problem = problem
        self.hint = hint or remedies.WASI_COMMAND
        super().__init__(f"{problem}; {self.hint}")


def compile_guest(engine: int, guest: bytes) -> tuple[int, dict[str, Any]]:
    """Compile a module, which the caller owns, and return with it what the host must know of it, as JSON.

    Raises InvalidModuleError and UnsupportedModuleError.
    """
    from . import dwarf, link  # not loaded if all code is in the cache

    if guest.startswith(COMPONENT_PREAMBLE):
        raise UnsupportedModuleError("it is a component", "load it as one: see docs/components.md")
    if not guest.startswith(PREAMBLE):
        raise InvalidModuleError("it does not begin like a WebAssembly module")
    try:
        capi.check(capi.module_validate(engine, guest, len(guest)))
    except capi.EngineError as error:
        text = one_line(str(error))
        remedy = remedies.of_feature(text)
        raise (InvalidModuleError(text) if remedy is None else UnsupportedModuleError(text, remedy)) from None
    try:
        bounds.check(guest)
        linked = link.link(guest, capi.assemble)
        ptr = capi.compile_module(engine, linked.wasm)
    except (UnsupportedError, capi.EngineError) as error:
        raise UnsupportedModuleError(one_line(str(error)), getattr(error, "hint", None)) from None
    lines, left_out = dwarf.read_lines(guest, linked.moves)
    facts = {
        "host": linked.host,
        "imports": linked.imports,
        "min_pages": linked.min_pages,
        "stack_pages": linked.stack_pages,
        "restorable": linked.restorable,
        "room": linked.room,
        "lines": lines.facts() if len(lines) else None,
        "lines_left_out": left_out,
    }
    return ptr, json.loads(json.dumps(facts))


def one_line(text: str) -> str:
    return " ".join(text.split())
