"""What component_path.c does: whole requests of components, with instances that were restored, and what it leaves."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from running import engine
from test_http_call import script_of
from test_restore import soil_memory
from texts import ALLOCATOR

from starlette_wasm.components import restore
from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.fast_path import ComponentFastPath
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.components.module import ComponentModule
from starlette_wasm.components.typed import TypedCall
from starlette_wasm.engine import capi
from starlette_wasm.engine.fast_path import NOT_TAKEN, Completed, Speech, Started
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits
from starlette_wasm.protocols.edge import EdgeProtocol

pytestmark = pytest.mark.native
lend = ComponentFastPath._lend
GUESTS = Path(__file__).parents[1] / "guests" / "components"
SCOPE: dict[str, Any] = {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http"}
ANSWER = b'{"status_code":200,"headers":{},"body":"?"}'
PLACE = 4096 + ANSWER.index(b"?")
COUNT = """(block (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1)))
 (i32.store8 (i32.const 60000) (i32.add (i32.load8_u (i32.const 60000)) (i32.const 1)))
 (i32.add (i32.const 64) (i32.div_u (i32.add (global.get $n) (i32.load8_u (i32.const 60000))) (i32.const 2))))"""
COUNTER = "(global $n (mut i32) (i32.const 0))"
TYPED = ' (func (export "count") (result u32) (canon lift (core func $i "count"))))'


def guest(body: str, more: str = "", returns: str = "", pages: int = 1) -> str:
    """A component of the world edge whose answer has the byte that its body leaves."""
    escaped = "".join(f"\\{byte:02x}" for byte in ANSWER)
    allocator = ALLOCATOR.replace('(memory (export "mem") 1)', f'(memory (export "mem") {pages})')
    return f"""(component
     (core module $m {allocator} {more} (data (i32.const 4096) "{escaped}")
      (func (export "post") (param i32) {returns})
      (func (export "handle") (param $at i32) (param $size i32) (result i32)
       (i32.store8 (i32.const {PLACE}) {body})
       (i32.store (i32.const 16) (i32.const 4096)) (i32.store (i32.const 20) (i32.const {len(ANSWER)})) (i32.const 16)))
     (core instance $i (instantiate $m))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc"))
       (post-return (core func $i "post")))))"""


def load(component: str | bytes) -> ComponentModule:
    """Compiled anew, with nothing kept."""
    code = capi.assemble(component) if isinstance(component, str) else component
    return ComponentModule(engine(), *compile_component(engine().ptr, code))


class Asked:
    """A fast path, and what came of requests to it."""

    def __init__(self, module: ComponentModule, limits: Limits | None = None) -> None:
        protocol = "http" if module.makes_http_calls else "edge"
        self.plan = ComponentPlan(module, limits or Limits(time=60))
        self.path = ComponentFastPath(self.plan, Speech(protocol, EdgeProtocol().end("f", "1", 5000)), ())
        self.keeper = module.keeper
        self.in_c = 0
        """How many requests were answered in one call."""
        self.printed = b""
        """What the last one that Python took over has printed to stderr."""
        answer = self.path._answer_in_c

        def counted(*given: Any) -> Any:
            found = answer(*given)
            self.in_c += found is not None and len(found) != 4
            return found

        self.path._answer_in_c = counted

    async def answer(self, path: str = "/", headers: dict[str, str] | None = None) -> bytes | Outcome:
        """Return the body of the answer, or the outcome of a guest that has not ended well at once."""
        self.plan.memory.cpu_score = 0  # on a slow machine, too, it may begin on the event loop
        found = self.path.answer(scope_of(path, headers or {}), path, {}, None, "", None, None)
        assert found is not None
        if len(found) != 3:
            settled = self.path.settled(found)
            found = settled if isinstance(settled, Completed) else (0, [], await self._run(settled))
        await asyncio.sleep(0)  # what is kept is restored now
        body: bytes | Outcome = found[2]
        return body

    async def _run(self, started: Started) -> bytes | Outcome:
        with started:
            outcome = await started.invocation.run(time.monotonic() + self.plan.limits.time, nullcontext)
        self.printed = outcome.stderr
        try:
            answer = json.loads(outcome.stdout)
        except ValueError:
            return outcome
        body: str = answer["body"]
        return base64.b64decode(body) if answer.get("is_base64_encoded") else body.encode()

    async def typed(self, name: str) -> Any:
        """Return what an exported function gives, in an instance of the same component."""
        invocation = ComponentInvocation(self.plan, b"")
        typed = invocation.typed = TypedCall(self.plan.component.functions[name], [])
        assert (await invocation.run(time.monotonic() + 60, nullcontext)).end is End.OK
        await asyncio.sleep(0)
        return typed.value


def scope_of(path: str, headers: dict[str, str]) -> dict[str, Any]:
    fields = [(name.encode(), value.encode()) for name, value in {"host": "a.org", **headers}.items()]
    return {**SCOPE, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": fields}


async def whole_answer(asked: Asked, path: str) -> Any:
    """Return all of an answer, or how its guest ended, whichever way it went."""
    asked.plan.memory.cpu_score = 0
    found = asked.path.answer(scope_of(path, {"x-request-id": "1", "x-a": "b"}), path, {}, None, "", None, None)
    assert found is not None
    if len(found) != 3:
        settled = asked.path.settled(found)
        if isinstance(settled, Completed):
            found = settled[:3]
        else:
            with settled:
                outcome = await settled.invocation.run(time.monotonic() + 60, nullcontext)
            decoded = asked.path.decode(outcome.stdout, "1", "GET") if outcome.end is End.OK else None
            found = (
                decoded if decoded and not outcome.stderr else (outcome.end, outcome.reason, outcome.stderr, decoded)
            )
    await asyncio.sleep(0)
    return found


async def answers(asked: Asked, count: int) -> set[bytes | Outcome]:
    return {await asked.answer() for _ in range(count)}


def test_nothing_reaches_the_next_request() -> None:
    """In memory, in a global, nor what is left after the answer was read."""
    asked, live = Asked(load(guest(COUNT, COUNTER, "(global.set $n (i32.const 9))"))), engine().state.live
    assert asyncio.run(answers(asked, 40)) == {b"A"}
    assert asked.in_c
    assert asked.keeper.restored >= asked.in_c
    end = time.monotonic() + 30
    while engine().state.live > live:  # what went on in a thread ends there
        assert time.monotonic() < end
        time.sleep(0.01)


def test_nothing_reaches_typed_calls_and_back() -> None:
    """One instance has requests that C answers, and calls from Python."""
    text = guest(COUNT, COUNTER + ' (func (export "count") (result i32) (global.get $n))')
    asked = Asked(load(text[: text.rindex(")")] + TYPED))

    async def go() -> None:
        for _ in range(10):
            assert await asked.answer() == b"A"
            assert await asked.typed("count") == 0

    asyncio.run(go())
    assert asked.in_c
    assert len(asked.keeper.kept) == 1


def test_typed_calls_first_leave_an_instance_for_c() -> None:
    """What C calls of it was not looked up for them."""
    text = guest(COUNT, COUNTER + ' (func (export "count") (result i32) (global.get $n))')
    asked = Asked(load(text[: text.rindex(")")] + TYPED))

    async def go() -> None:
        assert await asked.typed("count") == 0
        assert await answers(asked, 20) == {b"A"}

    asyncio.run(go())
    assert asked.in_c


def test_requests_see_nothing_of_those_before() -> None:
    """Environment, headers and handles: of requests that C has answered, and of those that Python took over."""
    asked = Asked(load((GUESTS / "http_calls.wasm").read_bytes()))
    answer = "f02r23b34w45o13B50F40"

    async def go() -> None:
        for number in range(12):
            if number % 3 != 2:
                found = await asked.answer(
                    f"/E00h02e20{answer}.", {"x-request-id": f"id-{number}", "x-a": f"a-{number}"}
                )
                assert isinstance(found, bytes)
                continue
            await asked.answer(f"/E00p00h02e20{answer}", {"x-request-id": f"id-{number}", "x-b": f"b-{number}"})
            printed = asked.printed.decode()
            assert f"'EDGE_REQUEST_ID' 'id-{number}'" in printed
            assert f"'x-b' 'b-{number}'" in printed
            assert "'a-" not in printed
            assert printed.count("'id-") == 2, "variable and header"

    asyncio.run(go())
    assert asked.in_c


def test_random_calls_answer_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one call of C, with an instance of all those before, and in steps."""
    one, other = (Asked(load((GUESTS / "http_calls.wasm").read_bytes())) for _ in range(2))
    monkeypatch.setattr(ComponentFastPath, "_lend", lambda self: self is one.path and lend(self))

    async def go() -> None:
        for seed in range(300):
            path = f"/{script_of(seed)}"
            assert await whole_answer(one, path) == await whole_answer(other, path), path

    asyncio.run(go())
    assert one.in_c
    assert not other.in_c


