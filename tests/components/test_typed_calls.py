"""Typed calls: values both ways, what is refused before a guest runs, and the bounds that hold for any invocation."""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from apps import app, config, settings
from starlette.testclient import TestClient
from wit_shop import SHOP

from starlette_wasm import (
    CompileError,
    EdgeRequest,
    ExecutionTimeout,
    ExportNotFound,
    FunctionOverloaded,
    FunctionTrapped,
    MemoryLimitExceeded,
    ResultError,
    RuntimeClosed,
    WasmRuntime,
)
from starlette_wasm.components import lifting
from starlette_wasm.components.python_types import PythonTypes
from starlette_wasm.engine import capi
from starlette_wasm.invocation import typed_calls

PRICING = "docs:shop/pricing"


@dataclass
class Item:
    name: str
    in_stock: int


class Pair(NamedTuple):
    name: str
    in_stock: int


class Level(enum.Enum):
    LOW = 1
    VERY_HIGH = 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "functions" / "shop" / "v1"
    home.mkdir(parents=True)
    (home / "shop.wasm").write_bytes(capi.assemble(SHOP))
    return tmp_path


def with_runtime(
    folder: Path, use: Callable[[WasmRuntime], Awaitable[Any]], policy: dict[str, Any] | None = None
) -> Any:
    async def go() -> Any:
        given = config(folder, {}, policies={"p": {"executionTimeoutMs": 30_000, **(policy or {})}})
        async with WasmRuntime(given, settings(default_policy="p")) as runtime:
            return await use(runtime)

    return asyncio.run(go())


def call(folder: Path, export: str, *given: Any, **named: Any) -> Any:
    return with_runtime(folder, lambda runtime: runtime.call("shop", export, *given, **named))


@pytest.mark.parametrize(
    "given", [{"name": "tea é", "in-stock": 3}, {"name": "tea é", "in_stock": 3}, Item("tea é", 3), Pair("tea é", 3)]
)
def test_records_are_dicts_dataclasses_or_named_tuples(folder: Path, given: Any) -> None:
    result = call(folder, f"{PRICING}#same", given)
    assert is_dataclass(result)
    assert type(result).__name__ == "Item"
    assert [each.name for each in fields(result)] == ["name", "in_stock"]
    assert (result.name, result.in_stock) == ("tea é", 3)  # type: ignore[attr-defined]


def test_values_of_each_kind_go_both_ways(folder: Path) -> None:
    async def use(runtime: WasmRuntime) -> None:
        shop = runtime.interface("shop", PRICING)
        assert [each.name for each in await shop.list_all([Item("a", 1), {"name": "b", "in-stock": 2}])] == ["a", "b"]
        assert await shop.list_all([]) == []
        for level in ("very-high", Level.VERY_HIGH, await shop.level_of("very-high")):
            assert await shop.level_of(level) == "very-high"
        level = await shop.level_of(from_=Level.LOW)
        assert isinstance(level, enum.StrEnum)
        assert (type(level).__name__, level.name) == ("Level", "LOW")
        assert await shop.days_of({"mon"}) == frozenset({"mon"})
        assert await shop.days_of([]) == frozenset()
        assert await shop.shape_of(("circle", 1.5)) == ("circle", 1.5)
        assert await shop.shape_of("dot") == ("dot", None)
        assert await shop.maybe(None) is None
        assert await shop.maybe(0) == 0
        assert await runtime.call("shop", "add", 200, b=100) == 300
        assert runtime.stats()["live"] == 0

    with_runtime(folder, use)


def test_lists_are_converted_off_the_event_loop(folder: Path) -> None:
    threads: list[str] = []

    def noting(what: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any) -> Any:
            threads.append(threading.current_thread().name)
            return what(*given)

        return noted

    with (
        patch.object(lifting, "_list", noting(lifting._list)),
        patch.object(PythonTypes, "to_python", noting(PythonTypes.to_python)),
    ):
        assert call(folder, f"{PRICING}#list-all", [Item("a", 1)])
    assert len(threads) > 1
    assert threading.main_thread().name not in threads


