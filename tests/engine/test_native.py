"""What invoke.c does, against the same steps from Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import GUESTS, command, run

from starlette_wasm.engine import instance
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.native import library as hot_module
from starlette_wasm.engine.native.library import LIBRARY, SOURCES, NativeLibrary
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits, Preopen

pytestmark = pytest.mark.native
Guest = Callable[[str], Module]
LIMITS = Limits(memory_pages=64, time=60, stdout=1 << 20, stderr=4096)
SHORT = replace(LIMITS, time=0.3)
ENDLESS = {"sleep60", "spin"}
# What they say differs from run to run.
CHANGING = {"clocks", "poll", "randomness"}


@pytest.fixture(params=["native", "python"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "python":
        monkeypatch.setattr(instance, "native", None)
    return request.param


def outcomes(module: Module, monkeypatch: pytest.MonkeyPatch, stdin: bytes, **options: object) -> list[Outcome]:
    found = []
    for native in (NativeLibrary(), None):
        monkeypatch.setattr(instance, "native", native)
        outcome = run(module, stdin, **options)
        outcome.cpu_s = 0
        # What a thread still runs when its time is over is left to it, with what it has said.
        found.append(outcome if outcome.end is not End.TIMEOUT else Outcome(End.TIMEOUT))
    return found


def request(body: str = "", **query: str) -> bytes:
    return json.dumps({"path": "/", "method": "POST", "headers": {}, "query": query, "body": body}).encode()


def test_it_was_compiled() -> None:
    assert hot_module.native is not None


@pytest.mark.parametrize("name", sorted(file.stem for file in GUESTS.glob("*.wasm")))
@pytest.mark.parametrize("body", ["", "x" * 3000, "é" * 60_000])
def test_both_ways_come_to_the_same(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, body: str
) -> None:
    preopens = (Preopen(str(tmp_path), "/data", True),) if name in ("files", "manyfds") else ()
    limits = SHORT if name in ENDLESS else LIMITS
    one, other = outcomes(guest(name), monkeypatch, request(body), limits=limits, preopens=preopens)
    if name in CHANGING:
        one.stdout = other.stdout = b""
    assert one == other


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ("", End.OK),
        ("(call $print_i32 (i32.const 7))", End.OK),
        ("(call $proc_exit (i32.const 0))", End.OK),
        ("(call $proc_exit (i32.const 3))", End.EXIT),
        ("unreachable", End.TRAP),
        ("(drop (memory.grow (i32.const 60)))", End.OK),
        ("(drop (memory.grow (i32.const 65))) unreachable", End.MEMORY),
        ("(loop $on (br $on))", End.TIMEOUT),
        ("(loop $on (call $print_i32 (i32.const 7)) (br $on))", End.OUTPUT),
    ],
)
def test_each_end_is_the_same_both_ways(
    wat: Callable[[str], Module], monkeypatch: pytest.MonkeyPatch, body: str, end: End
) -> None:
    module = wat(command(body, "proc_exit"))
    one, other = outcomes(module, monkeypatch, b"", limits=SHORT if end is End.TIMEOUT else LIMITS)
    assert one == other
    assert one.end is end


@pytest.mark.parametrize("size", [0, 8191, 8192, 8193, 60_000, 70_000, 1 << 20])
def test_output_of_any_length_comes_back_whole(guest: Guest, way: str, size: int) -> None:
    text = "x" * size
    answer = json.loads(run(guest("echo"), request(text), limits=Limits(stdout=4 << 20)).stdout)
    assert json.loads(answer["body"])["body"] == text


def test_a_library_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    changed = tmp_path / "invoke.c"
    changed.write_bytes(SOURCES[-1].read_bytes() + b"\n")
    monkeypatch.setattr(hot_module, "SOURCES", (*SOURCES[:-1], changed))
    with pytest.raises(ValueError, match="compiled from other sources"):
        NativeLibrary()
    assert hot_module.load() is None


def test_without_the_library_a_warning_says_why_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> NativeLibrary:
        return NativeLibrary(tmp_path / LIBRARY.name)

    monkeypatch.setattr(hot_module, "NativeLibrary", missing)
    monkeypatch.setattr(hot_module, "_why_missing", [])
    monkeypatch.setattr(hot_module, "native", hot_module.load())
    assert hot_module.native is None
    hot_module.warn_if_missing()
    hot_module.warn_if_missing()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "_native.so" in record.getMessage()
    assert "C compiler" in record.getMessage()
