"""Which package may import which: docs/architecture.md draws the same order."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "starlette_wasm"
FLOORS = (
    "__init__", "__main__", "cli", "testing", "asgi", "runtime", "canary", "pipelines", "invocation", "telemetry",
    "functions", "components", "capabilities", "traffic", "config", "protocols", "messages", "exceptions", "engine",
    "sync", "_compat",
)  # fmt: skip
"""From top to bottom: a package imports only packages behind it in this list."""


def arrows() -> Iterator[tuple[str, str, str]]:
    """Yield (package, imported package, description) of each import between two, in functions and for types too."""
    modules = {_name(file): file for file in PACKAGE.rglob("*.py")}
    for name, file in modules.items():
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                target = ".".join([*base, node.module] if node.module else base)
                for alias in node.names:
                    imported = f"{target}.{alias.name}" if f"{target}.{alias.name}" in modules else target
                    if _package_of(imported) != _package_of(name):
                        yield (
                            _package_of(name),
                            _package_of(imported),
                            f"{name} (line {node.lineno}) imports {imported}",
                        )


def _name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_every_package_has_a_floor() -> None:
    packages = {_package_of(_name(file)) for file in PACKAGE.rglob("*.py")}
    assert packages == set(FLOORS)


def test_packages_import_only_packages_below() -> None:
    upward = [text for package, imported, text in arrows() if FLOORS.index(package) >= FLOORS.index(imported)]
    assert not upward, "\n".join(["imports that point upwards:", *upward])


def test_exceptions_load_without_the_engine() -> None:
    code = "import starlette_wasm.exceptions, sys; print([m for m in sys.modules if 'wasmtime' in m or '.engine' in m])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"


def test_apps_without_components_load_none_of_them() -> None:
    code = (
        "import sys; from starlette_wasm import WasmMiddleware, WasmRuntime, wasm_route; "
        "print([m for m in sys.modules if m.startswith('starlette_wasm.components.wasi') or '.flat_plan' in m])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"
