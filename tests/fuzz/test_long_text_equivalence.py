"""What text.c, base64.c and answer.c read and write 16 or 32 bytes at once is what Python reads and writes."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from fuzz_targets.ways import PLAIN_SCOPE, compare_answer, compare_request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.native
_thorough = settings(
    max_examples=250, derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
_ODD = [
    '"',
    "\\",
    '"' * 17,
    "\\" * 16,
    "\\" * 33,
    "\r\n\r\n",
    "\x00",
    "\x1f",
    "\x7f",
    "/",
    "é",
    "\u2028",
    "😀",
    "\ud7ff",
]
"""What has an escape or is not ASCII, alone and many in a row."""
_RUNS = (st.integers(0, 70) | st.integers(100, 300)).map(lambda length: "a" * length)
"""Those from 128 on are read and written 64 bytes at once."""
_TEXT = st.lists(_RUNS | st.sampled_from(_ODD), max_size=12).map("".join)
_BYTES = st.integers(0, 400).flatmap(lambda length: st.binary(min_size=length, max_size=length))


def _answer(**parts: Any) -> bytes:
    return json.dumps({"status_code": 200, **parts}, ensure_ascii=False).encode()


@_thorough
@given(_TEXT)
def test_text_of_a_request_is_the_same(text: str) -> None:
    assert compare_request(PLAIN_SCOPE, text.encode(), text, {"a": text})


@_thorough
@given(_TEXT, st.booleans())
def test_text_of_an_answer_is_the_same(text: str, ascii_only: bool) -> None:
    stdout = json.dumps({"body": text, "status_code": 200}, ensure_ascii=ascii_only).encode()
    assert compare_answer(stdout)
    assert compare_answer(stdout.replace(b"/", b"\\/"))


@_thorough
@given(_TEXT, st.integers(0, 500), st.sampled_from([b"\xff", b"\xc3", b"\x00", b'"', b"\\", b"\\x", b"\\ud800"]))
def test_a_broken_text_is_left_to_python(text: str, place: int, broken: bytes) -> None:
    """Or it is the same, if the byte ended the text where nothing follows."""
    encoded = _answer(body=text)
    at = min(place, len(encoded))
    compare_answer(encoded[:at] + broken + encoded[at:])


@_thorough
@given(_BYTES)
def test_bytes_of_a_request_are_the_same(data: bytes) -> None:
    assert compare_request(PLAIN_SCOPE, b"\xff" + data, "/", {})


@_thorough
@given(_BYTES)
def test_bytes_of_an_answer_are_the_same(data: bytes) -> None:
    assert compare_answer(_answer(body=b64encode(data).decode(), is_base64_encoded=True))


@_thorough
@given(_BYTES, st.integers(0, 600), st.sampled_from("=-_ \n@[`{/:.,é") | st.characters(max_codepoint=0x2FF))
def test_base64_with_an_odd_character_is_refused(data: bytes, place: int, odd: str) -> None:
    """Or it is the same, if it is a letter like the others, or the padding."""
    text = b64encode(data).decode()
    at = min(place, len(text))
    compare_answer(_answer(body=text[:at] + odd + text[at + 1 :], is_base64_encoded=True))


@pytest.mark.parametrize("letter", range(64))
def test_each_letter_of_base64_is_read_and_written(letter: int) -> None:
    """At each place of a step: three bytes are four letters."""
    data = (letter << 18 | letter << 12 | letter << 6 | letter).to_bytes(3, "big") * 32
    assert compare_request(PLAIN_SCOPE, data + b"\xff", "/", {})
    assert compare_answer(_answer(body=b64encode(data).decode(), is_base64_encoded=True))
