"""Type stubs for the functions that a component exports: dataclasses, enums, and a Protocol for each interface."""

from __future__ import annotations

from collections import Counter
from itertools import count

from .exported import functions_of, has_handles
from .flat_plan import FlatPlan, LiftedFunction
from .python_types import class_name, member_name, named_types, python_name
from .types import CUT, FlagsType, FuncType, ListType, RecordType, ValueType, VariantType
from .values import wraps

_PLAIN = {"bool": "bool", "f32": "float", "f64": "float", "char": "str", "string": "str"}


def stubs_of(plan: FlatPlan, name: str) -> str:
    """Return the text of a .pyi for a component; ``name`` is that of the world's own functions."""
    return _Stubs(plan, name).text


class _Stubs:
    def __init__(self, plan: FlatPlan, name: str) -> None:
        self._uses_results = False
        types = {key: each for key, each in named_types(plan).items() if is_class(each[2])}
        interfaces = _by_interface(plan)
        wanted = {interface: _names_of(interface, "" if interface else name) for interface in interfaces}
        names = unique_names([*wanted.values(), *(_names_of(interface, each) for interface, each, _ in types.values())])
        self._protocols = dict(zip(interfaces, names, strict=False))
        self._classes = dict(zip(types, names[len(interfaces) :], strict=True))
        blocks = [self._class(self._classes[key], kind) for key, (_, _, kind) in types.items()]
        blocks += [self._protocol(interface, functions) for interface, functions in interfaces.items()]
        head = ["from dataclasses import dataclass", "from enum import StrEnum", "from typing import Literal, Protocol"]
        if self._uses_results:
            head += ["", "from starlette_wasm.components.values import Err, Ok, Some"]
        self.text = "\n\n".join("\n".join(block) for block in [head, *blocks]) + "\n"

    def _class(self, name: str, kind: ValueType) -> list[str]:
        match kind:
            case RecordType(kind="record"):
                fields = [f"    {python_name(field)}: {self._type(each)}" for field, _, each in kind.fields]
                return ["@dataclass(frozen=True)", f"class {name}:", *fields]
            case VariantType(kind="enum"):
                return [f"class {name}(StrEnum):", *(f'    {member_name(case)} = "{case}"' for case, _ in kind.cases)]
        return []

    def _protocol(self, interface: str, functions: dict[str, LiftedFunction]) -> list[str]:
        lines = [f"class {self._protocols[interface]}(Protocol):"]
        if interface:
            lines.append(f'    """{interface}"""')
        for each, function in functions.items():
            params, result = self._params(function.type), self._result(function.type)
            lines.append(f"    async def {python_name(each)}({params}) -> {result}: ...")
        return lines

    def _params(self, kind: FuncType) -> str:
        first = "_self" if any(name == "self" for name, _ in kind.params) else "self"
        return ", ".join([first, *(f"{python_name(name)}: {self._type(each)}" for name, each in kind.params)])

    def _result(self, kind: FuncType) -> str:
        result = kind.result
        if isinstance(result, VariantType) and result.kind == "result":
            result = result.cases[0][1]  # the other is an exception
        return "None" if result is None else self._type(result)

    def _type(self, kind: ValueType) -> str:
        if kind.text.endswith(CUT):  # each mention of another type may double it
            return self._classes.get(id(kind), "object")
        match kind:
            case ListType():
                return "bytes" if kind.element.kind == "u8" else f"list[{self._type(kind.element)}]"
            case RecordType(kind="tuple"):
                return f"tuple[{', '.join(self._type(each) for _, _, each in kind.fields)}]"
            case RecordType():
                return self._classes.get(id(kind), "dict[str, object]")
            case FlagsType():
                return f"set[{_literals(kind.labels)}] | frozenset[{_literals(kind.labels)}]"
            case VariantType():
                return self._variant(kind)
        return _PLAIN.get(kind.kind, "int")

    def _variant(self, kind: VariantType) -> str:
        if kind.kind == "enum":
            return self._classes.get(id(kind)) or _literals([case for case, _ in kind.cases])
        payloads = ["None" if each is None else self._type(each) for _, each in kind.cases]
        if kind.kind == "option":
            self._uses_results |= wraps(kind)
            return f"Some[{payloads[1]}] | None" if wraps(kind) else f"{payloads[1]} | None"
        if kind.kind == "result":
            self._uses_results = True
            return "Ok | Err"
        return " | ".join(
            f"tuple[{_literals([case])}, {each}]" for (case, _), each in zip(kind.cases, payloads, strict=True)
        )


def is_class(kind: ValueType) -> bool:
    """Return whether a type that has a name becomes a class: a record, or an enum."""
    return kind.kind in ("record", "enum")


def _names_of(interface: str, name: str) -> list[str]:
    """Return the names that a class may have, shortest first: with its interface before it, then with the package."""
    package, _, bare = interface.partition("@")[0].rpartition("/")
    parts = [part for part in (*package.split(":"), bare, name) if part]
    return [class_name("-".join(parts[index:])) for index in reversed(range(len(parts)))]


_TAKEN = ("Err", "Literal", "None", "Ok", "Protocol", "Some", "StrEnum", "True", "False")


def unique_names(wanted: list[list[str]]) -> list[str]:
    """Choose one name for each, the first of its list that no other one has; at last one with a number."""
    levels = [0] * len(wanted)
    while True:
        names = [each[level] for each, level in zip(wanted, levels, strict=True)]
        counts = Counter([*names, *_TAKEN])
        longer = [i for i, name in enumerate(names) if counts[name] > 1 and levels[i] + 1 < len(wanted[i])]
        if not longer:
            break
        for index in longer:
            levels[index] += 1
    made: list[str] = []
    for name in names:
        numbered = (f"{name}{number}" for number in count(2))
        made.append(name if name not in (*made, *_TAKEN) else next(x for x in numbered if x not in (*made, *names)))
    return made


def _by_interface(plan: FlatPlan) -> dict[str, dict[str, LiftedFunction]]:
    """Group the functions that can be called by their interface; those of the world itself under an empty name."""
    found: dict[str, dict[str, LiftedFunction]] = {}
    for full, function in functions_of(plan).items():
        if has_handles(function.type):
            continue
        interface, _, name = full.rpartition("#")
        found.setdefault(interface, {})[name] = function
    return found


def _literals(names: list[str] | tuple[str, ...]) -> str:
    return f"Literal[{', '.join(repr(each) for each in names)}]"
