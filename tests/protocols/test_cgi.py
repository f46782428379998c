from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm.messages import EdgeRequest, EdgeResponse
from starlette_wasm.protocols import ResponseError, get_protocol
from starlette_wasm.protocols.headers import render

cgi = get_protocol("cgi")


def environ(route="/app", client=("192.0.2.7", 5000), **fields):
    pairs = cgi.environ(EdgeRequest(**fields), route=route, client=client)
    found = dict(pairs)
    assert len(found) == len(pairs), "a variable is set twice"
    return found


def test_the_environment_is_that_of_cgi_and_wagi():
    found = environ(
        path="/app/a b",
        method="POST",
        headers={"host": "a.org:8080", "user-agent": "curl", "content-type": "text/plain", "x-y": "é"},
        query={"q": "1"},
        body="é",
        url="http://a.org:8080/v1/app/a b?q=1&r=%20",
        raw_path="/v1/app/a%20b",
    )
    assert found == {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "starlette-wasm",
        "SERVER_NAME": "a.org",
        "SERVER_PORT": "8080",
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "/v1/app",
        "PATH_INFO": "/a b",
        "PATH_TRANSLATED": "/a b",
        "QUERY_STRING": "q=1&r=%20",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "2",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_HOST": "192.0.2.7",
        "AUTH_TYPE": "",
        "REMOTE_USER": "",
        "X_MATCHED_ROUTE": "/app",
        "X_FULL_URL": "http://a.org:8080/v1/app/a b?q=1&r=%20",
        "X_RAW_PATH_INFO": "/a%20b",
        "HTTP_HOST": "a.org:8080",
        "HTTP_USER_AGENT": "curl",
        "HTTP_X_Y": "é",
    }


@pytest.mark.parametrize(
    ("route", "path", "script", "info"),
    [
        ("/app", "/app", "/app", ""),
        ("/app", "/app/", "/app", "/"),
        ("/app/", "/app/x", "/app", "/x"),
        ("/", "/x/y", "", "/x/y"),
        ("/{rest:path}", "/x/y", "", "/x/y"),
        ("/files/{rest:path}", "/files/a//b", "/files", "/a//b"),
        ("/files/{rest:path}", "/files/", "/files", "/"),
        ("/u/{id}", "/u/7", "/u/7", ""),
        ("/u/{id:int}/{rest:path}", "/u/7/x", "/u/7", "/x"),
        ("/u/{id}", "/u/7/more", "/u/7", "/more"),
        ("/a/{rest:path}/z", "/a/b/c/z", "/a/b/c/z", ""),
        ("", "", "", ""),
    ],
)
def test_script_name_is_what_the_route_matched_and_path_info_the_rest(route, path, script, info):
    found = environ(route=route, path=path)
    assert (found["SCRIPT_NAME"], found["PATH_INFO"], found["X_MATCHED_ROUTE"]) == (script, info, route)


@pytest.mark.parametrize(
    ("raw_path", "raw_info"),
    [
        ("/app/a%2Fb%20c", "/a%2Fb%20c"),
        ("/m/app/a/b%20c", "/a/b%20c"),
        ("", "/a/b%20c"),
        ("/something/else", "/a/b%20c"),
        ("/a%", "/a/b%20c"),
    ],
)
def test_raw_path_info_is_as_the_client_sent_it_where_that_is_known(raw_path, raw_info):
    assert environ(path="/app/a/b c", raw_path=raw_path)["X_RAW_PATH_INFO"] == raw_info


@pytest.mark.parametrize(
    ("url", "host", "name", "port"),
    [
        ("https://a.org/", "b.org", "a.org", "443"),
        ("http://a.org:81/", "b.org", "a.org", "81"),
        ("http://[::1]:81/", "b.org", "[::1]", "81"),
        ("/path", "b.org:82", "b.org", "82"),
        ("", "b.org", "b.org", "80"),
    ],
)
def test_server_name_and_port_come_from_the_url_else_from_the_host_header(url, host, name, port):
    found = environ(url=url, headers={"host": host})
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == (name, port)


def test_a_request_without_a_url_gets_one():
    found = environ(path="/a b", query={"q": "é", "r": "2"}, multi_value_query={"r": ["1", "2"]}, client=None)
    assert found["X_FULL_URL"] == "http://localhost/a%20b?q=%C3%A9&r=1&r=2"
    assert found["QUERY_STRING"] == "q=%C3%A9&r=1&r=2"
    assert found["REMOTE_ADDR"] == ""


def test_a_proxy_header_never_becomes_http_proxy():
    assert "HTTP_PROXY" not in environ(headers={"proxy": "http://evil.org"})


def test_credentials_and_what_is_the_connections_are_not_passed():
    hidden = ["authorization", "proxy-authorization", "connection", "transfer-encoding", "content-length"]
    found = environ(headers=dict.fromkeys(hidden, "x"))
    assert not [name for name in found if name.startswith("HTTP_")]
    assert found["CONTENT_LENGTH"] == "0"


def test_a_header_that_could_be_mistaken_for_another_is_not_passed():
    assert environ(headers={"x_user": "root", "x-user": "me", "x!": "1"})["HTTP_X_USER"] == "me"
    assert "HTTP_X!" not in environ(headers={"x!": "1"})


@given(
    st.text(st.characters() | st.just("\0")),
    st.dictionaries(st.text(st.characters()), st.text(st.characters())),
)
def test_no_variable_has_a_nul_or_a_lone_surrogate(path, headers):
    for name, value in environ(path=f"/app/{path}", headers=headers, query=headers, raw_path=path).items():
        assert "\0" not in name + value
        (name + value).encode()