@pytest.mark.parametrize(
    ("odd", "ends"),
    [
        pytest.param("(unreachable)", {End.TRAP}, id="trap"),
        pytest.param("(loop (br 0))", {End.TIMEOUT}, id="loop"),
        pytest.param("(drop (memory.grow (i32.const 5)))", set(), id="growth"),
        pytest.param("(drop (memory.grow (i32.const 1000)))", set(), id="refused growth"),
        pytest.param("(memory.fill (i32.const 70000) (i32.const 7) (i32.const 60000))", set(), id="pages"),
        pytest.param("(i32.store (i32.const 4096) (i32.const -1))", {End.OK, End.TRAP}, id="no answer"),
        pytest.param("(i32.store offset=4 (i32.const 16) (i32.const 9999))", set(), id="nothing"),
    ],
)
def test_odd_requests_leave_nothing(odd: str, ends: set[End]) -> None:
    """What a request for "/x" does ends its instance, or is undone."""
    byte = "(i32.load8_u offset=10 (local.get $at))"
    body = f"(block (result i32) (if (i32.eq {byte} (i32.const 120)) (then {odd})) {COUNT})"
    asked = Asked(load(guest(body, COUNTER, pages=3)), Limits(time=0.3, memory_pages=64))

    async def go() -> None:
        for number in range(12):
            if number % 4 != 3:
                asked.plan.limits = Limits(time=60, memory_pages=64)
                assert await asked.answer() == b"A"
                continue
            asked.plan.limits = Limits(time=0.3 if End.TIMEOUT in ends else 60, memory_pages=64)
            found = await asked.answer("/x")
            if ends:
                assert isinstance(found, Outcome)
                assert found.end in ends
            else:
                assert found == b"A"

    asyncio.run(go())
    assert asked.in_c


