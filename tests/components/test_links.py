"""Imports that other functions satisfy: each in its own memory and under its own policy, within one deadline."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from apps import GUESTS, JSON, app, config, settings
from starlette.testclient import TestClient
from wit_linked import ORDER, PRICES, with_body

from starlette_wasm import (
    CompileError,
    ConfigError,
    EdgeRequest,
    FunctionNotFound,
    FunctionOverloaded,
    FunctionTrapped,
    MemoryLimitExceeded,
    WasmRuntime,
)
from starlette_wasm.components import calls
from starlette_wasm.engine import capi

IMPORTS = {"docs:shop/prices": {"function": "prices", "version": "1"}}


def put(folder: Path, name: str, text: str, version: str = "1", **manifest: Any) -> None:
    home = folder / "functions" / name / f"v{version}"
    home.mkdir(parents=True, exist_ok=True)
    (home / f"{name}.wasm").write_bytes(capi.assemble(text))
    if manifest:
        (home / "function.yaml").write_text(yaml.safe_dump(manifest))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, "prices", PRICES)
    put(tmp_path, "order", ORDER, imports=IMPORTS)
    return tmp_path


def given(folder: Path, **more: Any) -> JSON:
    times = {"long": {"executionTimeoutMs": 60_000}, "short": {"executionTimeoutMs": 300}}
    policies = times | more.pop("policies", {})
    rule = {"functionName": "order", "policy": more.pop("policy", "long")}
    return config(folder, {"/order": rule}, policies=policies, **{"importPolicies": {"prices": "long"}, **more})


def answer(wasm: JSON) -> Any:
    with TestClient(app(wasm)) as http:
        return http.get("/order")


def refused(wasm: JSON, kind: type[Exception] = ConfigError) -> str:
    with pytest.raises(kind) as caught, TestClient(app(wasm)):
        pass
    return str(caught.value)


def test_another_function_satisfies_an_import(folder: Path) -> None:
    response = answer(given(folder))
    assert (response.status_code, response.text) == (200, "1")  # each call has an instance of its own


def test_both_are_counted_and_nothing_is_left(folder: Path) -> None:
    async def go() -> None:
        async with WasmRuntime(given(folder), settings()) as runtime:
            for _ in range(3):
                assert (await runtime.invoke("order", EdgeRequest(), policy="long")).body == "1"
            assert runtime.stats()["ok"] == 9
            while runtime.stats()["live"]:
                await asyncio.sleep(0.01)

    asyncio.run(go())


def test_traps_of_the_one_end_the_other(folder: Path) -> None:
    put(folder, "prices", with_body(PRICES, "trap"))
    response = answer(given(folder))
    assert response.status_code == 500
    assert response.json()["title"] == (
        "wasm trap: a function that it imports failed: prices v1: wasm trap: unreachable"
    )


def test_one_deadline_holds_for_all(folder: Path) -> None:
    """The policy of the callee has a minute, that of the caller less than a second: the caller's counts."""
    put(folder, "prices", with_body(PRICES, "spin"))
    begin = time.monotonic()
    response = answer(given(folder, policy="short"))
    assert response.status_code == 504
    assert time.monotonic() - begin < 50


def test_the_callee_has_the_deadline_of_its_policy(folder: Path) -> None:
    put(folder, "prices", with_body(PRICES, "spin"))
    response = answer(given(folder, importPolicies={"prices": "short"}))
    assert response.status_code == 500
    assert response.json()["title"].endswith("prices v1: time limit exceeded (300 ms)")


def test_the_callee_has_the_memory_of_its_policy(folder: Path) -> None:
    put(folder, "prices", PRICES.replace('(memory (export "mem") 1)', '(memory (export "mem") 9)'))
    small = {"policies": {"small": {"maxMemoryPages": 8}}, "importPolicies": {"prices": "small"}}
    assert "prices v1" in refused(given(folder, **small), MemoryLimitExceeded)
    assert answer(given(folder)).text == "1"


def test_answers_of_callees_are_written_off_the_event_loop(folder: Path) -> None:
    threads: list[str] = []

    def lowered(*given: Any) -> Any:
        threads.append(threading.current_thread().name)
        return lower_result(*given)

    async def go() -> None:
        async with WasmRuntime(given(folder), settings()) as runtime:
            await runtime.invoke("order", EdgeRequest(), policy="long")

    lower_result = calls.lower_result
    with patch.object(calls, "lower_result", lowered):
        asyncio.run(go())
    assert len(threads) == 2
    assert threading.main_thread().name not in threads


def test_memory_of_callees_counts_for_tenants(folder: Path) -> None:
    small = {"policies": {"small": {"maxMemoryPages": 8}}, "importPolicies": {"prices": "small"}}

    async def go() -> None:
        async with WasmRuntime(given(folder, **small), settings()) as runtime:
            target = runtime.target("order", "1", "long", where="a test")
            assert target.most_pages == target.policy.max_memory_pages + 8

    asyncio.run(go())


