from __future__ import annotations

import asyncio
import json
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm.capabilities import Capabilities, CapabilitySettings, Operation, Session, frame
from starlette_wasm.capabilities.errors import CapabilityError, Code, printable
from starlette_wasm.capabilities.pieces import Pieces
from starlette_wasm.config.policy import SandboxPolicy

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["url", "method", "headers", "timeoutMs", "maxRedirects", "namespace", "key", "ttlMs", "prefix", "limit"]
FIELDS += ["cursor", "by", "etag", "queue", "attributes"]


@given(st.dictionaries(st.text(), json_values), st.binary())
def test_what_is_encoded_decodes_to_the_same(header: dict[str, object], body: bytes) -> None:
    assert frame.decode(frame.encode(header, body)) == (header, body)


def framed(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0",
        b"\1\0\0\0",
        b"\xff\xff\xff\xff{}",
        framed(b""),
        framed(b"[]"),
        framed(b"1"),
        framed(b"{"),
        framed(b'{"a":NaN}'),
        framed(b'{"a":Infinity}'),
        framed(b'{"a":' + b"9" * 5000 + b"}"),
        framed(b"[" * 60_000),
        framed(b'{"a":' * 12_000),
        framed('{"a":1}'.encode("utf-16")),
        framed(b'{"a":"\xff"}'),
        framed(b" " * (frame.MAX_HEADER_BYTES + 1)),
    ],
)
def test_what_is_no_frame_is_a_bad_request(payload: bytes) -> None:
    with pytest.raises(CapabilityError) as caught:
        frame.decode(payload)
    assert caught.value.code == Code.BAD_REQUEST


def call(operation: int | str, payload: bytes) -> dict[str, object]:
    """With no grant and no network: what comes back is a frame that says whether it went well."""

    async def main() -> bytes:
        capabilities = Capabilities(CapabilitySettings(kv_url="sqlite://", queue_url="sqlite://"))
        policy = SandboxPolicy(kv_namespaces=["n"], queues=["q"])
        session = Session(capabilities, capabilities.grants(policy), deadline=float("inf"))
        try:
            return await session.call(operation, payload)
        finally:
            await capabilities.close()

    result = asyncio.run(main())
    header, _ = frame.decode(result)
    if not header["ok"]:
        error = header["error"]
        assert isinstance(error, dict)
        assert error["code"] in set(Code) - {Code.INTERNAL}
        assert error["message"].isprintable()
    return header


@given(st.sampled_from(list(Operation)) | st.integers() | st.text(max_size=20), st.binary(max_size=200))
def test_any_bytes_are_answered(operation: int | str, payload: bytes) -> None:
    call(operation, payload)


@given(
    st.sampled_from(list(Operation)),
    st.dictionaries(st.sampled_from(FIELDS), json_values | st.sampled_from(["n", "q", "k", "GET", 1]), max_size=6),
    st.binary(max_size=20),
)
def test_any_fields_are_answered(operation: Operation, header: dict[str, object], body: bytes) -> None:
    text = json.dumps(header).encode()  # with escapes, lone surrogates included
    call(operation, framed(text) + body)


@pytest.mark.parametrize("text", ["a\r\nb", "\x1b[31m", "\ud800", "é", "x" * 500, "\u202e"])
def test_what_a_guest_wrote_is_safe_in_a_log(text: str) -> None:
    assert printable(text).isascii()
    assert printable(text).isprintable()
    assert len(printable(text)) <= 128 * 10


def refused(text: bytes) -> bool:
    try:
        frame.check_shape(text)
    except CapabilityError:
        return True
    return False


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth_is_bounded_before_decoding(opening: bytes) -> None:
    assert not refused(opening * frame.MAX_DEPTH)
    assert refused(opening * (frame.MAX_DEPTH + 1))
    assert not refused(b"[]" * 1000)


def test_brackets_in_strings_are_not_depth() -> None:
    assert not refused(b'{"a":"' + b"[" * 1000 + b'\\\\\\"' + b"[" * 1000 + b'"}')


@pytest.mark.parametrize("part", [b"1,", b"[],", b"{},", b'"",', b'"a":"\\\\",', b'"\\"",'])
def test_parts_are_bounded_before_decoding(part: bytes) -> None:
    assert refused(part * (frame.MAX_HEADER_BYTES // len(part)))
    assert not refused(part * 500)


def test_commas_in_strings_are_not_parts() -> None:
    assert not refused(b'{"a":"' + b',{\\"' * 10_000 + b'"}')


@pytest.mark.parametrize(
    "text",
    [
        b'"' + b'\\"' * 32_000,
        b'"' + b"\\" * 64_000,
        b'"' + b"\\\\" * 32_000 + b"\\",
        b'"' * 65_536,
        b'"\\' * 32_000,
        b"{}," * 21_000,
        b"\\" * 65_536,
        b'\\"' * 32_000,
    ],
)
def test_no_header_takes_long_to_check(text: bytes) -> None:
    begin = time.thread_time()
    refused(text)
    assert time.thread_time() - begin < 4  # a quadratic search took 9 s


@pytest.mark.parametrize("sizes", [[], [1] * 5000, [1023, 1024] * 300, [70_000] * 8, [1, 300_000, 1, 1]])
def test_a_body_in_pieces_is_encoded_as_one(sizes: list[int]) -> None:
    pieces, whole = Pieces(), b""
    for number, size in enumerate(sizes):
        piece = bytes([number % 256]) * size
        pieces.add(piece)
        whole += piece
    assert len(pieces) == len(whole)
    assert frame.encode({"a": 1}, pieces) == frame.encode({"a": 1}) + whole
    assert len(pieces.all) <= len(sizes) // 4 or max(sizes, default=0) >= 1024
