from __future__ import annotations

from base64 import b64encode

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import URL, QueryParams

from starlette_wasm.messages import EdgeContext, EdgeRequest, EdgeResponse, to_utf8


def scope(**changes):
    return {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/a/b",
        "raw_path": b"/a/b",
        "query_string": b"",
        "server": ("127.0.0.1", 8000),
        "headers": [(b"host", b"example.org")],
        **changes,
    }


def request(body=b"", path="/a/b", params=None, **changes):
    return EdgeRequest.from_scope(scope(**changes), body, path=path, params=params or {})


def test_a_plain_request_has_what_the_scope_says():
    assert request(method="PUT", path="/b", root_path="/a") == EdgeRequest(
        path="/b",
        method="PUT",
        headers={"host": "example.org"},
        url="http://example.org/a/b",
        raw_path="/a/b",
    )


def test_header_names_are_lower_case_and_values_latin_1():
    headers = request(headers=[(b"X-Name", "Zoë".encode("latin-1"))]).headers
    assert headers == {"x-name": "Zoë"}


def test_repeated_headers_are_joined_and_listed_and_single_ones_are_not_listed():
    found = request(
        headers=[(b"accept", b"a"), (b"cookie", b"x=1"), (b"accept", b"b"), (b"cookie", b"y=2"), (b"te", b"")]
    )
    assert found.headers == {"accept": "a, b", "cookie": "x=1; y=2", "te": ""}
    assert found.multi_value_headers == {"accept": ["a", "b"], "cookie": ["x=1", "y=2"]}


def test_the_last_value_of_a_repeated_query_key_counts_and_all_are_listed():
    found = request(query_string=b"a=1&b=&a=2&c&a=%C3%A9+")
    assert found.query == {"a": "é ", "b": "", "c": ""}
    assert found.multi_value_query == {"a": ["1", "2", "é "]}


def test_parameters_of_any_type_become_strings():
    assert request(params={"id": 7, "name": "x"}).params == {"id": "7", "name": "x"}


def test_an_empty_body_is_none():
    found = request()
    assert (found.body, found.is_base64_encoded, found.content) == (None, False, b"")


def test_a_body_that_is_not_utf8_is_base64():
    found = request(b"\xff\x00")
    assert (found.body, found.is_base64_encoded, found.content) == ("/wA=", True, b"\xff\x00")


@given(st.binary() | st.text().map(str.encode))
def test_any_body_comes_back_as_it_was(body):
    found = request(body)
    assert found.content == body
    assert found.is_base64_encoded == (found.body is not None and found.body.encode() != body)


HOSTS = [
    b"example.org",
    b"example.org:8080",
    b"EXAMPLE.org:0080",
    b"example.org:54321",
    b"example.org:64999",
    b"example.org:65535",
    b"example.org:65536",
    b"example.org:99999",
    b"127.0.0.1:80",
    b"[::1]:8000",
    b"[::1",
    b"a b",
    b"a/b",
    b"user@host",
    b"",
    b"\xff",
]


@pytest.mark.parametrize("headers", [[], *([(b"host", host)] for host in HOSTS)])
@pytest.mark.parametrize("server", [None, ("10.0.0.1", 80), ("10.0.0.1", 8000), ("::1", 443)])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("path", ["/", "/a/b.c", "//evil.org/x"])
@pytest.mark.parametrize("query_string", [b"", b"a=1&b=%20"])
def test_the_url_is_the_one_starlette_builds(headers, server, scheme, path, query_string):
    changes = {"headers": headers, "server": server, "scheme": scheme, "path": path}
    changes["query_string"] = query_string
    assert EdgeRequest.from_scope(scope(**changes), b"", path="", params={}).url == str(URL(scope=scope(**changes)))


@pytest.mark.parametrize("host", [b"example.org", b"127.0.0.1:8000", b"127.0.0.1:54321"])
def test_a_common_host_needs_no_url_object(host, monkeypatch):
    monkeypatch.setattr("starlette_wasm.messages.URL", None)
    assert request(headers=[(b"host", host)]).url == f"http://{host.decode()}/a/b"