def test_the_body_is_on_stdin_as_bytes():
    assert cgi.encode(EdgeRequest()) == b""
    assert cgi.encode(EdgeRequest(body="é")) == "é".encode()
    assert cgi.encode(EdgeRequest(body="/w==", is_base64_encoded=True)) == b"\xff"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_header_lines_may_end_either_way(end):
    stdout = end.join([b"Status: 201 Created", b"Content-Type:text/plain", b"X-A: b: c ", b"", b"a\n\nb\r\n"])
    assert cgi.decode(stdout) == EdgeResponse(201, {"content-type": "text/plain", "x-a": "b: c"}, "a\n\nb\r\n")


def test_the_status_is_200_by_default():
    assert cgi.decode(b"content-type: a/b\n\n") == EdgeResponse(200, {"content-type": "a/b"})


def test_a_location_alone_redirects():
    assert cgi.decode(b"Location: /x\n\n") == EdgeResponse(302, {"location": "/x"})
    assert cgi.decode(b"Location: /x\nStatus: 307\n\n").status_code == 307


def test_a_status_alone_is_enough_as_in_wagi():
    assert cgi.decode(b"Status: 404 Not Found\n\n") == EdgeResponse(404)


@given(st.binary())
def test_a_body_may_be_any_bytes(body):
    response = cgi.decode(b"content-type: a/b\r\n\r\n" + body)
    assert response.content == body
    assert render(response, "GET")[2] == body


def test_repeated_headers_become_a_list():
    assert cgi.decode(b"Content-Type: a/b\nSet-Cookie: a\nset-cookie: b\nSET-COOKIE: c\n\n").headers == {
        "content-type": "a/b",
        "set-cookie": ["a", "b", "c"],
    }


def test_headers_that_are_the_hosts_are_dropped():
    stdout = b"Content-Type: a/b\nContent-Length: -1\nContent-Length: 5\nConnection: x-a\nX-A: b\n\n"
    assert cgi.decode(stdout).headers == {"content-type": "a/b"}


@pytest.mark.parametrize(
    ("stdout", "problem", "offset"),
    [
        (b"", "no blank line", 0),
        (b"content-type: a/b\n", "no blank line", 18),
        (b"content-type: a/b\n \nbody", "no blank line", 24),
        (b"\nbody", "neither content-type nor location", 0),
        (b"X-A: b\n\n", "neither content-type nor location", 0),
        (b"HTTP/1.1 200 OK\ncontent-type: a/b\n\n", "header line without a name and a colon", 0),
        (b"content-type: a/b\nx\n\n", "header line without a name and a colon", 18),
        (b"content-type: a/b\n folded: x\n\n", "header line without a name and a colon", 18),
        (b"content-type: a/b\n: x\n\n", "illegal header name", 18),
        (b"content-type: a/b\nStatus : 200\n\n", "illegal header name", 18),
        (b"content-type: a/b\nx-a: b\rc\n\n", "illegal character", 18),
        (b"content-type: a/b\nx-a: \0\n\n", "illegal character", 18),
        (b"content-type: a/b\ncontent-type: a/c\n\n", "header 'content-type' given twice", 0),
        (b"location: a/b\nlocation: a/c\n\n", "header 'location' given twice", 0),
        (b"status: 200\nstatus: 200\n\n", "status must be", 0),
        (b"status: 100\n\n", "status must be", 0),
        (b"status: 999\n\n", "status must be", 0),
        (b"status: 2000\n\n", "status must be", 0),
        (b"status: +20\n\n", "status must be", 0),
        (b"status: \xb2\xb2\xb2\n\n", "status must be", 0),
        (b"status:\n\n", "status must be", 0),
    ],
)
def test_what_is_no_cgi_response_is_refused_with_the_byte_at_fault(stdout, problem, offset):
    with pytest.raises(ResponseError) as caught:
        cgi.decode(stdout)
    assert caught.value.problem.startswith(problem)
    assert caught.value.offset == offset


def test_the_header_block_is_bounded():
    hundred = b"content-type: a/b\n" + b"".join(b"x-%d:\n" % i for i in range(99))
    assert len(cgi.decode(hundred + b"status: 200\n\n").headers) == 100
    with pytest.raises(ResponseError, match="more than 100 headers"):
        cgi.decode(hundred + b"x:\n\n")
    with pytest.raises(ResponseError, match="more than 100 headers"):
        cgi.decode(b"a:\n" * 10_000 + b"\n")
    with pytest.raises(ResponseError, match="no blank line within"):
        cgi.decode(b"x: " + b"a" * 8 * 1024 * 1024 + b"\n\n")
    with pytest.raises(ResponseError, match="more than 32768 bytes"):
        cgi.decode(b"content-type: " + b"a" * 32_768 + b"\n\n")


@given(
    st.binary(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                b"Status: 200",
                b"Status:",
                b"Location: /",
                b"Content-Type: a",
                b"x: y",
                b"\n",
                b"\r\n",
                b"\0",
                b" ",
                b":",
            ]
        )
    ).map(b"".join)
)
def test_random_output_raises_nothing_but_a_response_error(stdout):
    with suppress(ResponseError):
        for name, value in render(cgi.decode(stdout), "GET")[1]:
            assert not set(name + value) & set(b"\r\n\0")
