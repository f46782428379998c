from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm.messages import EdgeResponse
from starlette_wasm.protocols import headers as module
from starlette_wasm.protocols.errors import ResponseError
from starlette_wasm.protocols.headers import MAX_HEADER_BYTES, check_headers, render


def test_headers_are_rendered_in_order_in_lower_case_with_the_length_of_the_body():
    response = EdgeResponse(201, {"Content-Type": "text/plain", "X-A": "é"}, "ü")
    assert render(response, "GET") == (
        201,
        [(b"content-type", b"text/plain"), (b"x-a", b"\xe9"), (b"content-length", b"2")],
        "ü".encode(),
    )


def test_a_list_becomes_repeated_lines_and_an_empty_list_none():
    _, raw, _ = render(EdgeResponse(200, {"set-cookie": ["a=1", " b=2 "], "x": [], "y": ["1"]}), "GET")
    assert raw == [
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"y", b"1"),
        (b"content-length", b"0"),
    ]


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_204_and_304_have_neither_body_nor_length(status, method):
    assert render(EdgeResponse(status, {"etag": '"1"'}, "body"), method) == (status, [(b"etag", b'"1"')], b"")


def test_head_keeps_the_length_of_the_body_that_is_left_out():
    assert render(EdgeResponse(200, {}, "AAAA", True), "HEAD") == (200, [(b"content-length", b"3")], b"")


@pytest.mark.parametrize("status", [200, 599, HTTPStatus.IM_A_TEAPOT])
def test_final_statuses_pass(status):
    assert render(EdgeResponse(status), "GET")[0] == int(status)


@pytest.mark.parametrize("status", [True, False, None, "200", 200.0, 0, -1, 99, 100, 101, 199, 600, 1000, 2**70])
def test_anything_but_an_integer_from_200_to_599_is_no_status(status):
    with pytest.raises(ResponseError, match="200 to 599"):
        render(EdgeResponse(status), "GET")


@pytest.mark.parametrize(
    "name",
    [
        "Content-Length",
        "CONNECTION",
        "keep-alive",
        "proxy-connection",
        "Te",
        "trailer",
        "transfer-encoding",
        "Upgrade",
    ],
)
@pytest.mark.parametrize("value", ["-1", ["1", "2"]])
def test_headers_between_two_hops_and_the_guests_own_length_are_dropped(name, value):
    assert check_headers({name: value, "x": "1"}) == {"x": "1"}
    assert check_headers({name: value, "x": "1"}) == {"x": "1"}, "also when the name was seen before"


@pytest.mark.parametrize("value", ["X-Secret, close", ["close", "x-secret ,"], "\tx-secret"])
def test_headers_named_by_connection_are_dropped(value):
    assert check_headers({"x-secret": "1", "Connection": value, "x-other": "2"}) == {"x-other": "2"}


@pytest.mark.parametrize("name", ["", " ", "a b", "a:", "a\r\nb", "é", "a\0", "x" * 300 + "\n", "a\ud800", 5])
def test_a_name_that_is_no_token_is_refused_each_time(name):
    for _ in range(2):
        with pytest.raises(ResponseError, match="illegal header name") as caught:
            check_headers({name: "1"})
        assert len(str(caught.value)) < 100
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("character", ["\r", "\n", "\0", "\x01", "\x0b", "\x1b", "\x7f", "Ā", "😀", "\ud800"])
@pytest.mark.parametrize("place", ["{}", "a{}", "{}a", "a{}b", "é{}"])
def test_a_value_with_a_character_that_is_not_for_headers_is_refused(character, place):
    with pytest.raises(ResponseError, match="illegal character"):
        check_headers({"x": place.format(character)})
    with pytest.raises(ResponseError, match="illegal character"):
        check_headers({"x": ["a", place.format(character)]})


@pytest.mark.parametrize("value", [None, 1, True, b"a", {"a": "b"}, ("a",), [1], [["a"]]])
def test_a_value_that_is_no_string_is_refused(value):
    with pytest.raises(ResponseError, match="must be a string"):
        check_headers({"x": value})


@pytest.mark.parametrize(
    ("value", "clean"), [(" a ", "a"), ("\ta\tb\t", "a\tb"), ("", ""), ("  ", ""), ("\xa0", "\xa0")]
)
def test_blanks_and_tabs_around_a_value_are_stripped(value, clean):
    assert check_headers({"x": value}) == {"x": clean}


def test_a_name_may_come_once_whatever_its_case():
    with pytest.raises(ResponseError, match="given twice"):
        check_headers({"X-A": "1", "x-a": "2"})


def test_a_hundred_headers_are_the_most_lists_included():
    hundred = {f"x-{i}": "" for i in range(98)} | {"set-cookie": ["a", "b"]}
    assert len(check_headers(hundred)) == 99
    with pytest.raises(ResponseError, match="more than 100 headers"):
        check_headers(hundred | {"y": ""})
    with pytest.raises(ResponseError, match="more than 100 headers"):
        check_headers({"set-cookie": ["a"] * 101})
    with pytest.raises(ResponseError, match="more than 100 headers"):
        check_headers({"connection": ["a"] * 101})


def test_32_kib_of_headers_are_the_most():
    assert check_headers({"x": "a" * (MAX_HEADER_BYTES - 5)})
    with pytest.raises(ResponseError, match="more than 32768 bytes"):
        check_headers({"x": "a" * (MAX_HEADER_BYTES - 4)})
    with pytest.raises(ResponseError, match="more than 32768 bytes"):
        check_headers({"x": ["a" * 1000] * 33})
    with pytest.raises(ResponseError, match="more than 32768 bytes"):
        check_headers({"x" * MAX_HEADER_BYTES: ""})


def test_a_body_that_claims_to_be_base64_must_be():
    with pytest.raises(ResponseError, match="base64"):
        render(EdgeResponse(200, {}, "A", True), "GET")


def test_names_are_remembered_within_bounds():
    for i in range(3000):
        check_headers({f"x-{i}": ""})
    check_headers({"y" * 65: ""})
    assert len(module._names) <= module._MAX_NAMES
    assert "y" * 65 not in module._names


texts = st.text(st.characters() | st.sampled_from("\r\n\0 \t,-"), max_size=12)


@given(
    st.dictionaries(texts | st.sampled_from(["x", "set-cookie", "connection"]), texts | st.lists(texts)),
    texts,
    st.booleans(),
    st.sampled_from(["GET", "HEAD"]),
)
def test_nothing_that_could_split_a_response_is_ever_rendered(headers, body, is_base64, method):
    try:
        status, raw, content = render(EdgeResponse(200, headers, body, is_base64), method)
    except ResponseError:
        return
    names = [name for name, _ in raw]
    told = method != "HEAD" or EdgeResponse(200, {}, body, is_base64).content != b""
    assert names.count(b"content-length") == told
    assert not {b"connection", b"server", b"date"} & set(names)
    for name, value in raw:
        assert name
        assert name == name.lower()
        assert not set(name + value) & set(b"\r\n\0")
    assert status == 200
    assert method == "HEAD" or raw[-1] == (b"content-length", str(len(content)).encode())
