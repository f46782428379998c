"""What component.c does, against the same steps from Python."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from running import engine
from test_component_wasi import importing

from starlette_wasm.components import module as module_
from starlette_wasm.components import quick_answers
from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.edge_call import EdgeCall
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.components.module import ComponentModule
from starlette_wasm.engine import capi
from starlette_wasm.engine.native.library import native
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits

pytestmark = pytest.mark.native
JS = Path(__file__).parents[1] / "guests" / "components" / "edge_js.wasm"
CLOCK = "wasi:clocks/monotonic-clock@0.2.0"


def outcomes(
    component: bytes, monkeypatch: pytest.MonkeyPatch, requests: list[str], limits: Limits | None = None
) -> list[list[Outcome]]:
    """What comes of the requests, by component.c and from Python."""
    code, facts = compile_component(engine().ptr, component)
    found = []
    for each in (native, None):
        monkeypatch.setattr(module_, "native", each)
        module = ComponentModule(engine(), code, facts)
        assert module.makes_edge_calls is (each is not None)
        found.append(asyncio.run(_ask(module, requests, limits or Limits(time=20))))
    return found


async def _ask(module: ComponentModule, requests: list[str], limits: Limits) -> list[Outcome]:
    plan, found = ComponentPlan(module, limits), []
    for request in requests:
        invocation = ComponentInvocation(plan, request.encode())
        found.append(await invocation.run(time.monotonic() + limits.time, nullcontext))
        found[-1].cpu_s = 0
        await asyncio.sleep(0)
    return found


def component(
    handle: str = "(i32.const 16)", realloc: str = "(i32.const 1024)", post: str = "", place: tuple[int, int] = (80, 2)
) -> bytes:
    """It answers "hé" at 80, or what is at another place; ``handle`` gives where that is noted."""
    returns = '(post-return (core func $i "post"))' if post else ""
    return capi.assemble(f"""(component
     (core module $m (memory (export "mem") 1) (data (i32.const 80) "h\\c3\\a9\\ff")
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
      (func (export "post") (param i32) {post})
      (func (export "handle") (param i32 i32) (result i32)
       (i32.store (i32.const 16) (i32.const {place[0]})) (i32.store (i32.const 20) (i32.const {place[1]})) {handle}))
     (core instance $i (instantiate $m))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc"))
       {returns})))""")


@pytest.mark.parametrize(
    ("made", "end"),
    [
        pytest.param(component(place=(80, 3)), End.OK, id="text"),
        pytest.param(component(place=(80, 0)), End.OK, id="empty"),
        pytest.param(component(place=(1024, 5)), End.OK, id="request"),
        pytest.param(component(place=(4096, 60_000)), End.OK, id="long"),
        pytest.param(component(place=(80, 3), post="(i32.store (i32.const 80) (i32.const 0))"), End.OK, id="returns"),
        pytest.param(component(place=(4096, 60_000), post="nop"), End.OK, id="long, returns"),
        pytest.param(component(place=(80, 2)), End.TRAP, id="cut"),
        pytest.param(component(place=(80, 4)), End.TRAP, id="invalid"),
        pytest.param(component(place=(65_530, 7)), End.TRAP, id="out of bounds"),
        pytest.param(component(place=(-1, 2)), End.TRAP, id="far out of bounds"),
        pytest.param(component(place=(16, -1)), End.TRAP, id="endless"),
        pytest.param(component(handle="(i32.const 18)"), End.TRAP, id="unaligned"),
        pytest.param(component(handle="(i32.const 65532)"), End.TRAP, id="noted out of bounds"),
        pytest.param(component(handle="(unreachable)"), End.TRAP, id="trap"),
        pytest.param(component(realloc="(i32.const 65535)"), End.TRAP, id="room out of bounds"),
        pytest.param(component(realloc="(i32.const -2)"), End.TRAP, id="room far out of bounds"),
        pytest.param(component(realloc="(unreachable)"), End.TRAP, id="trap in realloc"),
        pytest.param(component(place=(80, 3), post="unreachable"), End.TRAP, id="trap in post-return"),
        pytest.param(component(place=(4096, 60_000), post="unreachable"), End.TRAP, id="long, trap in post-return"),
    ],
)
def test_both_ways_come_to_the_same(made: bytes, end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = outcomes(made, monkeypatch, ["héllo", "x" * 300, "again"])
    assert one == other
    assert {each.end for each in one} == {end}


def test_long_answers_of_guests_that_ask_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = capi.assemble("""(component
     (core module $m (memory (export "mem") 8)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
      (func (export "handle") (param i32 i32) (result i32)
       (i32.store (i32.const 16) (i32.const 64)) (i32.store (i32.const 20) (i32.const 500000)) (i32.const 16)))
     (core instance $i (instantiate $m))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc")))))""")
    one, other = outcomes(made, monkeypatch, ["x"] * 2)
    assert one == other
    assert [(each.end, len(each.stdout)) for each in one] == [(End.OK, 500_000)] * 2


