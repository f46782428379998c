"""Runs the commands of a function's ``build:``, and puts the module in its place if it loads."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.loading import MOST_MANIFEST_BYTES, read_yaml, validate
from ..config.names import version_key
from ..exceptions import ConfigError, FunctionNotFound, WasmError
from ..functions.build_spec import BuildSpec
from ..functions.catalog import MANIFEST, FunctionManifest
from . import toolchains
from .load_facts import LoadFacts, load_facts
from .module_facts import ModuleFacts, facts_of

_SECONDS = 1200
_TOOLS = {
    "zig": toolchains.ZIG,
    "go": toolchains.GO,
    "rustc": toolchains.RUST,
    "npx": toolchains.NODE,
    "componentize-py": toolchains.PYTHON,
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_SKIPPED = {".build", ".git", ".venv", "__pycache__", "node_modules", ".pytest_cache", ".zig-cache", "zig-cache"}
_PLACEHOLDER = re.compile(r"\{(output|build|rust_target)\}")


class BuildError(WasmError):
    """A function could not be built; ``output`` is what the command printed."""

    slug = "build"

    def __init__(self, function: str, problem: str, output: str = "") -> None:
        self.function = function
        self.output = output.strip()
        super().__init__(f"{function}: {problem}" + (f"\n{self.output}" if self.output else ""))


@dataclass(frozen=True, slots=True)
class Buildable:
    """A version of a function that has a ``build:``."""

    name: str
    version: str
    folder: Path
    manifest: FunctionManifest
    spec: BuildSpec

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    @property
    def module(self) -> Path:
        """The file that the module is to be."""
        return self.folder / f"{self.name}.wasm"

    @property
    def watched(self) -> list[Path]:
        """The files and folders whose change means to build again."""
        return [self.folder / each for each in self.spec.watch]


@dataclass(frozen=True, slots=True)
class Built:
    """What came of a build."""

    buildable: Buildable
    facts: ModuleFacts
    loaded: LoadFacts
    digest: str
    seconds: float
    changed: bool


def buildables(directory: Path, wanted: str | None = None) -> list[Buildable]:
    """Return what can be built below ``functionsDir``: all, NAME for its highest version, or NAME@VERSION.

    Raises ConfigError and FunctionNotFound.
    """
    name, _, version = (wanted or "").partition("@")
    found = [
        Buildable(file.parents[1].name, file.parent.name[1:], file.parent, manifest, manifest.build)
        for file in sorted(directory.glob(f"{name or '*'}/v{version or '*'}/{MANIFEST}"))
        if (manifest := _manifest(file)).build is not None
    ]
    if wanted is not None and not found:
        if not (directory / name).is_dir():
            known = sorted(each.name for each in directory.iterdir() if each.is_dir()) if directory.is_dir() else []
            raise FunctionNotFound(name, known=known)
        hint = "write build: {command: ...} into it, as docs/cli.md says"
        raise ConfigError("has no build", file=directory / name / f"v{version or '1'}" / MANIFEST, hint=hint)
    found.sort(key=lambda each: (each.name, version_key(each.version)))
    return found[-1:] if name and not version else found


def _manifest(file: Path) -> FunctionManifest:
    data = read_yaml(file, "a manifest, with keys such as protocol", MOST_MANIFEST_BYTES)
    return validate(FunctionManifest, data, file)


def build(buildable: Buildable, *, check: bool = False) -> Built:
    """Build a function, and replace its module if the new one loads. With ``check`` twice, for the same bytes.

    Raises BuildError and ConfigError.
    """
    begin = time.perf_counter()
    work = buildable.folder / ".build"
    work.mkdir(exist_ok=True)
    try:
        made = _make(buildable, work, "made")
        data = made.read_bytes()
        if check and _make(buildable, work, "again").read_bytes() != data:
            raise BuildError(str(buildable), _WHY)
        loaded = load_facts(made, buildable.manifest)
        if loaded.error is not None:
            raise BuildError(str(buildable), loaded.error.replace(str(made), str(buildable.module)))
        before = buildable.module.read_bytes() if buildable.module.exists() else None
        if before != data:
            os.replace(made, buildable.module)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.perf_counter() - begin
    return Built(buildable, facts_of(data), loaded, hashlib.sha256(data).hexdigest(), seconds, before != data)


_WHY = (
    "two builds of the same sources gave different bytes; names of folders, times and random identifiers are the usual "
    "causes: give the compiler flags such as -trimpath (Go) or --remap-path-prefix (Rust), and strip debug information"
)


def _make(buildable: Buildable, work: Path, name: str) -> Path:
    """Run the commands, and return the file that they wrote."""
    made = work / name / buildable.module.name
    made.parent.mkdir()
    for line in buildable.spec.commands:
        _run(buildable, _words(buildable, line, made), _program(line))
    if buildable.spec.output is not None:
        other = buildable.folder / buildable.spec.output
        if not other.is_file():
            raise BuildError(str(buildable), f"the command wrote no {buildable.spec.output}, which build.output names")
        shutil.copyfile(other, made)
    if not made.is_file():
        raise BuildError(
            str(buildable), "the command wrote no module; let it write {output}, or name it as build.output"
        )
    return made


def _words(buildable: Buildable, line: str, made: Path) -> list[str]:
    """Return the words of a command, with the tools and files that are here."""
    values = {"output": os.path.relpath(made, buildable.folder), "build": ".build"}
    if "{rust_target}" in line:
        found = _tool(buildable, toolchains.RUST)
        values["rust_target"] = toolchains.rust_target(found[0]) or ""
    try:
        words = [_PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in shlex.split(line)]
    except ValueError as error:
        raise ConfigError(
            f"build.command cannot be split into words: {error}", file=buildable.folder / MANIFEST
        ) from None
    first = next((index for index, word in enumerate(words) if not _VARIABLE.match(word)), len(words))
    if first == len(words):
        raise ConfigError(
            "build.command names no program", file=buildable.folder / MANIFEST, hint="write such as zig cc"
        )
    toolchain = _TOOLS.get(words[first])
    if toolchain is not None:
        words[first : first + 1] = _tool(buildable, toolchain)
    return words


def _tool(buildable: Buildable, toolchain: toolchains.Toolchain) -> Sequence[str]:
    found = toolchains.find(toolchain)
    if found.problem is not None:
        raise BuildError(
            str(buildable), f"{toolchain.name} {found.problem}; to install it, run:\n  {toolchain.install}"
        )
    return found.command


def _program(line: str) -> str:
    """Return the name of the program of a command, as it is written: zig, and not the Python that runs it."""
    return next(Path(word).name for word in shlex.split(line) if not _VARIABLE.match(word))


def _run(buildable: Buildable, words: list[str], program: str) -> None:
    variables = {}
    while words and _VARIABLE.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zig"
    environ = {"ZIG_LOCAL_CACHE_DIR": str(cache), "GOTOOLCHAIN": "local"} | os.environ | variables
    try:
        done = subprocess.run(
            words, cwd=buildable.folder, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        raise BuildError(
            str(buildable), f"there is no program {words[0]}; install it, or correct build.command"
        ) from None
    except subprocess.TimeoutExpired:
        raise BuildError(str(buildable), f"{program} has not ended within {_SECONDS} s") from None
    if done.returncode != 0:
        told = done.stderr + done.stdout
        hint = (
            "; run npm install --prefix src there"
            if "npx" in words[0] and "src/node_modules" in " ".join(words)
            else ""
        )
        raise BuildError(str(buildable), f"{program} ended with exit code {done.returncode}{hint}", told)


def is_stale(buildable: Buildable) -> bool:
    """Whether a source is newer than the module, or there is none."""
    if not buildable.module.exists():
        return True
    made = buildable.module.stat().st_mtime
    return any(file.stat().st_mtime > made for each in buildable.watched for file in _files(each))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (each for each in path.rglob("*") if each.is_file() and is_watched(str(each)))
    elif path.is_file():
        yield path


def is_watched(path: str) -> bool:
    """Whether a change of a file may matter: what tools keep for themselves does not."""
    return not _SKIPPED & set(Path(path).parts)
