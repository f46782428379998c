"""Copies of memory, small and large, and that only the large ones leave the GIL."""

from __future__ import annotations

import ctypes
import random

import pytest

from starlette_wasm.sync import copies

SIZES = [0, 1, copies.LARGE - 1, copies.LARGE, 3 * copies.LARGE + 5]


@pytest.fixture
def without_gil(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of copies that left the GIL."""
    sizes: list[int] = []
    move = copies._move

    def noted(to: int, start: int | bytes, size: int) -> None:
        sizes.append(size)
        move(to, start, size)

    monkeypatch.setattr(copies, "_move", noted)
    return sizes


@pytest.mark.parametrize("size", SIZES)
def test_copies_are_equal(size: int, without_gil: list[int]) -> None:
    data = bytearray(random.Random(size).randbytes(size + 2))
    place = ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data)) + 1
    wanted = bytes(data[1:-1])
    assert copies.read(place, size) == wanted
    assert copies.copied(memoryview(data)[1:-1]) == wanted
    assert copies.copied(memoryview(bytes(data))[1:-1]) == wanted
    assert without_gil == [size, size] * (size >= copies.LARGE)
    copies.write(place, wanted[::-1], size)
    assert data[1:-1] == wanted[::-1]


def test_a_copy_leaves_its_view_free() -> None:
    data = bytearray(copies.LARGE)
    with memoryview(data) as view:
        made = copies.copied(view)
    data += b"more"  # which a view that is still held forbids
    assert made == bytes(copies.LARGE)


def test_large_copies_are_made_without_the_gil() -> None:
    held = 4  # FUNCFLAG_PYTHONAPI
    assert not type(copies._move)._flags_ & held  # type: ignore[attr-defined]