def test_the_path_in_the_url_is_percent_encoded():
    changes = {"path": "/a é?b#c\\d\r\n%", "headers": [(b"host", b"example.org")]}
    found = EdgeRequest.from_scope(scope(**changes), b"", path="/", params={})
    assert found.url == "http://example.org/a%20%C3%A9%3Fb%23c%5Cd%0D%0A%25"


def test_the_first_of_two_host_headers_makes_the_url():
    assert request(headers=[(b"host", b"a.org"), (b"host", b"b.org")]).url == "http://a.org/a/b"


def test_a_unix_socket_without_a_host_header_gives_a_path():
    assert request(headers=[], server=("/run/app.sock", None), query_string=b"q").url == "/a/b?q"


def test_raw_bytes_in_the_query_string_are_percent_encoded_not_raised_for():
    found = request(query_string=b"a=\xff%20&b=1")
    assert found.url == "http://example.org/a/b?a=%FF%20&b=1"
    assert found.query["b"] == "1"


@given(st.binary(max_size=40))
def test_any_query_string_is_read_as_starlette_reads_it(query_string):
    found = request(query_string=query_string)
    expected = QueryParams(query_string)
    assert found.query == dict(expected)
    assert {**{key: [value] for key, value in found.query.items()}, **found.multi_value_query} == {
        key: expected.getlist(key) for key in expected
    }
    found.url.encode("ascii")


def test_requests_of_the_asgi_transport_are_read():
    seen = []

    async def app(scope, receive, send):
        message = await receive()
        seen.append(EdgeRequest.from_scope(scope, message["body"], path=scope["path"], params={}))
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def post():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
            await client.post("/a%20b%2Fc?x=1", content="hi", headers={"x-y": "z"})

    anyio.run(post)
    assert seen[0].path == "/a b/c"
    assert seen[0].raw_path == "/a%20b%2Fc"
    assert seen[0].url == "http://testserver/a%20b%2Fc?x=1"
    assert (seen[0].body, seen[0].headers["x-y"], seen[0].query) == ("hi", "z", {"x": "1"})


def test_two_messages_share_no_mutable_default():
    assert EdgeRequest().headers is not EdgeRequest().headers
    assert EdgeResponse(200).headers is not EdgeResponse(200).headers


def test_a_context_has_neutral_defaults():
    assert EdgeContext("r") == EdgeContext("r", "", False, "", "", 0, None, None)


@given(st.binary())
def test_a_base64_response_gives_its_bytes(content):
    assert EdgeResponse(200, {}, b64encode(content).decode(), True).content == content


def test_a_changed_base64_body_gives_the_new_bytes():
    response = EdgeResponse(200, {}, "AA==", True)
    assert response.content == b"\0"
    response.body = "AQ=="
    assert response.content == b"\1"


def test_bytes_that_were_decoded_already_do_not_make_responses_unequal():
    one, other = EdgeResponse(200, {}, "AA==", True), EdgeResponse(200, {}, "AA==", True)
    assert one.content == b"\0"
    assert one == other
    assert "_decoded" not in repr(one)


@pytest.mark.parametrize("body", ["A", "AA", "AA=", "A===", "AA==AA==", "A A=", "é", "AA==\n"])
def test_a_body_that_is_no_base64_is_a_value_error(body):
    with pytest.raises(ValueError):  # noqa: PT011 (binascii.Error, with a text of its own)
        EdgeResponse(200, {}, body, True).content  # noqa: B018
    with pytest.raises(ValueError):  # noqa: PT011
        EdgeRequest(body=body, is_base64_encoded=True).content  # noqa: B018


def test_lone_surrogates_become_the_replacement_character_and_pairs_one_character():
    assert to_utf8("a\ud800b\udc00") == "a\ufffdb\ufffd".encode()
    assert to_utf8("\ud83d\ude00\ud800") == "😀\ufffd".encode()
    assert EdgeResponse(200, {}, "\udfff").content == "\ufffd".encode()


@given(st.text(st.characters()))
def test_any_text_can_be_encoded(text):
    assert to_utf8(text).decode() == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
