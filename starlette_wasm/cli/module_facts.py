"""What is in a module or component, read from its bytes without compiling it."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..components.definitions import Export, ImportDef
from ..components.errors import ComponentError
from ..components.exported import functions_of
from ..components.flat_plan import FlatPlan, flatten
from ..components.reader import read
from ..components.wit import wit_of
from ..components.worlds import find_entry, why_not_served
from ..engine.binary import COMPONENT_PREAMBLE, PREAMBLE, Reader

_SECTIONS: tuple[str, ...] = (
    *("custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code"),
    *("data", "data count", "tag"),
)
_OF_COMPONENTS: tuple[str, ...] = (
    *("custom", "core module", "core instance", "core type", "component", "instance", "alias", "type", "canonical"),
    *("start", "import", "export", "value"),
)
_KINDS = ("function", "table", "memory", "global", "tag")
_WASI = "wasi_snapshot_preview1"
_OPENS = frozenset({"path_open", "path_filestat_get", "fd_readdir", "path_create_directory", "path_unlink_file"})


@dataclass(slots=True)
class ModuleFacts:
    """What is in a module of ``kind`` core module, component or unknown; memories are (least, most) pages."""

    kind: str
    size: int
    imports: list[tuple[str, str, str]] = field(default_factory=list)
    """Module, name and kind."""
    exports: list[tuple[str, str]] = field(default_factory=list)
    """Name and kind."""
    memories: list[tuple[int, int | None]] = field(default_factory=list)
    sections: Counter[str] = field(default_factory=Counter)
    """Bytes by kind; custom ones by their names."""
    producers: dict[str, list[str]] = field(default_factory=dict)
    wit: str = ""
    """The WIT of a component."""
    served_as: tuple[str, str] = "none", "it cannot be read"
    """The export of a component that answers requests, and by what it is recognised."""
    problem: str | None = None
    """Why it could not be read to its end."""

    def imports_of(self, module: str) -> list[str]:
        """Return the names that are imported from a module."""
        return sorted({name for each, name, _ in self.imports if each == module})


def facts_of(data: bytes) -> ModuleFacts:
    """Read what there is; ``problem`` is set for what is not a module, or damaged."""
    if data.startswith(COMPONENT_PREAMBLE):
        facts = ModuleFacts("component", len(data))
        read_section, names = _read_component_section, _OF_COMPONENTS
    elif data.startswith(PREAMBLE):
        facts = ModuleFacts("core module", len(data))
        read_section, names = _read_section, _SECTIONS
    else:
        return ModuleFacts("unknown", len(data), problem="it does not begin as WebAssembly does")
    try:
        cursor = Reader(data, len(PREAMBLE))
        while cursor.at < len(data):
            number = cursor.byte()
            body = cursor.take(cursor.u32())
            name = Reader(body).name() if number == 0 else names[number] if number < len(names) else f"kind {number}"
            facts.sections[f"custom {name}" if number == 0 else name] += len(body)
            read_section(facts, number, body)
        if facts.kind == "component":
            _read_component(facts, data)
    except (IndexError, UnicodeDecodeError):
        facts.problem = "it ends in the middle of a section"
    return facts


def _read_section(facts: ModuleFacts, number: int, body: bytes) -> None:
    reader = Reader(body)
    if number == 0:
        _read_custom(facts, reader)
    elif number == 2:
        for _ in range(reader.u32()):
            module, name = reader.name(), reader.name()
            facts.imports.append((module, name, _skip_import(facts, reader)))
    elif number == 5:
        for _ in range(reader.u32()):
            _, least, most = reader.limits()
            facts.memories.append((least, most))
    elif number == 7:
        for _ in range(reader.u32()):
            name, kind = reader.name(), _KINDS[reader.byte()]
            reader.skip_leb()
            facts.exports.append((name, kind))


def _skip_import(facts: ModuleFacts, reader: Reader) -> str:
    kind = _KINDS[reader.byte()]
    if kind == "function":
        reader.skip_leb()
    elif kind == "table":
        reader.value_type()
        reader.limits()
    elif kind == "memory":
        _, least, most = reader.limits()
        facts.memories.append((least, most))
    elif kind == "global":
        reader.value_type()
        reader.byte()
    else:
        reader.byte()
        reader.skip_leb()
    return kind


def _read_component_section(facts: ModuleFacts, number: int, body: bytes) -> None:
    if number == 0:
        _read_custom(facts, Reader(body))


def _read_component(facts: ModuleFacts, data: bytes) -> None:
    try:
        component = read(data)
    except ComponentError as error:
        facts.problem = str(error)
        return
    with suppress(ComponentError):  # loading it explains that
        plan = flatten(component)
        facts.wit = wit_of(plan)
        facts.served_as = _served_as(plan)
    for item in component.items:
        if isinstance(item, ImportDef):
            facts.imports.append(("component", item.name, "interface" if ":" in item.name else "import"))
        elif isinstance(item, Export):
            facts.exports.append((item.name, "interface" if ":" in item.name else "export"))


def _served_as(plan: FlatPlan) -> tuple[str, str]:
    """Return the export of a component that answers requests, or "none" and why there is none."""
    entry = find_entry(plan)
    if entry is None:
        typed = "; its functions are for typed calls from Python" if functions_of(plan) else ""
        return "none", why_not_served(plan) + typed
    for name, (_, item) in plan.exports.items():
        of_interface = [each for _, each in item.values()] if isinstance(item, dict) else []
        if entry.function in (item, *of_interface):
            return name, "by what it exports"
    raise AssertionError("an entry is exported")


def _read_custom(facts: ModuleFacts, reader: Reader) -> None:
    """Read the section ``producers`` (tool conventions): fields, each of names with versions."""
    if reader.name() != "producers":
        return
    for _ in range(reader.u32()):
        key = reader.name()
        facts.producers[key] = [f"{reader.name()} {reader.name()}".strip() for _ in range(reader.u32())]


def protocol_of(facts: ModuleFacts, data: bytes) -> tuple[str, str]:
    """Return the protocol that fits, and by what it is recognised. For core modules it is a guess, by its texts."""
    if facts.kind == "component":
        return facts.served_as
    if not {"_start", "_initialize"} & {name for name, _ in facts.exports}:
        return "none", "it exports no _start: it is not a WASI command"
    if b"status_code" in data:
        return "edge", "it has the text status_code"
    if b"REQUEST_METHOD" in data or b"PATH_INFO" in data or re.search(rb"[Cc]ontent-[Tt]ype: ", data):
        return "cgi", "it has texts of CGI"
    if b"base64" in data and b'"status"' in data:
        return "wws", "it has texts of Wasm Workers Server"
    return "edge", "nothing in it tells; edge is the default, and function.yaml may name wws or cgi"


def grants_of(facts: ModuleFacts) -> list[str]:
    """Return what of a policy the module may need, as ``key: reason``."""
    wasi = set(facts.imports_of(_WASI))
    least = max((least for least, _ in facts.memories), default=0)
    grants = []
    if least:
        grants.append(f"maxMemoryPages: at least {least}")
    if _OPENS & wasi:
        grants.append("allowedDirs: if it opens files")
    if "environ_get" in wasi:
        grants.append("allowedEnvVars: if it reads variables of the host")
    if facts.imports_of("edge"):
        grants.append("allowedHosts with maxNetworkRequests, kvNamespaces, queues: those that it calls")
    return grants


def toolchain_of(facts: ModuleFacts) -> str:
    """Return the languages and tools that made it, as its producers section names them."""
    named: list[str] = []
    for key in ("language", "processed-by", "sdk"):
        named += facts.producers.get(key, [])
    return ", ".join(dict.fromkeys(named)) or "not told: it has no producers section"


def as_json(facts: ModuleFacts) -> dict[str, Any]:
    """Return the facts as JSON can hold them."""
    return {
        "kind": facts.kind,
        "size": facts.size,
        "imports": [{"module": module, "name": name, "kind": kind} for module, name, kind in facts.imports],
        "exports": [{"name": name, "kind": kind} for name, kind in facts.exports],
        "memories": [{"minPages": least, "maxPages": most} for least, most in facts.memories],
        "sections": dict(facts.sections),
        "producers": facts.producers,
    }
