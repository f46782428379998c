from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest
from bombs import loops

from starlette_wasm.engine import capi, processor
from starlette_wasm.engine.compile import UnsupportedModuleError
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.invocation import Invocation
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits, Plan
from starlette_wasm.exceptions import CompileError, ModuleLoadError
from starlette_wasm.functions import loader
from starlette_wasm.functions.aot import AotCache
from starlette_wasm.functions.catalog import FunctionManifest, FunctionSource
from starlette_wasm.functions.compile_backoff import CompileBackoff
from starlette_wasm.functions.compiler import CompileLimits, Compiler
from starlette_wasm.functions.loader import load, load_all, open_cache

GUESTS = Path(__file__).parent.parent / "guests"
MINIMAL = '(memory (export "memory") 1) (func (export "_start"))'


def source(file: Path, name: str = "f", version: str = "1") -> FunctionSource:
    return FunctionSource(name, version, file, FunctionManifest())


def guest(name: str) -> FunctionSource:
    return source(GUESTS / f"{name}.wasm", name)


@pytest.fixture
def cache(tmp_path):
    return AotCache(tmp_path / "cache")


def greets(function) -> bool:
    invocation = Invocation(Plan(function.module, Limits()), b"")
    outcome = asyncio.run(invocation.run(time.monotonic() + 60, nullcontext))
    return outcome.end is End.OK and b"hello" in outcome.stdout


def test_a_module_is_compiled_once_and_then_comes_from_the_cache(engine, cache):
    first, second = (load(engine, guest("hello"), cache) for _ in range(2))
    assert (first.cached, second.cached) == (False, True)
    assert first.digest == second.digest == hashlib.sha256((GUESTS / "hello.wasm").read_bytes()).hexdigest()
    assert greets(first)
    assert greets(second)
    assert first.module.facts == second.module.facts
    for function in (first, second):
        function.module.close()


def test_the_same_bytes_are_compiled_once(engine, cache):
    names = ("a", "b", "c")
    loaded = load_all(engine, [source(GUESTS / "hello.wasm", name) for name in names], cache, threads=3)
    assert sorted(function.cached for function in loaded.values()) == [False, True, True]
    for function in loaded.values():
        assert greets(function)
        function.module.close()


def test_a_changed_module_and_another_engine_are_compiled_again(engine, cache, tmp_path, monkeypatch):
    file = tmp_path / "f.wasm"
    file.write_bytes((GUESTS / "hello.wasm").read_bytes())
    assert not load(engine, source(file), cache).cached
    monkeypatch.setattr(type(engine), "fingerprint", "wasmtime of tomorrow")
    assert not load(engine, source(file), cache).cached
    monkeypatch.undo()
    file.write_bytes((GUESTS / "garbage.wasm").read_bytes())
    assert not load(engine, source(file), cache).cached


def test_damaged_code_is_compiled_again_and_hinted(engine, cache, caplog):
    load(engine, guest("hello"), cache)
    (file,) = cache.directory.glob("*.cwasm")
    whole = file.read_bytes()
    file.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    again = load(engine, guest("hello"), cache)
    assert not again.cached
    assert greets(again)
    assert "is damaged" in caplog.text
    assert load(engine, guest("hello"), cache).cached


def test_code_that_the_engine_does_not_take_is_compiled_again(engine, cache, caplog):
    function = load(engine, guest("hello"), cache)
    cache.store(cache.key(function.digest, engine.fingerprint), b"no code of this engine", function.module.facts)
    again = load(engine, guest("hello"), cache)
    assert not again.cached
    assert greets(again)
    assert "the code of hello v1 is not usable, compiling again" in caplog.text


def test_code_for_a_baseline_is_loaded_on_other_machines(cache, monkeypatch):
    shared = Engine.shared(EngineConfig(processor="baseline"))
    assert not load(shared, guest("hello"), cache).cached
    monkeypatch.setattr(processor, "_this_machine", lambda: "another machine")
    again = load(shared, guest("hello"), cache)
    assert again.cached
    assert greets(again)


