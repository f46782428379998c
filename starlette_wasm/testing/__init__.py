"""A test kit: functions called in one line, with a real engine, stubbed hosts and stores that can be looked into.

::

    from starlette_wasm.testing import WasmKit

    with WasmKit("wasm.yaml") as wasm:
        wasm.hosts.answer("https://api.example.com/rates", json={"EUR": 1})
        answer = wasm.call("quote", "/api/v1/quote?currency=EUR")
        assert answer.status == 200
        assert wasm.kv["quotes"]["EUR"] == b"1"

With pytest the fixture ``wasm`` of :mod:`starlette_wasm.testing.plugin` is such a kit.
"""

from ..capabilities import Violation
from .answer import Answer
from .calls import Call, Line, Span
from .hosts import Hosts, OutboundRequest
from .kit import WasmKit
from .stores import KvSpace, Message

__all__ = [
    "Answer",
    "Call",
    "Hosts",
    "KvSpace",
    "Line",
    "Message",
    "OutboundRequest",
    "Span",
    "Violation",
    "WasmKit",
]
