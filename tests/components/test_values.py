"""Values of every type, through lifting and lowering, against wasmtime's own component API as the oracle.

A component passes a value on to a function that it imports, and what that gives back to its caller; it also shows its
memory. So a value is lowered, lifted, lowered and lifted again, and what the guest's memory holds then has to be the
same, byte for byte.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from running import Oracle, call, compiled
from texts import ALLOCATOR
from type_texts import TypeTexts, foreign

from starlette_wasm.components.types import (
    PRIMITIVES,
    FlagsType,
    FuncType,
    ListType,
    RecordType,
    ValueType,
    VariantType,
    enum_of,
    flags_of,
    list_of,
    option_of,
    record_of,
    result_of,
    signature,
    variant_of,
)
from starlette_wasm.components.values import Err, Ok, Some, Value, wraps
from starlette_wasm.engine import capi
from starlette_wasm.engine.outcome import End

RANGES = {f"{sign}{bits}": (-(1 << bits - 1) * (sign == "s"), (1 << bits - (sign == "s")) - 1)
          for sign in "us" for bits in (8, 16, 32, 64)}  # fmt: skip


def passing(kind: ValueType, encoding: str = "utf8") -> bytes:
    """A component that passes a value of that type on, and back."""
    text = TypeTexts()
    named = text.of(kind)
    form = signature(FuncType((("v", kind),), kind), lowered=True)
    params = "".join(f" (param {each})" for each in form.params[: len(form.params) - form.result_spilled])
    given = " ".join(f"(local.get {i})" for i in range(len(form.params) - form.result_spilled))
    result, area = ("(result i32)", "(i32.const 16)") if form.result_spilled else (f"(result {form.results[0]})", "")
    types = "".join(f" (param {each})" for each in form.params) + "".join(f" (result {r})" for r in form.results)
    options = f'(memory (core memory $l "mem")) (realloc (core func $l "realloc")) string-encoding={encoding}'
    return capi.assemble(f"""(component {" ".join(text.lines)}
     (import "pass" (func $pass (param "v" {named}) (result {named})))
     (core module $mem {ALLOCATOR.replace("1024", "32768")})
     (core instance $l (instantiate $mem))
     (core func $lowered (canon lower (func $pass) {options}))
     (core module $m (import "" "pass" (func $pass {types})) (import "l" "mem" (memory 1))
      (func (export "go") {params} {result} (call $pass {given} {area}) {area})
      (func (export "dump") (result i32)
       (i32.store (i32.const 8) (i32.const 0)) (i32.store (i32.const 12) (i32.const 65536)) (i32.const 8)))
     (core instance $i (instantiate $m (with "l" (instance $l))
      (with "" (instance (export "pass" (func $lowered))))))
     (func (export "go") (param "v" {named}) (result {named}) (canon lift (core func $i "go") {options}))
     (func (export "dump") (result (list u8)) (canon lift (core func $i "dump") {options})))""")


def types(depth: int = 3) -> st.SearchStrategy[ValueType]:
    plain = st.sampled_from(sorted(set(PRIMITIVES) - {"error-context"})).map(PRIMITIVES.__getitem__)
    names = st.integers(1, 12).map(lambda count: [f"n{i}" for i in range(count)])
    leaves = plain | names.map(enum_of) | names.map(flags_of)
    if not depth:
        return leaves
    inner = types(depth - 1)
    payload = st.none() | inner.filter(_told_apart)
    some = st.lists(inner, min_size=1, max_size=5)
    return st.one_of(
        leaves,
        inner.map(list_of),
        inner.map(option_of),
        st.builds(result_of, payload, payload),
        some.map(lambda each: record_of([f"f{i}" for i in range(len(each))], each)),
        some.map(lambda each: record_of([""] * len(each), each, "tuple")),
        st.lists(payload, min_size=1, max_size=5).map(
            lambda each: variant_of([(f"c{i}", x) for i, x in enumerate(each)])
        ),
    )


def _told_apart(kind: ValueType) -> bool:
    """Whether the oracle does: it takes a bool for an integer, and whatever comes for an option or a result."""
    return kind.kind not in ("bool", "option", "result", "variant")


def values(kind: ValueType) -> st.SearchStrategy[Value]:
    match kind:
        case ListType():
            return st.binary(max_size=9) if kind.element.kind == "u8" else st.lists(values(kind.element), max_size=4)
        case RecordType(kind="tuple"):
            return st.tuples(*(values(each) for _, _, each in kind.fields))
        case RecordType():
            return st.fixed_dictionaries({name: values(each) for name, _, each in kind.fields})
        case FlagsType():
            return st.frozensets(st.sampled_from(kind.labels))
        case VariantType():
            return st.sampled_from(range(len(kind.cases))).flatmap(lambda tag: _case(kind, tag))
    if kind.kind in RANGES:
        return st.integers(*RANGES[kind.kind])
    simple: dict[str, st.SearchStrategy[Value]] = {
        "bool": st.booleans(),
        "char": st.characters(exclude_categories=["Cs"]),
        "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
        "f32": st.floats(width=32, allow_nan=False),
        "f64": st.floats(allow_nan=False),
    }
    return simple[kind.kind]


def _case(kind: VariantType, tag: int) -> st.SearchStrategy[Value]:
    name, payload = kind.cases[tag]
    inner = st.none() if payload is None else values(payload)
    if kind.kind == "option":
        return inner.map(Some) if tag and wraps(kind) else inner
    if kind.kind == "result":
        return inner.map(Err if tag else Ok)
    return st.just(name) if kind.kind == "enum" else inner.map(lambda each: (name, each))


class Passed:
    """One value through both."""

    def __init__(self, component: bytes, kind: ValueType, value: Value) -> None:
        self.seen: list[Value] = []
        outcome, invocation = call(compiled(component), ("go", [value]), ("dump", []), functions={"pass": self._keep})
        assert outcome.end is End.OK, outcome
        self.back, self.memory = invocation.values
        reference = Oracle(component, {"pass": lambda each: each})
        function = reference.instance.get_func(reference.store, "go")
        assert function is not None
        self.given = foreign(kind, function.type(reference.store).params[0][1], value)
        self.expected = reference.call("go", self.given)
        self.expected_memory = reference.call("dump")

    def _keep(self, value: Value) -> Value:
        self.seen.append(value)
        return value


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(st.data())
def test_values_pass_as_in_wasmtime(data: st.DataObject) -> None:
    kind = data.draw(types())
    value = data.draw(values(kind))
    passed = Passed(passing(kind), kind, value)
    assert passed.seen == [passed.back] == [value]
    assert passed.expected == passed.given
    assert passed.memory == passed.expected_memory


@pytest.mark.parametrize("encoding", ["utf8", "utf16", "latin1+utf16"])
@pytest.mark.parametrize("text", ["", "abc", "grüße", "€", "🎉 x", "\0"])
def test_strings_of_every_encoding_pass(encoding: str, text: str) -> None:
    kind = PRIMITIVES["string"]
    passed = Passed(passing(kind, encoding), kind, text)
    assert (passed.seen, passed.back, passed.expected) == ([text], text, text)


def test_parameters_that_spill_pass() -> None:
    kind = record_of([""] * 9, [PRIMITIVES["string"]] * 9, "tuple")
    value = tuple("abcdefghi")
    passed = Passed(passing(kind), kind, value)
    assert (passed.back, passed.memory) == (value, passed.expected_memory)


def test_nan_keeps_being_nan() -> None:
    kind = variant_of([("a", PRIMITIVES["f32"]), ("b", PRIMITIVES["u64"])])
    passed = Passed(passing(kind), kind, ("a", float("nan")))
    assert passed.back[0] == "a"
    assert passed.back[1] != passed.back[1]


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        ("u8", 256, "parameter v: u8 is expected, not int 256"),
        ("u8", -1, "parameter v: u8 is expected, not int -1"),
        ("u8", True, "parameter v: u8 is expected, not bool True"),
        ("s64", 1.5, "parameter v: s64 is expected, not float 1.5"),
        ("bool", 1, "parameter v: bool is expected, not int 1"),
        ("char", "ab", "parameter v: char is expected, not str 'ab'"),
        ("string", b"ab", "parameter v: string is expected, not bytes b'ab'"),
        ("string", "\ud800", "parameter v: 'utf-8' codec can't encode"),
        ("f32", "1", "parameter v: f32 is expected, not str '1'"),
        ("f32", 1e300, r"parameter v: f32 is expected, not float 1e\+300"),
    ],
)
def test_values_that_do_not_fit_are_named(kind: str, value: Value, problem: str) -> None:
    module = compiled(passing(PRIMITIVES[kind]))
    with pytest.raises(ValueError, match=problem):
        call(module, ("go", [value]))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (record_of(["a"], [PRIMITIVES["u8"]]), {"b": 1}),
        (record_of(["a"], [PRIMITIVES["u8"]]), {"a": 1, "b": 1}),
        (record_of(["", ""], [PRIMITIVES["u8"]] * 2, "tuple"), (1,)),
        (variant_of([("a", None)]), ("b", None)),
        (variant_of([("a", None)]), ("a", 1)),
        (variant_of([("a", None)]), "a"),
        (enum_of(["a"]), "b"),
        (flags_of(["a"]), {"b"}),
        (flags_of(["a"]), ["a"]),
        (result_of(None, None), None),
        (option_of(option_of(PRIMITIVES["u8"])), 1),
        (list_of(PRIMITIVES["u16"]), b"ab"),
        (list_of(PRIMITIVES["u16"]), [1, 70000]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(kind: ValueType, value: Value) -> None:
    with pytest.raises(ValueError, match=r"parameter v: .* is expected, not "):
        call(compiled(passing(kind)), ("go", [value]))


def returning(kind: ValueType, stores: bytes, at: int = 16) -> bytes:
    """A component whose function gives that place, at which these bytes are."""
    text = TypeTexts()
    named = text.of(kind)
    data = "".join(f"\\{byte:02x}" for byte in stores)
    flat = signature(FuncType((), kind), lowered=False)
    body = f"(i32.const {at})" if flat.result_spilled else f"(i32.load (i32.const {at}))"
    return capi.assemble(f"""(component {" ".join(text.lines)}
     (core module $m {ALLOCATOR} (data (i32.const 16) "{data}")
      (func (export "go") (result i32) {body}))
     (core instance $i (instantiate $m))
     (func (export "go") (result {named})
      (canon lift (core func $i "go") (memory (core memory $i "mem")) (realloc (core func $i "realloc")))))""")


U8S = list_of(PRIMITIVES["u8"])


@pytest.mark.parametrize(
    ("kind", "stores", "reason"),
    [
        (PRIMITIVES["char"], struct.pack("<I", 0x110000), "invalid char: 0x110000"),
        (PRIMITIVES["char"], struct.pack("<I", 0xD800), "invalid char: 0xd800"),
        (enum_of(["a", "b"]), struct.pack("<I", 2), "unexpected discriminant: 2 of enum"),
        (option_of(PRIMITIVES["u32"]), struct.pack("<II", 2, 0), "unexpected discriminant: 2 of option"),
        (U8S, struct.pack("<II", 0, 65537), "out of bounds memory access"),
        (U8S, struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF), "out of bounds memory access"),
        (list_of(PRIMITIVES["u64"]), struct.pack("<II", 0, 0xFFFFFFFF), "out of bounds memory access"),
        (list_of(PRIMITIVES["u32"]), struct.pack("<II", 2, 1), "unaligned pointer: 2 for a list of u32"),
        (PRIMITIVES["string"], struct.pack("<II", 0, 1 << 28), "string is too long"),
        (list_of(U8S), struct.pack("<II", 0, 1 << 29), "out of bounds memory access"),
    ],
)
def test_what_a_guest_gives_is_checked(kind: ValueType, stores: bytes, reason: str) -> None:
    component = returning(kind, stores)
    outcome, _ = call(compiled(component), ("go", []))
    assert (outcome.end, outcome.reason) == (End.TRAP, reason)
    with pytest.raises(Exception, match=r"(?s)."):
        Oracle(component).call("go")


def test_small_integers_lose_surplus_bits() -> None:
    for kind, expected in (("u8", 0xFE), ("s8", -2), ("u16", 0xFFFE), ("bool", True)):
        component = returning(PRIMITIVES[kind], struct.pack("<I", 0xFFFFFFFE))
        _, invocation = call(compiled(component), ("go", []))
        assert invocation.values == [expected] == [Oracle(component).call("go")]
