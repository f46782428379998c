"""What is said of a module that the engine does not take: the import or the feature, and what to do about it."""

from __future__ import annotations

import pytest

from starlette_wasm.engine import capi
from starlette_wasm.engine.module import InvalidModuleError, Module, UnsupportedModuleError

MINIMAL = '(memory (export "memory") 1) (func (export "_start"))'
PREVIEW_1 = "wasi_snapshot_preview1"
WORDS = ("thread", "shared", "exception", "memory64", "64-bit", "gc", "enabled", "support", "proposal", "wbg")
"""Words of other remedies, which may stand in names that a guest chose."""


def refused(engine, text: str) -> UnsupportedModuleError:
    with pytest.raises(UnsupportedModuleError) as caught:
        Module.compile(engine, capi.assemble(text))
    return caught.value


@pytest.mark.parametrize(
    ("module", "name", "remedy"),
    [
        ("wasi_ephemeral_nn", "load", "no wasi-nn"),
        ("wasi_ephemeral_nn", "compute", "no wasi-nn"),
        ("wasi_ephemeral_crypto_common", "options_open", "no wasi-crypto"),
        ("wasi-outbound-http", "request", "an interface of Spin"),
        ("key-value", "open", "an interface of Spin"),
        ("outbound-redis", "publish", "an interface of Spin"),
        ("spin-config", "get-config", "an interface of Spin"),
        ("fermyon:spin/key-value@2.0.0", "[method]store.get", "an interface of Spin"),
        ("http", "send-http-request: func() -> ()", "an interface of Wasm Workers Server"),
        ("http", "send-http-request", "an interface of Wasm Workers Server"),
        (PREVIEW_1, "sock_open", "WasmEdge's sockets"),
        (PREVIEW_1, "sock_getaddrinfo", "WasmEdge's sockets"),
        (PREVIEW_1, "sock_accept_v2", "WasmEdge's sockets"),
        (PREVIEW_1, "fd_wirte", "not part of WASI preview 1"),
        ("wasi", "thread-spawn", "without threads"),
        ("wasi:cli/environment@0.2.0", "get-environment", "not preview 2"),
        ("wasi_unstable", "fd_write", "newer WASI SDK"),
        ("wasix_32v1", "thread_spawn_v2", "Wasmer's WASIX"),
        ("rb-js-abi-host", "rb_wasm_throw_prohibit_rewind_exception", "Ruby for JavaScript hosts"),
        ("canonical_abi", "resource_new_rb-abi-value", "Ruby for JavaScript hosts"),
        ("env", "abort", "@assemblyscript/wasi-shim"),
        ("env", "seed", "@assemblyscript/wasi-shim"),
        ("env", "console.log", "@assemblyscript/wasi-shim"),
        ("env", "emscripten_resize_heap", "Emscripten"),
        ("env", "__cxa_throw", "Emscripten"),
        ("a", "b", "Emscripten"),
        ("env", "proxy_log", "Proxy-Wasm"),
        ("env", "my_exception_handler", "link all it calls"),
        ("wbg", "__wbindgen_throw", "without wasm-bindgen"),
        ("./shared_thread_bg.js", "f", "without wasm-bindgen"),
        ("gojs", "runtime.wasmExit", "GOOS=wasip1"),
        ("extism:host/env", "input_length", "a plug-in of Extism"),
        ("dart2wasm", "_1", "without calls into JavaScript"),
        ("edge", "fetch", "only call and take"),
        *(("of.others", f"a {word} b", "a WASI preview 1 command") for word in WORDS),
        *((f"my-{word}.things", "f", "a WASI preview 1 command") for word in WORDS),
    ],
)
def test_an_import_is_named_with_its_remedy(engine, module: str, name: str, remedy: str) -> None:
    error = refused(engine, f'(module (import "{module}" "{name}" (func)) {MINIMAL})')
    assert error.problem == f"it imports {module}.{name}"
    assert remedy in error.hint


