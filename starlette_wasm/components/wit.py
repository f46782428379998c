"""The WIT of a component: its world, and the interfaces that it imports and exports, as wasm-tools prints them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .flat_plan import ExportTree, FlatPlan, ImportedFunction, LiftedFunction
from .types import (
    CUT,
    AsyncValueType,
    FlagsType,
    FuncType,
    HandleType,
    ListType,
    RecordType,
    Resource,
    ValueType,
    VariantType,
)

_INTERFACE = re.compile(r"(?P<package>[^/@]+)/(?P<name>[^@]+)(?P<version>@.+)?")
_MEMBER = re.compile(r"\[(constructor|method|static)\](?P<resource>[^.]+)(?:\.(?P<name>.+))?")
_MAX_TEXT = 200_000
_KEYWORDS = frozenset(
    {
        *(
            "as",
            "async",
            "bool",
            "borrow",
            "char",
            "constructor",
            "enum",
            "export",
            "f32",
            "f64",
            "flags",
            "from",
            "func",
        ),
        *(
            "future",
            "import",
            "include",
            "interface",
            "list",
            "option",
            "own",
            "package",
            "record",
            "resource",
            "result",
        ),
        *("s16", "s32", "s64", "s8", "static", "stream", "string", "tuple", "type", "u16", "u32", "u64", "u8", "use"),
        *("variant", "with", "world"),
    }
)


def _id(name: str) -> str:
    """Return a name of a field, case, parameter, function or type, escaped if it is a keyword."""
    return f"%{name}" if name in _KEYWORDS else name


def wit_of(plan: FlatPlan) -> str:
    """Return the WIT. Types that have no name where they are used are written out in place."""
    return _Printer(plan).text


class _Printer:
    def __init__(self, plan: FlatPlan) -> None:
        self._names: dict[int, str] = {}
        """The names of types in the scope that is printed, by their identity."""
        self._homes: dict[int, tuple[str, str]] = {}
        """The interface that has a type first, and its name there."""
        self._packages: dict[str, list[str]] = {}
        self._done: set[str] = set()
        lines = ["package root:component;", "", "world root {"]
        lines += self._side("import", plan.imported) + self._side("export", plan.exports)
        lines.append("}")
        for package, interfaces in self._packages.items():
            lines += ["", f"package {package} {{", *_indented(interfaces), "}"]
        self.text = "\n".join(lines)[:_MAX_TEXT] + "\n"

    def _side(self, word: str, tree: ExportTree) -> list[str]:
        lines: list[str] = []
        self._names = {}
        for name, (_, item) in tree.items():
            if isinstance(item, dict):
                self._interface(name, item)
        for name, (_, item) in tree.items():
            if isinstance(item, dict):
                lines.append(f"  {word} {name};")
            elif isinstance(item, ValueType):
                lines += _indented(self._define(name, item))
            elif isinstance(item, ImportedFunction | LiftedFunction):
                lines.append(f"  {word} {_id(name)}: {self._function(item.type)};")
        return lines

    def _interface(self, name: str, tree: ExportTree) -> None:
        match = _INTERFACE.fullmatch(name)
        if match is None or name in self._done:
            return
        self._done.add(name)
        self._names = {id(item): _id(each) for each, (_, item) in reversed(tree.items()) if isinstance(item, Resource)}
        body: list[str] = []
        for each, (_, item) in tree.items():
            if isinstance(item, ValueType):
                body += self._define(each, item, name)
        for each, (_, item) in tree.items():  # whose methods name the types
            if isinstance(item, Resource):
                body += self._resource(each, item, tree, name)
        functions = [(each, item) for each, (_, item) in tree.items() if not _MEMBER.fullmatch(each)]
        for each, item in functions:
            if isinstance(item, ImportedFunction | LiftedFunction):
                body.append(f"{_id(each)}: {self._function(item.type)};")
        package = match["package"] + (match["version"] or "")
        lines = [f"interface {match['name']} {{", *_indented(body), "}"]
        self._packages.setdefault(package, []).extend(lines)
        self._names = {}

    def _define(self, name: str, kind: ValueType, interface: str = "") -> list[str]:
        """Write the lines that define a type, or use that of another interface."""
        home = self._homes.setdefault(id(kind), (interface, name))
        if interface and home[0] not in ("", interface):
            self._names[id(kind)] = _id(name)
            return [f"use {home[0]}.{{{home[1]}{'' if home[1] == name else f' as {name}'}}};"]
        if id(kind) in self._names:
            return [f"type {_id(name)} = {self._names[id(kind)]};"]
        text = self._body(name, kind)
        self._names[id(kind)] = _id(name)
        return text

    def _body(self, name: str, kind: ValueType) -> list[str]:
        match kind:
            case RecordType(kind="record"):
                return [
                    f"record {_id(name)} {{",
                    *(f"  {_id(field)}: {self._type(each)}," for field, _, each in kind.fields),
                    "}",
                ]
            case FlagsType():
                return [f"flags {_id(name)} {{", *(f"  {_id(label)}," for label in kind.labels), "}"]
            case VariantType(kind="enum" | "variant"):
                cases = (_id(case) if each is None else f"{_id(case)}({self._type(each)})" for case, each in kind.cases)
                return [f"{kind.kind} {_id(name)} {{", *(f"  {case}," for case in cases), "}"]
        return [f"type {_id(name)} = {self._type(kind)};"]

    def _resource(self, name: str, resource: Resource, tree: ExportTree, interface: str) -> list[str]:
        home = self._homes.setdefault(id(resource), (interface, name))
        if home[0] != interface:
            return [f"use {home[0]}.{{{home[1]}{'' if home[1] == name else f' as {name}'}}};"]
        if home[1] != name:
            return [f"type {_id(name)} = {home[1]};"]
        members = []
        for each, (_, item) in tree.items():
            match = _MEMBER.fullmatch(each)
            if match and match["resource"] == name and isinstance(item, ImportedFunction | LiftedFunction):
                members.append(self._member(match[1], match["name"] or "", item.type))
        return [f"resource {_id(name)} {{", *_indented(members), "}"] if members else [f"resource {_id(name)};"]

    def _member(self, how: str, name: str, kind: FuncType) -> str:
        if how == "constructor":
            return f"constructor({self._params(kind)});"
        if how == "static":
            return f"{_id(name)}: static {self._function(kind)};"
        return f"{_id(name)}: {self._function(FuncType(kind.params[1:], kind.result, kind.is_async))};"

    def _function(self, kind: FuncType) -> str:
        result = "" if kind.result is None else f" -> {self._type(kind.result)}"
        return f"{'async ' * kind.is_async}func({self._params(kind)}){result}"

    def _params(self, kind: FuncType) -> str:
        return ", ".join(f"{_id(name)}: {self._type(each)}" for name, each in kind.params)

    def _type(self, kind: ValueType) -> str:
        name = self._names.get(id(kind))
        if name is not None:
            return name
        if kind.text.endswith(CUT):  # each mention of another type may double it
            return kind.text
        match kind:
            case ListType():
                return f"list<{self._type(kind.element)}>"
            case RecordType(kind="tuple"):
                return f"tuple<{', '.join(self._type(each) for _, _, each in kind.fields)}>"
            case VariantType(kind="option") if kind.cases[1][1] is not None:
                return f"option<{self._type(kind.cases[1][1])}>"
            case VariantType(kind="result"):
                return self._result(kind)
            case HandleType():
                resource = self._names.get(id(kind.resource), kind.resource.name)
                return resource if kind.kind == "own" else f"borrow<{resource}>"
            case AsyncValueType():
                return kind.text
        return kind.text

    def _result(self, kind: VariantType) -> str:
        ok, error = ("_" if each is None else self._type(each) for _, each in kind.cases)
        if error == "_":
            return "result" if ok == "_" else f"result<{ok}>"
        return f"result<{ok}, {error}>"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" if line else line for line in lines]
