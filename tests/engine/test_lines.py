"""Traps come with file and line where the module carries DWARF, whatever linking and the builder did to it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from pathlib import Path

import pytest
from apps import GUESTS, config, run, settings
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm import EdgeRequest, FunctionTrapped, WasmRuntime
from starlette_wasm.engine import binary
from starlette_wasm.engine.dwarf import Lines
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.functions.symbols import Symbols

SOURCE = GUESTS / "src" / "lines.c"
VERSIONS = ["lines_4", "lines_5"]
FOURTH = (GUESTS / "lines_4.wasm").read_bytes()
FIFTH = (GUESTS / "lines_5.wasm").read_bytes()


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
    """The engine tells it as one of the function's head, where the table has no row."""
    lines = Lines(FOURTH)
    trap, size = min(((begin, size) for begin, size in lines._starts), key=lambda each: each[1])
    assert size == 3  # no locals, unreachable, end
    function = [begin for begin, _ in lines._starts].index(trap)
    assert lines.find(function, 0) == f"lines.c:{line_of('refuses')}"


def test_linking_leaves_dwarf_out_of_what_is_compiled() -> None:
    from starlette_wasm.engine import capi, link

    linked = link.link(FOURTH, capi.assemble).wasm
    assert b".debug_line" in FOURTH
    assert b".debug_" not in linked
    assert b"divide" in linked  # the names stay


def test_a_module_without_dwarf_has_no_lines() -> None:
    lines = Lines((GUESTS / "trap.wasm").read_bytes())
    assert not lines
    assert lines.find(20, 5) is None
    assert Lines(b"\0asm\1\0\0\0").find(0, 0) is None


@pytest.mark.parametrize("place", [(-1, 0), (0, 0), (999, 0), (3, 1 << 40)])
def test_a_place_outside_the_code_is_unknown(place: tuple[int, int]) -> None:
    found = Lines(FOURTH).find(*place)
    assert found is None or found.startswith("lines.c:")


def test_paths_of_a_hostile_builder_stay_on_one_line_and_short() -> None:
    for evil in (b"\x1b[31m\r\n", b"x" * 900):
        made = with_section(FOURTH, ".debug_line", section(FOURTH, ".debug_line").replace(b"lines.c", evil))
        # The length of the unit has to follow, and that of its header.
        data = bytearray(section(made, ".debug_line"))
        grown = len(evil) - len(b"lines.c")
        for at in (0, 6):
            data[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") + grown).to_bytes(4, "little")
        found = Lines(with_section(FOURTH, ".debug_line", bytes(data))).find(1, 1)
        assert found is not None
        assert found.isprintable()
        assert len(found) < 200


@given(st.integers(0, 1000), st.binary(min_size=1, max_size=12), st.sampled_from([FOURTH, FIFTH]))
def test_damaged_dwarf_gives_wrong_lines_at_worst(at: int, junk: bytes, module: bytes) -> None:
    data = bytearray(section(module, ".debug_line"))
    at %= len(data)
    data[at : at + len(junk)] = junk
    lines = Lines(with_section(module, ".debug_line", bytes(data)))
    for function in range(4):
        found = lines.find(function, 5)
        assert found is None or found.isprintable()


def test_a_directory_that_is_no_number_ends_the_reading() -> None:
    data = section(FIFTH, ".debug_line")
    entry = bytes([3, 1, 0x1F, 2, 0x0F])  # three fields: the path as line_strp, the directory as udata, ...
    assert data.count(entry) == 1
    assert not Lines(with_section(FIFTH, ".debug_line", data.replace(entry, bytes([3, 1, 0x1F, 2, 0x08]))))


@pytest.mark.parametrize("filler", [b"\x80", b"\1"])
def test_reading_takes_bounded_time_and_memory_whatever_it_holds(filler: bytes) -> None:
    begun = section(FOURTH, ".debug_line")
    program = begun + filler * ((1 << 20) // len(filler) - len(begun))
    data = (len(program) - 4).to_bytes(4, "little") + program[4:]
    begin = time.monotonic()
    lines = Lines(with_section(FOURTH, ".debug_line", data))
    assert time.monotonic() - begin < 60
    assert len(lines._addresses) <= 500_000


def test_a_table_that_is_too_large_is_not_read() -> None:
    assert not Lines(with_section(FOURTH, ".debug_line", section(FOURTH, ".debug_line") + bytes(1 << 20)))


def test_lines_of_another_build_are_not_told(tmp_path: Path) -> None:
    file = tmp_path / "f.wasm"
    file.write_bytes(FOURTH)
    outcome = Outcome(End.TRAP, frames=("divide", "? more"), places=((0, 8),))

    async def main() -> None:
        right, wrong = (hashlib.sha256(module).hexdigest() for module in (FOURTH, FIFTH))
        first, second = await Symbols(file, right, len(FOURTH)).frames(outcome)
        assert first.startswith("divide (lines.c:")
        assert second == "? more"
        assert await Symbols(file, wrong, len(FIFTH)).frames(outcome) == outcome.frames
        assert await Symbols(tmp_path / "gone", right, len(FOURTH)).frames(outcome) == outcome.frames

    run(main())


def test_no_more_is_read_than_was_loaded(tmp_path: Path) -> None:
    file = tmp_path / "f.wasm"
    with file.open("wb") as stream:
        stream.write(FOURTH)
        stream.truncate(1 << 40)  # more than any machine has memory for; on disk there is nothing of it
    outcome = Outcome(End.TRAP, frames=("divide",), places=((0, 8),))

    async def main() -> None:
        symbols = Symbols(file, hashlib.sha256(FOURTH).hexdigest(), len(FOURTH))
        assert await symbols.frames(outcome) == outcome.frames

    run(main())


def test_traps_at_once_read_the_module_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f.wasm"
    file.write_bytes(FOURTH)
    symbols = Symbols(file, hashlib.sha256(FOURTH).hexdigest(), len(FOURTH))
    outcome = Outcome(End.TRAP, frames=("divide",), places=((0, 8),))
    read = Symbols._read
    reads: list[Symbols] = []

    def counted(self: Symbols) -> Lines:
        reads.append(self)
        return read(self)

    monkeypatch.setattr(Symbols, "_read", counted)

    async def main() -> None:
        all_of_them = await asyncio.gather(*(symbols.frames(outcome) for _ in range(20)))
        assert len(reads) == 1
        assert sum(frames != outcome.frames for frames in all_of_them) == 1
        assert await symbols.frames(outcome) != outcome.frames

    run(main())