@pytest.mark.parametrize(
    ("imported", "what", "remedy"),
    [
        ('"env" "memory" (memory 1)', "a memory, env.memory", "without --import-memory"),
        ('"env" "memory" (memory 1 (pagesize 1))', "a memory, env.memory", "without --import-memory"),
        ('"env" "__stack_pointer" (global (mut i32))', "a global, env.__stack_pointer", "a shared library"),
        ('"GOT.mem" "exception" (global (mut i32))', "a global, GOT.mem.exception", "a shared library"),
        ('"env" "__indirect_function_table" (table 1 funcref)', "a table, env.__indirect", "a shared library"),
        (
            f'"{PREVIEW_1}" "sock_accept" (func (param i32 i32) (result i32))',
            f"{PREVIEW_1}.sock_accept with the wrong type",
            "WasmEdge's sockets",
        ),
        (
            f'"{PREVIEW_1}" "fd_seek" (func (param i32 i64 i32) (result i32))',
            f"{PREVIEW_1}.fd_seek with the wrong type",
            "newer WASI SDK",
        ),
    ],
)
def test_what_is_no_function_is_named_too(engine, imported: str, what: str, remedy: str) -> None:
    start = '(export "memory" (memory 0)) (func (export "_start"))' if "(memory" in imported else MINIMAL
    error = refused(engine, f"(module (import {imported}) {start})")
    assert what in error.problem
    assert remedy in error.hint


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ('(memory (export "memory") 1 1 shared) (func (export "_start"))', "without threads"),
        ('(import "env" "gc" (memory 1 1 shared)) (func (export "_start"))', "without threads"),
        (f"{MINIMAL} (func (drop (i32.atomic.load (i32.const 0))))", "without threads"),
        ('(memory (export "memory") i64 1) (func (export "_start"))', "32-bit memories"),
        (f"{MINIMAL} (table i64 1 funcref)", "32-bit memories"),
        ('(memory (export "memory") 1 (pagesize 1)) (func (export "_start"))', "pages of 64 KiB"),
        (f"(tag) {MINIMAL}", "without exceptions"),
        (f"{MINIMAL} (func (block (try_table (catch_all 0))))", "without exceptions"),
        (f"{MINIMAL} (func (param exnref) (throw_ref (local.get 0)))", "without exceptions"),
        (f"(type (struct)) {MINIMAL}", "does not need WebAssembly GC"),
        (f"(rec (type (func)) (type (func (param i32)))) {MINIMAL}", "does not need WebAssembly GC"),
        (f"{MINIMAL} (func (param anyref))", "does not need WebAssembly GC"),
        (f"(type $t (func)) {MINIMAL} (func (param (ref null $t)))", "does not need WebAssembly GC"),
        (f"{MINIMAL} (table 1 funcref (ref.null func))", "does not need WebAssembly GC"),
        (
            f"{MINIMAL} (func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))",
            "without relaxed SIMD",
        ),
        (f"(type $f (func)) (type (cont $f)) {MINIMAL}", "without stack switching"),
        (f"{MINIMAL} (memory 1)", "exactly one of its own"),
    ],
)
def test_a_feature_is_told_with_its_remedy(engine, text: str, remedy: str) -> None:
    assert remedy in refused(engine, f"(module {text})").hint


@pytest.mark.parametrize("word", [*WORDS, "a `gc` proposal", "exceptions proposal not enabled"])
def test_damage_is_not_taken_for_a_feature(engine, word: str) -> None:
    twice = f'(export "{word}" (func 0)) (export "{word}" (func 0))'
    with pytest.raises(InvalidModuleError, match="duplicate export name"):
        Module.compile(engine, capi.assemble(f"(module {twice} {MINIMAL})"))


@pytest.mark.parametrize(
    ("pointer", "data", "pages"),
    [
        ("(global (mut i32) (i32.const 16777216))", '(data (i32.const 16777216) "x")', 256),
        ("(global (mut i32) (i32.const 16777216))", '(data "x")', 256),
        ("(global (mut i32) (i32.const 16777216))", "", 256),
        ("(global (mut i32) (i32.const 16777216))", '(data (i32.const 1024) "x")', 0),
        ("(global i32 (i32.const 16777216))", "", 0),
        ("(global (mut i64) (i64.const 16777216))", "", 0),
        ("(global (mut i32) (i32.const -16))", "", 0),
        ("", "", 0),
    ],
)
def test_the_stack_of_a_guest_is_known(engine, pointer: str, data: str, pages: int) -> None:
    start = '(memory (export "memory") 300) (func (export "_start"))'
    module = Module.compile(engine, capi.assemble(f"(module {start} {pointer} {data})"))
    assert module.stack_pages == module.facts["stack_pages"] == pages
    module.close()