def test_importers_have_places_of_their_own(folder: Path) -> None:
    """One that fills the bulkhead of what it imports leaves to another importer as many places."""
    put(folder, "prices", with_body(PRICES, "spin"))
    put(folder, "other", ORDER, imports=IMPORTS)
    one = {"policies": {"one": {"maxConcurrency": 1, "maxQueue": 0, "executionTimeoutMs": 60_000}}}

    async def go() -> None:
        async with WasmRuntime(given(folder, **one, importPolicies={"prices": "one"}), settings()) as runtime:
            running = []
            for name in ("order", "other"):
                target = runtime.target(name, None, "long", where="test")
                (link,) = target.links.values()
                running.append(asyncio.create_task(runtime.invoke(name, EdgeRequest(), policy="long")))
                while not link.target.bulkhead.active:
                    await asyncio.sleep(0.01)
                with pytest.raises(FunctionOverloaded, match="function prices is overloaded: 1 invocations run"):
                    await runtime.invoke(name, EdgeRequest(), policy="long")
            for task in running:
                task.cancel()
            await asyncio.wait(running)

    asyncio.run(go())


def test_health_checks_run_both_with_nothing_granted(folder: Path) -> None:
    put(folder, "order", ORDER, imports=IMPORTS, healthCheck={"path": "/", "timeoutMs": 30_000})
    assert answer(given(folder)).text == "1"


def test_imports_that_nothing_satisfies_are_refused(folder: Path) -> None:
    (folder / "functions/order/v1/function.yaml").unlink()
    problem = refused(given(folder), CompileError)
    assert "it imports docs:shop/prices@1.0.0 quote, and nothing satisfies that" in problem
    assert 'write imports: {"docs:shop/prices": {function: NAME}} into function.yaml beside it' in problem


@pytest.mark.parametrize(
    ("imports", "kind", "problem"),
    [
        ({"docs:shop/price": {"function": "prices"}}, ConfigError,
         "imports.docs:shop/price: is not imported, or nothing of it is called; did you mean docs:shop/prices?"),
        ({"docs:shop/prices": {"function": "order"}}, ConfigError,
         "imports in a circle: order v1 -> order v1; take one of these imports out"),
        ({"docs:shop/prices": {"function": "nothing"}}, FunctionNotFound, "shop/prices: function not found"),
        ({"docs:shop/prices": {"function": "prices", "version": "9"}}, FunctionNotFound, "known versions: 1"),
        ({"docs:shop/prices": {"function": "prices", "version": "x y"}}, ConfigError, "is not a version"),
        ({"docs:shop/prices": {"function": "-"}}, ConfigError, "is not a function name"),
        ({"docs:shop/prices": {"function": "prices", "policy": "p"}}, ConfigError, "unknown key"),
        ({"docs:shop/prices@2.0.0": {"function": "prices"}}, ConfigError, "is not imported"),
    ],
)  # fmt: skip
def test_wrong_imports_name_their_key(folder: Path, imports: JSON, kind: type[Exception], problem: str) -> None:
    put(folder, "order", ORDER, imports=imports)
    found = refused(given(folder), kind)
    assert problem in found
    assert "function.yaml" in found


def test_circles_through_others_are_refused(folder: Path) -> None:
    """Also those of which no rule names any."""
    text = ORDER.replace("docs:shop/orders@1.0.0", "docs:shop/prices@1.0.0").replace(
        '(import "docs:shop/prices@1.0.0"', '(import "docs:shop/orders@1.0.0"'
    )
    put(folder, "prices", text, imports={"docs:shop/orders": {"function": "order"}})
    wasm = given(folder)
    assert "imports in a circle: order v1 -> prices v1 -> order v1" in refused(wasm)
    assert "imports in a circle" in refused(wasm | {"rules": []})


def test_circles_leave_out_their_functions_alone(folder: Path) -> None:
    put(folder, "order", ORDER, imports={"docs:shop/prices": {"function": "order"}})
    wasm = given(folder, badFunctions="leave-out")
    with TestClient(app(wasm)) as http:
        assert http.get("/order").status_code == 503


def test_types_that_differ_are_refused(folder: Path) -> None:
    text = PRICES.replace('(param "item" string)', '(param "items" string)')
    put(folder, "prices", text)
    problem = refused(given(folder))
    assert "quote is imported as func(item: string) -> string; prices v1 exports func(items: string)" in problem


def test_missing_functions_are_refused(folder: Path) -> None:
    put(folder, "prices", PRICES.replace('(export "quote" (func $f))', '(export "price" (func $f))'))
    problem = refused(given(folder))
    assert "prices v1 does not export docs:shop/prices@1.0.0#quote; it exports docs:shop/prices@1.0.0#price" in problem


