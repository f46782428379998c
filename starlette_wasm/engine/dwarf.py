"""From a place in a guest's code to file and line, by the DWARF that the module carries (DWARF 2 to 5, section 6.2).

Only the line table is read, in one pass when the module is compiled. It was written by whoever built the guest:
nothing in it is trusted. What does not make sense ends the reading, with the lines found so far, and so does a budget
of bytes, steps and time.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator

from . import binary
from .binary import CODE, IMPORT, Reader, UnsupportedError, vector
from .line_table import LineTable
from .link import Moves
from .printable import escape

MAX_BYTES = 4 << 20
"""Bytes of ``.debug_line``. What is behind them is not read."""
MAX_STEPS = 2_000_000
MAX_SECONDS = 3.0
"""Seconds of CPU time."""
MAX_ROWS = 100_000
_MAX_NAMES = 20_000
_MAX_CHARACTERS = 256 << 10  # of the names that are kept
_MAX_STRING = 1024
_MAX_PATH = 160
_NAME_STEPS = 8  # a name costs as much as several instructions
_UNIT_STEPS = 32
_LINE, _LINE_STRINGS, _STRINGS = ".debug_line", ".debug_line_str", ".debug_str"
_PATH, _DIRECTORY = 1, 2  # DW_LNCT_
_Sections = dict[str, bytes]
_Row = tuple[int, int, int]
"""For each function of the guest's own, by its index among them: where each of its ``memory.grow`` begins and ends."""


class _BudgetSpentError(Exception):
    pass


class _Budget:
    """Steps and CPU time for one module."""

    def __init__(self) -> None:
        self._steps = MAX_STEPS
        self._next_look = MAX_STEPS
        self._end = time.thread_time() + MAX_SECONDS

    def spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise _BudgetSpentError(f"it takes more than {MAX_STEPS:,} steps to read")
        if self._steps < self._next_look:
            self._next_look = self._steps - 4096
            if time.thread_time() > self._end:
                raise _BudgetSpentError(f"it takes more than {MAX_SECONDS:g} s to read")


def read_lines(guest: bytes, moves: Moves) -> tuple[LineTable, str | None]:
    """Read the lines of a validated module, by the places after linking, and why some are left out, if so."""
    sections, custom = binary.split(guest)
    named = dict(_debug_sections(custom))
    code = sections.get(CODE, b"\0")
    files: list[str] = []
    rows: list[_Row] = []
    left_out = _read(named, files, len(code), rows)
    # If one sequence ends at the address at which another begins, the end comes first.
    rows.sort(key=lambda row: (row[0], row[2] > 0))
    imports = vector(sections.get(IMPORT))[0]
    columns = _columns(rows, code, imports, _Moves(moves))
    kept, cut = _kept(files, columns[3])
    return LineTable(kept, columns), left_out or cut


def _debug_sections(custom: list[bytes]) -> Iterator[tuple[str, bytes]]:
    for body in custom:
        reader = Reader(body)
        name = reader.name()
        if name in (_LINE, _LINE_STRINGS, _STRINGS):
            yield name, body[reader.at :]


class _Moves:
    """How far linking moved a place in a function, for places asked in ascending order."""

    def __init__(self, moves: Moves) -> None:
        self._moves = moves
        self.enter(0)

    def enter(self, function: int) -> None:
        self._left = iter(self._moves.get(function, ()))
        self._next = next(self._left, None)
        self._moved = 0

    def after_linking(self, offset: int) -> int:
        while self._next is not None and self._next[0] < offset:
            self._moved += self._next[1]
            self._next = next(self._left, None)
        return offset + self._moved


def _columns(rows: list[_Row], code: bytes, imports: int, moves: _Moves) -> tuple[array[int], ...]:
    functions, firsts, offsets, files, lines = (array("I") for _ in range(5))
    at = 0
    for index, (begin, size) in enumerate(_starts(code)):
        while at < len(rows) and rows[at][0] < begin:
            at += 1
        if at == len(rows):
            break
        if rows[at][0] < begin + size:
            functions.append(index + imports)
            firsts.append(len(offsets))
            moves.enter(index)
        while at < len(rows) and rows[at][0] < begin + size:
            address, file, line = rows[at]
            offsets.append(moves.after_linking(address - begin))
            files.append(file)
            lines.append(line)
            at += 1
    return functions, firsts, offsets, files, lines


def _kept(files: list[str], column: array[int]) -> tuple[list[str], str | None]:
    """Return the names that rows have, up to a bound; ``column`` is renumbered."""
    kept: list[str] = []
    numbers: dict[int, int] = {}
    left = _MAX_CHARACTERS
    for row, file in enumerate(column):
        number = numbers.get(file)
        if number is None:
            name = files[file] if file < len(files) else "?"
            left -= len(name)
            number = numbers[file] = len(kept)
            kept.append(name if left >= 0 else "?")
        column[row] = number
    return kept, None if left >= 0 else f"the names of its files take more than {_MAX_CHARACTERS >> 10} KiB"