def test_long_answers_are_those_of_python() -> None:
    """Beyond what C copies, and with what the guest wants called once they were read."""
    body = "(block (result i32) (i32.store8 (i32.const 8) (i32.const 1)) (i32.const 65))"
    text = guest(body, f"{COUNTER}", "(i32.store8 (i32.const 8) (i32.const 2))")
    long = ANSWER[:-2] + b"z" * 20_000 + b'"}'
    text = text.replace("".join(f"\\{byte:02x}" for byte in ANSWER), "".join(f"\\{byte:02x}" for byte in long))
    asked = Asked(load(text.replace(f"(i32.const {len(ANSWER)})", f"(i32.const {len(long)})")))
    assert asyncio.run(answers(asked, 5)) == {b"A" + b"z" * 20_000}


@pytest.mark.parametrize("every", [1, 3])
def test_restored_instances_are_compared(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine().state, "check_every", every)
    checks = engine().restore_checks
    before = checks.checks, checks.faults
    asked = Asked(load(guest(COUNT, COUNTER)))
    assert asyncio.run(answers(asked, 20)) == {b"A"}
    assert checks.checks > before[0]
    assert checks.faults == before[1]
    assert not asked.keeper.faulty


def test_faulty_components_are_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    back = restore.Kept.restore

    def soiled(self: restore.Kept) -> bool:
        done = back(self)
        soil_memory(self)
        return done

    asked = Asked(load(guest("(i32.const 65)")))
    assert asyncio.run(answers(asked, 10)) == {b"A"}
    monkeypatch.setattr(engine().state, "check_every", 2)
    monkeypatch.setattr(restore.Kept, "restore", soiled)
    assert asyncio.run(answers(asked, 10)) == {b"A"}
    assert asked.keeper.faulty
    assert not asked.keeper.kept
    before = asked.in_c
    assert asyncio.run(answers(asked, 5)) == {b"A"}
    assert asked.in_c == before


def test_policies_can_do_without() -> None:
    asked = Asked(load(guest(COUNT, COUNTER)), Limits(time=60, restore=False))
    assert asyncio.run(answers(asked, 5)) == {b"A"}
    assert not asked.in_c


def claimed(asked: Asked) -> restore.Kept:
    """Return the instance that C uses, as if it did so now."""
    kept = asked.path._lent
    assert kept is not None
    assert kept.claim()
    return kept


def test_instances_in_use_are_deleted_by_their_user() -> None:
    """If others close the component, or need the room, meanwhile."""
    asked = Asked(load(guest(COUNT, COUNTER)))
    assert asyncio.run(answers(asked, 10)) == {b"A"}
    kept = claimed(asked)
    asked.keeper.close()
    assert kept.store, "it is in use"
    assert kept.state.discarded
    assert not asked.keeper.offer(kept)
    kept.delete()
    assert not kept.store
    assert not kept.claim()


