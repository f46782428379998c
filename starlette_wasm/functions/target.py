"""What a rule, a route or a call is bound to: one version of a function under one policy, all worked out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from ..components.kinds import FOR_A_WORLD, fast_path_for, is_component, plan_for, why_not_served
from ..config.policy import GrantedDir, SandboxPolicy, resolve_dirs
from ..engine import layout
from ..engine.fast_path import NO_SEGMENTS, FastPath, Speech, available
from ..engine.plan import SPARE_PAGES, Limits, Plan, Preopen
from ..exceptions import (
    CompileError,
    ConfigError,
    FunctionError,
    GrantError,
    MemoryLimitExceeded,
    PolicyViolation,
    RequestTooLarge,
)
from ..messages import EdgeRequest
from ..protocols import Protocol as MessageProtocol
from ..protocols import get_protocol
from ..protocols.cgi import is_variable, segments_of
from ..protocols.edge import EdgeProtocol
from ..sync.bulkhead import Bulkhead
from .catalog import MANIFEST, FunctionSource
from .descriptors import of_guest
from .loader import LoadedFunction
from .open_directory import OpenDirectory
from .variables import fixed, values_of

if TYPE_CHECKING:
    from ..capabilities import Capabilities, Grants
    from .links import Links

logger = logging.getLogger("starlette_wasm")

OF_REQUEST = ("EDGE_REQUEST_ID", "EDGE_REGION")
"""Variables that the host sets for each request."""


class Tally(Protocol):
    """Counts how a version does, for whoever rolls it out."""

    def answered(self, seconds: float, status: int) -> None: ...
    def failed(self, seconds: float, error: FunctionError) -> None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Everything about an invocation that does not depend on the request."""

    name: str
    version: str
    route: str
    function: LoadedFunction
    policy: SandboxPolicy
    protocol: MessageProtocol
    plan: Plan
    environ: tuple[bytes, ...] = field(repr=False)
    bulkhead: Bulkhead
    grants: Grants | None
    """What it may do through ``edge.call``; None if it does not import that."""
    links: Links = field(default_factory=dict)
    """The functions that satisfy what it imports."""
    directories: tuple[OpenDirectory, ...] = ()
    """The directories of the plan, held open as long as this target may be called."""
    tally: Tally | None = None
    """None if nobody counts."""
    fast_path: FastPath | None = None
    """What C does for it, if it does something."""
    max_body: int = field(init=False)
    """The policy's ``max_request_bytes``, as each request asks for it: attributes of pydantic's models are slow."""
    tenant: tuple[str, str] = field(init=False)
    """Whose share of what all have in common it uses."""
    streams: bool = field(init=False)
    """Whether a request can come, and its answer leave, while the function runs."""
    deadline_ms: int = field(init=False)
    """The policy's ``execution_timeout_ms``."""
    encodes: bool = field(init=False)
    """Whether C may write what the guest reads, without an EdgeRequest."""
    most_pages: int = field(init=False)
    """Pages that the policies allow it and those that satisfy its imports, which run inside its calls."""

    def __post_init__(self) -> None:
        module = self.function.module
        object.__setattr__(self, "max_body", self.policy.max_request_bytes)
        object.__setattr__(self, "tenant", (self.name, self.policy.name))
        object.__setattr__(self, "streams", is_component(module) and module.streams)
        fast_path = self.fast_path
        encodes = fast_path is not None and (fast_path.complete or self.protocol.name != "cgi")
        object.__setattr__(self, "encodes", encodes)
        object.__setattr__(self, "deadline_ms", self.policy.execution_timeout_ms)
        object.__setattr__(self, "most_pages", sum(each.policy.max_memory_pages for each in self._with_linked()))

    def _with_linked(self) -> list[Target]:
        found = [self]
        for each in found:
            for link in each.links.values():
                if all(link.target is not known for known in found):
                    found.append(link.target)
        return found

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    def check_size(self, request: EdgeRequest) -> None:
        """Raise RequestTooLarge."""
        limit = self.max_body
        # Four characters at most, of base64 or of UTF-16 pairs, come to less than four bytes each.
        if request.body and len(request.body) > limit // 4 and request.size > limit:
            raise RequestTooLarge(limit)

    def isolated(self) -> Target:
        """Return the same within the same bounds, with no capability, directory or variable of the host granted."""
        source, plan = self.function.source, self.plan
        return replace(
            self,
            plan=plan_for(plan.module, plan.limits, plan.args, tenant=plan.tenant, config=fixed(source.manifest.env)),
            environ=_environ(fixed(source.manifest.env) | _identity(source)),
            grants=None if self.grants is None else self.grants.nothing(),
            directories=(),
            fast_path=None,
            links={function: link.isolated() for function, link in self.links.items()},
        )


def check_answers(function: LoadedFunction) -> None:
    """Raise CompileError for a component that answers no requests: its functions are called by their names."""
    problem = why_not_served(function.module)
    if problem is not None:
        raise CompileError(problem, file=function.source.file, hint=FOR_A_WORLD)


