"""What wasi_http.c answers to handlers of wasi:http, against the same from Python, by the guest ``http_calls``."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from running import engine
from texts import ALLOCATOR

from starlette_wasm.components import module as module_
from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.http_call import HttpCall
from starlette_wasm.components.http_exchange import HttpExchange
from starlette_wasm.components.http_head import unpack
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.components.module import ComponentModule
from starlette_wasm.components.typed import TypedCall
from starlette_wasm.components.wasi.http import read_message
from starlette_wasm.engine import capi, layout
from starlette_wasm.engine.native.library import native
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits

pytestmark = pytest.mark.native
GUESTS = Path(__file__).parents[1] / "guests" / "components"
LIMITS = Limits(time=60)
ENVIRON = layout.strings([b"A=1", b"B==2", b"C"])
REQUEST, OUTPARAM, FIELDS, RESPONSE, BODY, STREAM, POLLABLE, INCOMING, INPUT, TRAILERS = "iofrbspcnt"
STEPS: dict[str, tuple[str, str]] = {
    **dict.fromkeys("msup", (REQUEST, "")), "h": (REQUEST, FIELDS), "E": ("", ""), "A": ("", ""), "C": ("", ""),
    "f": ("", FIELDS), "l": ("", FIELDS), "c": (FIELDS, FIELDS), "r": (FIELDS, RESPONSE), "T": (RESPONSE, ""),
    **dict.fromkeys("agie", (FIELDS, "")), "t": (RESPONSE, ""), "H": (RESPONSE, FIELDS), "b": (RESPONSE, BODY),
    "w": (BODY, STREAM), "F": (BODY, ""), **dict.fromkeys("kWBLM", (STREAM, "")), "S": (STREAM, POLLABLE),
    **dict.fromkeys("PRK", (POLLABLE, "")), "x": (REQUEST, ""), "y": (FIELDS, ""), "z": (RESPONSE, ""),
    "v": (STREAM, ""), "n": (POLLABLE, ""), "o": (OUTPARAM, ""), "D": (REQUEST, INCOMING), "N": (INCOMING, INPUT),
    **dict.fromkeys("dj", (INPUT, "")), "V": (INPUT, POLLABLE), "I": (INCOMING, TRAILERS), "U": (TRAILERS, POLLABLE),
    "J": (TRAILERS, ""), "Y": (INPUT, ""), "Z": (INCOMING, ""), "Q": (TRAILERS, ""),
}  # fmt: skip
"""What the steps of a script take and make: a letter for each kind of resource."""
TAKEN = "rFxyzvnIYZQ"
"""Steps after which the handle is no longer there."""
ANSWER = "f02r23b34w45o13B50F40"
CONTENT = "".join(f"{number:04}" for number in range(20_000))
LENGTHS = 0, 2, 300, 5000, 80_000


def script_of(seed: int) -> str:
    """Steps at random, most of which have handles of the right kind."""
    chance = random.Random(seed)
    held: dict[int, str] = {0: REQUEST, 1: OUTPARAM}
    found = []
    for _ in range(chance.randrange(1, 40)):
        step = chance.choice([*STEPS, *"frbwWBDNdj"])
        takes, makes = STEPS[step]
        fitting = [number for number, kind in held.items() if kind == takes]
        if takes and not fitting and chance.random() < 0.99:
            continue
        first = chance.choice(fitting or range(10))
        second = chance.randrange(2, 10) if makes or step == "P" else chance.randrange(10)
        if step == "P":
            second = chance.choice(fitting or range(10))
        if step == "o" and chance.random() < 0.3:
            responses = [number for number, kind in held.items() if kind == RESPONSE]
            if not responses:
                continue
            second = chance.choice(responses)
            held = {number: kind for number, kind in held.items() if number not in (1, second)}
        elif step == "o":
            continue
        if step == "l":
            first = chance.randrange(10)
        if step in TAKEN:
            held.pop(first, None)
        if makes:
            held[second] = makes
        found.append(f"{step}{first}{second}")
    answers = OUTPARAM in held.values() and chance.random() < 0.5
    return "".join(found) + ANSWER * answers + "." * chance.randrange(2)


@cache
def compiled(guest: str) -> tuple[bytes, dict[str, Any]]:
    return compile_component(engine().ptr, (GUESTS / f"{guest}.wasm").read_bytes())


def plans(guest: str, monkeypatch: pytest.MonkeyPatch) -> list[ComponentPlan]:
    """One whose calls are answered in C, and one without the C library."""
    found = []
    for each in (native, None):
        monkeypatch.setattr(module_, "native", each)
        module = ComponentModule(engine(), *compiled(guest))
        assert module.makes_http_calls is (each is not None)
        found.append(ComponentPlan(module, LIMITS))
    return found


def message(path: str, **parts: Any) -> bytes:
    headers = {"host": "example.com:80", "accept": "text/html", "x-a": "1, é"}
    given = {"path": "/", "method": "GET", "headers": headers, "multi_value_headers": {"x-a": ["1", "é"]}, "query": {},
             "body": None, "is_base64_encoded": False, "url": f"http://example.com:80/{path}"}  # fmt: skip
    return json.dumps(given | parts).encode()


async def ask(plan: ComponentPlan, request: bytes, exchange: HttpExchange | None = None) -> Any:
    invocation = ComponentInvocation(plan, request, ENVIRON)
    invocation.exchange = exchange
    outcome = await invocation.run(time.monotonic() + LIMITS.time, nullcontext)
    await asyncio.sleep(0)
    answer = json.loads(outcome.stdout) if outcome.stdout[:1] == b"{" else outcome.stdout
    return outcome.end, outcome.reason, answer, outcome.stderr


async def ask_streaming(plan: ComponentPlan, request: bytes) -> Any:
    """What leaves through an exchange; the body comes in two parts, the second once the guest waits."""
    exchange = HttpExchange(most_out=LIMITS.stdout, patience=0)
    content = read_message(request)[1]
    exchange.request.put(content[: len(content) // 3])

    def come() -> None:
        if not exchange.request.closed:
            exchange.request.put(content[len(content) // 3 :])
            exchange.request.closed = True

    exchange.on_wait = come
    end, reason, _, err = await ask(plan, request, exchange)
    body = exchange.response
    left = None if body is None else (body.closed, body.total, body.take_pieces(1 << 20), body.trailers)
    return end, reason, err, exchange.head, exchange.declared, exchange.broken, left


def test_scripts_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, slow = plans("http_calls", monkeypatch)

    async def go() -> list[tuple[str, End]]:
        found = []
        for seed in range(250):
            script = script_of(seed)
            ask_as = ask if seed % 2 else ask_streaming
            given = message(script, body=CONTENT[: LENGTHS[seed // 2 % len(LENGTHS)]])
            one, other = await ask_as(fast, given), await ask_as(slow, given)
            assert one == other, (seed, script)
            found.append((script, one[0]))
        return found

    ends = [end for _, end in asyncio.run(go())]
    assert min(ends.count(End.OK), ends.count(End.TRAP)) > 10, "both are tested"


@pytest.mark.parametrize(
    ("script", "end"),
    [
        pytest.param("f02r23b34w45o13B50F40.", End.OK, id="an answer"),
        pytest.param("l62r23b34w45o13B52F40.", End.OK, id="fields of one name"),
        pytest.param("l12r23b34w45o13B52F40.", End.OK, id="as long as declared"),
        pytest.param("l12r23b34w45o13B51F40.", End.OK, id="shorter than declared"),
        pytest.param("l12r23b34w45o13B51B54F40", End.OK, id="longer than declared"),
        pytest.param("f02r23b34w45B57o13B58F40.", End.OK, id="more than fits"),
        pytest.param("h02c23r34o14.", End.OK, id="the fields of the request"),
        pytest.param("h02e20g28g21a21.", End.TRAP, id="reads, and gives no answer"),
        pytest.param("h02a21f03a36a37a35a38a39", End.TRAP, id="what is not valid"),
        pytest.param("f02r23t37o13.", End.OK, id="status out of range"),
        pytest.param("f02r23t36o13.", End.OK, id="status above 599"),
        pytest.param("f02r23O10.", End.TRAP, id="an error"),
        pytest.param("f02r23b34w45S56S57P67K60R60v50n60k50", End.TRAP, id="polls, and a stream that is gone"),
        pytest.param("f02r23b34b35w46w47", End.TRAP, id="a body twice"),
        pytest.param("D02N23d33d34j38Y30I24J40J40" + ANSWER, End.OK, id="a body in parts"),
        pytest.param("D02N23V34P44d38R40K40j38j38U25" + ANSWER, End.TRAP, id="a body, polled"),
        pytest.param("D02N23j38j38j38I24U45P55J40Z20", End.TRAP, id="a body to its end, and dropped"),
        pytest.param("D02N23N24", End.TRAP, id="a stream twice"),
        pytest.param("D02D03", End.TRAP, id="consumed twice"),
        pytest.param("m22", End.TRAP, id="no handle"),
        pytest.param("e00", End.TRAP, id="a handle of another kind"),
        pytest.param("E00A00C00p00u00s00m00h02y20", End.TRAP, id="environment"),
        pytest.param("f02r23o13F20", End.TRAP, id="a trap behind the answer"),
        pytest.param("f02r23o13b34w45B51F40.", End.TRAP, id="a body behind the answer"),
    ],
)
def test_both_ways_answer_alike(script: str, end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    for plan_of in (ask, ask_streaming):
        given = message(script, body=CONTENT[:5000])
        one, other = [asyncio.run(plan_of(plan, given)) for plan in plans("http_calls", monkeypatch)]
        assert one == other
        assert one[0] is end or plan_of is ask_streaming  # which holds lengths as well


@pytest.mark.parametrize(
    "script",
    [
        *("f02r23b34w45o13B50F40.", "p00h02u00s00e20" + ANSWER, "f02r23O10", "K00", ""),
        *("D02N23V34d33d36J00", "D02N23d34j36j36I24J40J40" + ANSWER, "D02I23J30J30"),
    ],
)
def test_what_was_begun_at_once_goes_on(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From where it is, whatever it is given to answer by."""
    fast, _ = plans("http_calls", monkeypatch)
    given = message(script, body=CONTENT[:5000])
    head, content = read_message(given)
    packed = head.pack()
    assert unpack(packed) == head

    async def begun(exchange: HttpExchange | None) -> Any:
        invocation = ComponentInvocation(fast, packed, ENVIRON)
        invocation.is_packed = True
        invocation.content = content
        invocation.engine.ticker.ensure_armed()
        invocation.try_at_once()
        invocation.exchange = exchange
        outcome = await invocation.run(time.monotonic() + LIMITS.time, nullcontext)
        await asyncio.sleep(0)
        return outcome.end, outcome.reason, outcome.stderr, outcome.stdout

    async def go() -> None:
        end, reason, err, stdout = await begun(None)
        assert await ask(fast, given) == (end, reason, json.loads(stdout) if stdout else b"", err)
        exchange, other = (HttpExchange(most_out=LIMITS.stdout, patience=0) for _ in range(2))
        for each in (exchange, other):
            each.request.put(content)
            each.request.closed = True
        end, reason, _, err = await ask(fast, given, other)
        assert (await begun(exchange))[:3] == (end, reason, err)
        assert (len(exchange.request), exchange.reads) == (len(other.request), other.reads)
        assert (exchange.head is not None) == (ANSWER[:6] in script and "O" not in script)

    asyncio.run(go())