def test_instances_in_use_are_nobody_elses() -> None:
    asked = Asked(load(guest(COUNT, COUNTER)))
    assert asyncio.run(answers(asked, 10)) == {b"A"}
    kept, before = claimed(asked), asked.in_c
    assert asked.keeper.find(asked.plan) is None
    assert asked.keeper.take(asked.plan) is None
    assert asyncio.run(answers(asked, 1)) == {b"A"}
    assert asked.in_c == before
    assert asked.path._lent is not kept, "it has made another one"
    kept.delete()


def test_instances_are_not_swapped_under_c() -> None:
    """C has no scratch to lend while it runs a guest, without the GIL: another thread's request then finds none."""

    async def scenario() -> None:
        asked = Asked(load(guest(COUNT, COUNTER)))
        await answers(asked, 4)
        kept = claimed(asked)
        state = asked.plan.component.engine.state
        scratch, state.scratch = state.scratch, None
        try:
            assert not asked.path._lend()
        finally:
            state.scratch = scratch
        assert (asked.path._lent, asked.path._path.kept) == (kept, kept.at)
        kept.delete()

    asyncio.run(scenario())


def test_deleted_instances_are_not_used() -> None:
    """Its place is kept for others; what is left of it is for nobody."""
    asked = Asked(load(guest(COUNT, COUNTER)))
    assert asyncio.run(answers(asked, 10)) == {b"A"}
    kept = asked.path._lent
    assert kept is not None
    kept.discard()
    assert not kept.store
    assert not asked.keeper.kept
    assert asyncio.run(answers(asked, 10)) == {b"A"}
    assert kept not in asked.keeper._room.kept


@pytest.mark.parametrize("own", [False, True])
def test_stores_of_others_keep_nobody_waiting(own: bool) -> None:
    """While those of a tenant are yet to be freed, none of its guests begins on the event loop."""
    asked = Asked(load(guest(COUNT, COUNTER)))
    assert asyncio.run(answers(asked, 10)) == {b"A"}
    in_steps: list[bool] = []
    dispatch = asked.path._dispatch_in_c

    def counted(*given: Any) -> Any:
        found = dispatch(*given)
        in_steps.append(found is not None)
        return found

    asked.path._dispatch_in_c = counted
    late, state = asked.path._late, engine().state
    late[asked.plan.tenant if own else "another"] = 1
    state.late += 1
    try:

        async def go() -> None:
            for _ in range(10):
                asked.plan.memory.cpu_score = 0
                found = asked.path.answer(scope_of("/", {}), "/", {}, None, "", None, None)
                assert (found is None) is own
                settled = asked.path.settled(found) if found is not None and len(found) != 3 else None
                if isinstance(settled, Started):
                    settled.invocation.drop()
                await asyncio.sleep(0)

        asyncio.run(go())
    finally:
        late.clear()
        state.late -= 1
    assert any(in_steps) is not own


@pytest.mark.parametrize("way", ["dispatch", "answer"])
def test_guests_without_memory_run_once(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """C has dropped the guest when it raises: Python must not begin the same request again."""
    asked, tried = Asked(load(guest("(i32.const 65)"))), []

    def lacks(*_: Any) -> None:
        raise MemoryError

    asked.path._dispatch_in_c = asked.path._answer_in_c = lacks
    monkeypatch.setattr(ComponentFastPath, "_try", lambda *_: tried.append(True))

    async def go() -> None:
        given = scope_of("/", {}), "/", {}, b"", "", None, None
        if way == "dispatch":
            assert asked.path.dispatch(*given) is NOT_TAKEN
        else:
            with pytest.raises(MemoryError):
                asked.path.answer(*given)

    asyncio.run(go())
    assert not tried


def test_closed_components_take_no_requests() -> None:
    asked = Asked(load(guest(COUNT, COUNTER)))
    assert asyncio.run(answers(asked, 10)) == {b"A"}
    module, before = asked.plan.component, asked.in_c
    assert module.close()

    async def go() -> None:
        assert asked.path.dispatch(scope_of("/", {}), "/", {}, b"", "") is NOT_TAKEN

    asyncio.run(go())
    assert asked.in_c == before
    assert not asked.keeper.kept


def test_instances_are_restored_while_nothing_waits() -> None:
    """What a request has left in memory is gone soon after its answer."""
    asked = Asked(load(guest(COUNT, COUNTER)))

    async def go() -> None:
        async with asyncio.timeout(60):
            while not asked.in_c or any(kept.dirty for kept in asked.keeper.kept):
                assert await asked.answer() == b"A"
                await asyncio.sleep(0.01)

    asyncio.run(go())
