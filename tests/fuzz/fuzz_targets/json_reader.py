"""The reader of a guest's JSON: its quick path, its strict scanner, and the json module as the oracle."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from starlette_wasm.protocols.errors import ResponseError
from starlette_wasm.protocols.headers import MAX_HEADERS
from starlette_wasm.protocols.jsonscan import MAX_DEPTH, MAX_TOKENS, Kind, byte_offset, read_plain, scan

KINDS = {"s": Kind.STRING, "i": Kind.INTEGER, "b": Kind.BOOL, "h": Kind.HEADERS}

TOKENS = (
    b'{"s":"', b'"i":', b'"b":true', b'"h":{', b'"h":{"a":["b"]}', b'"x":[{}]', b"\\u0041", b"\\ud83d\\ude00",
    b"\\ud800", b"\\\\", b"\\/", b"-0", b"1.5e3", b"Infinity", b"NaN", b"false", b"null", b"\xef\xbb\xbf",
    b"\xc3\xa9", b"\xed\xa0\x80", b" \t\r\n", b"}", b"]", b",", b":", b'"\\u0073":', b"123456789012345678", b"\x1f",
    b"\x7f",
)  # fmt: skip


def check(data: bytes) -> None:
    fast_path = read_plain(data, KINDS)
    try:
        found, places = scan(data, KINDS)
    except ResponseError as error:
        assert fast_path is None, fast_path
        assert 0 <= (error.offset or 0) <= len(data)
        assert len(str(error)) < 300
        assert str(error).isprintable()
        found = None
    if found is not None:
        assert fast_path is None or same(fast_path, found), (fast_path, found)
        assert found.keys() == places.keys()
        for place in places.values():
            at = byte_offset(data, place)
            assert at is not None
            assert data[at : at + 1] in b'"{-0123456789tf'
    wanted = _oracle(data)
    assert same(found, wanted), (found, wanted)


def same(one: object, other: object) -> bool:
    """Equal, and of the same types: True is not 1."""
    return repr(one) == repr(other)


def _oracle(data: bytes) -> dict[str, Any] | None:
    """What scan() must give, None if it must refuse."""
    # The scanner is told nothing of bytes that are no UTF-8, of a byte order mark, and of depth.
    if _depth(data) >= MAX_DEPTH or data.startswith(b"\xef\xbb\xbf"):
        return None
    try:
        document = json.loads(data.decode(), object_pairs_hook=tuple, parse_constant=_refuse, parse_int=_Int)
        return _known(document)
    except ValueError:
        return None


class _Int(str):
    """The digits of an integer, of any number of them."""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _depth(data: bytes) -> int:
    """The deepest nesting, strings left out; more or less, if it is not JSON."""
    depth = deepest = 0
    quoted = escaped = False
    for byte in data:
        if quoted:
            quoted = escaped or byte != 0x22
            escaped = not escaped and byte == 0x5C
        elif byte == 0x22:
            quoted = True
        elif byte in b"[{":
            depth += 1
            deepest = max(depth, deepest)
        elif byte in b"]}":
            depth -= 1
    return deepest - 1


def _known(document: object) -> dict[str, Any]:
    if not isinstance(document, tuple) or len(dict(document)) < len(document):
        raise ValueError
    found: dict[str, Any] = {}
    budget = MAX_TOKENS
    for key, value in document:
        if key not in KINDS:
            budget -= 1 + _tokens(value)
            continue
        if key == "s":
            if type(value) is not str:
                raise ValueError
            value.encode()
        elif key == "i":
            if type(value) is not _Int or len(value) > 18:
                raise ValueError
            value = int(value)
        elif key == "b":
            if type(value) is not bool:
                raise ValueError
        else:
            value = _headers(value)
        found[key] = value
    if budget < 0:
        raise ValueError
    return found


def _headers(value: object) -> dict[str, Any]:
    if not isinstance(value, tuple):
        raise ValueError
    headers = dict(value)
    if len(headers) < len(value) or len(headers) > MAX_HEADERS:
        raise ValueError
    for each in headers.values():
        lines = each if type(each) is list else [each]
        if len(lines) > MAX_HEADERS or any(type(line) is not str for line in lines):
            raise ValueError
    return headers


def _tokens(value: object) -> int:
    if isinstance(value, tuple):
        return 1 + sum(1 + _tokens(each) for _, each in value)
    return 1 + sum(map(_tokens, value)) if isinstance(value, list) else 1