def test_one_that_is_dropped_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, _ = plans("http_calls", monkeypatch)
    live = engine().state.live

    async def go() -> None:
        invocation = ComponentInvocation(fast, read_message(message(""))[0].pack(), ENVIRON)
        invocation.is_packed = True
        invocation.engine.ticker.ensure_armed()
        invocation.try_at_once()
        assert engine().state.live == live + 1
        invocation.drop()
        async with asyncio.timeout(30):
            while engine().state.live != live:
                await asyncio.sleep(0.01)

    asyncio.run(go())


def test_calls_are_answered_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a plain handler calls."""
    fast, _ = plans("http_calls", monkeypatch)
    monkeypatch.setattr(HttpCall, "take_over", None)
    steps = "D04N45V56K60d58j58n60I47U78R80J70Q70Y50m00s00u00p00h02e20g20c23y30E00A00C00f04a40r45t50T50H56b57w78k80S89"
    steps += "P99K90R90n90L80M80W81o15v80F70x00."
    given = asyncio.run(ask(fast, message(steps, body=CONTENT[:5000])))
    assert given[0] is End.OK
    assert given[2]["status_code"] == 200


WITH_TYPED = f"""(component
 (import "wasi:cli/environment@0.2.0" (instance $env
  (export "get-environment" (func (result (list (tuple string string)))))))
 (import "wasi:http/types@0.2.0" (instance $t
  (export "incoming-request" (type (sub resource))) (export "response-outparam" (type $out (sub resource)))
  (export "fields" (type $fields (sub resource))) (export "outgoing-response" (type $response (sub resource)))
  (type $code (variant (case "internal-error" (option string))))
  (export "error-code" (type $error (eq $code)))
  (export "[constructor]fields" (func (result (own $fields))))
  (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $response))))
  (export "[static]response-outparam.set" (func (param "param" (own $out))
   (param "response" (result (own $response) (error $error)))))))
 (alias export $t "incoming-request" (type $request))
 (alias export $t "response-outparam" (type $out))
 (core module $libc {ALLOCATOR})
 (core instance $c (instantiate $libc))
 (core func $env (canon lower (func $env "get-environment")
  (memory (core memory $c "mem")) (realloc (core func $c "realloc"))))
 (core func $fields (canon lower (func $t "[constructor]fields")))
 (core func $response (canon lower (func $t "[constructor]outgoing-response")))
 (core func $set (canon lower (func $t "[static]response-outparam.set")
  (memory (core memory $c "mem")) (realloc (core func $c "realloc"))))
 (core module $m
  (import "e" "mem" (memory 1)) (import "e" "env" (func $env (param i32)))
  (import "e" "fields" (func $fields (result i32))) (import "e" "response" (func $response (param i32) (result i32)))
  (import "e" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
  (func (export "handle") (param i32 i32)
   (call $set (local.get 1) (i32.const 0) (call $response (call $fields)) (i32.const 0) (i32.const 0) (i32.const 0)))
  (func (export "count") (result i32) (call $env (i32.const 40)) (i32.load (i32.const 44))))
 (core instance $i (instantiate $m (with "e" (instance
  (export "mem" (memory $c "mem")) (export "env" (func $env)) (export "fields" (func $fields))
  (export "response" (func $response)) (export "set" (func $set))))))
 (func $h (param "request" (own $request)) (param "response-out" (own $out)) (canon lift (core func $i "handle")))
 (instance $e (export "handle" (func $h)))
 (func (export "count") (result u32) (canon lift (core func $i "count")))
 (export "wasi:http/incoming-handler@0.2.0" (instance $e)))"""
"""A handler that answers 200, and beside it a function that counts the variables of its environment."""


def test_typed_calls_see_nothing_of_the_request_before() -> None:
    """Also if they have the instance that has answered it."""
    module = ComponentModule(engine(), *compile_component(engine().ptr, capi.assemble(WITH_TYPED)))
    assert module.makes_http_calls
    plan = ComponentPlan(module, LIMITS)

    async def go() -> None:
        for _ in range(3):
            _, _, answer, _ = await ask(plan, message(""))
            assert answer["status_code"] == 200
            invocation = ComponentInvocation(plan, b"")
            typed = invocation.typed = TypedCall(module.functions["count"], [])
            assert (await invocation.run(time.monotonic() + LIMITS.time, nullcontext)).end is End.OK
            assert typed.value == 0
            await asyncio.sleep(0)

    asyncio.run(go())
    assert module.keeper.restored or not module.restorable
