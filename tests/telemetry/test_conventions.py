"""The documentation lists what leaves the package, and error types cover the tree of exceptions."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import ModuleType

import pytest

from starlette_wasm import SandboxPolicy, exceptions, telemetry
from starlette_wasm.exceptions import ExecutionTimeout, WasmError
from starlette_wasm.pipelines.breaker import Circuit
from starlette_wasm.pipelines.retry import Refused
from starlette_wasm.sync.cancel_scope import Interrupted, Why
from starlette_wasm.telemetry import ErrorType, PickedBy, Variant, error_type
from starlette_wasm.telemetry.conventions import (
    ACQUIRE,
    COMPILE,
    EXECUTE,
    GUEST_PREFIX,
    GUEST_SCOPE,
    METRICS,
    VIOLATION_KINDS,
    Attribute,
    Role,
)

DOCS = (Path(__file__).parent.parent.parent / "docs" / "telemetry.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The cells of the rows under a heading, without back ticks."""
    section = DOCS.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)[2:]
    return [[cell.strip().replace("`", "") for cell in row.split("|")] for row in rows]


def test_the_documentation_lists_every_attribute() -> None:
    assert [row[0] for row in table("Attributes")] == [attribute.value for attribute in Attribute]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (Attribute.VARIANT, list(Variant)),
        (Attribute.REASON, list(PickedBy)),
        (Attribute.VIOLATION, VIOLATION_KINDS),
        (Attribute.ATTEMPT_ROLE, list(Role)),
        (Attribute.CIRCUIT, [Circuit.OPEN, Circuit.HALF_OPEN]),
        (Attribute.NOT_RETRIED, list(Refused)),
    ],
)
def test_the_documentation_lists_the_values_of_an_attribute(name: str, values: list[str]) -> None:
    (meaning,) = [row[-1] for row in table("Attributes") if row[0] == name]
    assert [value for value in values if value not in meaning] == []


def test_the_documentation_lists_every_metric() -> None:
    listed = [(name, kind, unit, meaning) for name, kind, unit, _, meaning in table("Metrics")]
    assert listed == [(metric.name, metric.kind, metric.unit, metric.description) for metric in METRICS]


def test_the_documentation_lists_every_error_type() -> None:
    assert [row[0] for row in table("Error types")] == [each.value for each in ErrorType]


def test_the_picture_is_of_such_a_trace() -> None:
    """Drawn by scripts/draw-trace from what a collector sent on."""
    picture = (Path(__file__).parents[2] / "docs" / "trace.svg").read_text()
    assert "](trace.svg)" in DOCS
    names = re.findall(r"<text [^>]*>([^<]+)</text>\n<rect", picture)
    assert [name for name in names if name in (ACQUIRE, COMPILE, EXECUTE)] == [ACQUIRE, COMPILE, EXECUTE]
    for attribute in re.findall(r"\b(?:starlette_wasm|faas)\.[a-z_.]+(?= = )", picture):
        assert attribute in list(Attribute)


def test_the_documentation_tells_of_what_guests_add() -> None:
    for name in (GUEST_SCOPE, GUEST_PREFIX):
        assert f"`{name}`" in DOCS
    policy = SandboxPolicy()
    assert f"`maxSpans` ({policy.max_spans}) and `maxTraceEvents` ({policy.max_trace_events})" in DOCS


def every(kind: type[WasmError]) -> set[type[WasmError]]:
    return {kind}.union(*(every(each) for each in kind.__subclasses__() if each.__module__ == exceptions.__name__))


def test_every_error_of_the_package_has_an_error_type() -> None:
    slugs = {kind.slug for kind in every(WasmError)}
    assert slugs == {each.value for each in ErrorType} - {"cancelled", "_OTHER"}


def test_error_types_are_a_closed_list() -> None:
    class Mine(WasmError):
        slug = "anything"

    assert error_type(ExecutionTimeout("f", "1", limit_ms=1)) is ErrorType.EXECUTION_TIMEOUT
    assert error_type(Mine()) is ErrorType.OTHER
    assert error_type(ValueError()) is ErrorType.OTHER
    assert error_type(asyncio.CancelledError()) is ErrorType.CANCELLED
    assert error_type(Interrupted(Why.GONE)) is ErrorType.CANCELLED


def test_the_public_names_are_complete() -> None:
    modules = {name for name, value in vars(telemetry).items() if isinstance(value, ModuleType)}
    assert {name for name in vars(telemetry) if not name.startswith("_")} - modules == set(telemetry.__all__)