def test_a_processor_that_is_not_there_is_named(monkeypatch):
    """With what wasmtime answers then, as this machine may have every level."""
    answer = UnsupportedModuleError('compilation setting "has_avx512f" is enabled, but not available on the host')

    def refuse(*_):
        raise answer

    monkeypatch.setattr(loader, "load_module", refuse)
    with pytest.raises(CompileError, match=r"has_avx512f.*set STARLETTE_WASM_PROCESSOR, which is baseline"):
        load(Engine.shared(EngineConfig(processor="baseline")), guest("hello"), None)
    with pytest.raises(CompileError) as caught:
        load(Engine.shared(EngineConfig()), guest("hello"), None)
    assert "STARLETTE_WASM_PROCESSOR" not in str(caught.value)


def test_without_a_cache_modules_are_compiled(engine):
    assert open_cache(None) is None
    assert not load(engine, guest("hello"), None).cached


def test_a_cache_that_cannot_be_trusted_is_a_warning_and_everything_works(engine, tmp_path, caplog):
    place = tmp_path / "cache"
    place.mkdir()
    place.chmod(0o777)
    assert open_cache(place) is None
    assert "AOT cache not used: others may write to" in caplog.text
    assert "modules are compiled at each start" in caplog.text
    assert greets(load(engine, guest("hello"), open_cache(place)))


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (
            b"",
            ModuleLoadError,
            "failed to load module .*f.wasm: it does not begin like a WebAssembly module: the file is empty; build",
        ),
        (b"\0asm\1\0\0\0\x01", ModuleLoadError, "failed to load module"),
        (b"\x7fELF", ModuleLoadError, "failed to load module"),
        (b"\0asm\x0d\0\1\0", CompileError, "AOT compile failed .*f.wasm: it exports nothing; build it for the world"),
        (b"\0asm\x0d\0\1\0\x07\x01", ModuleLoadError, "failed to load module .*f.wasm: .*at byte 10.*; build or copy"),
        (
            capi.assemble("(component (core func (canon error-context.drop)))"),
            CompileError,
            "f.wasm: it uses error-context.drop of the async ABI, which is not run: no tool uses error contexts; "
            "offered of the async ABI are task.return and cancel",
        ),
        (
            capi.assemble(f'(module (import "env" "x" (func)) {MINIMAL})'),
            CompileError,
            r"it imports env\.x.*; build it with a WASI",
        ),
        (capi.assemble('(module (memory (export "memory") 1 1 shared))'), CompileError, "; build it without threads"),
        (
            capi.assemble(f'(module (import "wbg" "x" (func)) {MINIMAL})'),
            CompileError,
            "; build it without wasm-bindgen",
        ),
        (capi.assemble(f"(module (tag) {MINIMAL})"), CompileError, "; build it without exceptions"),
        (capi.assemble(f"(module (type (struct)) {MINIMAL})"), CompileError, "gc"),
    ],
)
def test_a_module_that_cannot_be_used_is_an_error_that_names_it(engine, cache, tmp_path, content, error, message):
    (tmp_path / "f.wasm").write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        load(engine, source(tmp_path / "f.wasm"), cache)
    assert type(caught.value) is error
    assert caught.value.file == str(tmp_path / "f.wasm")
    assert not list(cache.directory.glob("*.cwasm"))


def test_a_file_that_cannot_be_read_or_is_too_large_is_an_error(engine, tmp_path):
    with pytest.raises(ModuleLoadError, match="No such file"):
        load(engine, source(tmp_path / "none.wasm"), None)
    with pytest.raises(ModuleLoadError, match="Is a directory"):
        load(engine, source(tmp_path), None)
    with pytest.raises(ModuleLoadError, match=r"larger than 0 MiB \(max_module_mb\); strip it, or raise"):
        load(engine, guest("hello"), None, CompileLimits(module=1 << 8))


def test_all_are_loaded_side_by_side_with_progress_in_the_log(engine, cache, caplog):
    caplog.set_level(logging.INFO)
    sources = [guest(file.stem) for file in sorted(GUESTS.glob("*.wasm"))]
    for origin in ("compiled", "from the AOT cache"):
        caplog.clear()
        loaded = load_all(engine, sources, cache, threads=4)
        assert set(loaded) == {(each.name, "1") for each in sources}
        assert all(function.cached == (origin != "compiled") for function in loaded.values())
        lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("loaded ")]
        assert len(lines) == len(sources)
        for number in range(1, len(sources) + 1):
            assert sum(f"({number} of {len(sources)}, {origin})" in line for line in lines) == 1
        assert caplog.messages[-1].startswith(f"{len(sources)} functions ready in ")
        assert greets(loaded["hello", "1"])
        for function in loaded.values():
            function.module.close()


