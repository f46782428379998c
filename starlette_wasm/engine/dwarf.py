"""From a place in a guest's code to file and line, by the DWARF that the module carries (DWARF 2 to 5, section 6.2).

Only the line table is read. It was written by whoever built the guest: nothing in it is trusted, and what does not
make sense ends the reading, with the lines found so far.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator

from . import binary
from .binary import CODE, FUNCTION, IMPORT, Reader, UnsupportedError, vector
from .link import length_of_grow_call

MAX_BYTES = 1 << 20
"""Of ``.debug_line``; a larger one is not read. A megabyte takes one or two seconds, once."""
_MAX_ROWS = 500_000
_MAX_NAMES = 20_000
_MAX_STRING = 1024
_MAX_PATH = 160
_LINE, _LINE_STRINGS, _STRINGS = ".debug_line", ".debug_line_str", ".debug_str"
_PATH, _DIRECTORY = 1, 2  # DW_LNCT_
_Sections = dict[str, bytes]


class Lines:
    """The line table of one module."""

    def __init__(self, guest: bytes) -> None:
        """``guest`` is the module as it was built, validated. One without DWARF has no lines."""
        sections, custom = binary.split(guest)
        named = {(reader := Reader(body)).name(): body[reader.at :] for body in custom}
        self._imports = vector(sections.get(IMPORT))[0]
        self._grow_call = length_of_grow_call(self._imports, vector(sections.get(FUNCTION))[0])
        self._code = sections.get(CODE, b"\0")
        self._starts = list(_starts(self._code))
        self._files: list[str] = []
        rows = _rows(named, self._files, len(self._code)) if len(named.get(_LINE, b"")) <= MAX_BYTES else iter(())
        # Where a sequence ends and another begins, the end comes first.
        table = sorted(rows, key=lambda row: (row[0], row[2] > 0))
        self._addresses = array("I", [row[0] for row in table])
        self._places = array("I", [number for row in table for number in row[1:]])

    def __bool__(self) -> bool:
        return bool(self._addresses)

    def find(self, function: int, offset: int) -> str | None:
        """``file:line`` of the byte ``offset`` in a function of the linked module; None where it is not known."""
        own = function - self._imports
        if not 0 <= own < len(self._starts):
            return None
        begin, size = self._starts[own]
        address = begin + self._before_linking(self._code[begin : begin + size], offset)
        at = bisect_right(self._addresses, address) - 1
        if at < 0 or self._addresses[at] < begin:
            at += 1  # a trap of the first instruction is told as one of the function's head
        if at == len(self._addresses) or self._addresses[at] >= begin + size:
            return None
        file, line = self._places[2 * at], self._places[2 * at + 1]
        return f"{self._files[file]}:{line}" if line else None

    def _before_linking(self, body: bytes, offset: int) -> int:
        """Where the byte was before linking put calls into the place of ``memory.grow``."""
        moved = 0
        for begin, end in binary.grows(body):
            if begin + moved >= offset:
                break
            moved += self._grow_call - (end - begin)
        return offset - moved


def _starts(code: bytes) -> Iterator[tuple[int, int]]:
    reader = Reader(code)
    for _ in range(reader.u32()):
        size = reader.u32()
        yield reader.at, size
        reader.at += size


def _rows(sections: _Sections, files: list[str], code_size: int) -> Iterator[tuple[int, int, int]]:
    """Address, number in ``files`` and line; the line is 0 where a sequence ends."""
    data = sections.get(_LINE, b"")
    at = count = 0
    try:
        while at + 4 <= len(data):
            length = int.from_bytes(data[at : at + 4], "little")
            unit = data[at + 4 : at + 4 + length]
            at += 4 + length
            if length >= 0xFFFFFFF0 or len(unit) < length:
                return
            for row in _Unit(unit, sections, files).rows(code_size):
                yield row
                count += 1
                if count >= _MAX_ROWS:
                    return
    except (IndexError, ValueError, OverflowError, UnsupportedError):
        return


class _Unit:
    """The line number program of a compilation unit."""

    def __init__(self, data: bytes, sections: _Sections, files: list[str]) -> None:
        self._data = data
        self._sections = sections
        reader = Reader(data)
        self._version = _fixed(reader, 2)
        if not 2 <= self._version <= 5:
            raise UnsupportedError(f"DWARF {self._version}")
        if self._version == 5:
            reader.at += 2  # sizes of address and segment selector
        header = _fixed(reader, 4)
        self._begin = reader.at + header
        self._step = reader.byte()
        reader.at += 1 + (self._version >= 4)  # operations per instruction, default_is_stmt
        self._base = (reader.byte() ^ 0x80) - 0x80
        self._range = reader.byte()
        if not self._range:
            raise UnsupportedError("a line range of 0")
        self._first_special = reader.byte()
        self._lengths = [0, *(reader.byte() for _ in range(1, self._first_special))]
        self._first_file = len(files)
        names = self._names_of_5(reader) if self._version == 5 else self._names_before_5(reader)
        files += names[: max(_MAX_NAMES - len(files), 0)]
        self._last_file = len(files) - 1

    def _names_before_5(self, reader: Reader) -> list[str]:
        folders = [""]
        while folder := _string(reader):
            _append(folders, folder)
        names = ["?"]  # files count from 1
        while name := _string(reader):
            folder = folders[_leb(reader)]
            _leb(reader)
            _leb(reader)
            _append(names, _shown(folder, name))
        return names

    def _names_of_5(self, reader: Reader) -> list[str]:
        folders = [str(entry.get(_PATH, "")) for entry in self._entries(reader)]
        names = []
        for entry in self._entries(reader):
            folder = entry.get(_DIRECTORY, 0)
            if not isinstance(folder, int):
                raise UnsupportedError("a directory that is no number")
            names.append(_shown(folders[folder], str(entry.get(_PATH, "?"))))
        return names

    def _entries(self, reader: Reader) -> Iterator[dict[int, str | int]]:
        formats = [(_leb(reader), _leb(reader)) for _ in range(reader.byte())]
        for _ in range(min(_leb(reader), _MAX_NAMES) if formats else 0):
            yield {content: self._form(reader, form) for content, form in formats}

    def _form(self, reader: Reader, form: int) -> str | int:
        if form == 0x08:
            return _string(reader)
        if form in (0x0E, 0x1F):
            strings = self._sections.get(_STRINGS if form == 0x0E else _LINE_STRINGS, b"")
            return _string(Reader(strings, _fixed(reader, 4)))
        if form == 0x0F:
            return _leb(reader)
        if form == 0x09:
            reader.at += _leb(reader)
            return 0
        sizes = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}
        if form not in sizes:
            raise UnsupportedError(f"the form 0x{form:02x}")
        return _fixed(reader, sizes[form])

    def rows(self, code_size: int) -> Iterator[tuple[int, int, int]]:
        reader = Reader(self._data, self._begin)
        end, first, base, span, step = len(self._data), self._first_special, self._base, self._range, self._step
        address, file, line = 0, 1, 1
        begin = True  # of a sequence; one at 0 is of a function that was not linked in
        live = False
        while reader.at < end:
            opcode = reader.byte()
            if opcode >= first:
                advance, more = divmod(opcode - first, span)
                address += advance * step
                line += base + more
            elif opcode == 1:  # DW_LNS_copy
                pass
            elif opcode == 0:
                size = _leb(reader)
                over = reader.at + size
                extended = reader.byte() if size else 0
                if extended == 1:  # DW_LNE_end_sequence
                    if live:
                        yield min(address, code_size), 0, 0
                    address, file, line, begin, live = 0, 1, 1, True, False
                elif extended == 2:  # DW_LNE_set_address
                    address = _fixed(reader, size - 1)
                reader.at = over
                continue
            else:
                if opcode == 2:
                    address += _leb(reader) * step
                elif opcode == 3:
                    line += _signed(reader)
                elif opcode == 4:
                    file = _leb(reader)
                elif opcode == 8:
                    address += (255 - first) // span * step
                elif opcode == 9:
                    address += _fixed(reader, 2)
                else:
                    for _ in range(self._lengths[opcode]):
                        _leb(reader)
                continue
            if begin:
                begin, live = False, 0 < address < code_size
            number = self._first_file + file
            if live and address < code_size and 0 < line < 1 << 32 and number <= self._last_file:
                yield address, number, line


def _fixed(reader: Reader, size: int) -> int:
    data = reader.take(size)
    if len(data) < size:
        raise IndexError(size)
    return int.from_bytes(data, "little")


def _leb(reader: Reader) -> int:
    begin = reader.at
    reader.skip_leb()
    if reader.at - begin > 10:
        raise ValueError("a number of more than 64 bits")
    return Reader(reader.data, begin).u32()


def _append(names: list[str], name: str) -> None:
    if len(names) >= _MAX_NAMES:
        raise ValueError("too many files")
    names.append(name)


def _signed(reader: Reader) -> int:
    begin = reader.at
    value = _leb(reader)
    bits = 7 * (reader.at - begin)
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def _string(reader: Reader) -> str:
    end = reader.data.index(b"\0", reader.at, reader.at + _MAX_STRING)
    text = reader.take(end - reader.at).decode("utf-8", "replace")
    reader.at += 1
    return text


def _shown(folder: str, name: str) -> str:
    """On one line, its end where it is long."""
    path = name if name.startswith("/") or not folder else f"{folder}/{name}"
    path = path if len(path) <= _MAX_PATH else f"...{path[-_MAX_PATH:]}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path)
