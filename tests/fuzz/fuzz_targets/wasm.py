"""Bytes as a guest: what wasmtime takes is linked or refused in words, and what is linked wasmtime takes again."""

from __future__ import annotations

from starlette_wasm.engine import binary, capi, link
from starlette_wasm.engine.binary import PREAMBLE, UnsupportedError
from starlette_wasm.engine.engine import Engine, EngineConfig

TOKENS = (
    PREAMBLE, b"wasi_snapshot_preview1", b"\x08fd_write\0", b"\x0bpoll_oneoff\0", b"\x09path_open\0", b"\x06_start\0",
    b"\x06memory\x02\0", b"\x04edge\x04call\0", b"\x04edge\x04take\0", b"\x40\0", b"\x40\x80\0", b"\x60\0\0",
    b"\x05\3\1\0\1", b"\xd2\0", b"\xfc\x0b\0", b"\xfd\x0c", b"\x0e\1\0\0", b"\x1c\1\x7f", b"\x11\0\0", b"\x41\0",
    b"\x0b", b"\x02\x40", b"\x04\x7f", b"\x09\7\1\0\x41\0\x0b\1\0", b"\x08\1\0", b"\x04\4\1\x70\0\1", b"\0\5\4name",
    b"\x6f", b"\x7b",
)  # fmt: skip

# Of wasmtime, for what the linker adds: one table, one memory, some functions and types.
_LIMITS = ("tables count", "types count", "functions count", "exceeds", "too many", "limit")
_engine = Engine.shared(EngineConfig())


def check(data: bytes) -> None:
    guest = data if data.startswith(PREAMBLE) else PREAMBLE + data
    if not _is_valid(guest):
        return
    try:
        linked = link.link(guest, capi.assemble)
    except UnsupportedError as error:
        assert len(str(error)) < 400 + len(guest)
        return
    except capi.EngineError as error:  # Module.compile() knows it
        assert any(each in str(error) for each in _LIMITS), error
        return
    try:
        capi.check(capi.module_validate(_engine.ptr, linked.wasm, len(linked.wasm)))
    except capi.EngineError as error:
        assert any(each in str(error) for each in _LIMITS), error
    assert len(linked.wasm) < 20 * len(guest) + 100_000
    assert len(set(linked.host)) == len(linked.host) <= len(linked.imports) + len(link._ASKED)
    assert 0 <= linked.min_pages <= 65536
    assert binary.join(*binary.split(linked.wasm)) == linked.wasm


def _is_valid(wasm: bytes) -> bool:
    try:
        capi.check(capi.module_validate(_engine.ptr, wasm, len(wasm)))
    except capi.EngineError:
        return False
    return True
