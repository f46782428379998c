"""What a guest gives to ``edge.call``: any bytes are a frame or an error value, and every operation answers it."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

from starlette_wasm.capabilities import Capabilities, CapabilitySettings, Operation, Session, frame
from starlette_wasm.capabilities.errors import CapabilityError, Code
from starlette_wasm.config.policy import SandboxPolicy

from .source import Source

TOKENS = (
    b'{"namespace":"n","key":"k"}', b'{"queue":"q"}', b'"url":"http://a/"', b'"headers":{"a":["b"]}', b'"ttlMs":1',
    b'"by":1', b'"etag":"x"', b'"cursor":"x"', b'"limit":1', b'"prefix":""', b'"attributes":{"a":"b"}',
    b'"method":"GET"', b"\\ud800", b"\\u0000", b"null", b"1e999", b"-1", b"9007199254740993", b"9223372036854775808",
    b"true", b"[]", b"{}", b'"":',
)  # fmt: skip

_runner = asyncio.Runner()
_capabilities = Capabilities(CapabilitySettings(kv_url="sqlite://", queue_url="sqlite://"))
_grants = _capabilities.grants(SandboxPolicy(kv_namespaces=["n"], queues=["q"]))
_OPERATIONS = (*Operation, *(each.title for each in Operation), 0, 99, "x\n", "")


def check(data: bytes) -> None:
    """The first byte picks the operation, the second whether the rest is a payload or the header in one."""
    source = Source(data)
    operation = source.pick(_OPERATIONS)
    framed, body, payload = source.flag(), source.take(2), source.rest()
    if framed:
        payload = struct.pack("<I", len(payload)) + payload + body
    _decode(payload)
    session = Session(_capabilities, _grants, deadline=float("inf"))
    reply, _ = frame.decode(_runner.run(session.call(operation, payload)))
    if not reply["ok"]:
        error: Any = reply["error"]
        assert error["code"] in set(Code) - {Code.INTERNAL}, error
        assert error["message"].isprintable(), error
        assert len(error["message"]) < 500, error
    assert all(len(each.message) < 500 for each in session.violations)


def close() -> None:
    """The stores, and their thread."""
    _runner.run(_capabilities.close())


def _decode(payload: bytes) -> None:
    try:
        header, body = frame.decode(payload)
    except CapabilityError as error:
        assert error.code == Code.BAD_REQUEST
        return
    text = payload[4 : len(payload) - len(body)]
    assert header == json.loads(text)
    assert payload.endswith(body)
    assert len(text) == int.from_bytes(payload[:4], "little")
