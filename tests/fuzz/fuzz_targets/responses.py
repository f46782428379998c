"""What a guest prints, through decode() and render() of each protocol.

The first byte picks protocol and method. What comes out must be a response that h11, a strict and independent
implementation of HTTP/1.1, takes as well.
"""

from __future__ import annotations

import re

import h11

from starlette_wasm.protocols import ResponseError, get_protocol
from starlette_wasm.protocols.headers import render

PROTOCOLS = ("edge", "wws", "cgi")
METHODS = ("GET", "HEAD")

_HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"}
_HOP_BY_HOP |= {b"te", b"trailer", b"transfer-encoding", b"upgrade"}
_TOKEN = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")

TOKENS = (
    b'{"status_code":200}', b'"status_code":', b'"status":', b'"headers":{', b'"body":"', b'"data":"', b'"kv":{}',
    b'"is_base64_encoded":true', b'"base64":true', b'"set-cookie":["a","b"]', b'"connection":"close, x-a"',
    b'"content-length":"1"', b"Status: 204\n", b"Content-Type: a/b\r\n", b"Location: /\n", b"\r\n\r\n", b"\\u000d\\n",
    b"\\ud800", b"\xc2\x85", b"\xff", b"\0", b"NaN", b"1e400", b"true", b"null", b'"":', b"content_length",
    b"\\u0000",
)  # fmt: skip


def check(data: bytes) -> None:
    if data:
        judge(PROTOCOLS[data[0] % 3], METHODS[data[0] // 3 % 2], data[1:])


def judge(protocol: str, method: str, stdout: bytes) -> bool:
    """Whether it is a response; raises if it is one and must not be, or the other way round."""
    try:
        response = get_protocol(protocol).decode(stdout)
    except ResponseError as error:
        assert len(str(error)) < 300, str(error)
        assert str(error).isprintable(), str(error)
        assert error.offset is None or 0 <= error.offset <= len(stdout)
        return False
    rendered = render(response, method, checked=True)
    assert render(response, method) == rendered
    check_rendered(*rendered, method)
    return True


def check_rendered(status: int, headers: list[tuple[bytes, bytes]], body: bytes, method: str) -> None:
    assert type(status) is int
    assert 200 <= status <= 599
    assert len(headers) <= 101
    lengths = []
    for name, value in headers:
        assert not {0, 10, 13} & {*name, *value}, (name, value)
        assert _TOKEN.fullmatch(name), name
        assert name not in _HOP_BY_HOP
        if name == b"content-length":
            lengths.append(int(value))
    if status in (204, 304):
        assert (lengths, body) == ([], b"")
    else:
        if method == "HEAD":  # the guest's own length, or none
            assert len(lengths) <= 1
            assert body == b""
        else:
            assert lengths == [len(body)]
    h11.Response(status_code=status, headers=headers)