def bind(
    function: LoadedFunction,
    policy: SandboxPolicy,
    capabilities: Capabilities,
    directories: list[OpenDirectory],
    bulkhead: Bulkhead,
    *,
    route: str,
    where: str = "",
    warn: bool = True,
) -> Target:
    """Bind a function to a policy. ``where`` names the rule or route for errors.

    The granted directories are opened once, and go into ``directories`` too, for a caller that closes them early.
    Without ``warn`` missing ones are not logged.

    Raises PolicyViolation, MemoryLimitExceeded and ConfigError.
    """
    source, module = function.source, function.module
    _check_policy(function, policy, where)
    environ = _granted_environ(source, policy, where)
    granted = resolve_dirs(policy, warn=warn)  # what is wrong with them is wrong for every module
    opened = [(_open(each, policy), each) for each in granted if module.uses_files]
    directories += [directory for directory, _ in opened]
    protocol = _protocol(function)
    preopens = tuple(Preopen(directory.path, each.guest_path, not each.readonly) for directory, each in opened)
    argv = layout.strings(_argv(source) if module.reads_args else [])
    config = values_of(source.manifest.env, policy, source.file.with_name(MANIFEST))
    plan = plan_for(module, _limits(policy), argv, preopens, tenant=(source.name, policy.name), config=config)
    return Target(
        name=source.name,
        version=source.version,
        route=route,
        function=function,
        policy=policy,
        protocol=protocol,
        plan=plan,
        environ=_environ(environ),
        grants=capabilities.grants(policy, source.name) if module.uses_edge else None,
        directories=tuple(directory for directory, _ in opened),
        bulkhead=bulkhead,
        fast_path=_fast_path(function, protocol, plan, environ, route),
    )


def _check_policy(function: LoadedFunction, policy: SandboxPolicy, where: str) -> None:
    """Raise PolicyViolation or MemoryLimitExceeded if the function cannot run under the policy."""
    source, module = function.source, function.module
    for name in source.manifest.env_vars:
        if name not in policy.allowed_env_vars:
            raise PolicyViolation(source.name, name, policy.name, where=where)
    if module.min_pages > policy.max_memory_pages:
        raise MemoryLimitExceeded(
            source.name,
            source.version,
            limit_pages=policy.max_memory_pages,
            asked_pages=module.min_pages,
            stack_pages=module.stack_pages,
            where=where,
        )


def _granted_environ(source: FunctionSource, policy: SandboxPolicy, where: str) -> dict[str, str]:
    """Return the variables that do not depend on the request: of the host, of function.yaml, and the function's name.

    Raises PolicyViolation and ConfigError.
    """
    environ = {name: os.environ[name] for name in policy.allowed_env_vars if name in os.environ}
    for name in source.manifest.env_vars:
        if name not in environ:
            logger.warning("%s%s declares %s, which is not set: it runs without", where and f"{where}: ", source, name)
    environ |= values_of(source.manifest.env, policy, source.file.with_name(MANIFEST))
    environ |= _identity(source)
    if source.manifest.edge_environment:
        environ = {name: value for name, value in environ.items() if name not in OF_REQUEST}
    return environ


def _protocol(function: LoadedFunction) -> MessageProtocol:
    """Return the protocol of the function. Raises ConfigError if it is not for components."""
    source, module = function.source, function.module
    protocol = get_protocol(source.manifest.protocol)
    if is_component(module) and module.speaks_edge and protocol.name != "edge":
        raise ConfigError(
            f"{protocol.name!r} is for commands; {source} is a component that is called with its request",
            file=source.file.with_name(MANIFEST),
            key="protocol",
            hint="take it out",
        )
    return protocol


def _limits(policy: SandboxPolicy) -> Limits:
    return Limits(
        memory_pages=policy.max_memory_pages,
        time=policy.execution_timeout_ms / 1000,
        stdout=policy.max_response_bytes,
        stderr=policy.max_log_bytes,
        cpu_weight=policy.cpu_weight,
        restore=policy.instances != "fresh",
        spare_pages=SPARE_PAGES if policy.instances == "growing" else 0,
        fds=of_guest(policy.max_concurrency),
    )


def _fast_path(
    function: LoadedFunction, protocol: MessageProtocol, plan: Plan, environ: dict[str, str], route: str
) -> FastPath | None:
    """Return what C does for the function, None if that is nothing."""
    manifest = function.source.manifest
    if not available(protocol.name):
        return None
    # C adds variables to those that do not depend on the request, and replaces none.
    replaced = [name for name in environ if name == "TRACEPARENT" or (protocol.name == "cgi" and is_variable(name))]
    complete = not (plan.module.reads_environ and replaced)
    if protocol.name == "cgi" and plan.module.reads_args and manifest.args:  # which may name variables
        complete = False
    speech = _speech(function, protocol, plan, route)
    return fast_path_for(plan, replace(speech, complete=complete), _environ(environ))


def _speech(function: LoadedFunction, protocol: MessageProtocol, plan: Plan, route: str) -> Speech:
    source = function.source
    own_names = source.manifest.edge_environment
    if isinstance(protocol, EdgeProtocol):
        end = protocol.end(source.name, source.version, round(plan.limits.time * 1000))
        return Speech("edge", end, own_names=own_names)
    if protocol.name == "wws":
        return Speech("wws", own_names=own_names)
    segments = segments_of(route)
    return Speech(
        "cgi",
        route=route.encode(),
        segments=NO_SEGMENTS if segments is None else segments,
        own_names=own_names,
    )


def _argv(source: FunctionSource) -> list[bytes]:
    return [each.encode() for each in (source.name, *source.manifest.args)]


def _identity(source: FunctionSource) -> dict[str, str]:
    if not source.manifest.edge_environment:
        return {}
    return {"EDGE_FUNCTION": source.name, "EDGE_VERSION": source.version}


def _environ(variables: Mapping[str, str]) -> tuple[bytes, ...]:
    return tuple(f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in variables.items())


def _open(granted: GrantedDir, policy: SandboxPolicy) -> OpenDirectory:
    try:
        return OpenDirectory(granted.host_path)
    except OSError as error:
        raise GrantError(
            f"{str(granted.host_path)!r} cannot be opened: {error.strerror}",
            file=f"policy {policy.name}",
            key="allowedDirs",
            hint="give a directory that this user can read",
        ) from None
