"""What a guest is told as it was received, and what of its answer is sent as it was said."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from starlette_wasm.messages import EdgeRequest
from starlette_wasm.protocols import ResponseError, get_protocol
from starlette_wasm.protocols.headers import render


def request(raw: bytes, **scope: Any) -> EdgeRequest:
    path = raw.decode("latin-1")
    made = {"type": "http", "method": "GET", "headers": [(b"host", b"h.test")], "path": unquote(path), "raw_path": raw}
    made |= scope
    return EdgeRequest.from_scope(made, b"", path=made["path"], params={})


def environ(asked: EdgeRequest, route: str = "/{rest:path}") -> dict[str, str]:
    return dict(get_protocol("cgi").environ(asked, route=route, client=None))


@pytest.mark.parametrize("path", ["/x/%{0:02X}%{0:02x}", "/%2fa/%{0:02X}"])
def test_a_path_is_told_as_it_was_received(path: str) -> None:
    for byte in range(256):
        escaped = path.format(byte)
        asked = request(escaped.encode())
        assert asked.url == f"http://h.test{escaped}"
        assert environ(asked)["X_FULL_URL"] == asked.url
        assert environ(asked)["X_RAW_PATH_INFO"] == escaped


def test_a_raw_path_of_another_path_is_not_told() -> None:
    assert request(b"/a%2Fb", path="/moved é").url == "http://h.test/moved%20%C3%A9"
    assert request(b"/a%2Fb", path="/api/a/b", root_path="/api").url == "http://h.test/api/a%2Fb"
    assert request(b"", path="/a b", raw_path=None).url == "http://h.test/a%20b"
    assert request(b"/a%41?x=1", path="/aA", query_string=b"y=%2F").url == "http://h.test/a%41?y=%2F"
    assert request(b"/\xc3\xa9", path="/é").url == "http://h.test/%C3%A9"


@pytest.mark.parametrize("text", ["Jürgen €", "plain", "\x80"])
def test_a_header_in_utf8_reaches_cgi_as_it_came(text: str) -> None:
    headers = [(b"host", b"h.test"), (b"x-name", text.encode()), (b"content-type", text.encode())]
    variables = environ(request(b"/a", headers=headers))
    assert (variables["HTTP_X_NAME"], variables["CONTENT_TYPE"]) == (text, text)


ANSWERS = {
    "edge": b'{"status_code":200,"headers":{%s}%s}',
    "wws": b'{"status":200,"headers":{%s}%s}',
}


@pytest.mark.parametrize("protocol", ["edge", "wws", "cgi"])
@pytest.mark.parametrize(
    ("given", "length"), [("4242", b"4242"), (" 0 ", b"0"), ("-1", None), ("", None), ("9" * 19, None)]
)
def test_an_answer_to_head_has_the_guests_length_or_none(protocol: str, given: str, length: bytes | None) -> None:
    if protocol == "cgi":
        stdout = f"Content-Type: text/plain\nContent-Length: {given}\n\n".encode()
    else:
        stdout = ANSWERS[protocol] % (f'"Content-Length":"{given}"'.encode(), b"")
    _, headers, _ = render(get_protocol(protocol).decode(stdout), "HEAD", checked=True)
    assert dict(headers).get(b"content-length") == length
    _, headers, _ = render(get_protocol(protocol).decode(stdout), "GET", checked=True)
    assert dict(headers)[b"content-length"] == b"0"


@pytest.mark.parametrize("protocol", ["edge", "wws"])
def test_null_is_absent(protocol: str) -> None:
    status, flag, body = (
        ("status_code", "is_base64_encoded", "body") if protocol == "edge" else ("status", "base64", "data")
    )
    for more in ("", ',"more":"\\u00e9"'):  # the reader for plain answers, and the other
        text = f'{{"{status}":200,"headers":null,"{body}":null,"{flag}":null{more}}}'
        response = get_protocol(protocol).decode(text.encode())
        assert (response.status_code, response.headers, response.body) == (200, {}, "")


@pytest.mark.parametrize("protocol", ["edge", "wws"])
def test_server_and_date_are_left_to_the_server(protocol: str) -> None:
    response = get_protocol(protocol).decode(ANSWERS[protocol] % (b'"Server":"guest","DATE":"now","x-a":"b"', b""))
    assert response.headers == {"x-a": "b"}


def test_a_value_beyond_latin1_is_refused_by_its_header() -> None:
    with pytest.raises(ResponseError, match="header 'x-price': U\\+20AC is beyond Latin-1; percent-encode it"):
        get_protocol("edge").decode(ANSWERS["edge"] % ('"x-price":"1 €"'.encode(), b""))
