"""The house's measures: how long functions are, what they take, and how many entries the package has."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

PACKAGE = Path(__file__).parents[1] / "starlette_wasm"
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
MOST_LINES = 70
MOST_PARAMETERS = 8


def functions() -> Iterator[tuple[str, FUNCTION]]:
    """Yield every function of the package, and where it is."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, FUNCTION):
                yield f"{file.relative_to(PACKAGE)}:{node.lineno} {node.name}", node


def lines_of(node: FUNCTION) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def parameters_of(node: FUNCTION) -> int:
    """Return how many there are; ``self`` and ``cls`` do not count, ``*args`` and ``**kwargs`` count as one each."""
    given = node.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [each.arg for each in (given.vararg, given.kwarg) if each is not None]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_no_function_has_more_than_70_lines() -> None:
    long = [f"{where}: {lines_of(node)} lines" for where, node in functions() if lines_of(node) > MOST_LINES]
    assert not long, "\n".join(long)


def test_no_function_takes_more_than_8_parameters() -> None:
    wide = [f"{where}: {parameters_of(node)}" for where, node in functions() if parameters_of(node) > MOST_PARAMETERS]
    assert not wide, "\n".join(wide)


def test_functions_stay_short() -> None:
    lines = [lines_of(node) for _, node in functions()]
    assert median(lines) <= 6
    assert quantiles(lines, n=20)[-1] <= 28


def test_the_package_has_at_most_20_entries() -> None:
    entries = {each.name for each in PACKAGE.iterdir() if each.suffix == ".py" or (each / "__init__.py").exists()}
    assert len(entries - {"__init__.py"}) <= 20, sorted(entries)
