"""Runs the commands of a function's ``build:``, and puts the module in its place if it loads."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ..config.error_text import nearest
from ..config.loading import MOST_MANIFEST_BYTES, read_yaml
from ..config.names import version_key
from ..config.validation import validate
from ..exceptions import ConfigError, FunctionNotFound, WasmError
from ..functions.build_spec import BuildSpec
from ..functions.catalog import MANIFEST, FunctionManifest
from . import toolchains
from .build_commands import SECONDS, Commands
from .build_consent import lines_to_allow
from .build_turn import turn
from .load_facts import LoadFacts, load_facts
from .module_facts import ModuleFacts, facts_of

_TOOLS = {
    "zig": toolchains.ZIG,
    "go": toolchains.GO,
    "rustc": toolchains.RUST,
    "npx": toolchains.NODE,
    "componentize-py": toolchains.PYTHON,
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_SKIPPED = {".build", ".git", ".venv", "__pycache__", "node_modules", ".pytest_cache", ".zig-cache", "zig-cache"}
_VALUES = ("output", "build", "cache", "rust_target")
_PLACEHOLDER = re.compile(rf"\{{({'|'.join(_VALUES)})\}}")
_BRACES = re.compile(r"(?<!\$)\{([a-z_]+)\}")
_SHELL = ("&&", "||", "|", ";", ">", ">>", "<")
_UNUSED_AFTER = 30 * 86400.0
_QUICK = 1.0
"""The time of change of a module that was built quickly: every source is newer."""


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
    def programs(self) -> str:
        """The names of the programs that build it."""
        return ", ".join(dict.fromkeys(_program(line) for line in self.spec.commands))

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
    quick: bool = False


def buildables(directory: Path, wanted: str | None = None) -> list[Buildable]:
    """Return what can be built below ``functionsDir``: all, NAME for its highest version, or NAME@VERSION.

    Raises ConfigError and FunctionNotFound.
    """
    name, _, version = (wanted or "").partition("@")
    if version and not (directory / name / f"v{version}").is_dir():
        version = version.removeprefix("v")
    found = [
        Buildable(file.parents[1].name, file.parent.name[1:], file.parent, manifest, manifest.build)
        for file in sorted(directory.glob(f"{name or '*'}/v{version or '*'}/{MANIFEST}"))
        if (manifest := _manifest(file)).build is not None
    ]
    if wanted is not None and not found:
        if not (directory / name).is_dir():
            known = sorted(each.name for each in directory.iterdir() if each.is_dir()) if directory.is_dir() else []
            raise FunctionNotFound(name, known=known)
        if version and not (directory / name / f"v{version}").is_dir():
            known = sorted((each.name[1:] for each in (directory / name).glob("v*")), key=version_key)
            raise FunctionNotFound(name, version, known=known)
        hint = "write build: {command: ...} into it, as docs/cli.md says"
        raise ConfigError("has no build", file=directory / name / f"v{version or '1'}" / MANIFEST, hint=hint)
    found.sort(key=lambda each: (each.name, version_key(each.version)))
    return found[-1:] if name and not version else found


def _manifest(file: Path) -> FunctionManifest:
    data = read_yaml(file, "a manifest, with keys such as protocol", MOST_MANIFEST_BYTES)
    return validate(FunctionManifest, data, file)


def build(buildable: Buildable, *, check: bool = False, quick: bool = False, commands: Commands | None = None) -> Built:
    """Build a function, and replace its module if the new one loads. With ``check`` twice, for the same bytes.

    With ``quick`` it is made by ``build.quick``, and remains to be built: see is_stale().

    Raises BuildError, ConfigError and Stopped; BuildError too for commands that were pulled and not allowed yet.
    """
    commands = commands or Commands()
    _check_allowed(buildable)
    with turn(_caches_of(buildable).with_suffix(".lock"), commands.check, lambda: _say_waiting(buildable)):
        return _build(buildable, commands, check=check, quick=quick)


def _check_allowed(buildable: Buildable) -> None:
    lines = lines_to_allow(buildable.folder, buildable.spec)
    if lines:
        problem = "its function.yaml was pulled, and nobody has allowed its build here, which runs"
        remedy = f"to allow it, run starlette-wasm build {buildable.name}@{buildable.version}, which asks"
        raise BuildError(str(buildable), f"{problem}:\n  " + "\n  ".join(lines) + f"\n{remedy}")


def _say_waiting(buildable: Buildable) -> None:
    print(f"{buildable}: waits for another build of it to end", file=sys.stderr, flush=True)


def _build(buildable: Buildable, commands: Commands, *, check: bool, quick: bool) -> Built:
    begin = time.perf_counter()
    work = buildable.folder / ".build"
    shutil.rmtree(work, ignore_errors=True)  # of a build that was killed
    work.mkdir()
    maker = _Maker(buildable, work, commands, quick)
    try:
        made = maker.make("made")
        data = made.read_bytes()
        if check and maker.make("again").read_bytes() != data:
            raise BuildError(str(buildable), _WHY)
        loaded = load_facts(made, buildable.manifest, commands.compilers)
        if loaded.error is not None:
            raise BuildError(str(buildable), loaded.error.replace(str(made), str(buildable.module)))
        before = buildable.module.read_bytes() if buildable.module.exists() else None
        if quick:
            os.utime(made, (_QUICK, _QUICK))
        if before != data or not quick:
            os.replace(made, buildable.module)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.perf_counter() - begin
    return Built(buildable, facts_of(data), loaded, hashlib.sha256(data).hexdigest(), seconds, before != data, quick)


_WHY = (
    "two builds of the same sources gave different bytes; names of folders, times and random identifiers are the usual "
    "causes: give the compiler flags such as -trimpath (Go) or --remap-path-prefix (Rust), and strip debug information"
)


class _Maker:
    """Makes the module of a function in a folder for its work."""

    def __init__(self, buildable: Buildable, work: Path, commands: Commands, quick: bool) -> None:
        spec = buildable.spec
        self._buildable = buildable
        self._work = work
        self._commands = commands
        self._lines = spec.quick_commands if quick else spec.commands

    def make(self, name: str) -> Path:
        """Run the commands, and return the file that they wrote."""
        made = self._work / name / self._buildable.module.name
        made.parent.mkdir()
        for line in self._lines:
            self._run(_words(self._buildable, line, made), _program(line))
        output = self._buildable.spec.output
        if output is not None:
            other = self._buildable.folder / output
            if not other.is_file():
                raise self._error(f"the command wrote no {output}, which build.output names")
            shutil.copyfile(other, made)
        if not made.is_file():
            raise self._error("the command wrote no module; let it write {output}, or name it as build.output")
        return made

    def _run(self, words: list[str], program: str) -> None:
        variables = {}
        while words and _VARIABLE.match(words[0]):
            name, _, value = words.pop(0).partition("=")
            variables[name] = value
        environ = {"ZIG_LOCAL_CACHE_DIR": str(_caches() / "zig"), "GOTOOLCHAIN": "local"} | os.environ | variables
        try:
            ended = self._commands.run(words, self._buildable.folder, environ)
        except FileNotFoundError:
            raise self._error(f"there is no program {words[0]}; install it, or correct build.command") from None
        except subprocess.TimeoutExpired:
            raise self._error(f"{program} has not ended within {SECONDS} s") from None
        if ended.code != 0:
            lacks = Path(words[0]).name == "npx" and not (self._buildable.folder / "src/node_modules").is_dir()
            hint = f"; run npm install --prefix {self._buildable.folder / 'src'}" if lacks else ""
            raise self._error(f"{program} ended with exit code {ended.code}{hint}", ended.output)

    def _error(self, problem: str, output: str = "") -> BuildError:
        return BuildError(str(self._buildable), problem, output)


def _words(buildable: Buildable, line: str, made: Path) -> list[str]:
    """Return the words of a command, with the tools and files that are here."""
    values = {"output": os.path.relpath(made, buildable.folder), "build": ".build"}
    if "{rust_target}" in line:
        found = _tool(buildable, toolchains.RUST)
        values["rust_target"] = toolchains.rust_target(found[0]) or ""
    if "{cache}" in line:
        values["cache"] = str(_cache(buildable))
    try:
        words = [_PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in shlex.split(line)]
    except ValueError as error:
        raise ConfigError(
            f"build.command cannot be split into words: {error}", file=buildable.folder / MANIFEST
        ) from None
    _check_words(words, buildable.folder / MANIFEST)
    first = next((index for index, word in enumerate(words) if not _VARIABLE.match(word)), len(words))
    if first == len(words):
        raise ConfigError(
            "build.command names no program", file=buildable.folder / MANIFEST, hint="write such as zig cc"
        )
    toolchain = _TOOLS.get(words[first])
    if toolchain is not None:
        words[first : first + 1] = _tool(buildable, toolchain)
    return words


def _check_words(words: Sequence[str], file: Path) -> None:
    """Raise ConfigError for what only a shell knows, and for a misspelt placeholder."""
    shell = next((word for word in words if word in _SHELL), None)
    if shell is not None or words[:1] == ["cd"]:
        hint = "write the commands as a list, or as sh -c '...'; they run in the folder of function.yaml"
        raise ConfigError(f"build.command has {shell or 'cd'}, and runs without a shell", file=file, hint=hint)
    for word in words:
        for name in _BRACES.findall(word):
            hint = nearest(name, _VALUES)
            if hint.startswith("did you mean"):
                raise ConfigError(f"build.command has {{{name}}}", file=file, hint=hint)


def _caches() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _cache(buildable: Buildable) -> Path:
    """Return the folder that stays between the builds of a function; those that were not used for long go."""
    folder = _caches_of(buildable)
    folder.mkdir(exist_ok=True)
    os.utime(folder)
    for other in folder.parent.iterdir():
        with suppress(FileNotFoundError):  # the lock of another build, which has ended meanwhile
            if time.time() - other.stat().st_mtime > _UNUSED_AFTER:
                _remove(other)
    return folder


def _remove(unused: Path) -> None:
    """Remove the folder of a function, or the lock of a build that was killed."""
    if unused.is_dir():
        shutil.rmtree(unused, ignore_errors=True)
    else:
        unused.unlink(missing_ok=True)


def _caches_of(buildable: Buildable) -> Path:
    """Return the place for what stays of a function; the folder around it is there."""
    root = _caches() / "starlette-wasm-builds"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root / hashlib.sha256(os.fsencode(buildable.folder.resolve())).hexdigest()[:16]


def _tool(buildable: Buildable, toolchain: toolchains.Toolchain) -> Sequence[str]:
    found = toolchains.find(toolchain)
    if found.problem is not None:
        raise BuildError(
            str(buildable), f"{toolchain.name} {found.problem}; to install it, run:\n  {toolchain.install}"
        )
    return found.command


def _program(line: str) -> str:
    """Return the name of the program of a command, as it is written: zig, or the tool that npx is to run."""
    try:
        words = shlex.split(line)
    except ValueError:  # which _words() explains
        words = line.split()
    words = [word for word in words if not _VARIABLE.match(word)]
    if words[:1] == ["npx"]:
        words = [word for before, word in pairwise(words) if not word.startswith("-") and before != "--prefix"]
    return Path(words[0]).name if words else line


def is_stale(buildable: Buildable) -> bool:
    """Return whether a source is newer than the module, or there is none."""
    if not buildable.module.exists():
        return True
    made = buildable.module.stat().st_mtime
    return any(file.stat().st_mtime > made for each in buildable.watched for file in _files(each))


def is_quick(module: Path) -> bool:
    """Return whether a module is that of a quick build."""
    return module.exists() and module.stat().st_mtime == _QUICK


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (each for each in path.rglob("*") if each.is_file() and is_watched(str(each)))
    elif path.is_file():
        yield path


def is_watched(path: str) -> bool:
    """Return whether a change of a file may matter: what tools keep for themselves does not."""
    return not _SKIPPED & set(Path(path).parts)
