"""Carries out the commands of one .wast file: components, calls of their exports, and what is asserted of both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wast_instance import HostFunctions, LiveInstance, Trapped
from wast_text import Form, Text, WastError, line_of, read_forms
from wast_values import same, value_of

from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.flat_plan import ImportedFunction, LiftedFunction
from starlette_wasm.components.module import ComponentModule
from starlette_wasm.components.scheduler import ONE_STACK
from starlette_wasm.components.values import Value
from starlette_wasm.engine import capi
from starlette_wasm.engine.compile import InvalidModuleError, UnsupportedModuleError
from starlette_wasm.engine.engine import Engine, EngineConfig

_Known = TypeVar("_Known", ComponentModule, LiveInstance)
HOST: HostFunctions = {"host-echo-u32": lambda value: value, "host-return-two": lambda: 2}
"""Functions that the tests of wasmtime import."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one command. ``status`` is ``passed``, ``failed`` or ``not run``."""

    line: int
    what: str
    status: str
    detail: str = ""
    differs: bool = False
    """Whether a trap or an error is expected with another message."""


class NotRun(Exception):
    """A command cannot be carried out, with the reason."""


class Failed(Exception):
    """An assertion does not hold."""


class WrongMessage(Exception):
    """An assertion holds, but for the message."""


async def run_file(path: Path) -> list[Result]:
    """Return the results of all commands of a file."""
    source = path.read_text()
    run = WastFile(source)
    try:
        return [await run.result(form) for form in read_forms(source)]
    except WastError as error:
        return [Result(1, path.name, "failed", str(error))]
    finally:
        await run.close()


