"""``inspect``: what a module is and needs, and why it would not load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..config.router import load_config
from ..exceptions import ConfigError
from ..functions.catalog import Catalog, FunctionManifest
from ..functions.recognise import recognise
from . import output
from .load_facts import LoadFacts, load_facts
from .module_facts import ModuleFacts, as_json, facts_of, grants_of, protocol_of, toolchain_of
from .options import DEFAULT_CONFIG, ConfigOption, Json

_MOST_NAMES = 40
_LARGE_STACK = 8
"""Pages of a stack from which there is a remark about it: its pages are taken anew for each request."""
Module = Annotated[str, typer.Argument(help="A file, or NAME or NAME@VERSION of a function.", metavar="MODULE")]


def inspect(module: Module, config: ConfigOption = DEFAULT_CONFIG, json: Json = False) -> None:
    """Tell what a module is, what it needs, and why it would not load.

    Printed are its kind, imports and exports, the protocol that fits, memory, the sizes of its sections, the toolchain
    that made it, and what a policy must grant. It is compiled as an app would, in a process with limits, and nothing
    of it is run. The exit code is 1 if it would not load.

    Example: starlette-wasm inspect hello.wasm
    """
    file, manifest = find(module, config)
    data = _read(file)
    facts = facts_of(data)
    with output.loading(f"compiling {file.name}"):
        loaded = load_facts(file, manifest)
    protocol = protocol_of(facts, data)
    if json:
        output.show_json(_json(file, facts, loaded, protocol))
    else:
        output.show_fields(_fields(file, data, facts, loaded, protocol))
    if loaded.error is not None:
        raise typer.Exit(1)


def find(module: str, config: Path) -> tuple[Path, FunctionManifest | None]:
    """Return the file of a module, and its manifest if it is a function of the config. Raises ConfigError."""
    file = Path(module)
    if file.is_file():
        return file, None
    name, _, version = module.partition("@")
    if Path(name).suffix or "/" in module or not config.exists():
        hint = f"give the path of a module, or the name of a function in the functionsDir of {config}"
        raise ConfigError(f"no such file: {module!r}", hint=hint)
    catalog = Catalog(load_config(config).functions_dir, leave_out=True)
    left_out = catalog.bad_key(name, version or None)
    if left_out is not None:  # such as one that is yet to be built
        raise catalog.bad[left_out]
    source = catalog.get(name, version or None)
    return source.file, source.manifest


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=file, hint="give a readable file") from None


def _fields(
    file: Path, data: bytes, facts: ModuleFacts, loaded: LoadFacts, protocol: tuple[str, str]
) -> list[tuple[str, str]]:
    kind = facts.kind if facts.kind != "unknown" else recognise(data)[0]
    fields = [("file", str(file)), ("kind", f"{kind}, {facts.size:,} bytes")]
    if facts.kind != "unknown":
        fields += [("toolchain", toolchain_of(facts)), ("protocol", f"{protocol[0]} ({protocol[1]})")]
        fields += [("imports", _listed([f"{module}.{name}" for module, name, _ in facts.imports]))]
        fields += [("exports", _listed([f"{name} ({kind})" for name, kind in facts.exports]))]
        fields += [("memory", _memory(facts, loaded)), ("sections", _sections(facts))]
        fields += [("policy", "\n".join(_grants(facts, loaded)) or "nothing but the defaults")]
    if facts.wit:
        fields += [("wit", facts.wit.rstrip())]
    if loaded.error is not None:
        return [*fields, ("would not load", loaded.error)]
    return [
        *fields,
        ("loads", f"in {loaded.load_s * 1000:.1f} ms{_compiled(loaded)}"),
        ("fast path", "yes" if loaded.slow is None else f"no: {loaded.slow}"),
    ]


def _compiled(loaded: LoadFacts) -> str:
    return "" if loaded.compile_s is None else f", compiled in {loaded.compile_s * 1000:.0f} ms"


def _listed(names: list[str]) -> str:
    shown = names[:_MOST_NAMES]
    more = f"\nand {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ("\n".join(shown) or "none") + more


def _grants(facts: ModuleFacts, loaded: LoadFacts) -> list[str]:
    """Return what of a policy it may need; the memory of a component is known only once it is loaded."""
    least = [f"maxMemoryPages: at least {loaded.pages}"] if facts.kind == "component" and loaded.pages else []
    return least + grants_of(facts)


def _memory(facts: ModuleFacts, loaded: LoadFacts) -> str:
    if facts.kind == "component":
        if loaded.error is not None:
            return "that of its core modules, which is known once it loads"
        return f"{loaded.pages} pages ({loaded.pages * 64} KiB) at least, in all memories of its core modules"
    each = [
        f"{least} pages ({least * 64} KiB) at least, {'no bound' if most is None else f'{most} pages'} at most"
        for least, most in facts.memories
    ]
    if loaded.stack_pages >= _LARGE_STACK:
        each.append(
            f"{loaded.stack_pages} of them are its stack, which is cleared after each request: "
            "link it with -z stack-size=131072 if that is enough"
        )
    return "\n".join(each) or "none"


def _sections(facts: ModuleFacts) -> str:
    return "\n".join(f"{size:>10,}  {name}" for name, size in facts.sections.most_common())


def _json(file: Path, facts: ModuleFacts, loaded: LoadFacts, protocol: tuple[str, str]) -> dict[str, Any]:
    return {
        "file": str(file),
        **as_json(facts),
        "protocol": protocol[0],
        "protocolBecause": protocol[1],
        "grants": _grants(facts, loaded),
        "pages": loaded.pages,
        "wit": facts.wit,
        "error": loaded.error,
        "compileMs": None if loaded.compile_s is None else loaded.compile_s * 1000,
        "loadMs": loaded.load_s * 1000,
        "fastPath": loaded.error is None and loaded.slow is None,
        "slowBecause": loaded.slow,
    }
