"""What guests add to the trace: under their execute span, bounded, and never in the place of what the host says."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from apps import run
from collecting import Collector, Make, traceparent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode
from test_guest_capabilities import GUESTS, failure, ok, upstream

from starlette_wasm import EdgeRequest, WasmError, WasmRuntime
from starlette_wasm.capabilities.trace import MAX_ATTRIBUTES
from starlette_wasm.telemetry import Telemetry

C = "edge_c"
HOSTS_OWN = {"starlette_wasm.guest.cpu_s", "starlette_wasm.guest.memory_peak", "starlette_wasm.host_calls"}


async def ask(runtime: WasmRuntime, *commands: Any, guest: str = C, policy: str | None = None) -> Any:
    body: Any = list(commands) if guest == C and len(commands) > 1 else commands[0]
    request = EdgeRequest(method="POST", body=json.dumps(body))
    return json.loads((await runtime.invoke(guest, request, policy=policy)).body)


def start(name: str, **attributes: Any) -> dict[str, Any]:
    return {"op": "trace.start", "name": name, "attributes": attributes}


def end(span: int, **more: Any) -> dict[str, Any]:
    return {"op": "trace.end", "span": span, **more}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def inside(span: ReadableSpan) -> range:
    assert span.start_time is not None
    assert span.end_time is not None
    return range(span.start_time, span.end_time + 1)


@pytest.mark.parametrize("guest", GUESTS)
def test_each_sdk_starts_and_ends_spans_sets_attributes_and_records_events(
    make: Make, collector: Collector, guest: str
) -> None:
    async def main() -> None:
        async with make(functions=[guest]) as runtime:
            answer = await ask(runtime, {"op": "trace"}, guest=guest)
        assert answer == {"ok": True, "outer": 1, "inner": 2, "again": "bad-request"}
        assert collector.tree() == [guest, ["wasm execute", ["outer", ["inner"]]]]
        outer, inner, execute = (collector.span(name) for name in ("outer", "inner", "wasm execute"))
        assert attributes(outer) == {"guest.key": "v", "guest.done": True}
        assert outer.status.status_code is StatusCode.UNSET
        assert (inner.status.status_code, inner.status.description) == (StatusCode.ERROR, "it broke")
        assert [(event.name, dict(event.attributes or {})) for event in inner.events] == [("tick", {"guest.n": 1})]
        assert not outer.events
        scopes = {each.name: each.instrumentation_scope for each in (outer, execute)}
        assert {name: scope and scope.name for name, scope in scopes.items()} == {
            "outer": "starlette_wasm.guest",
            "wasm execute": "starlette_wasm",
        }
        assert inside(inner).start in inside(outer)
        assert inside(outer).stop - 1 in inside(execute)

    run(main())


@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("listening", [False, True])
def test_where_nobody_records_all_goes_well(make: Make, guest: str, listening: bool) -> None:
    """Without an SDK, and if the sampler drops the trace."""
    off = Collector(ALWAYS_OFF)

    async def main() -> None:
        telemetry = off.telemetry() if listening else Telemetry()
        async with make(functions=[guest], telemetry=telemetry) as runtime:
            assert await ask(runtime, {"op": "trace"}, guest=guest) == {"ok": True, "outer": 0, "inner": 0, "again": ""}
        assert off.spans == []

    run(main())


def test_what_is_left_open_ends_with_the_guest(make: Make, collector: Collector) -> None:
    async def main() -> None:
        async with make(functions=[C]) as runtime:
            await ask(runtime, start("outer"), start("inner"))
            with pytest.raises(WasmError):
                await ask(runtime, start("trapped"), {"op": "trap"})
        names = {"outer", "inner", "trapped"}
        assert names < {span.name for span in collector.spans}
        for name in names:
            span = collector.span(name)
            parents = [each for each in collector.spans if each.context and span.parent]
            (parent,) = [each for each in parents if span.parent and each.context.span_id == span.parent.span_id]
            assert parent.name == ("outer" if name == "inner" else "wasm execute")
            assert inside(span).stop - 1 in inside(parent)

    run(main())


def test_a_guest_that_runs_out_of_time_leaves_no_span_open(make: Make, collector: Collector) -> None:
    async def main() -> None:
        async with upstream(None) as server:
            slow = server.policy(executionTimeoutMs=300)
            async with make(functions=[C], policies={"slow": slow}) as runtime:
                with pytest.raises(WasmError):
                    await ask(runtime, start("call"), {"op": "http.fetch", "url": server.url}, policy="slow")
        assert collector.tree() == [C, ["wasm execute", ["call", ["GET"]]]]

    run(main())


def test_a_request_belongs_to_the_span_that_is_open(make: Make, collector: Collector) -> None:
    fetch = {"op": "http.fetch"}

    async def main() -> None:
        async with upstream(ok("")) as server:
            fetch["url"] = server.url
            web = {"web": server.policy(maxNetworkRequests=3)}
            async with make(functions=[C], policies=web) as runtime:
                await ask(runtime, fetch, start("rates"), fetch, end(1), fetch, policy="web")
            sent = [request.partition("traceparent: ")[2][:55] for request in server.requests]
        assert collector.tree() == [C, ["wasm execute", ["GET"], ["rates", ["GET"]], ["GET"]]]
        assert sent == [traceparent(span) for span in collector.spans if span.name == "GET"]

    run(main())


def test_spans_may_end_in_any_order_and_each_once(make: Make, collector: Collector) -> None:
    async def main() -> None:
        async with make(functions=[C]) as runtime:
            answers = await ask(
                runtime,
                *(start("a"), start("b"), end(1), start("c"), end(1), end(7), end(2), end(0), end(-5), end(3)),
                {"op": "trace.set", "span": 3, "attributes": {"x": 1}},
                {"op": "trace.event", "span": 9, "name": "e"},
            )
        assert [each["ok"] for each in answers] == [*[True] * 4, False, False, True, True, False, True, False, False]
        assert {failure(each) for each in answers if not each["ok"]} == {
            ("bad-request", "bad request: span is not open"),
            ("bad-request", "bad request: span is not from 0 to 2147483647"),
        }
        assert collector.tree() == [C, ["wasm execute", ["a", ["b", ["c"]]]]]

    run(main())


def test_a_guest_cannot_paint_the_spans_of_the_host(make: Make, collector: Collector) -> None:
    painted = {"error.type": "none", "starlette_wasm.guest.cpu_s": 0, "faas.name": "other", "http.route": "/x", "": 1}

    async def main() -> None:
        async with make(functions=[C]) as runtime:
            await ask(runtime, {"op": "trace.set", "attributes": painted}, {"op": "trace.event", "name": "exception"})
        execute = collector.span("wasm execute")
        assert {name for name in attributes(execute) if not name.startswith("guest.")} == HOSTS_OWN
        assert attributes(execute)["starlette_wasm.guest.cpu_s"] > 0
        assert {f"guest.{name}": value for name, value in painted.items()}.items() <= attributes(execute).items()
        assert execute.status.status_code is StatusCode.UNSET
        assert [event.name for event in execute.events] == ["exception"]

    run(main())


def test_names_and_values_are_escaped_and_cut(make: Make, collector: Collector) -> None:
    evil = "a\r\n\x1b[31m\u2028"
    shown = "a\\r\\n\\x1b[31m\\u2028"

    async def main() -> None:
        async with make(functions=[C]) as runtime:
            await ask(
                runtime,
                start(evil + "x" * 500, **{evil: evil, "k" * 500: "v" * 5000}),
                {"op": "trace.event", "name": evil * 100},
                end(1, error=evil + "x" * 5000),
            )
        (span,) = [each for each in collector.spans if each.name.startswith("a")]
        assert span.name == shown + "x" * (128 - len(evil)) + "..."
        assert attributes(span) == {f"guest.{shown}": shown, f"guest.{'k' * 128}...": "v" * 1024 + "..."}
        assert span.events[0].name.isprintable()
        assert len(span.events[0].name) < 128 * 6
        assert span.status.description == shown + "x" * (1024 - len(evil)) + "..."

    run(main())


def test_the_policy_bounds_spans_and_events(make: Make, collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    event = {"op": "trace.event", "name": "e"}

    async def main() -> None:
        policies = {"few": {"maxSpans": 2, "maxTraceEvents": 1}, "none": {"maxSpans": 0, "maxTraceEvents": 0}}
        async with make(functions=[C], policies=policies) as runtime:
            answers = await ask(runtime, start("a"), end(1), start("b"), end(2), start("c"), event, event, policy="few")
            assert [each["ok"] for each in answers] == [True, True, True, True, False, True, False]
            assert failure(answers[4]) == ("trace-exceeded", "too many spans in the trace: at most 2 in an invocation")
            assert failure(answers[6]) == ("trace-exceeded", "too many events in the trace: at most 1 in an invocation")
            answers = await ask(runtime, start("a"), event, policy="none")
            assert {failure(each)[0] for each in answers} == {"trace-exceeded"}
        assert [span.name for span in collector.spans if len(span.name) == 1] == ["a", "b"]
        violations = collector.metrics()["starlette_wasm.policy.violations"].data.data_points
        assert [(point.attributes["starlette_wasm.policy.violation"], point.value) for point in violations] == [
            ("trace-exceeded", 4)
        ]

    with caplog.at_level(logging.WARNING, "starlette_wasm.guest"):
        run(main())
    assert "edge_c v1: trace.start: too many spans in the trace: at most 2 in an invocation" in caplog.text


def test_attributes_are_bounded_so_that_those_of_the_host_stay(make: Make, collector: Collector) -> None:
    many = {f"k{i}": i for i in range(MAX_ATTRIBUTES)}

    async def main() -> None:
        async with make(functions=[C]) as runtime:
            set_many, one = {"op": "trace.set", "attributes": many}, {"op": "trace.set", "attributes": {"one": 1}}
            first, second = await ask(runtime, set_many, one)
        assert first["ok"] is True
        assert failure(second)[0] == "trace-exceeded"
        found = attributes(collector.span("wasm execute"))
        assert len(found) == MAX_ATTRIBUTES + len(HOSTS_OWN) + 1
        assert "starlette_wasm.policy.violations" in found
        assert set(found) > HOSTS_OWN

    run(main())


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ({"op": "trace.start", "name": ""}, "name is empty"),
        ({"op": "trace.event", "name": ""}, "name is empty"),
        (start("a", list=[1]), "attributes has a value that is not a string, bool or number"),
        (start("a", null=None), "attributes has a value that is not a string, bool or number"),
        (start("a", big=1 << 63), "attributes has a value that is not a string, bool or number"),
        ({"op": "trace.set", "attributes": [1]}, "attributes is not an object"),
        ({"op": "trace.end"}, "span is missing"),
    ],
)
def test_what_is_malformed_is_an_error_value(
    make: Make, collector: Collector, command: dict[str, Any], message: str
) -> None:
    async def main() -> None:
        async with make(functions=[C]) as runtime:
            assert failure(await ask(runtime, command)) == ("bad-request", f"bad request: {message}")
        assert collector.tree() == [C, ["wasm execute"]]

    run(main())


def test_guests_at_once_add_to_their_own_trace(make: Make, collector: Collector) -> None:
    """Each waits for the same server, so that all are under way at once."""
    guests = 10

    async def main() -> None:
        come = asyncio.Event()

        async def answer(head: str) -> bytes:
            if len(server.requests) == guests:
                come.set()
            await come.wait()
            return ok("")

        async with upstream(answer) as server, make(functions=[C], policies={"web": server.policy()}) as runtime:
            fetch = {"op": "http.fetch", "url": server.url}
            await asyncio.gather(
                *(ask(runtime, start(f"s{i}", i=i), fetch, end(1), policy="web") for i in range(guests))
            )
        by_id = {span.context.span_id: span for span in collector.spans if span.context}
        for i in range(guests):
            span = collector.span(f"s{i}")
            assert attributes(span) == {"guest.i": i}
            assert span.parent
            assert by_id[span.parent.span_id].name == "wasm execute"
        requests = [span for span in collector.spans if span.name == "GET"]
        assert sorted(by_id[span.parent.span_id].name for span in requests if span.parent) == sorted(
            f"s{i}" for i in range(guests)
        )

    run(main())