def test_answers_beyond_the_bound_end_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    made = component(place=(4096, 1001))
    for found in outcomes(made, monkeypatch, ["x"], Limits(stdout=1000)):
        assert found[0].end is End.OUTPUT


def test_guests_that_never_return_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for found in outcomes(component("(loop (br 0)) (i32.const 16)"), monkeypatch, ["x"] * 2, Limits(time=0.05)):
        assert [each.end for each in found] == [End.TIMEOUT] * 2


def test_javascript_answers_the_same_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [json.dumps({"path": f"/{i}", "body": "é" * size}) for i, size in enumerate((0, 10, 9000, 0))]
    one, other = outcomes(JS.read_bytes(), monkeypatch, requests)
    assert one == other
    assert [json.loads(each.stdout)["body"] for each in one] == [f"hello /{i} 1 1 é" for i in range(4)]


def asking_in_text(place: str) -> str:
    """It asks for the time where it may not: in its realloc, or in what is called after it has returned."""
    ask = "(drop (call $now))"
    return f"""(component
     (import "{CLOCK}" (instance $c (export "now" (func (result u64)))))
     (core func $now (canon lower (func $c "now")))
     (core module $m (import "" "now" (func $now (result i64))) (memory (export "mem") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) {ask if place == "realloc" else ""}
       (i32.const 1024))
      (func (export "post") (param i32) {ask if place == "post" else ""})
      (func (export "handle") (param i32 i32) (result i32) {ask} (i32.const 16)))
     (core instance $i (instantiate $m (with "" (instance (export "now" (func $now))))))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc"))
       (post-return (core func $i "post")))))"""


def asking_in(place: str) -> bytes:
    return capi.assemble(asking_in_text(place))


