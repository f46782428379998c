"""Whose request it is: by a callable of the app, else by its host."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection
from starlette.types import Scope

from ..config.tenants import MOST_NAME, OTHERS
from ..engine.layout import PAGE
from ..functions.target import Target
from ..runtime.runtime import WasmRuntime
from ..runtime.tenancy import TenantUsage

if TYPE_CHECKING:
    from ..pipelines.plan import Pipeline

TenantOf = Callable[[HTTPConnection], "str | Awaitable[str | None] | None"]
"""Names the tenant of a request, such as by the app's session; None if it is nobody's."""
CLAIM = "starlette_wasm.tenant_of"
"""The key in an ASGI scope of the callable of the nearest WasmMiddleware."""
TENANT = "starlette_wasm.tenant"
"""The key in an ASGI scope of the name, once it is known; empty for nobody's requests."""
_NO_SLOT: AbstractContextManager[None] = nullcontext()


async def tenant_of(runtime: WasmRuntime, scope: Scope) -> str:
    """Return the tenant of a request, asked for once. Raises what the callable raises."""
    known: str | None = scope.get(TENANT)
    if known is None:
        claim: TenantOf | None = scope.get(CLAIM)
        known = scope[TENANT] = (
            runtime.tenancy.of_host(host_of(scope)) if claim is None else await _claimed(claim, scope)
        )
    return known


async def _claimed(claim: TenantOf, scope: Scope) -> str:
    answer = claim(HTTPConnection(scope))
    name = await answer if inspect.isawaitable(answer) else answer
    if name is not None and (not isinstance(name, str) or len(name) > MOST_NAME or name == OTHERS):
        raise TypeError(f"the callable tenant must give a name of at most {MOST_NAME} characters or None")
    return name or ""


def host_of(scope: Scope) -> str:
    """Return the host that a request names, in lower case and without its port; empty if it names none."""
    for name, value in scope["headers"]:
        if name == b"host":
            host: str = value.decode("latin-1").strip().lower()
            end = host.rfind("]") + 1
            return host[:end] if end else host.partition(":")[0].rstrip(".")
    return ""


async def usage_of(runtime: WasmRuntime, scope: Scope) -> TenantUsage | None:
    """Return what the tenant of a request uses; None if no quota bounds it. For a config that has tenants."""
    return runtime.tenancy.usage(await tenant_of(runtime, scope))


def take_request(usage: TenantUsage | None, target: Target | Pipeline) -> None:
    """Take one request of the tenant's minute. Raises TenantLimited."""
    if usage is not None:
        usage.take_request(_name(target))


def hold_slot(usage: TenantUsage | None, target: Target | Pipeline) -> AbstractContextManager[None]:
    """Hold one of the tenant's slots for a ``with`` block. Raises TenantLimited."""
    if usage is None:
        return _NO_SLOT
    targets = [target] if isinstance(target, Target) else target.targets
    return usage.hold_slot(_name(target), sum(each.most_pages for each in targets) * PAGE)


def _name(target: Target | Pipeline) -> str:
    return target.name if isinstance(target, Target) else target.route