def test_many_arguments_are_converted_off_the_event_loop(folder: Path) -> None:
    """A client may have sent them: the app hands on what it got."""
    on_main: list[bool] = []
    plain = typed_calls.arguments

    def noted(*given: Any) -> Any:
        on_main.append(threading.current_thread() is threading.main_thread())
        return plain(*given)

    with patch.object(typed_calls, "arguments", noted):
        for count in (1, 600):
            assert call(folder, f"{PRICING}#list-all", [Item("a", 1)] * count)
    assert on_main == [True, False]


def test_results_are_values_or_exceptions(folder: Path) -> None:
    async def use(runtime: WasmRuntime) -> None:
        assert await runtime.call("shop", f"{PRICING}@1.2.0#check", "low") == 7
        with pytest.raises(ResultError, match=r"^shop v1 docs:shop/pricing@1.2.0#check: 'too high'$") as caught:
            await runtime.call("shop", f"{PRICING}#check", level="very-high")
        assert caught.value.value == "too high"
        assert runtime.stats()["ok"] == 2  # the guest did what it is to do

    with_runtime(folder, use)


@pytest.mark.parametrize(
    ("export", "given", "kind", "problem"),
    [
        ("add", (256, 1), ValueError, "shop v1 add: parameter a: u8 is expected, not int 256"),
        ("add", (1, True), ValueError, "parameter b: u8 is expected, not bool True"),
        ("add", (1,), TypeError, "shop v1 add: parameter b: u8 is missing"),
        ("add", (1, 2, 3), TypeError, "3 arguments are given, there are 2 parameters: func.a: u8, b: u8. -> u32"),
        (f"{PRICING}#same", ({"name": "x"},), ValueError, "parameter given: the field 'in-stock' is missing"),
        (f"{PRICING}#same", ({"name": "x", "in-stock": "1"},), ValueError,
         "parameter given.in-stock: u32 is expected, not str '1'"),
        (f"{PRICING}#same", ({"name": "x", "in-stock": 1, "z": 2},), ValueError,
         "parameter given: there is no field 'z'; there are: name, in-stock"),
        (f"{PRICING}#same", (5,), ValueError, "parameter given: record .* is expected, not int 5"),
        (f"{PRICING}#same", ({"name": "\ud800", "in-stock": 1},), ValueError, "parameter given.name: a string without"),
        (f"{PRICING}#list-all", ([Item("a", 1), Item("b", -1)],), ValueError,
         r"parameter items\[1\].in-stock: u32 is expected, not int -1"),
        (f"{PRICING}#level-of", ("middle",), ValueError, "parameter from: enum .* is expected, not str 'middle'"),
        (f"{PRICING}#days-of", ({"sun"},), ValueError, "parameter days: flags .* is expected"),
        (f"{PRICING}#shape-of", (("circle", "x"),), ValueError, "parameter shape.circle: f64 is expected, not str 'x'"),
        (f"{PRICING}#shape-of", (("dot", 1),), ValueError, "parameter shape.dot: variant .* is expected"),
        (f"{PRICING}#maybe", ("x",), ValueError, "parameter count: u32 is expected, not str 'x'"),
        ("sub", (), ExportNotFound, "shop v1: no export is called 'sub'; there are: docs:shop/pricing@1.2.0#same, "),
        ("docs:shop/pricing@2.0.0#next", (), ExportNotFound, "no export is called"),
    ],
)  # fmt: skip
def test_what_does_not_fit_names_its_place(
    folder: Path, export: str, given: tuple[Any, ...], kind: type[Exception], problem: str
) -> None:
    async def use(runtime: WasmRuntime) -> None:
        with pytest.raises(kind, match=problem):
            await runtime.call("shop", export, *given)
        assert runtime.stats().get("ok", 0) == 0
        assert runtime.stats()["live"] == 0

    with_runtime(folder, use)


