"""Components: reader, flat plan, WIT and stubs take any bytes, and refuse what is wrong with an error of their own."""

from __future__ import annotations

from starlette_wasm.components.errors import ComponentError
from starlette_wasm.components.flat_plan import flatten
from starlette_wasm.components.reader import read
from starlette_wasm.components.stubs import stubs_of
from starlette_wasm.components.wit import wit_of

_HEAD = b"\0asm\x0d\0\x01\0"
TOKENS = (
    *(bytes([number, size]) for number in range(12) for size in (2, 5, 12)),
    *(
        b"\x00\x01f",
        b"\x01\x40\0\x01\0\x79",
        b"\x01\x72\x01\x01a\x79",
        b"\x70\x79",
        b"\x6a\x01\x79\x01\x73",
        b"\x3f\x7f\0",
    ),
    *(b"\x01\0\0\0\0", b"\x80\x80\x80\x80\x0f", b"\x02\0\0\x01\0", b"\x01\x02\x03\0\0", _HEAD, b"\0asm\1\0\0\0"),
)


def check(data: bytes) -> None:
    try:
        plan = flatten(read(data if data.startswith(b"\0asm") else _HEAD + data))
    except ComponentError as error:
        assert str(error)
        return
    assert "Protocol" in stubs_of(plan, "fuzzed")  # names are checked by wasmtime, when it is compiled
    assert len(wit_of(plan)) <= 200_001
