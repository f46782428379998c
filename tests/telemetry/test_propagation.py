"""The context of a request is what the global propagator reads, whether or not it is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import baggage, propagate
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from starlette_wasm.telemetry import propagation

TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def given() -> Iterator[CompositePropagator]:
    """Put a propagator that is not the default in its place."""
    before, mine = propagate.get_global_textmap(), CompositePropagator([TraceContextTextMapPropagator()])
    propagate.set_global_textmap(mine)
    yield mine
    propagate.set_global_textmap(before)


def extracted(*headers: tuple[bytes, bytes]) -> Context:
    scope = {"type": "http", "headers": [(b"host", b"a"), *headers]}
    found = propagation.extract_scope(scope)
    expected = propagate.extract(scope, getter=propagation._of_scope)
    assert found.keys() == expected.keys()
    assert get_current_span(found).get_span_context() == get_current_span(expected).get_span_context()
    return found


@pytest.mark.parametrize("name", [b"traceparent", b"TraceParent"])
def test_a_trace_is_read(name: bytes) -> None:
    assert get_current_span(extracted((name, TRACEPARENT))).get_span_context().span_id == 0x00F067AA0BA902B7


def test_baggage_alone_is_read() -> None:
    assert baggage.get_all(extracted((b"baggage", b"a=b"))) == {"a": "b"}


def test_other_headers_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extracted() == Context()
    monkeypatch.setattr(propagate, "extract", lambda *given, **named: pytest.fail("it was asked"))
    assert propagation.extract_scope({"type": "http", "headers": [(b"accept", b"*/*")]}) == Context()


def test_another_propagator_is_always_asked(given: CompositePropagator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_current_span(extracted((b"traceparent", TRACEPARENT))).get_span_context().is_remote
    asked: list[object] = []
    monkeypatch.setattr(given, "extract", lambda carrier, *more, **named: asked.append(carrier) or Context())
    assert extracted((b"x-trace", b"1")) == Context()
    assert len(asked) == 2  # once by this test