def test_resources_cannot_pass_between_functions(folder: Path) -> None:
    handles = """(component
     (import "docs:shop/prices@1.0.0" (instance $p (export "thing" (type $t (sub resource)))
      (export "quote" (func (param "item" (own $t))))))
     (core module $mem (memory (export "mem") 1)) (core instance $l (instantiate $mem))
     (core func $quote (canon lower (func $p "quote")))
     (core module $m (import "" "quote" (func $quote (param i32))) (func (export "run") (call $quote (i32.const 1))))
     (core instance $i (instantiate $m (with "" (instance (export "quote" (func $quote))))))
     (func (export "run") (canon lift (core func $i "run"))))"""
    exporting = """(component (core module $m (func (export "f") (param i32))) (core instance $i (instantiate $m))
     (type $r (resource (rep i32)))
     (component $c (import "r" (type $t (sub resource))) (import "f" (func $f (param "item" (own $t))))
      (export $te "thing" (type $t)) (export "quote" (func $f) (func (param "item" (own $te)))))
     (func $f (param "item" (own $r)) (canon lift (core func $i "f")))
     (instance $e (instantiate $c (with "r" (type $r)) (with "f" (func $f))))
     (export "docs:shop/prices@1.0.0" (instance $e)))"""
    put(folder, "prices", exporting)
    put(folder, "order", handles, imports=IMPORTS)

    async def go() -> None:
        async with WasmRuntime(given(folder) | {"rules": []}, settings()) as runtime:
            with pytest.raises(ConfigError, match="resources, streams or futures, which live no longer"):
                await runtime.call("order", "run")

    asyncio.run(go())


@pytest.mark.parametrize("kind", ["(stream u8)", "(future u32)", "(option (stream u8))"])
def test_streams_cannot_pass_between_functions(folder: Path, kind: str) -> None:
    """Their bytes are in the memory of one, which ends when it likes."""
    flat = "i32 i32" if "option" in kind else "i32"
    importing = f"""(component
     (import "docs:shop/prices@1.0.0" (instance $p (export "quote" (func (param "item" {kind})))))
     (core func $quote (canon lower (func $p "quote")))
     (core module $m (import "" "quote" (func (param {flat}))) (func (export "run")))
     (core instance $i (instantiate $m (with "" (instance (export "quote" (func $quote))))))
     (func (export "run") (canon lift (core func $i "run"))))"""
    exporting = f"""(component (core module $m (func (export "f") (param {flat}))) (core instance $i (instantiate $m))
     (func $f (param "item" {kind}) (canon lift (core func $i "f")))
     (instance $e (export "quote" (func $f))) (export "docs:shop/prices@1.0.0" (instance $e)))"""
    put(folder, "prices", exporting)
    put(folder, "order", importing, imports=IMPORTS)

    async def go() -> None:
        async with WasmRuntime(given(folder) | {"rules": []}, settings()) as runtime:
            with pytest.raises(ConfigError, match="quote has resources, streams or futures"):
                await runtime.call("order", "run")
            with pytest.raises(TypeError, match="has resources, streams or futures"):
                await runtime.call("prices", "docs:shop/prices#quote", b"")

    asyncio.run(go())


def test_canaries_of_callees_give_their_stable_version(folder: Path) -> None:
    put(folder, "prices", with_body(PRICES, "trap"), version="2")
    put(folder, "order", ORDER, imports={"docs:shop/prices": {"function": "prices"}})
    canary = {"functionName": "prices", "stableVersion": "1", "canaryVersion": "2"}
    assert answer(given(folder, canaries=[canary])).text == "1"
    assert answer(given(folder)).status_code == 500  # without a canary the highest


def test_a_component_composed_beforehand_runs_as_it_is(tmp_path: Path) -> None:
    order = ORDER.replace('(export "docs:shop/orders@1.0.0" (instance $prices))', "")
    inner = PRICES.replace("(component", "(component $prices", 1) + order.replace("(component", "(component $order", 1)
    text = f"""(component {inner}
     (instance $a (instantiate $prices))
     (instance $b (instantiate $order (with "docs:shop/prices@1.0.0" (instance $a "docs:shop/prices@1.0.0"))))
     (export "handle" (func $b "handle")))"""
    put(tmp_path, "order", text)
    assert answer(given(tmp_path, importPolicies={})).text == "2"  # both calls of a request meet one instance


@pytest.mark.parametrize(
    ("policies", "kind", "message"),
    [
        ({"price": "long"}, FunctionNotFound, "importPolicies.price: function not found: price; known functions: "),
        ({"prices": "lnog"}, ConfigError, "importPolicies.prices: no policy is called 'lnog'; did you mean long?"),
    ],
)
def test_policies_of_imports_are_checked(
    folder: Path, policies: dict[str, str], kind: type[Exception], message: str
) -> None:
    assert message in refused(given(folder, importPolicies=policies), kind)


