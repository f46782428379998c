"""From a component's bytes to compiled code: read, validate, work out the plan, compile each core module.

Runs in the compile child. The code of all modules is one block; what is needed to run them is JSON, in which a hollow
copy of the component (without code and data) says what goes where.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ..engine import bounds, capi, remedies
from ..engine.binary import UnsupportedError, leb
from ..engine.compile import InvalidModuleError, UnsupportedModuleError, one_line
from . import glue
from .core_module import hollow, prepare
from .cursor import Cursor
from .definitions import Component, CoreModule
from .errors import ComponentError, UnsupportedComponentError
from .exported import functions_of
from .flat_plan import FlatPlan, flatten
from .reader import read
from .wasi import find_offers
from .worlds import find_entry

_FEATURE = re.compile(
    r"the `(cm-[a-z0-9-]+)` feature is not active|((?:async )?`[a-z.-]+`) (?:requires the component|immediate)"
)
_MAX_SKELETON = 4 << 20
_OTHER_TOOL = "build it with another version of its toolchain"


def compile_component(engine: int, guest: bytes) -> tuple[bytes, dict[str, Any]]:
    """Compile to code and facts. Raises InvalidModuleError and UnsupportedModuleError."""
    try:
        component = read(guest)
        plan = flatten(component)
        if find_entry(plan) is not None or functions_of(plan):
            find_offers(plan)
        modules = _modules(plan)
        for each in modules:
            _validate(engine, guest[each.start : each.end])
        for each in set(_all_modules(component)).difference(modules):
            _check_unused(engine, guest[each.start : each.end])
        skeleton = _skeleton(Cursor(guest))
        _validate_component(engine, skeleton)
        codes, facts = _compile_modules(engine, guest, modules)
        codes.append(_compile(engine, capi.assemble(glue.make(plan).text)))
    except UnsupportedComponentError as error:
        raise UnsupportedModuleError(one_line(error.problem), error.hint) from None
    except ComponentError as error:
        raise InvalidModuleError(one_line(str(error))) from None
    except (UnsupportedError, capi.EngineError) as error:
        raise UnsupportedModuleError(one_line(str(error)), getattr(error, "hint", None) or _OTHER_TOOL) from None
    packed = base64.b64encode(zlib.compress(skeleton)).decode()
    return b"".join(codes), {"component": packed, "codes": [len(code) for code in codes], "modules": facts}


def unpack(facts: dict[str, Any]) -> FlatPlan:
    """Make the plan again, from the facts."""
    return flatten(read(zlib.decompress(base64.b64decode(facts["component"]))))


def _modules(plan: FlatPlan) -> list[CoreModule]:
    """Return the modules that are instantiated, each once, in order."""
    return list(dict.fromkeys(step.module for step in plan.steps))


def _all_modules(component: Component) -> Iterator[CoreModule]:
    for item in component.items:
        if isinstance(item, CoreModule):
            yield item
        elif isinstance(item, Component):
            yield from _all_modules(item)


def _check_unused(engine: int, module: bytes) -> None:
    """Refuse a module that is invalid. One that only needs what is not taken may stay: none of it runs."""
    with suppress(UnsupportedModuleError):
        _validate(engine, module)


def _validate(engine: int, module: bytes) -> None:
    try:
        capi.check(capi.module_validate(engine, module, len(module)))
    except capi.EngineError as error:
        text = one_line(f"a core module: {error}")
        remedy = remedies.of_feature(text)
        raise (InvalidModuleError(text) if remedy is None else UnsupportedModuleError(text, remedy)) from None
    bounds.check(module)


def _compile_modules(engine: int, guest: bytes, modules: list[CoreModule]) -> tuple[list[bytes], list[dict[str, Any]]]:
    codes, facts = [], []
    for each in modules:
        prepared, known = prepare(guest[each.start : each.end])
        codes.append(_compile(engine, prepared))
        facts.append(asdict(known))
    return codes, facts


def _compile(engine: int, module: bytes) -> bytes:
    compiled = capi.compile_module(engine, module)
    try:
        return capi.serialize_module(compiled)
    finally:
        capi.module_delete(compiled)


def _skeleton(cursor: Cursor) -> bytes:
    """Make the component with hollow core modules, and without custom sections. The cursor was read before."""
    parts = [cursor.take(8)]
    while cursor.more:
        number, size = cursor.byte(), cursor.u32()
        part = cursor.part(size, "section")
        body = part.data[part.at : part.end]
        if number == 0:
            continue
        if number == 1:
            body = hollow(body)
        elif number == 4:
            body = _skeleton(part)
        parts += bytes([number]), leb(len(body)), body
    made = b"".join(parts)
    if len(made) > _MAX_SKELETON:
        raise UnsupportedComponentError(
            f"its types and tables take {len(made):,} bytes, the most is {_MAX_SKELETON:,}", "split it"
        )
    return made


def _validate_component(engine: int, skeleton: bytes) -> None:
    """Let wasmtime check what is not checked here: names, subtypes, the types of all that is wired together."""
    try:
        capi.component_delete(capi.new_component(engine, skeleton))
    except capi.EngineError as error:
        text = one_line(f"not a valid component: {error}")
        feature = _FEATURE.search(text)
        if feature is None:
            raise InvalidModuleError(text) from None
        raise UnsupportedModuleError(f"it uses {feature[1] or feature[2]}, which is not taken", _OTHER_TOOL) from None