def test_unknown_keywords_are_named(folder: Path) -> None:
    with pytest.raises(TypeError, match="there is no further parameter 'c'"):
        call(folder, "add", a=1, b=2, c=3)


def test_each_call_has_a_fresh_instance(folder: Path) -> None:
    async def use(runtime: WasmRuntime) -> list[int]:
        return [await runtime.call("shop", f"{PRICING}#next") for _ in range(5)]

    assert with_runtime(folder, use) == [1] * 5
    assert with_runtime(folder, use, {"instances": "fresh"}) == [1] * 5


def test_calls_have_their_policys_deadline_and_memory(folder: Path) -> None:
    async def spin(runtime: WasmRuntime) -> None:
        with pytest.raises(ExecutionTimeout):
            await runtime.call("shop", "spin")
        assert runtime.stats()["execution-timeout"] == 1
        while runtime.stats()["live"]:  # what was interrupted is freed in a thread
            await asyncio.sleep(0.01)

    async def grow(runtime: WasmRuntime) -> None:
        with pytest.raises(FunctionTrapped, match="unreachable"):
            await runtime.call("shop", "trap")
        assert await runtime.call("shop", "grow", 1000) == -1
        assert await runtime.call("shop", "grow", 1) == 1
        counts = runtime.stats()
        assert (counts["wasm-trap"], counts["ok"]) == (1, 2)

    with_runtime(folder, spin, {"executionTimeoutMs": 500})
    with_runtime(folder, grow, {"maxMemoryPages": 16})


def test_calls_wait_for_a_place_in_the_bulkhead(folder: Path) -> None:
    async def use(runtime: WasmRuntime) -> None:
        first = asyncio.create_task(runtime.call("shop", "spin"))
        while runtime.stats()["running"] == 0:
            await asyncio.sleep(0.01)
        with pytest.raises(FunctionOverloaded):
            await runtime.call("shop", "add", 1, 2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

    with_runtime(folder, use, {"maxConcurrency": 1, "maxQueue": 0})


def test_only_components_have_typed_functions(folder: Path) -> None:
    home = folder / "functions" / "plain" / "v1"
    home.mkdir(parents=True)
    (home / "plain.wasm").write_bytes(capi.assemble('(module (memory (export "memory") 1) (func (export "_start")))'))

    async def use(runtime: WasmRuntime) -> None:
        with pytest.raises(ExportNotFound, match="only components have typed functions"):
            await runtime.call("plain", "add", 1)

    with_runtime(folder, use)


def test_components_without_an_entry_serve_no_path(folder: Path) -> None:
    async def use(runtime: WasmRuntime) -> None:
        with pytest.raises(CompileError, match=r"it exports docs:shop/pricing@1\.2\.0, add, spin, trap, grow"):
            await runtime.invoke("shop", EdgeRequest())

    with_runtime(folder, use)
    with (
        pytest.raises(CompileError, match="build it for the world edge"),
        TestClient(app(config(folder, {"/s": "shop"}))),
    ):
        pass


def test_memory_beyond_the_policy_is_refused(folder: Path) -> None:
    text = SHOP.replace('(memory (export "mem") 1)', '(memory (export "mem") 17)')
    (folder / "functions/shop/v1/shop.wasm").write_bytes(capi.assemble(text))
    with pytest.raises(MemoryLimitExceeded, match="asked for 17 pages"):
        with_runtime(folder, lambda runtime: runtime.call("shop", "add", 1, 2), {"maxMemoryPages": 16})


def test_closed_runtimes_take_no_calls(folder: Path) -> None:
    async def go() -> None:
        runtime = WasmRuntime(config(folder, {}), settings())
        with pytest.raises(RuntimeClosed):
            await runtime.call("shop", "add", 1, 2)

    asyncio.run(go())
