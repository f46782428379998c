from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm.messages import EdgeContext, EdgeRequest, EdgeResponse
from starlette_wasm.protocols import ResponseError, get_protocol

edge = get_protocol("edge")

text = st.text(st.characters(), max_size=8)
maps = st.dictionaries(text, text, max_size=3)
lists = st.dictionaries(text, st.lists(text, max_size=3), max_size=2)
contexts = st.builds(
    EdgeContext,
    text,
    text,
    st.booleans(),
    text,
    text,
    st.integers(0, 2**40),
    st.none() | text,
    st.none() | text,
)
requests = st.builds(
    EdgeRequest, text, text, maps, maps, st.none() | text, st.booleans(), maps, text, lists, lists, contexts
)


def test_every_key_is_there_but_repeated_values_only_where_there_are_some():
    keys = ["path", "method", "headers", "query", "body", "is_base64_encoded", "params", "url", "context"]
    plain = EdgeRequest(context=EdgeContext("r"))
    assert list(json.loads(edge.encode(plain))) == keys
    repeated = EdgeRequest(
        context=EdgeContext("r"), multi_value_headers={"a": ["1", "2"]}, multi_value_query={"b": ["3", "4"]}
    )
    assert list(json.loads(edge.encode(repeated))) == [
        *keys[:-1],
        "multi_value_headers",
        "multi_value_query",
        "context",
    ]


def test_stdin_is_compact_utf_8():
    stdin = edge.encode(EdgeRequest("/é", body="ü\n", context=EdgeContext("r", deadline_ms=5000)))
    assert stdin.startswith('{"path":"/é","method":"GET","headers":{},"query":{},"body":"ü\\n",'.encode())
    assert b'"deadline_ms":5000,"traceparent":null,"tracestate":null}}' in stdin
    assert b" " not in stdin


def expected(request):
    found = asdict(request)
    del found["raw_path"], found["mount"]  # for the cgi protocol alone
    for key in ("multi_value_headers", "multi_value_query"):
        if not found[key]:
            del found[key]
    return found