def test_no_functions_are_no_error(engine):
    assert load_all(engine, [], None) == {}


def test_the_first_error_is_raised_once_all_have_ended(engine, tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.wasm").write_bytes(b"damaged")
    sources = [guest("hello"), *(source(tmp_path / f"{name}.wasm", name) for name in ("b", "a")), guest("echo")]
    with pytest.raises(ModuleLoadError, match=r"a\.wasm"):
        load_all(engine, sources, None)


# Modules that cannot be compiled


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def bomb(tmp_path):
    (tmp_path / "bomb.wasm").write_bytes(loops(1000, 6000))
    return source(tmp_path / "bomb.wasm", "bomb")


def test_a_bomb_is_an_error_that_names_file_limit_and_hint_while_others_load(engine, cache, bomb):
    wanted = rf"AOT compile failed {bomb.file}: compiling it takes more than 128 MiB of memory \(compile_memory_mb\); "
    with pytest.raises(CompileError, match=wanted):
        load_all(engine, [bomb, guest("hello"), guest("echo")], cache, limits=CompileLimits(memory=128 << 20))
    assert len(list(cache.directory.glob("*.cwasm"))) == 2


def test_a_module_that_failed_is_not_compiled_again_before_its_pause_is_over(engine, bomb, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    tries = []
    compile = Compiler.compile
    monkeypatch.setattr(Compiler, "compile", lambda self, wasm: (tries.append(len(wasm)), compile(self, wasm))[1])
    clock = Clock()
    backoff = CompileBackoff(clock)
    for now, tried in ((0, 1), (0.9, 1), (1, 2), (2.9, 2), (3, 3)):
        clock.now = now
        with pytest.raises(CompileError, match=r"bomb\.wasm: compiling it takes more than"):
            load(engine, bomb, None, CompileLimits(memory=64 << 20), backoff)
        assert len(tries) == tried
    assert len(backoff) == 1
    assert "bomb v1 is not compiled again within 4 s" in caplog.text


def test_a_module_that_was_changed_is_compiled_at_once(engine, bomb):
    backoff = CompileBackoff(Clock())
    with pytest.raises(CompileError):
        load(engine, bomb, None, CompileLimits(memory=64 << 20), backoff)
    bomb.file.write_bytes((GUESTS / "hello.wasm").read_bytes())
    assert greets(load(engine, bomb, None, CompileLimits(memory=64 << 20), backoff))
    assert len(backoff) == 0


def test_code_that_the_engine_refuses_after_all_is_a_compile_error(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Compiler, "compile", lambda self, wasm: (b"no code", {"host": [], "imports": [], "min_pages": 1})
    )
    with pytest.raises(ModuleLoadError, match=r"hello\.wasm"):
        load(engine, guest("hello"), None)


def test_threads_share_as_many_processes_as_there_are_threads(engine, monkeypatch):
    started = []
    start = Compiler._start
    monkeypatch.setattr(Compiler, "_start", lambda self: (started.append(self), start(self))[1])
    before = psutil.Process().children()
    load_all(engine, [guest(file.stem) for file in sorted(GUESTS.glob("*.wasm"))], None, threads=2)
    assert len(started) <= 2
    assert psutil.Process().children() == before


def test_from_the_cache_no_process_is_started(engine, cache, monkeypatch):
    load(engine, guest("hello"), cache)
    monkeypatch.setattr(Compiler, "_start", lambda self: pytest.fail("a process"))
    assert load(engine, guest("hello"), cache).cached


def test_slow_versions_of_one_function_wait_for_others(engine, tmp_path, caplog):
    """One tenant with many versions delays its own last ones, not the only one of another."""
    file = tmp_path / "f.wasm"
    file.write_bytes(capi.assemble(MINIMAL))
    many = [source(file, "many", str(i)) for i in range(6)]
    with caplog.at_level(logging.INFO, "starlette_wasm"):
        loaded = load_all(engine, [*many, source(file, "one"), source(file, "other")], None, threads=1)
    order = [record.getMessage().split()[1] for record in caplog.records if record.getMessage().startswith("loaded ")]
    assert order[:3] == ["many", "one", "other"]
    assert order[3:] == ["many"] * 5
    for function in loaded.values():
        function.module.close()
