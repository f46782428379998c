"""The short way of fast_path.c gives what the Python code gives, or leaves the request to it."""

from __future__ import annotations

import http
import json
from base64 import b64encode
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote, unquote
from uuid import UUID

import pytest
from fuzz_targets.responses import TOKENS
from fuzz_targets.ways import PLAIN_SCOPE, compare_answer, compare_call, compare_request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from starlette_wasm import EdgeRequest

pytestmark = pytest.mark.native
SPAN = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7, False, TraceFlags(1))
STATED = SpanContext(SPAN.trace_id, SPAN.span_id, False, TraceFlags(0), TraceState([("a", "b"), ("c", "d")]))
TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_thorough = settings(
    max_examples=250, derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def share(check: Callable[[Any], bool], strategy: st.SearchStrategy[Any]) -> float:
    """Of the examples, those that took the short way."""
    ways: list[bool] = []

    @_thorough
    @given(strategy)
    def each(example: Any) -> None:
        ways.append(check(example))

    each()
    return sum(ways) / len(ways)


# Requests

_CHARACTERS = st.sampled_from('aZ09 -_.~/%+&=?#"\\\x00\x1f\x7f\n\té\xff\u0100\u2028😀')
_TEXT = st.text(_CHARACTERS, max_size=8)
_LATIN = st.text(st.characters(max_codepoint=255), max_size=8).map(lambda text: text.encode("latin-1"))
_WORDS = st.text("abcxyz019-", min_size=1, max_size=6)
_PLAIN_NAME = st.sampled_from(
    [b"accept", b"cookie", b"x-a", b"x-b", b"user-agent", b"x-region", b"traceparent", b"tracestate", b"a|b~"]
)
_PLAIN_VALUE = _LATIN | st.just(TRACEPARENT)
_ESCAPED = st.sampled_from(["%41", "%20", "+", "%C3%A9", "%e2%82%ac", "%", "%4", "%zz", "%2B%26%3D", '"', "\\", "%00"])
_PLAIN_HOST = st.sampled_from([b"a.org", b"localhost:8000", b"127.0.0.1:1", b"a_b:64999", b"A.Org:0001", b"a:0"])


def _is_text(part: str) -> bool:
    """Whether escapes stand for UTF-8: a word behind a lone ``%`` may be a part of one."""
    try:
        unquote(part, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


_PART = st.lists(_WORDS | _ESCAPED, max_size=3).map("".join).filter(_is_text)
_QUERY = st.lists(st.tuples(st.sampled_from(["a", "b"]) | _PART, _PART), max_size=5).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode()
)
_OF_BODIES = [
    (b"content-length", b"0"),
    (b"content-length", b"000"),
    (b"content-length", b"7"),
    (b"content-length", b""),
    (b"content-length", b"+0"),
    (b"content-length", b"0" * 19),
    (b"transfer-encoding", b"chunked"),
    (b"expect", b"100-continue"),
]
_BODY = st.binary(max_size=30) | _TEXT.map(str.encode) | st.just(b"")
_PATH = st.text("aZ0/._~!$&'()*+,;=:@-", max_size=8) | st.text('aé€ %"+?', max_size=6)
_PARAM = _TEXT | st.integers() | st.floats()


def quote_plainly(path: str) -> str:
    """Escape as little as a client may."""
    return quote(path, safe="/!$&'()*+,;=:@")


@st.composite
def plain_requests(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of compare_request()."""
    headers = draw(st.lists(st.tuples(_PLAIN_NAME, _PLAIN_VALUE), max_size=6))
    if draw(st.booleans()):
        ids = st.sampled_from([b"a", b"A.b:c-d_e", b"a" * 128, b"", b".a", b"a" * 129])
        headers += [(b"x-request-id", each) for each in draw(st.lists(ids, min_size=1, max_size=2))]
    if draw(st.integers(0, 3)) == 0:
        headers += draw(st.lists(st.sampled_from(_OF_BODIES), min_size=1, max_size=2))
    headers.insert(draw(st.integers(0, len(headers))), (b"host", draw(_PLAIN_HOST)))
    sent = "/" + draw(_PATH)
    scope = {
        "type": "http",
        "method": draw(st.sampled_from(["GET", "HEAD", "POST", "X-Y", "get", "é"])),
        "path": sent,
        "raw_path": draw(st.sampled_from([quote, quote_plainly, str]))(sent).encode(),
        "query_string": draw(_QUERY | st.sampled_from([b"", b"&", b"a", b"=", b"=a", b"a=&&b==;#/?@{}", b"a&b&"])),
        "headers": headers,
        "scheme": draw(st.sampled_from(["http", "https"])),
        "http_version": draw(st.sampled_from(["1.1", "1.1", "1.0", "2", ""])),
    }
    if not scope["raw_path"].isascii() or b"?" in scope["raw_path"] or unquote(scope["raw_path"].decode()) != sent:
        scope["raw_path"] = quote(sent).encode()
    for name in draw(st.sampled_from([(), ("scheme",), ("query_string",)])):
        del scope[name]
    return {
        "scope": scope,
        "body": draw(_BODY),
        "path": draw(_TEXT),
        "params": draw(st.dictionaries(_TEXT, _PARAM, max_size=3)),
        "region": draw(st.sampled_from(["", "eu-north-1", 'é"\\'])),
        "environ": draw(st.booleans()),
        "span": draw(st.sampled_from([None, None, SPAN, STATED])),
    }


def _header(name: bytes, value: bytes) -> Callable[[dict[str, Any]], None]:
    return lambda request: request["scope"]["headers"].append((name, value))


def _scope(**keys: Any) -> Callable[[dict[str, Any]], None]:
    return lambda request: request["scope"].update(keys)


def _given(**keys: Any) -> Callable[[dict[str, Any]], None]:
    return lambda request: request.update(keys)


_ODD_QUERIES = [b"a=%FF", b"%ED%A0%80=c", b"a=%C3", b"a=\xe9", b"a=%F4%90%80%80", b"a=%C0%80", b"a=%e9&a=\xe9"]
_ODD_HOSTS = [
    b"[::1]",
    b"[::1]:80",
    b"a:",
    b"a:65000",
    b"a:65536",
    b"a:00080",
    b"a b",
    b"",
    b":80",
    b"\xe9.org",
    b"a/b",
]
_oddities = st.one_of(
    st.sampled_from(
        [
            _header(b"x-a", b"1"),
            _header(b"X-A", b"1"),
            _header(b"Host", b"b"),
            _header(b"host", b"b"),
            _header(b"cookie", b"a=b"),
            _header(b"traceparent", TRACEPARENT),
            _header(b"traceparent", b"00-0"),
            _header(b"x-request-id", b"b"),
            _header(b"x\xe9", b"1"),
            _header(b"", b"1"),
            _header(b"a b", b"1"),
            _header(b'a"\\', b"1"),
            _scope(headers=[]),
            _scope(headers=[(b"n-%d" % i, b"") for i in range(100)]),
            _scope(scheme='"'),
            _scope(scheme=""),
            _scope(raw_path=None),
            _scope(raw_path=b"/b"),
            _scope(raw_path=b"/%FF", path="/\ufffd"),
            _scope(raw_path=b"/a?b"),
            _scope(method='G"\n'),
            _scope(path="/é/ü"),
            _scope(path="/a b%\n"),
            _scope(path=""),
            _scope(path="a"),
            _scope(path="/\ud800"),
            _given(path="/\ud800"),
            _given(params={"a": "\udfff"}),
            _given(params={"a": True}),
            _given(params={"a": UUID(int=1)}),
            _given(params={}),
            _given(body=b"\xff"),
            _given(body=b"\xed\xa0\x80"),
            _given(body=b'"\\\x00' * 20_000),
            _given(body="é".encode() * 40_000),
            _given(body=b"{}\n" * 40_000),
            _given(body=b"\0" * 80_000),
            _given(body=bytearray(b"a")),
            lambda request: request["scope"].update(headers=tuple(request["scope"]["headers"])),
            lambda request: request["scope"].update(headers=[list(pair) for pair in request["scope"]["headers"]]),
            lambda request: request.update(scope=OrderedDict(request["scope"])),
        ]
    ),
    st.builds(_header, _LATIN, _LATIN),
    st.sampled_from(_ODD_QUERIES).map(lambda query: _scope(query_string=query)),
    _LATIN.map(lambda query: _scope(query_string=query)),
    st.sampled_from(_ODD_HOSTS).map(lambda host: _scope(headers=[(b"host", host)])),
    _TEXT.map(lambda path: _scope(path=path)),
    _BODY.map(lambda body: _given(body=body)),
)


@st.composite
def odd_requests(draw: st.DrawFn) -> dict[str, Any]:
    request = draw(plain_requests())
    for change in draw(st.lists(_oddities, min_size=1, max_size=2)):
        if not isinstance(request["scope"]["headers"], list):
            break
        change(request)
    return request


def test_a_plain_request_is_the_same_and_takes_the_short_way() -> None:
    assert share(lambda request: compare_request(**request), plain_requests()) == 1


def test_an_odd_request_is_the_same_or_left_to_python() -> None:
    assert 0.2 < share(lambda request: compare_request(**request), odd_requests()) < 0.6


_ANY_TEXT = _TEXT | st.sampled_from(["\ud800", TRACEPARENT.decode(), "a" * 129])
_NAMES = st.sampled_from(["x-request-id", "traceparent", "tracestate", "X-A", "x-region"]) | _TEXT
_STRINGS = st.dictionaries(_NAMES, _ANY_TEXT, max_size=4)
_LISTS = st.dictionaries(_TEXT, st.lists(_ANY_TEXT, max_size=3), max_size=2)
_CALLS = st.builds(
    EdgeRequest,
    path=_TEXT,
    method=st.sampled_from(["GET", "POST"]) | _TEXT,
    headers=_STRINGS,
    query=_STRINGS,
    body=st.none() | _TEXT,
    is_base64_encoded=st.sampled_from([False, False, True]),
    params=_STRINGS,
    url=_TEXT,
    multi_value_headers=_LISTS,
    multi_value_query=_LISTS,
)


@pytest.mark.parametrize(("protocol", "environ"), [("edge", False), ("edge", True), ("wws", False)])
def test_a_call_from_python_is_the_same(protocol: str, environ: bool) -> None:
    assert share(lambda request: compare_call(request, environ=environ, protocol=protocol), _CALLS) > 0.3


@pytest.mark.parametrize("state", [None, "a=b", "é"])
@pytest.mark.parametrize("environ", [False, True])
def test_a_trace_of_a_call_from_python_is_the_same(state: str | None, environ: bool) -> None:
    headers = {"traceparent": TRACEPARENT.decode()} | ({} if state is None else {"tracestate": state})
    assert compare_call(EdgeRequest(headers=headers), environ=environ)


@pytest.mark.parametrize("protocol", ["edge", "wws"])
@pytest.mark.parametrize("body", ["", "é\x01" * 40_000, "é" * 80_000, "\x01" * 70_000])
def test_a_body_of_a_call_from_python_is_the_same(body: str, protocol: str) -> None:
    assert compare_call(EdgeRequest(body=body), protocol=protocol)


@pytest.mark.parametrize(
    "change",
    [{"headers": None}, {"body": b"a"}, {"query": {"a": 1}}, {"params": [("a", "b")]}, {"path": None},
     {"multi_value_query": {"a": "b"}}, {"headers": {"traceparent": TRACEPARENT.decode(), "tracestate": ""}}],
)  # fmt: skip
def test_an_odd_call_from_python_is_left_to_it(change: dict[str, Any]) -> None:
    given = cast("Any", EdgeRequest)(**{"path": "/", "headers": {}, **change})
    assert not compare_call(given)


_ROUTES = ["/", "/w", "/w/{rest:path}", "/{a:path}/b", "/w/{a}/"]
_CLIENTS = [None, (), ("192.0.2.1", 1), ("2001:db8::1", 0), ("é", 1)]


@st.composite
def _for_protocol(draw: st.DrawFn, requests: st.SearchStrategy[dict[str, Any]], protocol: str) -> dict[str, Any]:
    """The same for a guest that is asked by wws or cgi."""
    request = draw(requests)
    scope = request["scope"]
    if protocol == "cgi" and isinstance(scope.get("path"), str) and draw(st.integers(0, 9)):
        request["path"] = scope["path"]  # below no mount
    if draw(st.booleans()):
        scope["client"] = draw(st.sampled_from(_CLIENTS))
    if draw(st.integers(0, 9)) == 0:
        scope["root_path"] = draw(st.sampled_from(["", "/m"]))
    return {**request, "protocol": protocol, "route": draw(st.sampled_from(_ROUTES))}


def test_a_plain_request_of_wws_takes_the_short_way() -> None:
    assert share(lambda request: compare_request(**request), _for_protocol(plain_requests(), "wws")) == 1


def test_a_plain_request_of_cgi_mostly_takes_the_short_way() -> None:
    # Left to Python are headers that are Latin-1, a NUL, and paths that the server has not escaped alike.
    assert share(lambda request: compare_request(**request), _for_protocol(plain_requests(), "cgi")) > 0.3


@pytest.mark.parametrize("protocol", ["wws", "cgi"])
def test_an_odd_request_of_a_protocol_is_the_same(protocol: str) -> None:
    assert 0.05 < share(lambda request: compare_request(**request), _for_protocol(odd_requests(), protocol)) < 0.8


@pytest.mark.parametrize("protocol", ["wws", "cgi"])
@pytest.mark.parametrize("route", _ROUTES)
def test_another_protocol_takes_the_short_way(protocol: str, route: str) -> None:
    sent = [HOST, (b"cookie", b"a"), (b"x-a_b", b"c"), (b"cookie", b"d"), (b"accept-language", "é".encode())]
    sent += [
        (b"content-type", b"a/b"),
        (b"authorization", b"hidden"),
        (b"proxy", b"hidden"),
        (b"traceparent", TRACEPARENT),
    ]
    scope = {
        **PLAIN_SCOPE,
        "path": "/w/a b/c",
        "raw_path": b"/w/a%20b%2fc",
        "headers": sent,
        "client": ("192.0.2.1", 1),
    }
    scope |= {"query_string": b"a=1&&b=%20+", "scheme": "https", "root_path": ""}
    for span in (None, SPAN, STATED):
        for body in (b"", b"{}", b"\xff"):
            given: Any = {"params": {"x": "1"}, "span": span, "protocol": protocol, "route": route}
            assert compare_request(scope, body, "/w/a b/c", environ=True, **given)
            assert compare_request(scope, body, "/w/a b/c", **given)


@pytest.mark.parametrize(
    "change",
    [
        {"root_path": "/m"},
        {"root_path": b""},
        {"client": ["192.0.2.1", 1]},
        {"client": ("a\0", 1)},
        {"client": (None, 1)},
        {"scheme": "ws"},
        {"query_string": b"a#b"},
        {"query_string": b"a\0b"},
        {"path": "/w/%00", "raw_path": b"/w/%2500", "headers": [(b"host", b"a.org"), (b"x", b"\xe9")]},
        {"path": "/w/\0", "raw_path": b"/w/%00"},
        {"headers": [(b"host", b"a.org"), (b"x", b"\0")]},
        {"method": "G\0T"},
    ],
)
def test_a_request_of_cgi_is_left_to_python(change: dict[str, Any]) -> None:
    scope = {**PLAIN_SCOPE, "path": "/w/a", **change}
    assert not compare_request(scope, b"", scope["path"], {}, environ=True, protocol="cgi", route="/w")


def test_a_path_in_a_mount_is_left_to_python_by_cgi() -> None:
    assert not compare_request({**PLAIN_SCOPE, "path": "/m/a"}, b"", "/a", {}, environ=True, protocol="cgi")


Pair = namedtuple("Pair", "name value")
HOST = (b"host", b"a.org")


class Missing(dict[str, Any]):
    def __missing__(self, key: str) -> Any:
        return [HOST]


@pytest.mark.parametrize(
    "scope",
    [
        PLAIN_SCOPE,
        {**PLAIN_SCOPE, "headers": [HOST, (b"x-a", bytes(range(256)))]},
        {**PLAIN_SCOPE, "headers": [HOST, *((b"n-%d" % i, b"") for i in range(63))]},
        {**PLAIN_SCOPE, "headers": [HOST, (b"", b"no name")]},
        {**PLAIN_SCOPE, "headers": [HOST, (b"traceparent", TRACEPARENT)]},
        {**PLAIN_SCOPE, "headers": [(b"tracestate", b"a=b"), HOST, *[(b"traceparent", TRACEPARENT)] * 2]},
        {**PLAIN_SCOPE, "headers": [HOST, (b"cookie", b"a"), (b"x", b"b"), (b"cookie", b"c"), (b"x", b"d")]},
        {**PLAIN_SCOPE, "method": "HEAD"},
        {**PLAIN_SCOPE, "path": "/é ü/%", "raw_path": b"/%C3%A9%20%c3%bc/%"},
        {**PLAIN_SCOPE, "query_string": b"a=1&b=%C3%A9+%2B&a=2&&a&%=&b=%zz&c=%4"},
        {**PLAIN_SCOPE, "headers": [Pair(b"host", b"a.org")]},
        {**PLAIN_SCOPE, "headers": [(b"host", b"a.org:64999")]},
        {**PLAIN_SCOPE, "method": http.HTTPMethod.GET},
        {**PLAIN_SCOPE, "query_string": b"&".join(b"n%d" % i for i in range(64))},
        {**PLAIN_SCOPE, "raw_path": None, "server": ("a", 1), "client": None, "http_version": "2"},
        OrderedDict(PLAIN_SCOPE),
        defaultdict(list, PLAIN_SCOPE),
        Missing(PLAIN_SCOPE),
    ],
)
def test_the_short_way_takes(scope: Any) -> None:
    for span in (None, SPAN, STATED):
        assert compare_request(scope, b"{}", "/a", {"x": "1"}, span=span)
        assert compare_request(scope, b"{}", "/a", {"x": "1"}, environ=True, span=span)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        "é€😀".encode(),
        b'{"a":"b\\"}' * 200,
        b'"' * 9 + b"aaaaaaaa" * 3 + b"\n" * 9,
        b"\0" * 65_536,
        b"\0" * 65_537,
        "\0\0😀".encode() * 30_000,
        "\0ééééé".encode() * 20_000,
        b'"\\\x00' * 20_000,
    ],
)
def test_the_short_way_takes_a_body(body: bytes) -> None:
    assert compare_request(PLAIN_SCOPE, body, "/", {})


def test_wws_takes_a_body_of_controls() -> None:
    assert compare_request(PLAIN_SCOPE, b"\0" * 80_000, "/", {}, protocol="wws")


def test_the_short_way_takes_numbers_of_convertors() -> None:
    assert compare_request(PLAIN_SCOPE, b"", "/", {"a": 1, "b": 2.5, "c": "d", "e": 10**30})


class OtherDict:
    """A mapping that is no dict."""

    def __init__(self, **keys: Any) -> None:
        self._keys = keys

    def __getitem__(self, name: str) -> Any:
        return self._keys[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self._keys.get(name, default)


@pytest.mark.parametrize(
    ("scope", "more"),
    [
        ({}, {}),
        *(
            ({name: value for name, value in PLAIN_SCOPE.items() if name != removed}, {})
            for removed in ("method", "headers", "path")
        ),
        ({**PLAIN_SCOPE, "method": None}, {}),
        ({**PLAIN_SCOPE, "method": b"GET"}, {}),
        ({**PLAIN_SCOPE, "path": b"/"}, {}),
        ({**PLAIN_SCOPE, "scheme": None}, {}),
        ({**PLAIN_SCOPE, "scheme": b"http"}, {}),
        ({**PLAIN_SCOPE, "query_string": None}, {}),
        ({**PLAIN_SCOPE, "query_string": "a=b"}, {}),
        ({**PLAIN_SCOPE, "query_string": b"a=%FF"}, {}),
        ({**PLAIN_SCOPE, "query_string": b"a=%ED%A0%80"}, {}),
        ({**PLAIN_SCOPE, "query_string": b"a=\xe9"}, {}),
        ({**PLAIN_SCOPE, "path": "/é"}, {}),
        ({**PLAIN_SCOPE, "path": "/a", "raw_path": b"/%62"}, {}),
        ({**PLAIN_SCOPE, "path": "/\ufffd", "raw_path": b"/%FF"}, {}),
        ({**PLAIN_SCOPE, "query_string": b"&".join(b"n%d" % i for i in range(65))}, {}),
        ({**PLAIN_SCOPE, "headers": None}, {}),
        ({**PLAIN_SCOPE, "headers": (HOST,)}, {}),
        ({**PLAIN_SCOPE, "headers": [list(HOST)]}, {}),
        ({**PLAIN_SCOPE, "headers": [("host", "a.org")]}, {}),
        ({**PLAIN_SCOPE, "headers": [HOST, None]}, {}),
        ({**PLAIN_SCOPE, "headers": [HOST, (b"a",)]}, {}),
        ({**PLAIN_SCOPE, "headers": [HOST, (b"a", b"b", b"c")]}, {}),
        ({**PLAIN_SCOPE, "headers": [HOST, (b"a", bytearray(b"b"))]}, {}),
        ({**PLAIN_SCOPE, "headers": [HOST, HOST]}, {}),
        ({**PLAIN_SCOPE, "headers": [HOST, (b"Accept", b"")]}, {}),
        ({**PLAIN_SCOPE, "headers": [HOST, *((b"n-%d" % i, b"") for i in range(64))]}, {}),
        (OtherDict(**PLAIN_SCOPE), {}),
        (None, {}),
        (PLAIN_SCOPE, {"body": "text"}),
        (PLAIN_SCOPE, {"body": None}),
        (PLAIN_SCOPE, {"body": bytearray(b"a")}),
        (PLAIN_SCOPE, {"body": memoryview(b"a")}),
        (PLAIN_SCOPE, {"path": b"/"}),
        (PLAIN_SCOPE, {"path": "\ud800"}),
        (PLAIN_SCOPE, {"params": None}),
        (PLAIN_SCOPE, {"params": {"a": True}}),
        (PLAIN_SCOPE, {"params": {"a": None}}),
        (PLAIN_SCOPE, {"params": {1: "a"}}),
        (PLAIN_SCOPE, {"params": [("a", "b")]}),
        (PLAIN_SCOPE, {"region": "\ud800"}),
        (PLAIN_SCOPE, {"region": None}),
    ],
)
def test_the_short_way_leaves_to_python(scope: Any, more: dict[str, Any]) -> None:
    assert not compare_request(scope, **{"body": b"", "path": "/", "params": {}, **more})


# Answers

_STATUS = st.sampled_from([200, 201, 204, 205, 302, 304, 404, 500, 599])
_ODD_STATUS = st.sampled_from([199, 600, 100, 99, 0, -200, 2000, 200.0, 2e2, True, None, "200", 10**20])
_ASCII = st.text('abz 019"\\/\n\t', max_size=12)
_NAME = st.sampled_from(["content-type", "Content-Type", "x-a", "X-A", "x_b", "set-cookie", "location", "x-request-id"])
_DROPPED = st.sampled_from(
    ["te", "Upgrade", "trailer", "keep-alive", "content-length", "transfer-encoding", "proxy-connection"]
)
_VALUE = st.text('abz /;=,\té\xff"\\', max_size=12)
_ODD_VALUE = st.sampled_from(["\u0100", "a\r\nb", "\0", "\x7f", "😀", None, 1, ["a", 1], [["a"]], {}])
_MANY = st.integers(0, 120).map(lambda count: ["v"] * count)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Mostly right, in several ways to write it."""
    rarely = draw(st.integers(0, 3)) == 0
    values = _VALUE | st.lists(_VALUE, max_size=4)
    names: st.SearchStrategy[str] = _NAME
    if rarely:
        values, names = values | _ODD_VALUE | _MANY, names | _DROPPED | st.sampled_from(["connection", "a b", "", "é"])
    parts: dict[str, Any] = {"status_code": draw(_STATUS | _ODD_STATUS if rarely else _STATUS)}
    headers = draw(st.dictionaries(names, values, max_size=4))
    if draw(st.booleans()):
        parts["headers"] = headers
        if draw(st.booleans()):
            parts["headers"]["Content-Length"] = draw(st.sampled_from(["12", " 007 ", "x", "", "9" * 18, "9" * 19]))
    is_base64 = draw(st.booleans())
    if draw(st.booleans()):
        encoded = st.binary(max_size=8).map(lambda data: b64encode(data).decode())
        parts["body"] = draw(encoded if is_base64 and not rarely else _ASCII | encoded | st.text(max_size=8))
    if is_base64 or draw(st.booleans()):
        parts["is_base64_encoded"] = is_base64
    if draw(st.integers(0, 9)) == 0:
        parts |= draw(st.sampled_from([{"body": None}, {"headers": None}, {"is_base64_encoded": None}]))
    parts = dict(draw(st.permutations(list(parts.items()))))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", "\r: ")]))
    text = json.dumps(parts, ensure_ascii=draw(st.integers(0, 4)) == 0, separators=separators)
    if draw(st.booleans()):
        text = text.replace("/", "\\/")
    return text.encode("utf-8", "surrogatepass")


_RIGHT = [
    b'{"status_code":200,"headers":{"content-type":"text/plain","x-a":["b","c"]},"body":"hello"}',
    b' { "status_code" : 404, "body" : "a\\n\\"b\\/\xc3\xa9" , "is_base64_encoded" : false } \n',
    b'{"headers":{"Set-Cookie":[ "a=b" , "c" ],"te":"x","X-Request-Id":"y"},"status_code":500}',
    b'{"body":"","headers":{},"status_code":201}',
]
_PIECES = [
    *TOKENS,
    *(bytes([char]) for char in b' \n\t,:{}[]"\\019aX-/\x7f\xe9\0'),
    b"\\n",
    b"\\/",
    b"\\u0041",
    b"\xc3\xa9",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(_RIGHT))
    for _ in range(draw(st.integers(1, 2))):
        at, removed = draw(st.integers(0, len(data))), draw(st.integers(0, 2))
        data = data[:at] + draw(st.just(b"") | st.sampled_from(_PIECES)) + data[at + removed :]
    return data


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_is_the_same_and_mostly_takes_the_short_way(method: str) -> None:
    assert 0.6 < share(lambda stdout: compare_answer(stdout, method=method), answers()) < 0.99


def test_a_broken_answer_is_the_same_or_left_to_python() -> None:
    assert 0.05 < share(compare_answer, mutated()) < 0.6


def test_any_bytes_are_left_to_python() -> None:
    # Hypothesis mixes in constants of the modules that are loaded, and some of them are answers.
    assert share(compare_answer, st.binary(max_size=60)) < 0.1


def _answer(**parts: Any) -> bytes:
    return json.dumps({"status_code": 200, **parts}, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "stdout",
    [
        _answer(),
        b' \t\r\n{ "status_code" : 200 } \n',
        _answer(body=""),
        _answer(body='é😀\x7f"\\/\b\f\n\r\t'),
        b'{"status_code":200,"body":"\\/\\b\\f\\"\\\\"}',
        _answer(headers={}),
        _answer(headers={"A": "  b  ", "B": " ", "set-cookie": ["a", "b"], "c": [], "d": [""], "e": ""}),
        _answer(headers={"x-request-id": "theirs", "Content-Length": "77", "te": ["a"], "upgrade": []}),
        _answer(headers={"a" * 64: "b"}),
        _answer(headers={f"n-{i}": "v" for i in range(64)}),
        _answer(headers={f"n-{i}": ["v"] * 16 for i in range(4)}),
        _answer(is_base64_encoded=False),
        b'{"body":"b","status_code":599,"headers":{"a":"b"},"is_base64_encoded":false}',
        _answer(body="x" * (8192 - len(_answer(body="")))),
        _answer(body="x" * 20_000),
        b'{"status_code":200,"body":"\\u0041\\u00e9\\u20AC\\uD83d\\ude00\\u0000"}',
        b'{"status_code":200,"headers":{"a":"\\u00e9 \\"","b":["\\u0020c\\t"]}}',
        *(_answer(status_code=status, body="x", headers={"a": "b"}) for status in (204, 205, 304)),
        *(_answer(headers={"a": value}) for value in ("a\tb", "é", '"', "\tÿ ")),
        *(_answer(body=body, is_base64_encoded=True) for body in ("", "AP8=", "AP//", "AA==", "aGVsbG8gdGhlcmU=")),
        b'{"status_code":200,"is_base64_encoded":true,"body":"AP\\/\\/"}',
        b'{"status_code":200,"body":null,"headers":null,"is_base64_encoded":null}',
        _answer(headers={"content-length": " 012 "}),
        _answer(headers={"content-length": "1x"}, body="a"),
        _answer(headers={"content-length": ["12"]}, body="a"),
    ],
)
def test_an_answer_takes_the_short_way(stdout: bytes) -> None:
    assert compare_answer(stdout)
    assert compare_answer(stdout, method="HEAD")


@pytest.mark.parametrize(
    "stdout",
    [
        b"",
        b"{}",
        b'{"status_code":200',
        b'{"status_code":200}}',
        b'{"status_code":200}\0',
        b'{"status_code":200,}',
        b'\xef\xbb\xbf{"status_code":200}',
        b'{"status_code":0200}',
        b'{"status_code":200.0}',
        b'{"status_code":200e0}',
        b'{"status_code":20}',
        b'{"status_code":200,"status_code":200}',
        b'{"status_code":200,"body":"a","body":"a"}',
        b'{"status_code":200,"body":"\xff"}',
        b'{"status_code":200,"body":"\xed\xa0\x80"}',
        b'{"status_code":200,"body":"\\ud800"}',
        b'{"status_code":200,"body":"\\ud800\\u0041"}',
        b'{"status_code":200,"body":"\\udc00"}',
        b'{"status_code":200,"body":"\\u00g0"}',
        b'{"status_code":200,"body":"\\u12',
        b'{"status_code":200,"body":"\\x"}',
        b'{"status_code":200,"body":"\\',
        b'{"status_code":200,"body":"\n"}',
        b'{"status_code":200,"headers":{"a":"b",}}',
        b'{"status_code":200,"headers":{"a":["b",]}}',
        b'{"status_code":200,"headers":[]}',
        b'{"status_code":200,"headers":{"\\u0061":"b"}}',
        *(_answer(status_code=status) for status in (199, 600, None)),
        *(_answer(body=body, is_base64_encoded=True) for body in ("A", "AP8", "AP8=A", "=", "A===", "AP 8", "AP-_")),
        _answer(headers={"a": "é" * 20_000}),
        _answer(headers={"a": "b" * 40_000}),
        *(_answer(headers={name: "x"}) for name in ("", "a b", "é", "connection", "Connection", "a" * 65)),
        *(_answer(headers={"a": value}) for value in ("Ā", "\x7f", "\r\n", None, 1, [1], [["a"]])),
        _answer(headers={"a": "1", "A": "2"}),
        _answer(headers={"te": "1", "TE": "2"}),
        _answer(headers={f"n-{i}": "v" for i in range(65)}),
        _answer(headers={"te": ["v"] * 101}),
        _answer(headers={name: ["v"] * 16 for name in ("te", "upgrade", "trailer", "keep-alive", "x-request-id",
                                                      "content-length", "proxy-connection")}),
        _answer(headers={f"n-{i}": "v" for i in range(60)} | {name: ["v"] * 25 for name in ("te", "trailer")}),
        _answer(is_base64_encoded=0),
        _answer(other=1),
    ],
)  # fmt: skip
def test_an_answer_is_left_to_python(stdout: bytes) -> None:
    assert not compare_answer(stdout)


_WWS = (("status_code", "status"), ("is_base64_encoded", "base64"), ("body", "data"))


@st.composite
def wws_answers(draw: st.DrawFn) -> bytes:
    text = draw(answers())
    for name, theirs in _WWS:
        text = text.replace(f'"{name}"'.encode(), f'"{theirs}"'.encode())
    kv = draw(
        st.sampled_from([b"", b"", b'"kv":{},', b'"kv":null,', b'"kv":{"a":"b"},', b'"kv":[1],', b'"kv":{"a":{}},'])
    )
    return text.replace(b"{", b"{" + kv, 1)


_FIELDS = [
    *(
        b"content-type: text/plain\n",
        b"Content-Type:a/b; c=d\r\n",
        b"X-A: b\n",
        b"X-a:\t\xe9 \r\n",
        b"Location: /a\r\n",
    ),
    *(b"content-length: 12\n", b"te: a\r\n", b"x_b: c\n", b"server:\n", b"Status: 200\n", b"status:404 Not Found\r\n"),
]
_ODD_FIELDS = [
    *(b" folded: 1\n", b"none\n", b": x\n", b"connection: x\n", b"a b: c\n", b"x: \x7f\n", b"x: \0\r\r\n", b"x: 1\n"),
    *(b"Status: 99\n", b"status: 2000\n", b"Status:\n", b"x-request-id: y\n", b"content-length: 1x\n"),
]


@st.composite
def cgi_answers(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.sampled_from(_FIELDS), min_size=1, max_size=4, unique_by=lambda line: line[:6].lower()))
    if draw(st.integers(0, 3)) == 0:
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(_ODD_FIELDS)))
    end = draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r\n", b""]))
    return b"".join(lines) + end + draw(st.binary(max_size=8))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_of_wws_is_the_same(method: str) -> None:
    assert 0.3 < share(lambda stdout: compare_answer(stdout, method=method, protocol="wws"), wws_answers()) < 0.99


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_of_cgi_is_the_same(method: str) -> None:
    assert 0.1 < share(lambda stdout: compare_answer(stdout, method=method, protocol="cgi"), cgi_answers()) < 0.9