def test_a_function_without_versions_is_not_found(folder: Path) -> None:
    (folder / "functions/prices/v1/prices.wasm").unlink()
    (folder / "functions/prices/v1").rmdir()
    problem = refused(given(folder, importPolicies={}), FunctionNotFound)
    assert (
        "imports.docs:shop/prices: function not found: prices; known functions: order; put its module into" in problem
    )


def test_a_core_module_satisfies_no_import(folder: Path) -> None:
    (folder / "functions/prices/v1/prices.wasm").write_bytes((GUESTS / "hello.wasm").read_bytes())
    assert "quote; it is a core module: make a component of it" in refused(given(folder))


ASYNC_PRICES = """(component
 (core func $return (canon task.return (result u32)))
 (core module $m (import "" "return" (func $return (param i32))) (global $n (mut i32) (i32.const 0))
  (func (export "f") (param i32) (result i32) (global.set $n (local.get 0)) (i32.const 1))
  (func (export "again") (param i32 i32 i32) (result i32)
   (call $return (i32.mul (global.get $n) (i32.const 2))) (i32.const 0)))
 (core instance $i (instantiate $m (with "" (instance (export "return" (func $return))))))
 (func $f async (param "item" u32) (result u32) (canon lift (core func $i "f") async (callback (core func $i "again"))))
 (instance $e (export "quote" (func $f))) (export "docs:shop/prices@1.0.0" (instance $e)))"""
ASYNC_ORDER = """(component
 (import "docs:shop/prices@1.0.0" (instance $p (export "quote" (func async (param "item" u32) (result u32)))))
 (core module $mem (memory (export "mem") 1)) (core instance $l (instantiate $mem))
 (core func $now (canon lower (func $p "quote")))
 (core func $soon (canon lower (func $p "quote") async (memory (core memory $l "mem"))))
 (core func $set (canon waitable-set.new)) (core func $join (canon waitable.join))
 (core func $wait (canon waitable-set.wait (memory (core memory $l "mem"))))
 (core module $m (import "l" "mem" (memory 1))
  (import "" "now" (func $now (param i32) (result i32))) (import "" "soon" (func $soon (param i32 i32) (result i32)))
  (import "" "set" (func $set (result i32))) (import "" "join" (func $join (param i32 i32)))
  (import "" "wait" (func $wait (param i32 i32) (result i32)))
  (func (export "run") (result i32) (local $set i32) (local.set $set (call $set))
   (call $join (i32.shr_u (call $soon (i32.const 3) (i32.const 16)) (i32.const 4)) (local.get $set))
   (i32.store (i32.const 20) (call $now (i32.const 4)))
   (drop (call $wait (local.get $set) (i32.const 8)))
   (i32.add (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
 (core instance $i (instantiate $m (with "l" (instance $l)) (with "" (instance (export "now" (func $now))
  (export "soon" (func $soon)) (export "set" (func $set)) (export "join" (func $join)) (export "wait" (func $wait))))))
 (func (export "run") async (result u32) (canon lift (core func $i "run"))))"""


def test_functions_that_are_async_satisfy_imports(folder: Path) -> None:
    """Called as async and not, side by side."""
    put(folder, "prices", ASYNC_PRICES)
    put(folder, "order", ASYNC_ORDER, imports=IMPORTS)

    async def go() -> None:
        async with WasmRuntime(given(folder) | {"rules": []}, settings()) as runtime:
            assert await runtime.call("order", "run", policy="long") == 2 * 3 + 2 * 4

    asyncio.run(go())


def test_reloads_bind_imports_anew(folder: Path) -> None:
    """To the version that is the highest then; one that does not fit is refused, and what was bound stays."""

    async def go() -> None:
        put(folder, "order", ORDER, imports={"docs:shop/prices": {"function": "prices"}})
        async with WasmRuntime(given(folder), settings()) as runtime:

            async def answered() -> str | None:
                await runtime.reload()
                return (await runtime.invoke("order", EdgeRequest(), policy="long")).body

            assert await answered() == "1"
            put(folder, "prices", with_body(PRICES, "trap"), version="2")
            with pytest.raises(FunctionTrapped, match="prices v2"):
                await answered()
            put(folder, "prices", PRICES.replace('(param "item" string)', '(param "items" string)'), version="3")
            with pytest.raises(ConfigError, match=r"prices v3 exports func\(items: string\)"):
                await answered()
            with pytest.raises(FunctionTrapped, match="prices v2"):
                await runtime.invoke("order", EdgeRequest(), policy="long")
            put(folder, "prices", PRICES, version="3")
            assert await answered() == "1"

    asyncio.run(go())