def clean(value):
    """The value as UTF-8 can carry it; keys that become the same collapse, as in the JSON."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {clean(key): clean(each) for key, each in value.items()}
    return [clean(each) for each in value] if isinstance(value, list) else value


@given(requests)
def test_any_request_is_read_back_from_stdin_with_lone_surrogates_replaced(request):
    assert json.loads(edge.encode(request)) == clean(expected(request))


@given(st.binary())
def test_a_body_of_any_bytes_reaches_the_guest_and_comes_back(body):
    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    stdin = json.loads(edge.encode(EdgeRequest.from_scope(scope, body, path="/", params={})))
    stdout = {
        "status_code": 200,
        "body": stdin["body"] or "",
        "is_base64_encoded": stdin["is_base64_encoded"],
    }
    assert edge.decode(json.dumps(stdout).encode()).content == body


@pytest.mark.parametrize(
    ("body", "is_base64"),
    [
        ("\0" * 65_536, False),
        ("\0" * 65_537, True),
        ("\0aaaa😀" * 50_000, False),
        ("\0\0a😀" * 50_000, True),
        ('"\n' * 50_000, False),
    ],
)
def test_a_large_body_of_control_characters_is_base64_and_not_six_times_as_long(body: str, is_base64: bool):
    encoded = edge.encode(EdgeRequest(body=body))
    stdin = json.loads(encoded)
    assert stdin["is_base64_encoded"] is is_base64
    assert EdgeRequest(body=stdin["body"], is_base64_encoded=is_base64).content == body.encode()
    assert len(body) <= 65_536 or len(encoded) < 2.2 * len(body.encode())


def test_the_protocol_adds_no_environment():
    assert edge.environ(EdgeRequest(), route="/", client=None) == []


def test_only_the_status_is_required():
    assert edge.decode(b' {"status_code":204}\n') == EdgeResponse(204)


def test_a_whole_response_is_decoded_with_clean_headers():
    stdout = {
        "status_code": 418,
        "headers": {"Content-Type": " text/plain ", "Set-Cookie": ["a", "b"], "Content-Length": "-5"},
        "body": "é😀",
        "is_base64_encoded": False,
        "more": {"is": ["ignored", None]},
    }
    wanted = EdgeResponse(418, {"content-type": "text/plain", "set-cookie": ["a", "b"]}, "é😀")
    assert edge.decode(json.dumps(stdout).encode()) == wanted
    assert edge.decode(json.dumps(stdout, ensure_ascii=False, indent=2).encode()) == wanted


@pytest.mark.parametrize(
    ("stdout", "problem", "offset"),
    [
        (b"", "empty", 0),
        (b"{}", "'status_code' is missing", None),
        (b'{"status_code":0}', "status must be an integer from 200 to 599", 15),
        (b'{"status_code":99}', "status must be", 15),
        (b'{"status_code":100}', "status must be", 15),
        (b'{"status_code":101}', "status must be", 15),
        (b'{"status_code":600}', "status must be", 15),
        (b'{"status_code":1000}', "status must be", 15),
        (b'{"status_code":-200}', "status must be", 15),
        (b'{"status_code":true}', "'status_code' must be an integer", 15),
        (b'{"status_code":"200"}', "'status_code' must be an integer", 15),
        (b'{"status_code":200.0}', "'status_code' must be an integer", 15),
        (b'{"status_code":2e2}', "'status_code' must be an integer", 15),
        (b'{"status_code":null}', "'status_code' must be an integer", 15),
        (b'{"status_code":200,"status_code":200}', "duplicate key", 19),
        (b'{"status_code":200,"body":{}}', "'body' must be a string", 26),
        (b'{"status_code":200,"headers":{"a b":""}}', "illegal header name 'a b'", 29),
        (b'{"body":"\xc3\xa9","status_code":1}', "status must be", 27),
        (b'{"status_code":200,"headers":{"a":"b\\r\\nc: d"}}', "illegal character", 29),
        (b'{"status_code":200,"headers":{"a":"\\ud800"}}', "illegal character", 29),
        (b'{"status_code":200,"headers":{"A":"","a":""}}', "header 'a' given twice", 29),
        (b'{"status_code":200,"body":"A","is_base64_encoded":true}', "body is not valid base64", 26),
        (b'{"status_code":200,"body":"AA==\\n","is_base64_encoded":true}', "body is not valid base64", 26),
        (b'{"status_code":200,"is_base64_encoded":"true"}', "'is_base64_encoded' must be true or false", 39),
    ],
)
def test_what_is_no_response_is_refused_with_the_byte_at_fault(stdout, problem, offset):
    with pytest.raises(ResponseError) as caught:
        edge.decode(stdout)
    assert caught.value.problem.startswith(problem)
    assert caught.value.offset == offset
    assert offset is None or f"at byte {offset}" in str(caught.value)


def test_too_many_headers_are_refused():
    headers = {f"x-{i}": "" for i in range(101)}
    with pytest.raises(ResponseError, match="more than 100 headers"):
        edge.decode(json.dumps({"status_code": 200, "headers": headers}).encode())
    with pytest.raises(ResponseError, match="more than 100 headers"):
        edge.decode(json.dumps({"status_code": 200, "headers": {"a": [""] * 101}}).encode())


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda body: b'{"status_code":200,' + body.encode()))
def test_random_output_raises_nothing_but_a_response_error(stdout):
    with suppress(ResponseError):
        edge.decode(stdout)


@given(st.binary())
def test_base64_bodies_are_decoded(content):
    stdout = {"status_code": 200, "body": b64encode(content).decode(), "is_base64_encoded": True}
    assert edge.decode(json.dumps(stdout).encode()).content == content


def test_an_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown protocol 'http'; choose one of edge, wws, cgi"):
        get_protocol("http")