class WastFile:
    """The state between the commands of one file."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._engine = Engine.shared(EngineConfig(max_instances=50))
        self._definitions: dict[str, ComponentModule | NotRun] = {}
        self._instances: dict[str, LiveInstance | NotRun] = {}
        self._live: list[LiveInstance] = []

    async def close(self, but: Collection[object] = ()) -> None:
        """End the instances, but for some."""
        left = [each for each in self._live if each in but]
        for each in self._live:
            if each not in left:
                await each.end()
        self._live = left

    async def result(self, form: Form) -> Result:
        """Carry out one command."""
        line = line_of(self._source, form.start)
        what = " ".join(each for each in form.items[:3] if isinstance(each, str))
        carry_out = getattr(self, f"_{form.head}", None)
        try:
            if carry_out is None:
                raise NotRun(f"the command {form.head} is not carried out")
            await carry_out(form)
        except (NotRun, Trapped) as error:
            if isinstance(error, NotRun) or str(error) == ONE_STACK:
                return Result(line, what, "not run", str(error))
            return Result(line, what, "failed", f"{type(error).__name__}: {error}")
        except WrongMessage as error:
            return Result(line, what, "passed", str(error), differs=True)
        except (Failed, WastError, InvalidModuleError, capi.EngineError) as error:
            return Result(line, what, "failed", f"{type(error).__name__}: {error}")
        except Exception as error:  # whatever a component can make happen is named, and the others are run
            return Result(line, what, "failed", f"crashed with {error!r:.200}")
        return Result(line, what, "passed")

    async def _component(self, form: Form) -> None:
        words = _words(form)
        if words[0] == "instance":
            name, of = (*words[1:], "", "")[:2]
            await self._instantiate(name, self._known(self._definitions, of))
            return
        name = next((each for each in words if each.startswith("$")), "")
        try:
            self._definitions[name] = self._definitions[""] = made = self._load(form)
        except (NotRun, InvalidModuleError) as error:
            why = NotRun(str(error))
            self._definitions[name] = self._definitions[""] = self._instances[name] = self._instances[""] = why
            raise
        if words[0] != "definition":
            await self._instantiate(name, made)

    async def _module(self, form: Form) -> None:
        raise NotRun("core modules are wasmtime's")

    async def _instantiate(self, name: str, module: ComponentModule) -> None:
        try:
            asked = [host.of for host in module.flat.hosts if isinstance(host.of, ImportedFunction)]
            missing = [each for each in asked if each.name not in HOST]
            if missing:
                raise NotRun(f"it imports {missing[0]}")
            made = LiveInstance(module, HOST)
            self._live.append(made)
            self._instances[name] = self._instances[""] = made
            await self.close(but=list(self._instances.values()))
            await made.made()
        except (NotRun, Trapped) as error:
            self._instances[name] = self._instances[""] = NotRun(str(error))
            raise

    def _load(self, form: Form) -> ComponentModule:
        """Raise NotRun for what is refused by name, and InvalidModuleError."""
        try:
            made = ComponentModule(self._engine, *compile_component(self._engine.ptr, self._binary(form)))
        except UnsupportedModuleError as error:
            raise NotRun(f"refused: {error}") from None
        return made

    def _binary(self, form: Form) -> bytes:
        """Return the binary of a component. Raises NotRun if its text is not taken."""
        words = _words(form)
        if "binary" in words[:3]:
            return b"".join(each.data for each in form.items if isinstance(each, Text))
        if "quote" in words[:3]:
            inner = b" ".join(each.data for each in form.items if isinstance(each, Text))
            return _assembled(f"(component {inner.decode()})")
        after = 1 if words[0] == "definition" else 0
        return _assembled(f"({form.head}{self._source[form.ends[after] : form.end]}")

    async def _assert_invalid(self, form: Form) -> None:
        inner, expected = _inner(form)
        if inner.head != "component":
            raise NotRun("core modules are wasmtime's")
        binary = self._binary(inner)
        try:
            compile_component(self._engine.ptr, binary)
        except InvalidModuleError as error:
            _compare(expected, str(error))
        except UnsupportedModuleError as error:
            raise NotRun(f"refused for another reason: {error}") from None
        else:
            raise Failed(f"it is taken, and is invalid: {expected}")

    _assert_malformed = _assert_invalid

    async def _assert_unlinkable(self, form: Form) -> None:
        raise NotRun("components import nothing from each other here")

    async def _assert_trap(self, form: Form) -> None:
        inner, expected = _inner(form)
        try:
            await (self._component(inner) if inner.head == "component" else self._invoke(inner))
        except Trapped as error:
            _compare(expected, str(error))
        else:
            raise Failed(f"there is no trap: {expected}")

    _assert_exhaustion = _assert_trap

    async def _assert_return(self, form: Form) -> None:
        inner, *expected = (each for each in form.items[1:] if isinstance(each, Form))
        function, value = await self._call(inner)
        if not expected:
            return
        assert function.type.result is not None
        wanted = value_of(expected[0], function.type.result)
        if not same(value, wanted):
            raise Failed(f"{value!r:.200} came, {wanted!r:.200} is expected")

    async def _invoke(self, form: Form) -> None:
        await self._call(form)

    async def _call(self, form: Form) -> tuple[LiftedFunction, Value]:
        words = [each for each in form.items[1:] if isinstance(each, str)]
        name, *given = (each for each in form.items[1:] if not isinstance(each, str))
        instance = self._known(self._instances, words[0] if words else "")
        if not isinstance(name, Text):
            raise WastError("a call has no name")
        function = instance.plan.component.functions.get(name.data.decode())
        if function is None:
            raise Failed(f"there is no export {name.data.decode()}")

        def values(function: LiftedFunction) -> Sequence[Value]:
            pairs = zip(given, function.type.params, strict=True)
            return [value_of(each, kind) for each, (_, kind) in pairs if isinstance(each, Form)]

        return function, await instance.ask(name.data.decode(), values)

    @staticmethod
    def _known(known: Mapping[str, _Known | NotRun], name: str) -> _Known:
        found = known.get(name)
        if found is None:
            raise NotRun(f"there is no component {name}")
        if isinstance(found, NotRun):
            raise NotRun(str(found))
        return found


def _assembled(text: str) -> bytes:
    try:
        return capi.assemble(text)
    except capi.EngineError as error:
        problem = str(error).partition("\n")[0].removesuffix(":")
        raise NotRun(f"the assembler does not take the text: {problem}") from error


def _words(form: Form) -> list[str]:
    """Return the words behind the first, up to what is none; one that is empty if there is none."""
    found = []
    for each in form.items[1:]:
        if not isinstance(each, str):
            break
        found.append(each)
    return found or [""]


def _inner(form: Form) -> tuple[Form, str]:
    inner, *rest = form.items[1:]
    if not isinstance(inner, Form):
        raise WastError(f"{form.head} asserts something of {inner!r:.60}")
    message = rest[0] if rest else None
    return inner, message.data.decode() if isinstance(message, Text) else ""


def _compare(expected: str, message: str) -> None:
    """Raise WrongMessage if the message is not the one that is expected."""
    if expected not in message:
        raise WrongMessage(f"{message!r:.200} came, {expected!r} is expected")