@pytest.mark.parametrize("protocol", ["wws", "cgi"])
def test_any_bytes_are_left_to_python_by_a_protocol(protocol: str) -> None:
    share(lambda stdout: compare_answer(stdout, protocol=protocol), st.binary(max_size=60))
    assert not compare_answer(b"", protocol=protocol)


@pytest.mark.parametrize(
    ("protocol", "stdout"),
    [
        ("wws", b'{"data":"a"}'),
        ("wws", b'{"headers":{"x_a":"b","content_type":"a/b","Transfer_Encoding":"c"},"data":"a","status":201}'),
        ("wws", b'{"headers":{"content_length":"7"},"status":200}'),
        ("wws", b'{"headers":{"content-type":[]},"data":"a","kv":{"a":"b","c":"d"}}'),
        ("wws", b'{"base64":true,"data":"AP8="}'),
        ("cgi", b"content-type: text/plain\n\nbody\xff\n\n"),
        ("cgi", b"Status: 404\tNot there\r\nX-A: b\r\n\r\n"),
        ("cgi", b"location: /a\nContent-Length: 5\nServer: x\n\n"),
        ("cgi", b"status: 204\nContent-Type:\n\nnothing"),
        ("cgi", b"content-type: a\r\n\n" + b"x" * 200_000),
    ],
)
def test_an_answer_of_a_protocol_takes_the_short_way(protocol: str, stdout: bytes) -> None:
    for method in ("GET", "HEAD"):
        assert compare_answer(stdout, method=method, protocol=protocol)


@pytest.mark.parametrize(
    ("protocol", "stdout"),
    [
        ("wws", b"{}"),
        ("wws", b'{"headers":{"x_a":"b","x-a":"c"}}'),
        ("wws", b'{"kv":{"a":1}}'),
        ("wws", b'{"kv":{},"kv":{}}'),
        ("wws", b'{"status_code":200}'),
        ("wws", b'{"status":null}'),
        ("cgi", b"\nbody"),
        ("cgi", b"content-type: a\nbody"),
        ("cgi", b"x: a\n\n"),
        ("cgi", b"set-cookie: a\nset-cookie: b\nstatus: 200\n\n"),
        ("cgi", b"status: 600\n\n"),
        ("cgi", b"status: 200x\n\n"),
        ("cgi", b"content-type: a\n b\n\n"),
        ("cgi", b"content-type: a\nconnection: close\n\n"),
        ("cgi", b"content-type: a\nx: " + b"b" * 40_000 + b"\n\n"),
    ],
)
def test_an_answer_of_a_protocol_is_left_to_python(protocol: str, stdout: bytes) -> None:
    assert not compare_answer(stdout, protocol=protocol)
