"""Modules that are small to write down and dear to compile."""

from __future__ import annotations

from starlette_wasm.engine.binary import CODE, EXPORT, FUNCTION, MEMORY, PREAMBLE, TYPE, leb, name


def section(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + leb(len(body)) + body


def module(*bodies: bytes, more: dict[int, bytes] | None = None) -> bytes:
    """A command whose functions take and give nothing; ``_start`` is the first."""
    sections = {
        TYPE: b"\1\x60\0\0",
        FUNCTION: leb(len(bodies)) + b"\0" * len(bodies),
        MEMORY: b"\1\0\1",
        EXPORT: b"\2" + name("memory") + b"\2\0" + name("_start") + b"\0\0",
        CODE: leb(len(bodies)) + b"".join(leb(len(body)) + body for body in bodies),
    } | (more or {})
    order = sorted(sections, key=lambda kind: (kind if kind < CODE else kind + 1, kind))
    return PREAMBLE + b"".join(section(kind, sections[kind]) for kind in order)


def body(instructions: bytes = b"", i64_locals: int = 0) -> bytes:
    declared = b"\1" + leb(i64_locals) + b"\x7e" if i64_locals else b"\0"
    return declared + instructions + b"\x0b"


def loops(locals_: int, count: int) -> bytes:
    """Locals that live across many loops: a value of each for each, time and memory by their product.

    1,000 and 4,000 are 32 KiB of module, 4 s and 470 MiB with wasmtime 50.
    """
    loop = b"\x03\x40\x41\0\x0d\0\x0b"  # loop; i32.const 0; br_if 0; end
    uses = b"".join(b"\x20" + leb(index) + b"\x1a" for index in range(locals_))  # local.get; drop
    return module(body(loop * count + uses, locals_))