@pytest.mark.parametrize("place", ["realloc", "post", "nowhere"])
def test_instances_are_not_left_where_they_may_not_be(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = outcomes(asking_in(place), monkeypatch, ["x"] * 2)
    assert [(each.end, each.reason) for each in one] == [(each.end, each.reason) for each in other]
    reason = "" if place == "nowhere" else "cannot leave component instance"
    assert [each.reason for each in one] == [reason] * 2


@pytest.mark.parametrize("place", ["realloc", "post"])
def test_context_may_be_asked_for_everywhere(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the guest goes on: what it calls afterwards is left to Python here, which knows whether it may."""
    monkeypatch.setattr(quick_answers, "_OF_ALL", {})
    text = asking_in_text("nowhere")
    text = text.replace(
        "(core module $m ",
        """(core func $get (canon context.get i32 0))
     (core module $m (import "" "get" (func $get (result i32))) """,
    )
    text = text.replace('(export "now" (func $now))', '(export "now" (func $now)) (export "get" (func $get))')
    head = {"realloc": '(func (export "realloc") (param i32 i32 i32 i32) (result i32)',
            "post": '(func (export "post") (param i32)'}[place]  # fmt: skip
    one, other = outcomes(capi.assemble(text.replace(head, f"{head} (drop (call $get))")), monkeypatch, ["x"] * 2)
    assert [(each.end, each.reason) for each in one] == [(End.OK, "")] * 2
    assert one == other


U64 = ("(result u64)", "(result i64)")
CALLS = {
    "now": (
        CLOCK,
        *U64,
        "(i32.and (i64.gt_u (call $f) (i64.const 0)) (i64.eqz (i64.rem_u (call $f) (i64.const 1000000))))",
    ),
    "resolution": (CLOCK, *U64, "(i64.eq (call $f) (i64.const 1000000))"),
    "get-random-u64": ("wasi:random/random@0.2.0", *U64, "(i64.ne (call $f) (call $f))"),
    "get-random-bytes": (
        "wasi:random/random@0.2.0",
        '(param "len" u64) (result (list u8))',
        "(param i64 i32)",
        """(block (result i32) (call $f (i64.const 1000) (i32.const 96)) (i32.and
         (i32.eq (i32.load (i32.const 100)) (i32.const 1000))
         (i64.ne (i64.load offset=992 (i32.load (i32.const 96))) (i64.const 0))))""",
    ),
}


def answering(name: str, kind: str, condition: str) -> bytes:
    """It answers B if the condition holds, else A."""
    interface, type_text, core, _ = CALLS[name]
    return capi.assemble(importing(
        f'(import "{interface}" (instance $e {kind} (export "{name}" (func {type_text}))))',
        f"""(core func $f (canon lower (func $e "{name}") (memory (core memory $l "mem"))
         (realloc (core func $l "realloc"))))""",
        core,
        f"""(i32.store8 (i32.const 80) (i32.add (i32.const 65) {condition}))
         (i32.store (i32.const 16) (i32.const 80)) (i32.store (i32.const 20) (i32.const 1))""",
    ))  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_answered_both_ways(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for found in outcomes(answering(name, "", CALLS[name][3]), monkeypatch, ["x"] * 3):
        assert [(each.end, each.stdout) for each in found] == [(End.OK, b"B")] * 3
        assert all(each.host_calls for each in found)


@pytest.mark.parametrize(
    ("size", "place"), [("8", "97"), ("8", "65532"), ("8", "-4"), ("1099511627776", "96"), ("65537", "96")]
)
def test_odd_requests_for_bytes_end_the_same(size: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    condition = f"(block (result i32) (call $f (i64.const {size}) (i32.const {place})) (i32.const 1))"
    one, other = outcomes(answering("get-random-bytes", "", condition), monkeypatch, ["x"] * 2)
    assert [(each.end, each.reason) for each in one] == [(each.end, each.reason) for each in other]
    assert {each.end for each in one} == {End.OK if size == "65537" else End.TRAP}


def test_the_wall_clock_is_answered_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    made = importing(
        """(import "wasi:clocks/wall-clock@0.2.0" (instance $e
         (type $r (record (field "seconds" u64) (field "nanoseconds" u32))) (export "datetime" (type $x (eq $r)))
         (export "now" (func (result $x)))))""",
        '(core func $f (canon lower (func $e "now") (memory (core memory $l "mem"))))',
        "(param i32)",
        """(call $f (i32.const 96)) (i32.store8 (i32.const 80) (i32.add (i32.const 65) (i32.and
         (i64.gt_u (i64.load (i32.const 96)) (i64.const 1700000000))
         (i32.eqz (i32.rem_u (i32.load (i32.const 104)) (i32.const 1000000))))))
         (i32.store (i32.const 16) (i32.const 80)) (i32.store (i32.const 20) (i32.const 1))""",
    )
    for found in outcomes(capi.assemble(made), monkeypatch, ["x"] * 2):
        assert [(each.end, each.stdout) for each in found] == [(End.OK, b"B")] * 2


def test_an_error_of_the_host_while_it_lifts_frees_the_guest_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """component.c has freed the call by then. That once more would end the process."""
    large = component("(i32.const 16)", place=(80, 1 << 15))
    code, facts = compile_component(engine().ptr, large)
    module = ComponentModule(engine(), code, facts)

    def lacks(self: EdgeCall) -> bytes:
        raise MemoryError

    monkeypatch.setattr(EdgeCall, "_lifted", lacks)
    monkeypatch.setattr(EdgeCall, "_checked", staticmethod(lacks))
    for _ in range(3):
        with pytest.raises(MemoryError):
            asyncio.run(_ask(module, ["hello"], Limits(time=20)))
    assert not module.busy
