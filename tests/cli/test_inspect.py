"""``starlette-wasm inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from apps import GUESTS, add_function, config_file

from starlette_wasm.cli.main import main
from starlette_wasm.cli.module_facts import facts_of, protocol_of, toolchain_of
from starlette_wasm.engine import capi
from starlette_wasm.engine.native.library import native


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(tmp_path / "aot"))


def inspected(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert main(["inspect", *arguments, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_module_tells_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected(capsys, str(GUESTS / "edge_rust.wasm"))
    assert (found["kind"], found["protocol"], found["error"]) == ("core module", "edge", None)
    assert {"module": "edge", "name": "call", "kind": "function"} in found["imports"]
    assert {"name": "_start", "kind": "function"} in found["exports"]
    assert any(grant.startswith("allowedHosts") for grant in found["grants"])
    assert found["fastPath"] == (native is not None)
    assert sum(found["sections"].values()) <= found["size"]


@pytest.mark.parametrize(
    ("guest", "protocol"),
    [
        ("http_stream", "wasi:http/incoming-handler@0.2.0"),
        ("http_task", "wasi:http/handler@0.3.0"),
        ("echo_command", "wasi:cli/run@0.2.12"),
        ("edge_js", "handle"),
    ],
)
def test_a_component_is_what_it_exports(guest: str, protocol: str) -> None:
    data = (GUESTS / "components" / f"{guest}.wasm").read_bytes()
    assert protocol_of(facts_of(data), data) == (protocol, "by what it exports")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("handle", "its export handle is func(), not func(request: string) -> string"),
        ("run", "it exports run"),
        ("wasi:http/incoming-handler@0.2.0", "it exports wasi:http/incoming-handler@0.2.0"),
    ],
)
def test_a_component_that_serves_nothing_is_for_typed_calls(name: str, reason: str) -> None:
    export = f'(export "{name}" (func $f))' if ":" not in name else (
        f'(instance $e (export "handle" (func $f))) (export "{name}" (instance $e))'
    )  # fmt: skip
    data = capi.assemble(f"""(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
     (func $f (canon lift (core func $i "f"))) {export})""")
    assert protocol_of(facts_of(data), data) == ("none", f"{reason}; its functions are for typed calls from Python")


def test_a_function_is_found_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config_file(tmp_path, {"/hello": "hello"})
    add_function(tmp_path, "env", "cgi_env")
    found = inspected(capsys, "hello@1", "--config", str(file))
    assert found["fastPath"] == (native is not None)
    assert found["loadMs"] > 0
    assert inspected(capsys, "env", "--config", str(file))["fastPath"] == found["fastPath"]


@pytest.mark.parametrize(("pages", "remark"), [(7, False), (16, True)])
def test_a_large_stack_is_remarked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pages: int, remark: bool
) -> None:
    file = tmp_path / "large.wasm"
    end = pages * 65536
    file.write_bytes(
        capi.assemble(
            f"""(module (memory (export "memory") 18) (global (mut i32) (i32.const {end}))
                (data (i32.const {end}) "a") (func (export "_start")))"""
        )
    )
    assert main(["inspect", str(file)]) == 0
    assert ("stack-size=131072" in capsys.readouterr().out) == remark


def test_the_table_is_for_humans(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(GUESTS / "hello.wasm")]) == 0
    told = capsys.readouterr().out
    for title in (
        "kind ",
        "toolchain ",
        "protocol ",
        "imports ",
        "exports ",
        "memory ",
        "sections ",
        "policy ",
        "fast path",
    ):
        assert f"\n{title}" in told
    assert ("fast path  yes" in told) == (native is not None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x7fELF...", "ELF"),
        (b"\0asm\1\0\0\0\x01\x7f", "failed to load module"),
        (b"", "the file is empty"),
        (capi.assemble('(module (import "env" "gone" (func)) (func (export "_start")))'), "env.gone"),
    ],
)
def test_why_it_would_not_load_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    file = tmp_path / "f.wasm"
    file.write_bytes(content)
    assert main(["inspect", str(file)]) == 1
    assert message in capsys.readouterr().out


def test_what_is_not_there_has_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "nope.wasm"]) == 1
    assert "no such file: 'nope.wasm'; give the path of a module" in capsys.readouterr().err
    assert main(["inspect", "nope", "--config", str(config_file(tmp_path, {"/hello": "hello"}))]) == 1
    assert "function not found: nope; known functions: hello" in capsys.readouterr().err
    assert main(["new", "g", "--config", str(tmp_path / "wasm.yaml")]) == 0
    capsys.readouterr()
    assert main(["inspect", "g", "--config", str(tmp_path / "wasm.yaml")]) == 1
    told = capsys.readouterr().err
    assert "g.wasm: no such file; run starlette-wasm build g@1" in told
    assert "put its module" not in told


def test_a_component_is_not_without_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "empty.wasm"
    file.write_bytes(b"\0asm\x0d\0\x01\0")
    assert main(["inspect", str(file)]) == 1
    printed = capsys.readouterr().out
    assert "that of its core modules, which is known once it loads" in printed
    assert "component, 8 bytes" in printed


def test_producers_name_the_toolchain() -> None:
    field = b"\x01" + b"\x08language" + b"\x01" + b"\x04Rust" + b"\x041.63"
    section = b"\x09producers" + field
    module = b"\0asm\1\0\0\0" + bytes([0, len(section)]) + section
    assert toolchain_of(facts_of(module)) == "Rust 1.63"


@pytest.mark.parametrize(
    ("name", "protocol"), [("wws", "wws"), ("cgi_env", "cgi"), ("hello", "edge"), ("edge_zig", "edge")]
)
def test_the_protocol_is_guessed(name: str, protocol: str) -> None:
    data = (GUESTS / f"{name}.wasm").read_bytes()
    assert protocol_of(facts_of(data), data)[0] == protocol


def test_damaged_bytes_end_in_a_problem() -> None:
    data = (GUESTS / "edge_c.wasm").read_bytes()
    for end in range(8, 600, 7):
        facts_of(data[:end])
    assert facts_of(data[:200]).problem == "it ends in the middle of a section"


def test_every_guest_can_be_read() -> None:
    for file in sorted(GUESTS.glob("*.wasm")):
        facts = facts_of(file.read_bytes())
        assert facts.problem is None, file
        assert facts.exports, file
