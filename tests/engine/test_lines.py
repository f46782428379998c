"""Traps come with file and line where the module carries DWARF, whatever linking and the builder did to it."""

from __future__ import annotations

import logging
import struct
import time
from pathlib import Path

import pytest
from apps import GUESTS, config, run, settings
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm import EdgeRequest, FunctionTrapped, WasmRuntime
from starlette_wasm.engine import binary, capi, dwarf, link
from starlette_wasm.engine.binary import leb
from starlette_wasm.engine.engine import Engine
from starlette_wasm.engine.line_table import LineTable
from starlette_wasm.engine.module import Module

SOURCE = GUESTS / "src" / "lines.c"
VERSIONS = ["lines_4", "lines_5"]
FOURTH = (GUESTS / "lines_4.wasm").read_bytes()
FIFTH = (GUESTS / "lines_5.wasm").read_bytes()


def read(guest: bytes) -> LineTable:
    return dwarf.read_lines(guest, link.link(guest, capi.assemble).moves)[0]


def line_of(marker: str) -> int:
    (number,) = [i for i, line in enumerate(SOURCE.read_text().splitlines(), 1) if f"/* {marker} */" in line]
    return number


def with_section(module: bytes, name: str, data: bytes) -> bytes:
    """The module with another debug section of that name."""
    sections, custom = binary.split(module)
    kept = [body for body in custom if binary.Reader(body).name() != name]
    return binary.join(sections, [*kept, binary.name(name) + data])


def section(module: bytes, name: str) -> bytes:
    _, custom = binary.split(module)
    (found,) = [reader.data[reader.at :] for reader in map(binary.Reader, custom) if reader.name() == name]
    return found


@pytest.mark.parametrize("guest", VERSIONS)
def test_a_trap_names_file_and_line_of_each_frame(tmp_path: Path, guest: str, caplog: pytest.LogCaptureFixture) -> None:
    """Two memory.grow before the trap were replaced by calls, which are longer."""

    async def main() -> None:
        async with WasmRuntime(config(tmp_path, functions=[guest]), settings()) as runtime:
            for _ in range(2):
                with pytest.raises(FunctionTrapped) as caught:
                    await runtime.invoke(guest, EdgeRequest())
                at = [frame.replace("./", "") for frame in caught.value.frames]
                assert at[:2] == [f"divide (lines.c:{line_of('divides')})", f"middle (lines.c:{line_of('calls')})"]
                assert at[2].startswith("start (lines.c:")

    with caplog.at_level(logging.ERROR, "starlette_wasm"):
        run(main())
    assert f"lines.c:{line_of('divides')})" in caplog.text


def test_a_trap_of_the_first_instruction_has_its_line(tmp_path: Path) -> None:
    """The engine tells it as one of the function's head, if the table has no row."""
    lines = read(FOURTH)
    sections, _ = binary.split(FOURTH)
    sizes = [len(body) for body in binary.bodies(sections[binary.CODE])]
    function = sizes.index(3)  # no locals, unreachable, end
    assert lines.find(function, 0) == f"lines.c:{line_of('refuses')}"


def test_linking_leaves_dwarf_out_of_what_is_compiled() -> None:
    linked = link.link(FOURTH, capi.assemble).wasm
    assert b".debug_line" in FOURTH
    assert b".debug_" not in linked
    assert b"divide" in linked  # the names stay


def test_a_module_without_dwarf_has_no_lines() -> None:
    lines = read((GUESTS / "trap.wasm").read_bytes())
    assert not len(lines)
    assert lines.find(20, 5) is None
    assert lines.named(("f",), ((20, 5),)) == ("f",)


@pytest.mark.parametrize("place", [(-1, 0), (0, 0), (999, 0), (3, 1 << 40)])
def test_a_place_outside_the_code_is_unknown(place: tuple[int, int]) -> None:
    found = read(FOURTH).find(*place)
    assert found is None or found.startswith("lines.c:")


