"""``wasi:keyvalue``, ``wasi:config`` and ``wasi:logging``."""

from __future__ import annotations

from pathlib import Path

import pytest
from probe import Probe
from texts import ALLOCATOR, plan_of

from starlette_wasm.capabilities import CapabilitySettings
from starlette_wasm.components.errors import UnsupportedComponentError
from starlette_wasm.components.flat_plan import FlatPlan
from starlette_wasm.components.wasi import find_offers
from starlette_wasm.config.policy import SandboxPolicy
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits
from starlette_wasm.telemetry.guest_log import severity

GRANTED = SandboxPolicy(kv_namespaces=["cart"])


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    return Probe(GRANTED, CapabilitySettings(kv_url=f"sqlite:///{tmp_path / 'kv.db'}"))


def test_buckets_keep_values(probe: Probe) -> None:
    assert probe.value("""const b = kv.open("cart"); b.set("a", bytes("1")); b.set("b", bytes(""));
      return [text(b.get("a")), b.get("b").length, b.get("c") == null, b.exists("b"), b.exists("c"),
        b.delete("a") == null, b.delete("a") == null, b.exists("a")]""") == [
        "1", 0, True, True, False, True, True, False]  # fmt: skip
    assert probe.value('return kv.open("cart").listKeys(undefined)') == {"keys": ["b"], "cursor": None}


def test_keys_are_listed_in_pieces(probe: Probe) -> None:
    for first in (1000, 1600):
        probe.value(f"""const b = kv.open("cart"), names = [...Array(600).keys()].map((i) => `k${{{first} + i}}`);
          batch.setMany(b, names.map((name) => [name, bytes("v")]))""")
    found = probe.value("""const b = kv.open("cart"), one = b.listKeys(undefined), two = b.listKeys(one.cursor);
      return [one.keys.length, one.cursor, two.keys.length, two.cursor == null, two.keys[0]]""")
    assert found == [1000, "k1999", 200, True, "k2000"]


def test_batches_agree_with_single_calls(probe: Probe) -> None:
    found = probe.value("""const b = kv.open("cart"); batch.setMany(b, [["a", bytes("1")], ["b", bytes("2")]]);
      batch.deleteMany(b, ["a", "z"]); return batch.getMany(b, ["a", "b"]).map(([k, v]) => [k, v && text(v)])""")
    assert found == [["a", None], ["b", "2"]]


def test_numbers_are_added_to(probe: Probe) -> None:
    found = probe.value("""const b = kv.open("cart"); b.set("t", bytes("x"));
      return [atomics.increment(b, "n", 5), atomics.increment(b, "n", -7), text(b.get("n")),
        attempt(() => atomics.increment(b, "t", 1))]""")
    assert found[:3] == [5, -2, "-2"]
    assert found[3]["error"]["tag"] == "other"


def test_values_to_be_replaced_fit_beside_the_memory(probe: Probe) -> None:
    count, failed = probe.value("""const b = kv.open("cart"), kept = []; b.set("a", new Uint8Array(512 * 1024));
      const failed = attempt(() => { while (kept.length < 100) kept.push(atomics.Cas.new(b, "a")); });
      return [kept.length, failed]""")
    assert count < 36
    assert failed["error"]["val"].startswith("result too large")


def test_swaps_fail_if_the_value_has_changed(probe: Probe) -> None:
    found = probe.value("""const b = kv.open("cart"), none = atomics.Cas.new(b, "a");
      const first = [none.current() == null, atomics.swap(none, bytes("1")) == null];
      const old = atomics.Cas.new(b, "a"); b.set("a", bytes("2"));
      const failed = attempt(() => atomics.swap(old, bytes("3"))).error;
      const again = atomics.swap(failed.val, bytes("4")) == null;
      return [...first, failed.tag, again, text(b.get("a"))]""")
    assert found == [True, True, "cas-failed", True, "4"]


