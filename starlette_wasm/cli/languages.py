"""The languages of ``new``: which files a function begins with, and how it is built."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

_TEMPLATES = Path(__file__).parent / "templates"
_PACKAGE = Path(__file__).parents[1]
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "go.mod", "examples")
"""What of a folder of an SDK is not copied. Go takes a folder with a go.mod for a module of its own."""


class Lang(StrEnum):
    """What ``--lang`` takes."""

    C = "c"
    ZIG = "zig"
    RUST = "rust"
    GO = "go"
    ASSEMBLYSCRIPT = "assemblyscript"
    JAVASCRIPT = "javascript"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class Language:
    """A language of ``new``. ``files`` maps paths in the function's folder to templates, ``sdk`` to files of SDKs."""

    files: dict[str, str]
    commands: tuple[str, ...]
    quick: tuple[str, ...] = ()
    """What ``dev`` builds with first, if that is faster."""
    sdk: dict[str, str] = field(default_factory=dict)
    then: str | None = None
    """A command that has to be run once, before the first build."""
    pages: int = 64
    """What the policy of a new app allows of memory, in pages of 64 KiB."""


LANGUAGES = {
    Lang.C: Language(
        {"src/__NAME__.c": "main.c"},
        ("zig cc -target wasm32-wasi -Os -g -Wall -Wl,-z,stack-size=131072 -o {output} src/__NAME__.c",),
        (),
        {"src/edge.h": "c/edge.h", "src/edge_web.h": "c/edge_web.h"},
    ),
    Lang.ZIG: Language(
        {"src/__NAME__.zig": "main.zig"},
        (
            "zig build-exe -target wasm32-wasi -O ReleaseSmall -fno-strip --stack 131072 --dep edge "
            "-Mroot=src/__NAME__.zig -Medge=src/edge.zig -femit-bin={output}",
        ),
        (  # without LLVM: a tenth of the time, and traps without lines
            "zig build-exe -target wasm32-wasi -O ReleaseSmall -fno-llvm -fno-strip --stack 131072 --dep edge "
            "-Mroot=src/__NAME__.zig -Medge=src/edge.zig -femit-bin={output}",
        ),
        {"src/edge.zig": "zig/edge.zig", "src/web.zig": "zig/web.zig"},
    ),
    Lang.RUST: Language(
        {"src/__NAME__.rs": "main.rs"},
        (
            "rustc --edition 2021 --crate-type rlib --crate-name edge --target {rust_target} -C opt-level=s "
            "-o {build}/libedge.rlib src/edge/lib.rs",
            "rustc --edition 2021 --crate-name __ID__ --target {rust_target} -C opt-level=s -C strip=debuginfo "
            "-C link-arg=-zstack-size=131072 -C link-arg=--initial-memory=524288 "
            "--extern edge={build}/libedge.rlib -o {output} src/__NAME__.rs",
        ),
        (  # what has not changed of both crates is not compiled again
            "rustc --edition 2021 --crate-type rlib --crate-name edge --target {rust_target} -C opt-level=s "
            "-C incremental={cache} -o {build}/libedge.rlib src/edge/lib.rs",
            "rustc --edition 2021 --crate-name __ID__ --target {rust_target} -C opt-level=s -C strip=debuginfo "
            "-C incremental={cache} -C link-arg=-zstack-size=131072 -C link-arg=--initial-memory=524288 "
            "--extern edge={build}/libedge.rlib -o {output} src/__NAME__.rs",
        ),
        {"src/edge": "rust/src"},
    ),
    Lang.GO: Language(
        {"src/main.go": "main.go", "src/go.mod": "go.mod"},
        ("GOOS=wasip1 GOARCH=wasm go build -C src -trimpath -ldflags='-s -w' -o ../{output} .",),
        (),
        {"src/edge": "go"},
        pages=256,
    ),
    Lang.ASSEMBLYSCRIPT: Language(
        {"src/__NAME__.ts": "main.ts", "src/package.json": "package.json"},
        (
            "npx --no-install --prefix src asc src/__NAME__.ts -O --noAssert "
            "--config src/node_modules/@assemblyscript/wasi-shim/asconfig.json -o {output}",
        ),
        (  # not optimised
            "npx --no-install --prefix src asc src/__NAME__.ts --noAssert "
            "--config src/node_modules/@assemblyscript/wasi-shim/asconfig.json -o {output}",
        ),
        {f"src/{name}.ts": f"assemblyscript/{name}.ts" for name in ("edge", "json", "web")},
        then="npm install --prefix __FOLDER__/src",
    ),
    Lang.JAVASCRIPT: Language(
        {
            "src/__NAME__.js": "main.js",
            "src/package.json": "package-js.json",
            "src/jsconfig.json": "jsconfig.json",
        },
        (
            "npx --no-install --prefix src componentize-qjs --sync --opt-size --stub-wasi --module-root src "
            "--wit src/wit -n edge --js src/__NAME__.js -o {output}",
        ),
        (),
        {"src/edge": "javascript/src", "src/wit": "javascript/wit"},
        then="npm install --prefix __FOLDER__/src",
    ),
    Lang.PYTHON: Language(
        {"src/__ID__.py": "main.py"},
        ("componentize-py -d src/edge/wit -w edge componentize -p src --stub-wasi __ID__ -o {output}",),
        (),
        {"src/edge": "python/edge"},
        pages=1024,
    ),
}


def filled(text: str, values: dict[str, str]) -> str:
    """Return the text with the values in the place of ``__KEY__``."""
    for key, value in values.items():
        text = text.replace(f"__{key}__", value)
    return text


def template(name: str, values: dict[str, str]) -> str:
    """Return a template, filled in."""
    return filled((_TEMPLATES / f"{name}.tmpl").read_text(encoding="utf-8"), values)


def sdk_folder() -> Path:
    """Return where the SDKs are: in the package, or beside it in a clone."""
    installed = _PACKAGE / "sdk"
    return installed if installed.is_dir() else _PACKAGE.parent / "sdk"


def copy_sdk(language: Language, folder: Path) -> list[Path]:
    """Copy what a language has of the SDKs into a function's folder. Return the paths."""
    made = []
    for target, source in language.sdk.items():
        given, file = sdk_folder() / source, folder / target
        file.parent.mkdir(parents=True, exist_ok=True)
        if given.is_dir():
            shutil.copytree(given, file, ignore=_LEFT_OUT)
        else:
            shutil.copyfile(given, file)
        made.append(file)
    return made
