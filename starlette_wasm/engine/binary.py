"""Reading and writing the WebAssembly binary format, as far as linking needs it (core specification, chapter 5).

Whatever is read here was validated by wasmtime before.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA, DATACOUNT = range(13)
_ORDER = (TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, DATACOUNT, CODE, DATA)
VALUE_TYPES = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "f32",
    0x7C: "f64",
    0x7B: "v128",
    0x70: "funcref",
    0x6F: "externref",
}
_REFERENCES = (0x63, 0x64)  # (ref null ht) and (ref ht), each before a heap type
PREAMBLE = b"\0asm\1\0\0\0"
COMPONENT_PREAMBLE = b"\0asm\x0d\0\1\0"


MAX_CUSTOM = 10_000
"""Custom sections of a module."""


class UnsupportedError(ValueError):
    """The module has something that linking does not handle; ``hint`` is what to do about it, if that is known."""

    def __init__(self, problem: str, hint: str | None = None) -> None:
        super().__init__(problem)
        self.hint = hint


def leb(value: int) -> bytes:
    """Encode an unsigned integer in LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def name(text: str) -> bytes:
    data = text.encode()
    return leb(len(data)) + data


class Reader:
    """A cursor over bytes."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def u32(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def skip_leb(self) -> None:
        data, at = self.data, self.at
        while data[at] > 0x7F:
            at += 1
        self.at = at + 1

    def value_type(self) -> int:
        """Read a value type (core specification 3.0, 5.3.5) and return its shortest form, a byte of VALUE_TYPES.

        ``(ref null func)`` and ``(ref null extern)`` have a form of two bytes, which is valid without any proposal.
        """
        kind = self.byte()
        if kind not in _REFERENCES:
            return kind
        heap = self.byte()
        if kind == 0x63 and heap in (0x70, 0x6F):
            return heap
        raise UnsupportedError(f"it has the value type 0x{kind:02x} 0x{heap:02x}")

    def skip_block_type(self) -> None:
        """Step over the type of a block: a value type, nothing (0x40), or the index of a type."""
        if self.data[self.at] in _REFERENCES:
            self.value_type()
        else:
            self.skip_leb()

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def name(self) -> str:
        return self.take(self.u32()).decode()

    def limits(self) -> tuple[int, int, int | None]:
        """Read flags, minimum and maximum."""
        flags = self.byte()
        return flags, self.u32(), self.u32() if flags & 1 else None


def split(module: bytes) -> tuple[dict[int, bytes], list[bytes]]:
    """Return the sections by their number, and the custom ones in their order."""
    reader = Reader(module, len(PREAMBLE))
    sections: dict[int, bytes] = {}
    custom: list[bytes] = []
    while reader.at < len(module):
        kind = reader.byte()
        body = reader.take(reader.u32())
        if kind == CUSTOM:
            custom.append(body)
            if len(custom) > MAX_CUSTOM:
                raise UnsupportedError(f"it has more than {MAX_CUSTOM:,} custom sections", "strip it")
        elif kind in _ORDER:
            sections[kind] = body
        else:
            raise UnsupportedError(f"it has a section of kind {kind}")
    return sections, custom


def join(sections: dict[int, bytes], custom: list[bytes]) -> bytes:
    """Put together what split() took apart, custom sections last."""
    parts = [PREAMBLE]
    for kind in _ORDER:
        if kind in sections:
            parts += bytes([kind]), leb(len(sections[kind])), sections[kind]
    for body in custom:
        parts += bytes([CUSTOM]), leb(len(body)), body
    return b"".join(parts)


def vector(body: bytes | None) -> tuple[int, bytes]:
    """Return the length of a vector and the bytes of its items."""
    if body is None:
        return 0, b""
    reader = Reader(body)
    count = reader.u32()
    return count, body[reader.at :]


def bodies(code: bytes) -> Iterator[bytes]:
    """Yield the function bodies of a code section, without their sizes."""
    reader = Reader(code)
    for _ in range(reader.u32()):
        yield reader.take(reader.u32())


# ref.func is 0xd2 and the index of a function.
_MAYBE_REFERENCE = re.compile(rb"\xd2(?=([\x80-\xff]{0,4}[\0-\x7f]))")


def skip_constant(reader: Reader) -> None:
    """Step over a constant expression, its end included."""
    while (opcode := reader.byte()) != 0x0B:
        if opcode in (0x41, 0x42, 0x23, 0xD2):
            reader.skip_leb()
        elif opcode in (0x43, 0x44):
            reader.at += 4 if opcode == 0x43 else 8
        elif opcode == 0xD0:
            reader.byte()
        elif opcode == 0xFD:
            if reader.u32() == 12:
                reader.at += 16
        elif opcode not in (0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E):
            raise UnsupportedError(f"a constant uses the instruction 0x{opcode:02x}")


def referenced(code: bytes, functions: Container[int]) -> list[int]:
    """Return the ``functions`` that a ``ref.func`` in a code section may name; the code is not decoded."""
    return sorted(
        {index for found in _MAYBE_REFERENCE.finditer(code) if (index := Reader(found[1]).u32()) in functions}
    )


CALL = b"\x10"
MEMORY_SIZE, MEMORY_GROW = 0x3F, 0x40
# Each is followed by the index of memory 0, which may be padded.
_MAYBE_SIZE, _MAYBE_GROW = (re.compile(rb"\x%02x\x80{0,4}\x00" % opcode) for opcode in (MEMORY_SIZE, MEMORY_GROW))
_NO_IMMEDIATE = frozenset([0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B, 0xD1, *range(0x45, 0xC5)])
_BLOCKS = frozenset([0x02, 0x03, 0x04])
_ONE_LEB = frozenset([0x0C, 0x0D, 0x10, 0x12, *range(0x20, 0x27), 0x3F, 0x40, 0x41, 0x42, 0xD0, 0xD2])


def _skip_memarg(reader: Reader) -> None:
    if reader.u32() & 0x40:
        reader.skip_leb()
    reader.skip_leb()


def _skip_prefixed(reader: Reader, opcode: int) -> int:
    """Give the number behind the prefix."""
    sub = reader.u32()
    if opcode == 0xFC:
        if sub <= 7 or 19 <= sub <= 22:
            return sub
        if sub > 17:
            raise UnsupportedError(f"it uses the instruction 0xfc {sub}")
        reader.skip_leb()
        if sub in (8, 10, 12, 14):
            reader.skip_leb()
    elif sub <= 11 or sub in (92, 93):
        _skip_memarg(reader)
    elif sub in (12, 13):
        reader.at += 16
    elif 21 <= sub <= 34:
        reader.at += 1
    elif 84 <= sub <= 91:
        _skip_memarg(reader)
        reader.at += 1
    elif sub > 255:
        raise UnsupportedError(f"it uses the instruction 0xfd {sub}")
    return sub


def grows(body: bytes) -> list[tuple[int, int]]:
    """Begin and end of the memory.grow instructions of a function body.

    Only bodies in which the bytes of the instruction occur at all are decoded.
    """
    return _occurrences(body, MEMORY_GROW, _MAYBE_GROW)


def sizes(body: bytes) -> list[tuple[int, int]]:
    """Find each ``memory.size`` as grows() finds ``memory.grow``."""
    return _occurrences(body, MEMORY_SIZE, _MAYBE_SIZE)


def _occurrences(body: bytes, wanted: int, maybe: re.Pattern[bytes]) -> list[tuple[int, int]]:
    if not maybe.search(body):
        return []
    return [(begin, end) for begin, opcode, end in instructions(body) if opcode == wanted]


def instructions(body: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield where each instruction of a function body begins, its code, and where it ends.

    Of one with a prefix the code is the prefix and the number behind it, as 0xfc0e for table.copy.
    """
    reader = Reader(body)
    for _ in range(reader.u32()):  # the locals
        reader.skip_leb()
        reader.value_type()
    end = len(body)
    while reader.at < end:
        begin = reader.at
        opcode = reader.byte()
        if opcode in _ONE_LEB:
            reader.skip_leb()
        elif opcode in _NO_IMMEDIATE:
            pass
        elif opcode in _BLOCKS:
            reader.skip_block_type()
        elif 0x28 <= opcode <= 0x3E:
            _skip_memarg(reader)
        elif opcode in (0x11, 0x13):
            reader.skip_leb()
            reader.skip_leb()
        elif opcode == 0x0E:
            for _ in range(reader.u32() + 1):
                reader.skip_leb()
        elif opcode == 0x1C:
            for _ in range(reader.u32()):
                reader.value_type()
        elif opcode == 0x43:
            reader.at += 4
        elif opcode == 0x44:
            reader.at += 8
        elif opcode in (0xFC, 0xFD):
            opcode = opcode << 8 | _skip_prefixed(reader, opcode)
        else:
            raise UnsupportedError(f"it uses the instruction 0x{opcode:02x}")
        yield begin, opcode, reader.at


def replace_memory_grow(body: bytes, found: list[tuple[int, int]], function: int) -> bytes:
    """Replace each ``memory.grow`` of a body that grows() found by a call of ``function``, of the same type."""
    call = CALL + leb(function)
    return replaced(body, [(begin, end, call) for begin, end in found])


def replaced(body: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Return the body with other bytes in some places, given with begin and end in ascending order."""
    if not changes:
        return body
    parts: list[bytes] = []
    at = 0
    for begin, end, other in changes:
        parts += body[at:begin], other
        at = end
    parts.append(body[at:])
    return b"".join(parts)
