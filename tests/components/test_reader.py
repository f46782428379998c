"""The reader of components: what toolchains make is read, and of what is damaged it says what and where."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from pathlib import Path

import pytest
from texts import COMPOSED, ECHO

from starlette_wasm.components.cursor import MAX_NAME, Budget, Cursor
from starlette_wasm.components.definitions import Component, CoreModule, Lift
from starlette_wasm.components.errors import ComponentError, UnsupportedComponentError
from starlette_wasm.components.flat_plan import flatten
from starlette_wasm.components.reader import MAX_MODULES, read
from starlette_wasm.engine import capi
from starlette_wasm.engine.binary import COMPONENT_PREAMBLE, leb

JS = Path(__file__).parents[1] / "guests" / "components" / "edge_js.wasm"


def section(number: int, body: bytes) -> bytes:
    return bytes([number]) + leb(len(body)) + body


def test_reader_finds_modules_and_lifts() -> None:
    items = read(capi.assemble(ECHO)).items
    assert [type(item) for item in items if isinstance(item, CoreModule | Lift)] == [CoreModule, Lift]


def test_reader_takes_what_quickjs_tools_make() -> None:
    component = read(JS.read_bytes())
    assert sum(isinstance(item, Component) for item in component.items) == 2


@pytest.mark.parametrize("text", [ECHO, COMPOSED], ids=["echo", "composed"])
def test_truncated_components_are_refused(text: str) -> None:
    data = capi.assemble(text)
    begin = time.monotonic()
    for size in range(len(data)):
        with suppress(ComponentError):
            flatten(read(data[:size]))
    assert time.monotonic() - begin < 30


def test_mutations_raise_component_errors_only() -> None:
    chance = random.Random(15)
    seeds = [capi.assemble(ECHO), capi.assemble(COMPOSED)]
    begin = time.monotonic()
    refused = 0
    for _ in range(3000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(8, len(data))
            match chance.randrange(3):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randint(1, 8)]
                case 2:
                    data[at:at] = chance.randbytes(chance.randint(1, 8))
        try:
            flatten(read(bytes(data)))
        except ComponentError:
            refused += 1
    assert refused > 1000
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (section(7, b"\xff\xff\xff\xff\x0f"), "4294967295 items are announced, the most is"),
        (section(7, b"\x90\x4e"), "10000 items are announced, 0 bytes are left"),
        (section(7, b"\x01\x72\x01\xff\xff\x7f"), f"a name has 2097151 bytes, the most is {MAX_NAME}"),
        (section(7, b"\x01\x72\x01\x05ab"), "5 bytes are announced, 2 are left"),
        (section(7, b"\x01\x72\x01\x02\xff\xfe\x7f"), "a name is no UTF-8"),
        (section(7, b"\x01\x39"), "unknown type 0x39 (type section, at byte 12)"),
        (section(7, b"\x80\x80\x80\x80\x80\x00"), "a number has more than 5 bytes"),
        (section(7, b"\x01\x7f\x7f"), "1 bytes are left over"),
        (section(99, b""), "unknown section 99"),
        (section(0, b"\x05ab"), "5 bytes are announced, 2 are left"),
        (section(0, b"\x02\xff\xfe"), "a name is no UTF-8"),
        (b"\x01\xff\x01a", "core module of 255 bytes is announced, 1 are left"),
        (section(8, b"\x01\x99"), "unknown built-in 0x99"),
        (section(8, b"\x01\x01\x00\x00\x02\x00\x00"), "the option encoding is given twice"),
    ],
)  # fmt: skip
def test_damage_is_named_with_its_place(body: bytes, problem: str) -> None:
    with pytest.raises(ComponentError) as caught:
        read(COMPONENT_PREAMBLE + body)
    assert problem in str(caught.value)
    assert "at byte" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (section(9, b""), "it has a start function, which is not taken"),
        (section(8, b"\x01\x26"), "it uses thread.index, which is not run"),
        (section(8, b"\x01\x41\x00\x00\x00"), "it uses thread.spawn-indirect, which is not run"),
        (section(7, b"\x01\x67\x7f\x04"), "it has a list of a fixed length, which is not taken"),
        (section(7, b"\x01\x63\x7f\x7f"), "it has a map, which is not taken"),
        (section(3, b"\x01\x00\x50\x00\x60\x00\x00"), "it has a core type of garbage collection"),
        (section(10, b"\x01\x00\x01a\x02\x00\x00"), "it imports or exports a value, which is not taken"),
    ],
)
def test_what_is_not_taken_is_named_with_a_remedy(body: bytes, problem: str) -> None:
    with pytest.raises(UnsupportedComponentError) as caught:
        read(COMPONENT_PREAMBLE + body)
    assert str(caught.value).startswith(problem)
    assert caught.value.hint


def test_nesting_is_bounded() -> None:
    data = COMPONENT_PREAMBLE
    for _ in range(200):
        data = COMPONENT_PREAMBLE + section(4, data)
    with pytest.raises(ComponentError, match="components are nested more than"):
        read(data)


def test_nested_instance_types_are_bounded() -> None:
    kind = b"\x7f"
    for _ in range(200):
        kind = b"\x42\x01\x01" + kind
    with pytest.raises(ComponentError, match="types are nested more than"):
        read(COMPONENT_PREAMBLE + section(7, b"\x01" + kind))


_BEFORE = None
"""Where the type before is named."""


def index_of_type(number: int) -> bytes:
    """As types name others: negative numbers are for primitive ones."""
    data = leb(number)
    return data if data[-1] < 0x40 else data[:-1] + bytes((data[-1] | 0x80, 0))


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((b"\x70", _BEFORE), id="lists"),
        pytest.param((b"\x6b", _BEFORE), id="options"),
        pytest.param((b"\x6a\x01", _BEFORE, b"\x00"), id="results"),
        pytest.param((b"\x6f\x01", _BEFORE), id="tuples"),
        pytest.param((b"\x6f\x02", _BEFORE, _BEFORE), id="tuples of two"),
        pytest.param((b"\x72\x01\x01a", _BEFORE), id="records"),
        pytest.param((b"\x71\x02\x01a\x01", _BEFORE, b"\x00\x01b\x01", _BEFORE, b"\x00"), id="variants"),
        pytest.param((b"\x66\x01", _BEFORE), id="streams"),
    ],
)
def test_ten_thousand_nested_types_are_refused(parts: tuple[bytes | None, ...]) -> None:
    """Soon, and by a sentence: each is of the one before."""
    count = 10_000
    found = [b"\x70\x7d"]
    for number in range(count - 1):
        found.append(b"".join(index_of_type(number) if part is None else part for part in parts))
    with pytest.raises(ComponentError, match=r"nested more than|more than \d+|takes \d+ bytes"):
        flatten(read(COMPONENT_PREAMBLE + section(7, leb(count) + b"".join(found))))


@pytest.mark.parametrize("kind", [b"\x42\x01\x01", b"\x41\x01\x01"])
def test_ten_thousand_types_within_types_are_refused(kind: bytes) -> None:
    """Of instances and of components: no stack of Python is deep enough for them."""
    with pytest.raises(ComponentError, match="types are nested more than"):
        read(COMPONENT_PREAMBLE + section(7, b"\x01" + kind * 10_000 + b"\x42\x00"))


def test_core_modules_are_counted() -> None:
    module = section(1, b"\0asm\1\0\0\0")
    assert len(read(COMPONENT_PREAMBLE + module * MAX_MODULES).items) == MAX_MODULES
    with pytest.raises(ComponentError, match="more than 200 core modules"):
        read(COMPONENT_PREAMBLE + module * (MAX_MODULES + 1))


def test_items_are_counted_across_sections() -> None:
    cursor = Cursor(b"\x03abc\x03abc", budget=Budget(5))
    assert len(cursor.vector(cursor.byte)) == 3
    with pytest.raises(ComponentError, match="more than"):
        cursor.vector(cursor.byte)
