"""What of one step's response, and what of the client's request, the next step gets."""

from __future__ import annotations

from starlette_wasm import EdgeRequest, EdgeResponse
from starlette_wasm.pipelines.handover import hand_over

CLIENT = EdgeRequest(
    path="/p/7",
    method="PUT",
    headers={
        "host": "shop.example",
        "authorization": "secret",
        "cookie": "id=1",
        "content-type": "application/json",
        "traceparent": "00-1-2-01",
        "idempotency-key": "k",
    },
    query={"a": "1"},
    body="{}",
    params={"id": "7"},
    url="http://shop.example/p/7?a=1",
    multi_value_headers={"cookie": ["id=1", "id=2"]},
    multi_value_query={"a": ["0", "1"]},
    raw_path="/t/1/p/7",
    mount="/t/{id}",
)


def test_body_and_headers_come_from_the_response_all_else_from_the_client() -> None:
    made = hand_over(CLIENT, "r-1", EdgeResponse(201, {"content-type": "image/png", "x-a": "1"}, "AA==", True))
    assert (made.body, made.is_base64_encoded) == ("AA==", True)
    for name in ("path", "method", "query", "params", "url", "multi_value_query", "raw_path", "mount"):
        assert getattr(made, name) == getattr(CLIENT, name)
    assert made.headers == {
        "x-request-id": "r-1",
        "host": "shop.example",
        "traceparent": "00-1-2-01",
        "idempotency-key": "k",
        "content-type": "image/png",
        "x-a": "1",
    }
    assert made.multi_value_headers == {}


def test_what_is_for_clients_and_caches_stays_behind() -> None:
    headers: dict[str, str | list[str]] = {
        "set-cookie": ["a=1", "b=2"],
        "etag": '"1"',
        "location": "/x",
        "cache-control": "no-store",
        "www-authenticate": "Basic",
        "x-kept": "1",
    }
    made = hand_over(CLIENT, "r-1", EdgeResponse(200, headers, "x"))
    assert made.headers.keys() & headers.keys() == {"x-kept"}


def test_a_step_cannot_forge_what_is_the_clients() -> None:
    forged = {"host": "evil", "traceparent": "00-9-9-01", "tracestate": "x=y", "x-region": "moon",
              "x-request-id": "r-2", "idempotency-key": "other"}  # fmt: skip
    made = hand_over(CLIENT, "r-1", EdgeResponse(200, dict(forged), "x"))
    assert made.headers == {
        "x-request-id": "r-1",
        "host": "shop.example",
        "traceparent": "00-1-2-01",
        "idempotency-key": "k",
    }


def test_repeated_headers_are_joined_and_listed() -> None:
    made = hand_over(CLIENT, "r-1", EdgeResponse(200, {"x-a": ["1", "2"], "cookie": ["c=1", "d=2"]}, "x"))
    assert (made.headers["x-a"], made.headers["cookie"]) == ("1, 2", "c=1; d=2")
    assert made.multi_value_headers == {"x-a": ["1", "2"], "cookie": ["c=1", "d=2"]}


def test_an_empty_body_is_none() -> None:
    for response in (EdgeResponse(200), EdgeResponse(204, {}, "left out"), EdgeResponse(200, {}, "", True)):
        made = hand_over(CLIENT, "r-1", response)
        assert (made.body, made.is_base64_encoded) == (None, False)
