"""Makes the files of a new function or app."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from ..config.policy import SandboxPolicy, load_policies
from ..config.router import load_config
from ..exceptions import ConfigError
from ..functions.catalog import MANIFEST, FunctionManifest
from .languages import LANGUAGES, Lang, copy_sdk, filled, template
from .load_facts import load_facts
from .module_facts import facts_of, grants_of, protocol_of, toolchain_of
from .toolchains import find, of_language
from .yaml_edit import YamlFile

_DEFAULT_PAGES = SandboxPolicy().max_memory_pages

_SOURCES = {".c": "c", ".zig": "zig", ".rs": "rust", ".go": "go", ".ts": "assemblyscript", ".js": "javascript",
            ".py": "python"}  # fmt: skip


@dataclass(slots=True)
class Made:
    """The files that were made or changed, what is to be known, and the commands that come next."""

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    then: list[str] = field(default_factory=list)

    def write(self, file: Path, text: str) -> None:
        """Make a file. Raises ConfigError if it is there."""
        if file.exists():
            raise ConfigError("is there already", file=file, hint="choose another name, or remove it first")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self.files.append(file)


def new_function(name: str, lang: Lang, config: Path, path: str, policy: str | None) -> Made:
    """Make a function in version 1, its test, and its rule."""
    made = Made()
    folder, language = _function_folder(name, config, made), LANGUAGES[lang]
    sample = _sample(path)
    values = {"NAME": name, "ID": name.replace("-", "_").replace(".", "_"), "PATH": sample, "FOLDER": str(folder)}
    _check_free(folder)
    made.notes += _lacking(config, policy or "edge-none", language.pages)
    for target, source in language.files.items():
        made.write(folder / filled(target, values), template(source, values))
    made.files += copy_sdk(language, folder)
    made.write(
        folder / MANIFEST, filled(_manifest(f"{name}, in {lang.value}", language.commands, language.quick), values)
    )
    tests = config.parent / "tests"
    made.write(tests / f"test_{values['ID']}.py", template("test.py", values))
    if not (config.parent / "conftest.py").exists():
        made.write(config.parent / "conftest.py", template("conftest.py", values))
    _add_rule(config, name, path, policy, made)
    found = find(of_language(lang.value))
    if found.problem is not None:
        made.notes.append(f"{found.toolchain.name} {found.problem}; install it with: {found.toolchain.install}")
    if language.then is not None:
        made.then.append(filled(language.then, values))
    made.then += [f"starlette-wasm build {name}", f"starlette-wasm call {name} --path '{sample}?name=Ada'"]
    return made


def new_app(folder: Path, lang: Lang) -> Made:
    """Make a folder with an app, and the function ``hello`` in it."""
    if folder.exists():
        raise ConfigError("is there already", file=folder, hint="choose another name, or remove it first")
    made = Made()
    values = {
        "NAME": "hello",
        "PATH": "/hello",
        "PAGES": str(LANGUAGES[lang].pages),
        "VERSION": version("starlette-wasm"),
    }
    config = folder / "wasm.yaml"
    for target, source in (
        ("wasm.yaml", "wasm.yaml"),
        ("app.py", "app.py"),
        ("policies/own.yaml", "policy.yaml"),
        ("Dockerfile", "Dockerfile"),
        (".dockerignore", "dockerignore"),
        ("requirements.txt", "requirements.txt"),
        (".gitignore", "gitignore"),
    ):
        made.write(folder / target, template(source, values))
    function = new_function("hello", lang, config, "/hello", "own")
    made.files += [file for file in function.files if file not in made.files]
    made.notes += function.notes
    first = [each.replace(f"{folder}/", "", 1) for each in function.then[:-2]]
    made.then = [f"cd {shlex.quote(str(folder))}", *first, "starlette-wasm dev", "python -m pytest"]
    return made


def new_from_module(name: str, module: Path, config: Path, path: str, policy: str | None) -> Made:
    """Take a module in as version 1 of a function, with the protocol that fits, and a rule."""
    made = Made()
    try:
        data = module.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=module, hint="give a readable module") from None
    if module.suffix in _SOURCES:
        hint = f"begin with starlette-wasm new {name} --lang {_SOURCES[module.suffix]}, and put it into src"
        raise ConfigError("is a source, and --from takes a module", file=module, hint=hint)
    facts = facts_of(data)
    protocol, reason = protocol_of(facts, data)
    manifest = FunctionManifest(protocol=protocol) if protocol in ("wws", "cgi") else FunctionManifest()  # type: ignore[arg-type]
    loaded = load_facts(module, manifest)
    if loaded.error is not None:
        raise ConfigError(f"would not load: {loaded.error}", file=module, hint="see starlette-wasm inspect")
    folder = _function_folder(name, config, made)
    _check_free(folder)
    folder.mkdir(parents=True)
    target = folder / f"{name}.wasm"
    target.write_bytes(data)
    made.files.append(target)
    if protocol in ("wws", "cgi"):
        made.write(folder / MANIFEST, f"protocol: {protocol}\n")
    made.notes = [f"it is a {facts.kind} of {facts.size:,} bytes; toolchain: {toolchain_of(facts)}"]
    made.notes += [f"protocol: {protocol} ({reason})", *(f"policy: {each}" for each in grants_of(facts))]
    made.notes.append("fast path: yes" if loaded.slow is None else f"fast path: no, {loaded.slow}")
    _add_rule(config, name, path, policy, made)
    made.then = [f"starlette-wasm call {name} --path {shlex.quote(_sample(path))} -v"]
    return made


def _lacking(config: Path, policy: str, pages: int) -> list[str]:
    """Return what the policy of a new rule lacks: it is not there, or has too little memory for a large language."""
    folder = load_config(config).policies_dir
    found = load_policies(folder, str(config)).get(policy)
    if found is None:
        file = f"{folder.name if folder else 'policies'}/{policy}.yaml"
        setting = "" if folder else f", and policiesDir: policies into {config}"
        return [f"there is no policy {policy} yet: write {file}{setting}"]
    if pages <= max(_DEFAULT_PAGES, found.max_memory_pages):
        return []
    return [f"the policy {policy} allows {found.max_memory_pages} pages: let it have one with maxMemoryPages: {pages}"]


def _sample(pattern: str) -> str:
    """Return a path that a pattern takes: the names of its parameters stand for their values."""
    return re.sub(r"\{(\w+)(:\w+)?\}", r"\1", pattern)


def _function_folder(name: str, config: Path, made: Made) -> Path:
    """Return the folder of version 1 of a function; the config is made if there is none. Raises ConfigError."""
    if not config.exists():
        text = template("wasm.yaml", {}).replace("policiesDir: policies\n", "")
        made.write(config, text)
    YamlFile(config)  # what is wrong with it is found before anything is made
    directory = load_config(config).functions_dir
    folder = directory / name / "v1"
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _check_free(folder: Path) -> None:
    if folder.exists():
        raise ConfigError("is there already", file=folder, hint="choose another name, or remove it first")


def _manifest(description: str, commands: Sequence[str], quick: Sequence[str]) -> str:
    lines = [f"description: {description}", "build:", *_listed("command", commands)]
    if quick:
        lines += ["  # What dev answers with first; the command above follows by itself.", *_listed("quick", quick)]
    return "\n".join([*lines, "  watch: [src]", ""])


def _listed(key: str, commands: Sequence[str]) -> list[str]:
    if len(commands) == 1:
        return [f"  {key}: {json.dumps(commands[0])}"]
    return [f"  {key}:", *(f"    - {json.dumps(each)}" for each in commands)]


def _add_rule(config: Path, name: str, path: str, policy: str | None, made: Made) -> None:
    file = YamlFile(config)
    rules = file.document.get("rules") or []
    if any(rule.get("pathPattern") == path for rule in rules if isinstance(rule, dict)):
        made.notes.append(f"{config} has a rule for {path} already: it stays as it is")
        return
    file.append("rules", {"pathPattern": path, "functionName": name, "policy": policy or "edge-none"})
    if config not in made.files:
        made.files.append(config)
