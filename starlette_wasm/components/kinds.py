"""Loads, plans and begins a core module or a component, whichever it is.

The code for components is a third of the package, and most apps have none: it is imported with the first one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.capi import Code
from ..engine.compile import UnsupportedModuleError
from ..engine.engine import Engine
from ..engine.fast_path import FastPath, Speech
from ..engine.invocation import Invocation
from ..engine.module import Module
from ..engine.plan import NO_STRINGS, Limits, Plan, Preopen

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from .bound import ComponentPlan
    from .http_exchange import HttpExchange
    from .module import ComponentModule
    from .typed import Linked, TypedCall

EDGE = "func(request: string) -> string"
"""The type of ``handle`` in the world ``edge``."""
FOR_A_WORLD = (
    f"build it for the world edge of sdk/wit, which exports handle: {EDGE}, for wasi:http/incoming-handler@0.2 or "
    "wasi:http/handler@0.3, or for wasi:cli/run@0.2 or 0.3"
)


def is_component(module: Module) -> TypeIs[ComponentModule]:
    """Return whether a module is a component."""
    return not module.one_instance


def load_module(engine: Engine, code: Code, facts: dict[str, Any]) -> Module:
    """Load a module or a component, by its facts. Raises InvalidModuleError and UnsupportedModuleError."""
    if "component" not in facts:
        return Module.load(engine, code, facts)
    from .module import ComponentModule

    return ComponentModule(engine, code, facts)


def why_not_served(module: Module) -> str | None:
    """Return why a component answers no requests; None if it does, and for core modules."""
    if not is_component(module) or module.entry is not None:
        return None
    from . import worlds

    return worlds.why_not_served(module.flat)


def check_served(module: Module) -> None:
    """Raise UnsupportedModuleError for a component of which nothing can be called, and free it."""
    problem = why_not_served(module)
    if problem is not None and is_component(module) and not module.functions:
        module.close()
        raise UnsupportedModuleError(problem, FOR_A_WORLD)


@cache
def component_digest() -> str:
    """Return a digest of the sources that compiled components depend on, besides those for every module."""
    parts = ("compile.py", "core_module.py", "glue.py", "flat_plan.py", "environment.py", "types.py")
    return hashlib.sha256(b"".join(Path(__file__).with_name(part).read_bytes() for part in parts)).hexdigest()


def plan_for(
    module: Module,
    limits: Limits,
    args: bytes = NO_STRINGS,
    preopens: tuple[Preopen, ...] = (),
    tenant: Hashable = None,
    config: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan of a module, or of a component."""
    if not is_component(module):
        return Plan(module, limits, args, preopens, tenant)
    from .bound import ComponentPlan

    return ComponentPlan(module, limits, args, preopens, tenant, config)


def begin(
    plan: Plan,
    stdin: bytes,
    environ: bytes = NO_STRINGS,
    args: bytes = b"",
    exchange: HttpExchange | None = None,
    typed: TypedCall | None = None,
    linked: Linked | None = None,
) -> Invocation:
    """Return an invocation of a module or a component. The last three arguments are for components alone.

    ``exchange`` streams the body and the answer, ``typed`` calls one exported function, and ``linked`` calls the
    functions that satisfy imports.
    """
    if not _for_component(plan):
        return Invocation(plan, stdin, environ, args)
    from .invocation import ComponentInvocation

    invocation = ComponentInvocation(plan, stdin if typed is None else b"", environ, args)
    invocation.exchange = exchange
    invocation.typed = typed
    invocation.linked = linked
    return invocation


def resume(invocation: Invocation, exchange: HttpExchange | None, linked: Linked | None) -> None:
    """Give a component that the fast path has begun what begin() gives."""
    if _for_component(invocation.plan):
        from .invocation import ComponentInvocation

        assert isinstance(invocation, ComponentInvocation)
        invocation.exchange = exchange
        invocation.linked = linked


def fast_path_for(plan: Plan, speech: Speech, environ: tuple[bytes, ...]) -> FastPath:
    """Return what C does for requests of a module or of a component."""
    if not _for_component(plan):
        return FastPath(plan, speech, environ)
    from .fast_path import ComponentFastPath

    if plan.component.makes_http_calls:
        speech = replace(speech, protocol="http")
    return ComponentFastPath(plan, speech, environ)


def _for_component(plan: Plan) -> TypeIs[ComponentPlan]:
    return not plan.module.one_instance