def _starts(code: bytes) -> Iterator[tuple[int, int]]:
    reader = Reader(code)
    for _ in range(reader.u32()):
        size = reader.u32()
        yield reader.at, size
        reader.at += size


def _read(sections: _Sections, files: list[str], code_size: int, rows: list[_Row]) -> str | None:
    """Add to ``rows``: address, number in ``files`` and line, which is 0 at the end of a sequence."""
    data = sections.get(_LINE, b"")
    budget = _Budget()
    try:
        for unit in _units(data[:MAX_BYTES]):
            budget.spend(_UNIT_STEPS)
            for row in _Unit(unit, sections, files, budget).rows(code_size):
                if len(rows) >= MAX_ROWS:
                    return f"it has more than {MAX_ROWS:,} rows"
                rows.append(row)
    except (IndexError, ValueError, OverflowError, UnsupportedError):
        return None
    except _BudgetSpentError as error:
        return str(error)
    return f"it has more than {MAX_BYTES >> 20} MiB" if len(data) > MAX_BYTES else None


def _units(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        unit = data[at + 4 : at + 4 + length]
        at += 4 + length
        if length >= 0xFFFFFFF0 or len(unit) < length:
            return
        yield unit


class _Unit:
    """The line number program of a compilation unit."""

    def __init__(self, data: bytes, sections: _Sections, files: list[str], budget: _Budget) -> None:
        self._budget = budget
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
        while folder := self._name(reader):
            _append(folders, folder)
        names = ["?"]  # files count from 1
        while name := self._name(reader):
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
                raise UnsupportedError("a directory that is not a number")
            names.append(_shown(folders[folder], str(entry.get(_PATH, "?"))))
        return names

    def _name(self, reader: Reader) -> str:
        self._budget.spend(_NAME_STEPS)
        return _string(reader)

    def _entries(self, reader: Reader) -> Iterator[dict[int, str | int]]:
        formats = [(_leb(reader), _leb(reader)) for _ in range(reader.byte())]
        for _ in range(min(_leb(reader), _MAX_NAMES) if formats else 0):
            self._budget.spend(len(formats))
            yield {content: self._form(reader, form) for content, form in formats}

    def _form(self, reader: Reader, form: int) -> str | int:
        if form == 0x08:
            return self._name(reader)
        if form in (0x0E, 0x1F):
            strings = self._sections.get(_STRINGS if form == 0x0E else _LINE_STRINGS, b"")
            return self._name(Reader(strings, _fixed(reader, 4)))
        if form == 0x0F:
            return _leb(reader)
        if form == 0x09:
            size = _leb(reader)  # first: it moves the reader itself
            reader.at += size
            return 0
        sizes = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}
        if form not in sizes:
            raise UnsupportedError(f"the form 0x{form:02x}")
        return _fixed(reader, sizes[form])

    def rows(self, code_size: int) -> Iterator[_Row]:
        """Yield the rows, without those that equal the one before."""
        last: tuple[int, int] | None = None
        for address, file, line in self._all_rows(code_size):
            if line and (file, line) == last:
                continue
            last = (file, line) if line else None
            yield address, file, line

    def _all_rows(self, code_size: int) -> Iterator[_Row]:
        reader = Reader(self._data, self._begin)
        end, first, base, span, step = len(self._data), self._first_special, self._base, self._range, self._step
        spend = self._budget.spend
        address, file, line = 0, 1, 1
        begin = True  # of a sequence; one at 0 is of a function that was not linked in
        live = False
        while reader.at < end:
            spend(1)
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
                    address = _address(reader, size - 1)
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
                    spend(self._lengths[opcode])
                    for _ in range(self._lengths[opcode]):
                        _leb(reader)
                continue
            if begin:
                begin, live = False, 0 < address < code_size
            number = self._first_file + file
            if live and address < code_size and 0 < line < 1 << 32 and number <= self._last_file:
                yield address, number, line


def _address(reader: Reader, size: int) -> int:
    if size not in (4, 8):
        raise UnsupportedError(f"an address of {size} bytes")
    return _fixed(reader, size)


def _fixed(reader: Reader, size: int) -> int:
    data = reader.take(size)
    if len(data) < size:
        raise IndexError(size)
    return int.from_bytes(data, "little")


def _leb(reader: Reader) -> int:
    value = 0
    for shift in range(0, 70, 7):  # 64 bits at most
        byte = reader.byte()
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError("a number of more than 64 bits")


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
    """Show it on one line, its end if it is long."""
    path = name if name.startswith("/") or not folder else f"{folder}/{name}"
    path = path if len(path) <= _MAX_PATH else f"...{path[-_MAX_PATH:]}"
    return escape(path, keep="")
