"""One cookie is found in linear time, whatever else the header holds."""

from __future__ import annotations

import time

import pytest

from starlette_wasm.traffic.cookies import MAX_HEADER, cookie_value


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("a=1", "1"),
        ("b=2; a=1", "1"),
        ("a=1;a=2", "2"),
        (" a = 1 ;b", "1"),
        ('a="1"', '"1"'),
        ("a=x=y", "x=y"),
        ("a=", ""),
        ("a", None),
        ("aa=1; A=2", None),
        ("", None),
        (";;=;", None),
        ("a=" + "x" * 4097, None),
        ("b=" + "x" * MAX_HEADER + "; a=1", None),
    ],
)
def test_a_cookie_is_found_as_it_was_sent(header: str, value: str | None) -> None:
    assert cookie_value(header, "a") == value


@pytest.mark.parametrize("piece", ['"\\1', "\\1", '"', ";", "=", "a=;", '\\"', "a", '"\\', "\\;"])
def test_a_hostile_header_takes_linear_time(piece: str) -> None:
    header = 'a="' + piece * (MAX_HEADER // len(piece)) + '"'
    begin = time.thread_time()
    cookie_value(header, "session")
    cookie_value(header, "a")
    assert time.thread_time() - begin < 1  # http.cookies takes 11 s on Python 3.11.7