def test_buckets_that_are_not_granted_are_denied(probe: Probe) -> None:
    assert probe.value("return attempt(() => kv.open('other'))") == {"error": {"tag": "access-denied"}}
    assert [(each.operation, each.code) for each in probe.violations] == [("kv.get", "kv-namespace-not-allowed")]
    assert Probe().value("return attempt(() => kv.open('cart'))") == {"error": {"tag": "access-denied"}}


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("b.get('')", "bad request: key is not from 1 to 512 bytes"),
        ("b.set('x'.repeat(513), bytes('1'))", "bad request: key is not from 1 to 512 bytes"),
        ("b.set('x', new Uint8Array(1048577))", "value too large: at most 1048576 bytes"),
        ("batch.getMany(b, Array(2000).fill('x'))", "too many calls: at most 1000 in an invocation"),
    ],
)
def test_bounds_of_stores_are_errors(probe: Probe, script: str, problem: str) -> None:
    found = probe.value(f"const b = kv.open('cart'); return attempt(() => {script})")
    assert found == {"error": {"tag": "other", "val": problem}}


def test_batches_have_to_fit_into_the_memory(probe: Probe) -> None:
    found = probe.value("""const b = kv.open("cart"); b.set("x", new Uint8Array(1 << 20));
      return attempt(() => batch.getMany(b, Array(40).fill("x")))""")
    assert found["error"]["val"] == "result too large: it does not fit beside the memory"


def test_config_gives_what_the_function_has() -> None:
    probe = Probe(config={"region": "eu", "empty": ""})
    found = probe.value(
        "return [config.get('region'), config.get('empty'), config.get('HOME') == null, config.getAll()]"
    )
    assert found == ["eu", "", True, [["region", "eu"], ["empty", ""]]]


def test_logs_have_their_level_on_each_line() -> None:
    outcome = Probe().run("""logging.log("warn", "cart", "one\\ntwo"); logging.log("critical", "", "x");
      logging.log("info", "a\\n[error] b", "y")""")
    lines = outcome.stderr.decode().splitlines()
    assert lines == ["[warn] cart: one", "[warn] cart: two", "[critical] x", "[info] a [error] b: y"]
    assert [severity(line) for line in lines] == [30, 30, 50, 20]


def test_logs_are_bounded() -> None:
    outcome = Probe(limits=Limits(memory_pages=250, stderr=1000)).run(
        "logging.log('info', 'c'.repeat(100000), '\\n'.repeat(5000000))"
    )
    assert (outcome.end, len(outcome.stderr)) == (End.OK, 1000)
    assert outcome.stderr_dropped > 4_990_000


KEY_RESPONSE = '(record (field "keys" (list string)) (field "cursor" (option u64)))'
ERROR = '(variant (case "no-such-store") (case "access-denied") (case "other" string))'


def importing(interface: str, name: str, kind: str) -> FlatPlan:
    """The plan of a component that imports one function, which takes and gives what needs no resource."""
    text = f"""(component
     (import "{interface}" (instance $i (export "{name}" (func {kind}))))
     (core module $mem {ALLOCATOR})
     (core instance $l (instantiate $mem))
     (core func $f (canon lower (func $i "{name}") (memory (core memory $l "mem")) (realloc (core func $l "realloc"))))
     (core module $m (import "" "f" (func (param i32 i32 i32))))
     (core instance (instantiate $m (with "" (instance (export "f" (func $f)))))))"""
    return plan_of(text)


@pytest.mark.parametrize("interface", ["wasi:config/store@0.2.0-rc.1", "wasi:config/runtime@0.2.0-draft"])
@pytest.mark.parametrize(
    "result",
    ["(option string)", '(result (option string) (error (variant (case "upstream" string) (case "io" string))))'],
)
def test_drafts_of_config_are_offered(interface: str, result: str) -> None:
    kind = f'(param "key" string) (result {result})'
    assert len(find_offers(importing(interface, "get", kind))) == 1


def test_other_types_are_refused_with_all_that_are_offered() -> None:
    plan = importing("wasi:config/store@0.2.0", "get", '(param "key" string) (result string)')
    with pytest.raises(UnsupportedComponentError) as caught:
        find_offers(plan)
    assert "option<string>, variant" in (caught.value.hint or "")
    assert " or func(key: string) -> option<string>" in (caught.value.hint or "")
