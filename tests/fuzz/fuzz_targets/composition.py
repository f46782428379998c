"""Components in components, wired at random: what they compute, and who shares state with whom, is as in wasmtime.

Each component has a counter, functions of others that it calls, and components within it, defined there or farther out,
instantiated once or twice. So a function that is wired wrongly, or an instance that is made too often, gives another
number.
"""

from __future__ import annotations

import sys
from pathlib import Path

from starlette_wasm.engine import capi
from starlette_wasm.engine.outcome import End

from .source import Source

sys.path.insert(0, str(Path(__file__).parents[2] / "components"))  # for the module below, wherever pytest begins
from running import Oracle, call, compiled

EXAMPLES = 30
"""In the test suite: each has modules to compile."""
TOKENS = (b"\1\1", b"\0\2", b"\2\0\1", b"\3\3\3")
_CALLS = 3
_PARAMS = '(param "x" u32) (result u32)'


def check(data: bytes) -> None:
    binary = capi.assemble(_Writer(Source(data)).component(0, 0, ""))
    oracle = Oracle(binary)
    expected = [oracle.call("f", x) for x in range(_CALLS)]
    outcome, invocation = call(compiled(binary), *[("f", [x]) for x in range(_CALLS)])
    assert outcome.end is End.OK, outcome
    assert invocation.values == expected


class _Writer:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._names = 0
        self._budget = 12
        """Components that may yet be written."""

    def _new(self, kind: str) -> str:
        self._names += 1
        return f"${kind}{self._names}"

    def component(self, depth: int, imports: int, name: str, around: tuple[tuple[str, int], ...] = ()) -> str:
        """A component that imports so many functions; ``around`` are components farther out, with their imports."""
        self._budget -= 1
        lines = []
        functions = []
        for index in range(imports):
            functions.append(self._new("f"))
            if index % 2:
                instance = self._new("i")
                lines.append(f'(import "i{index}" (instance {instance} (export "f" (func {_PARAMS}))))')
                lines.append(f'(alias export {instance} "f" (func {functions[-1]}))')
            else:
                lines.append(f'(import "f{index}" (func {functions[-1]} {_PARAMS}))')
        known = list(around)
        for _ in range(self._source.integer(0, 2) if depth < 3 and self._budget > 0 else 0):
            known.append((self._new("c"), self._source.integer(0, len(functions))))
            lines.append(self.component(depth + 1, known[-1][1], known[-1][0], tuple(known[:-1])))
        for _ in range(self._source.integer(0, 3) if known else 0):
            which, wanted = self._source.pick(known)
            if wanted <= len(functions):
                lines += self._instantiated(which, wanted, functions)
        lines += self._exported(functions)
        return f"(component {name} {' '.join(lines)})"

    def _instantiated(self, which: str, wanted: int, functions: list[str]) -> list[str]:
        instance, lines, given = self._new("i"), [], []
        for index in range(wanted):
            function = self._source.pick(functions)
            if index % 2:
                inline = self._new("i")
                lines.append(f'(instance {inline} (export "f" (func {function})))')
                given.append(f'(with "i{index}" (instance {inline}))')
            else:
                given.append(f'(with "f{index}" (func {function}))')
        functions.append(self._new("f"))
        lines.append(f"(instance {instance} (instantiate {which} {' '.join(given)}))")
        lines.append(f'(alias export {instance} "f" (func {functions[-1]}))')
        return lines

    def _exported(self, functions: list[str]) -> list[str]:
        """What it exports as ``f``: a function of another one, or one that calls some."""
        if functions and self._source.integer(0, 3) == 0:
            return [f'(export "f" (func {self._source.pick(functions)}))']
        called = [self._source.pick(functions) for _ in range(self._source.integer(0, 2) if functions else 0)]
        core, module, made = self._new("l"), self._new("m"), self._new("n")
        lowered = [f"(core func {core}{i} (canon lower (func {each})))" for i, each in enumerate(called)]
        imports = "".join(f'(import "" "{i}" (func $g{i} (param i32) (result i32)))' for i in range(len(called)))
        calls = "".join(f"(local.set 0 (call $g{i} (local.get 0)))" for i in range(len(called)))
        given = " ".join(f'(export "{i}" (func {core}{i}))' for i in range(len(called)))
        a, b = self._source.integer(1, 9), self._source.integer(0, 99)
        return [
            *lowered,
            f"""(core module {module} {imports} (global $n (mut i32) (i32.const {b}))
             (func (export "f") (param i32) (result i32) {calls}
              (global.set $n (i32.add (global.get $n) (i32.const 1)))
              (i32.add (i32.mul (local.get 0) (i32.const {a})) (global.get $n))))""",
            f'(core instance {made} (instantiate {module} (with "" (instance {given}))))',
            f'(func (export "f") {_PARAMS} (canon lift (core func {made} "f")))',
        ]