def test_paths_of_a_hostile_builder_stay_on_one_line_and_short() -> None:
    for evil in (b"\x1b[31m\r\n", b"x" * 900):
        made = with_section(FOURTH, ".debug_line", section(FOURTH, ".debug_line").replace(b"lines.c", evil))
        # The length of the unit has to follow, and that of its header.
        data = bytearray(section(made, ".debug_line"))
        grown = len(evil) - len(b"lines.c")
        for at in (0, 6):
            data[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") + grown).to_bytes(4, "little")
        found = read(with_section(FOURTH, ".debug_line", bytes(data))).find(1, 1)
        assert found is not None
        assert found.isprintable()
        assert len(found) < 200


@given(st.integers(0, 1000), st.binary(min_size=1, max_size=12), st.sampled_from([FOURTH, FIFTH]))
def test_damaged_dwarf_gives_wrong_lines_at_worst(at: int, junk: bytes, module: bytes) -> None:
    data = bytearray(section(module, ".debug_line"))
    at %= len(data)
    data[at : at + len(junk)] = junk
    lines = read(with_section(module, ".debug_line", bytes(data)))
    for function in range(4):
        found = lines.find(function, 5)
        assert found is None or found.isprintable()


def test_a_directory_that_is_no_number_ends_the_reading() -> None:
    data = section(FIFTH, ".debug_line")
    entry = bytes([3, 1, 0x1F, 2, 0x0F])  # three fields: the path as line_strp, the directory as udata, ...
    assert data.count(entry) == 1
    assert not len(read(with_section(FIFTH, ".debug_line", data.replace(entry, bytes([3, 1, 0x1F, 2, 0x08])))))


@pytest.mark.parametrize("filler", [b"\x80", b"\1"])
def test_reading_takes_bounded_time_and_memory_whatever_it_holds(filler: bytes) -> None:
    started = section(FOURTH, ".debug_line")
    program = started + filler * ((1 << 20) // len(filler) - len(started))
    data = (len(program) - 4).to_bytes(4, "little") + program[4:]
    begin = time.monotonic()
    lines = read(with_section(FOURTH, ".debug_line", data))
    assert time.monotonic() - begin < 60
    assert len(lines) <= dwarf.MAX_ROWS


def custom(name: str, data: bytes) -> bytes:
    body = binary.name(name) + data
    return b"\0" + leb(len(body)) + body


def unit_of_5(files: bytes) -> bytes:
    """A unit of DWARF 5 without a program, with these tables of directories and files."""
    rest = bytes([1, 1, 1, 0xFB, 14, 1]) + files
    unit = struct.pack("<HBBI", 5, 4, 0, len(rest)) + rest
    return struct.pack("<I", len(unit)) + unit


def program(instructions: bytes) -> bytes:
    """A unit of DWARF 4 with this line program."""
    head = bytes([1, 1, 1, 0xFB, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1]) + b"\0a.c\0\0\0\0\0"
    unit = struct.pack("<HI", 4, len(head)) + head + instructions
    return struct.pack("<I", len(unit)) + unit


EMPTY_BLOCKS = unit_of_5(
    bytes([255, *[3, 0x09] * 255]) + leb(20_000) + bytes([0x80, *[0, 0x09] * 128]) + leb(20_000) + b"\0"
)
MEGABITS = b"\0" + leb((256 << 10) + 1) + b"\2" + b"\xff" * (256 << 10) + b"\1" * 100_000
HOSTILE = {
    "blocks of length 0": EMPTY_BLOCKS,
    "many such blocks": EMPTY_BLOCKS * 1300,
    "an address of megabits": program(MEGABITS),
    "addresses of megabits": program(MEGABITS) * 8,
    "advances without end": program(b"\2" + b"\xff" * (1 << 20)),
    "advances of 64 bits": program((b"\2" + b"\xff" * 9 + b"\1\3" + b"\xff" * 9 + b"\0\1") * 40_000),
    "rows": program(b"\0\5\2\5\0\0\0" + b"\x13\x14" * (1 << 20)),
    "empty units": struct.pack("<I", 0) * (1 << 20),
    "units": program(b"") * 20_000,
    "sequences": program(b"\0\5\2\5\0\0\0\1\0\1\1" * 100_000),
    "long names": unit_of_5(bytes([1, 1, 8, 0, 1, 1, 8]) + leb(20_000) + (b"x" * 1000 + b"\0") * 4_000),
    "names of control characters": unit_of_5(
        bytes([1, 1, 8, 0, 1, 1, 8]) + leb(20_000) + (b"\1" * 300 + b"\0") * 9_000
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_dwarf_costs_bounded_time(kind: str) -> None:
    guest = with_section(FOURTH, ".debug_line", HOSTILE[kind])
    begin = time.thread_time()
    lines, _ = dwarf.read_lines(guest, {})
    assert time.thread_time() - begin < 10 * dwarf.MAX_SECONDS
    assert len(lines) <= dwarf.MAX_ROWS


def test_large_dwarf_is_read_up_to_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    own = section(FOURTH, ".debug_line")
    for bound, value, reason in [
        ("MAX_BYTES", len(own), "more than 0 MiB"),
        ("MAX_ROWS", 3, "more than 3 rows"),
        ("MAX_STEPS", 90, "more than 90 steps"),
        ("_MAX_CHARACTERS", 2, "the names of its files"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(dwarf, bound, value)
            lines, left_out = dwarf.read_lines(with_section(FOURTH, ".debug_line", own + b"\1\0\0\0"), {})
        assert left_out is not None, bound
        assert reason in left_out
        assert 0 <= len(lines) < 60


def test_a_block_of_length_0_makes_progress() -> None:
    reader = binary.Reader(b"\0\2ab\7")
    unit = object.__new__(dwarf._Unit)
    assert [unit._form(reader, 0x09), reader.at] == [0, 1]
    assert [unit._form(reader, 0x09), reader.at] == [0, 4]


@pytest.mark.parametrize("size", [b"", b"\x3f\0\x1a"], ids=["grow", "grow and size"])
def test_lines_behind_replaced_instructions_are_those_before(size: bytes) -> None:
    """``memory.grow`` and ``memory.size`` become longer; a place behind them has the line that it had in the guest."""
    grow = b"\x41\0\x40\0\x1a" + size
    body = b"\0" + grow * 50 + b"\0\x0b"
    code = b"\1" + leb(len(body)) + body
    begin = 1 + len(leb(len(body)))
    rows = b"".join(b"\0\5\2" + struct.pack("<I", begin + 1 + len(grow) * i) + b"\3\1\1" for i in range(51))
    guest = binary.join(
        {
            binary.TYPE: b"\1\x60\0\0",
            binary.FUNCTION: b"\1\0",
            binary.MEMORY: b"\1\0\1",
            binary.EXPORT: leb(2) + binary.name("memory") + b"\2\0" + binary.name("_start") + b"\0\0",
            binary.CODE: code,
        },
        [binary.name(".debug_line") + program(rows + b"\0\1\1")],
    )
    linked = link.link(guest, capi.assemble)
    lines, left_out = dwarf.read_lines(guest, linked.moves)
    assert left_out is None
    sections, _ = binary.split(linked.wasm)
    (own,) = [body for body in binary.bodies(sections[binary.CODE]) if body.count(b"\x41\0\x10") == 50]
    step = (len(own) - 3) // 50
    assert step >= len(grow)
    assert [lines.find(0, 1 + step * i) for i in range(51)] == [f"a.c:{i + 2}" for i in range(51)]


def test_a_table_is_the_same_after_it_was_stored(engine: Engine) -> None:
    module = Module.compile(engine, FIFTH)
    again = Module.load(engine, module.serialize(), module.facts)
    assert len(again.lines) == len(module.lines) > 10
    places = tuple((function, offset) for function in range(6) for offset in range(60))
    frames = tuple(map(str, places))
    assert again.lines.named(frames, places) == module.lines.named(frames, places) != frames


def test_frames_without_a_place_stay_as_they_are() -> None:
    first, second = read(FOURTH).named(("divide", "... 7 more"), ((0, 8),))
    assert first.startswith("divide (lines.c:")
    assert second == "... 7 more"


def test_ten_thousand_lookups_decode_nothing() -> None:
    """A trap of 32 frames is looked up on the event loop."""
    lines = read(FIFTH)
    begin = time.thread_time()
    for _ in range(300):
        lines.named(("f",) * 32, ((0, 8),) * 32)
    assert time.thread_time() - begin < 10


def test_custom_sections_without_end_are_refused() -> None:
    with pytest.raises(binary.UnsupportedError, match="custom sections"):
        binary.split(FOURTH + custom("x", b"") * (binary.MAX_CUSTOM + 1))
