from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm.messages import EdgeContext, EdgeRequest, EdgeResponse
from starlette_wasm.protocols import ResponseError, get_protocol

wws = get_protocol("wws")


def test_a_worker_reads_what_wasm_workers_server_would_give_it():
    request = EdgeRequest(
        "/user/é",
        "POST",
        {"host": "a.org"},
        {"q": "1"},
        "hi",
        params={"id": "é"},
        url="http://a.org/user/é?q=1",
        context=EdgeContext("r"),
    )
    assert json.loads(wws.encode(request)) == {
        "url": "http://a.org/user/é?q=1",
        "method": "POST",
        "headers": {"host": "a.org"},
        "body": "hi",
        "kv": {},
        "params": {"id": "é"},
    }


@pytest.mark.parametrize("request_", [EdgeRequest(), EdgeRequest(body="/w==", is_base64_encoded=True)])
def test_no_body_and_one_that_is_no_text_are_an_empty_string(request_):
    assert json.loads(wws.encode(request_))["body"] == ""


def test_the_protocol_adds_no_environment():
    assert wws.environ(EdgeRequest(), route="/", client=None) == []


def test_a_workers_answer_is_decoded_and_its_key_value_state_ignored():
    stdout = {
        "data": "hi",
        "headers": {"X-A": "1", "content-type": "text/plain"},
        "status": 201,
        "kv": {"a": "b"},
    }
    wanted = EdgeResponse(201, {"x-a": "1", "content-type": "text/plain"}, "hi")
    assert wws.decode(json.dumps(stdout).encode()) == wanted


def test_everything_may_be_left_out():
    assert wws.decode(b"{}") == EdgeResponse(200)


def test_a_body_without_a_content_type_is_html():
    assert wws.decode(b'{"data":"hi"}').headers == {"content-type": "text/html"}


def test_underscores_in_header_names_are_hyphens():
    stdout = b'{"headers":{"content_type":"a/b","x_y_z":"1","content_length":"9","transfer_encoding":"x"}}'
    assert wws.decode(stdout).headers == {"content-type": "a/b", "x-y-z": "1"}
    with pytest.raises(ResponseError, match="given twice"):
        wws.decode(b'{"headers":{"x_y":"1","x-y":"1"}}')


def test_base64_data_are_bytes():
    response = wws.decode(b'{"data":"/w==","base64":true,"headers":{"content-type":"image/png"}}')
    assert response.content == b"\xff"
    with pytest.raises(ResponseError, match="base64 at byte 8"):
        wws.decode(b'{"data":"/w","base64":true}')


@pytest.mark.parametrize("stdout", [b"", b'{"status":100}', b'{"status":"200"}', b'{"data":1}', b'{"base64":1}'])
def test_what_is_no_answer_is_refused(stdout):
    with pytest.raises(ResponseError):
        wws.decode(stdout)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda body: b'{"data":"' + body.encode()))
def test_random_output_raises_nothing_but_a_response_error(stdout):
    with suppress(ResponseError):
        wws.decode(stdout)
