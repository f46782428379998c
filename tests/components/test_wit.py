"""The WIT and the stubs of a component, read by tools that are not of this project."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

from texts import COMPOSED, plan_of
from wit_shop import SHOP

from starlette_wasm.components.exported import functions_of, has_handles, may_be_large
from starlette_wasm.components.flat_plan import flatten
from starlette_wasm.components.reader import read
from starlette_wasm.components.stubs import stubs_of, unique_names
from starlette_wasm.components.wit import wit_of

ROOT = Path(__file__).parents[2]
JOB = ROOT / "benchmarks" / "guests" / "wasi-http" / "job.component.wasm"


def bindings(wit: str, folder: Path) -> str:
    """What componentize-py makes of a world: it fails for WIT that is not valid."""
    tool = shutil.which("componentize-py", path=str(Path(sys.executable).parent))
    assert tool is not None, "run scripts/setup"
    (folder / "root.wit").write_text(wit)
    command = [tool, "-d", str(folder / "root.wit"), "-w", "root", "bindings", str(folder / "made")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return "".join(each.read_text() for each in sorted((folder / "made").rglob("*.py")))


def test_the_wit_of_a_component_is_valid(tmp_path: Path) -> None:
    made = bindings(wit_of(plan_of(SHOP)), tmp_path)
    assert "def list_all(self, items: List[pricing.Item]) -> List[pricing.Item]" in made
    assert "def check(self, level: pricing.Level) -> int:" in made
    assert "VERY_HIGH = 1" in made


def test_the_wit_names_types_where_they_are_used() -> None:
    text = wit_of(flatten(read(JOB.read_bytes())))
    assert "import wasi:http/types@0.2.0;" in text
    assert "export wasi:http/incoming-handler@0.2.0;" in text
    assert "handle: func(request: incoming-request, response-out: response-outparam);" in text
    assert "    type headers = fields;" in text
    assert "append: func(name: string, value: list<u8>) -> result<_, header-error>;" in text
    assert "    use wasi:io/error@0.2.0.{error};" in text


def test_functions_of_the_world_itself_are_printed() -> None:
    text = wit_of(plan_of(COMPOSED))
    assert "  export run: func(s: string, n: u32) -> tuple<string, u32>;\n" in text


def test_a_type_that_names_another_again_and_again_is_bounded() -> None:
    levels = "".join(f"(type $t{n} (tuple $t{n - 1} $t{n - 1}))" for n in range(1, 22))
    text = f"""(component (core module $m (memory (export "mem") 1) (func (export "f") (param i32 i32))
       (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable))
      (core instance $i (instantiate $m)) (type $t0 u8) {levels}
      (func (export "f") (param "x" (list $t21))
       (canon lift (core func $i "f") (memory (core memory $i "mem")) (realloc (core func $i "r")))))"""
    assert len(wit_of(plan_of(text))) <= 200_001


def test_lists_that_double_at_each_level_are_bounded() -> None:
    levels = "".join(
        f"(type $l{n} (list $t{n - 1})) (type $t{n} (tuple $l{n} $l{n}))"
        for n in range(1, 31)  # nothing that visits each mention ends
    )
    text = f"""(component (core module $m (memory (export "mem") 1) (func (export "f") (param i32 i32 i32 i32))
       (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable))
      (core instance $i (instantiate $m)) (type $t0 u16) {levels}
      (func (export "f") (param "x" $t30)
       (canon lift (core func $i "f") (memory (core memory $i "mem")) (realloc (core func $i "r")))))"""
    plan = plan_of(text)
    function = functions_of(plan)["f"]
    assert (has_handles(function.type), may_be_large(function.type)) == (False, True)
    assert len(wit_of(plan)) <= 200_001
    assert len(stubs_of(plan, "f")) <= 200_001


def test_stubs_declare_what_is_called() -> None:
    scope: dict[str, Any] = {}
    exec(compile(stubs_of(plan_of(SHOP), "shop"), "shop.pyi", "exec"), scope)
    assert [each.name for each in dataclasses.fields(scope["Item"])] == ["name", "in_stock"]
    assert get_type_hints(scope["Item"]) == {"name": str, "in_stock": int}
    assert issubclass(scope["Level"], enum.StrEnum)
    assert [(each.name, each.value) for each in scope["Level"]] == [("LOW", "low"), ("VERY_HIGH", "very-high")]
    pricing = scope["Pricing"]
    assert pricing.__doc__ == "docs:shop/pricing@1.2.0"
    assert inspect.iscoroutinefunction(pricing.list_all)
    items = list.__class_getitem__(scope["Item"])
    assert get_type_hints(pricing.list_all) == {"items": items, "return": items}
    assert get_type_hints(pricing.check) == {"level": scope["Level"], "return": int}
    assert get_type_hints(pricing.maybe) == {"count": int | None, "return": int | None}
    assert list(inspect.signature(scope["Shop"].add).parameters) == ["self", "a", "b"]


def interface_of(name: str, field: str) -> str:
    """A part of a component: an interface with a record ``item`` and an enum ``none``, and a function of both."""
    return f"""(component $c{field}
      (type $i (record (field "{field}" u8))) (export $item "item" (type $i))
      (type $n (enum "{field}")) (export $none "none" (type $n))
      (core module $m (func (export "f") (param i32 i32) (result i32) (local.get 0)))
      (core instance $x (instantiate $m))
      (func (export "f") (param "a" $item) (param "b" $none) (result $item) (canon lift (core func $x "f"))))
     (instance $i{field} (instantiate $c{field})) (export "{name}" (instance $i{field}))"""


def test_stubs_tell_types_of_one_name_apart() -> None:
    names = {"docs:shop/pricing": "a", "docs:shop/order": "b", "more:shop/order": "c", "docs:shop/item": "d"}
    parts = "".join(interface_of(name, field) for name, field in names.items())
    scope: dict[str, Any] = {}
    exec(compile(stubs_of(plan_of(f"(component {parts})"), "shop"), "shop.pyi", "exec"), scope)
    for protocol, item, none, field in (
        ("Pricing", "PricingItem", "PricingNone", "a"),
        ("DocsShopOrder", "DocsShopOrderItem", "DocsShopOrderNone", "b"),
        ("MoreShopOrder", "MoreShopOrderItem", "MoreShopOrderNone", "c"),
        ("ShopItem", "ItemItem", "ItemNone", "d"),
    ):
        hints = get_type_hints(scope[protocol].f)
        assert hints == {"a": scope[item], "b": scope[none], "return": scope[item]}
        assert [each.name for each in dataclasses.fields(scope[item])] == [field]
        assert [each.value for each in scope[none]] == [field]


def test_stubs_number_names_that_stay_the_same() -> None:
    assert unique_names([["Item"], ["Item"], ["Item2"], ["Protocol"], ["A", "BA"], ["A", "CA"]]) == [
        "Item", "Item3", "Item2", "Protocol2", "BA", "CA"
    ]  # fmt: skip


def test_stubs_leave_out_functions_with_resources() -> None:
    text = stubs_of(plan_of(COMPOSED), "composed")
    assert "async def run(self, s: str, n: int) -> tuple[str, int]: ..." in text


def test_stubs_take_a_parameter_called_self() -> None:
    text = """(component (core module $m (func (export "f") (param i32))) (core instance $i (instantiate $m))
     (func (export "class") (param "self" u32) (canon lift (core func $i "f"))))"""
    scope: dict[str, Any] = {}
    exec(compile(stubs_of(plan_of(text), "shop"), "shop.pyi", "exec"), scope)
    assert list(inspect.signature(scope["Shop"].class_).parameters) == ["_self", "self"]
