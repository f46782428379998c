"""Every error of the package, in one tree.

::

    WasmError
    ├── ConfigError              a config, policy or setting is wrong
    │   └── GrantError           a directory that a policy grants cannot be had
    ├── ModuleLoadError          a module is missing, corrupt or for another architecture
    │   ├── CompileError         a module uses what the engine lacks
    │   └── UnsignedModule       none of the keys of requireSignatures has signed it
    ├── FunctionNotFound         no such function, or no such version of it
    ├── ExportNotFound           a component exports no function of that name
    ├── ResultError              a function that was called by name gave the error of its result
    ├── FunctionUnavailable      a function that is left out of what is served
    ├── PolicyViolation          a function declares what its policy does not grant
    ├── CanaryConflict           a canary cannot do that in its state
    ├── RuntimeClosed            the runtime is not open, or draining
    ├── RequestTooLarge          the request body exceeds maxRequestBytes
    ├── RequestTimeout           the request body did not come in time
    ├── FunctionOverloaded       the bulkhead is full, the queue timed out, or the circuit is open
    │   └── TenantLimited        a tenant has used up one of its quotas
    ├── PipelineTimeout          a pipeline took longer than its timeoutMs
    └── FunctionError            an invocation that went wrong
        ├── MemoryLimitExceeded      more memory than maxMemoryPages
        ├── ExecutionTimeout         longer than executionTimeoutMs
        ├── FunctionTrapped          a WebAssembly trap
        ├── FunctionExited           a non-zero exit code
        └── InvalidFunctionResponse  stdout is not a valid response

Each carries its data; the text is derived from it. ``status``, ``slug`` and ``title`` are what an HTTP caller
gets (``application/problem+json``, RFC 9457); ``str(error)`` is for the operator and may hold more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike
from typing import ClassVar

_PART = re.compile(r"[^.\[\]: ]+")
_NAME = re.compile(r"[A-Za-z_]{1,40}|[0-9]{1,6}|/.*")


def _prefix(where: str) -> str:
    return f"{where}: " if where else ""


class WasmError(Exception):
    """The root of all errors of this package."""

    status: int = 500
    slug: ClassVar[str] = "wasm-error"

    @property
    def title(self) -> str:
        """One line that is safe to show to any caller."""
        return "function failed"

    @property
    def detail(self) -> str | None:
        """What more a caller may know, or None."""
        return None

    @property
    def public(self) -> str:
        """What an endpoint without authentication may show: files, keys and kinds of fault, no values."""
        return self.title


def _public_key(key: str) -> str:
    """Show a key as an endpoint may: what does not look like one may be a value in the wrong place."""
    return _PART.sub(lambda part: part[0] if _NAME.fullmatch(part[0]) else "...", key)


class ConfigError(WasmError):
    """A config, policy or setting is wrong.

    The message reads ``file: key: problem (value): hint``, with the parts that are known; ``others`` are wrong in
    the same file, and take a line each. ``kind`` is the problem without values.
    """

    slug = "configuration"

    def __init__(
        self,
        problem: str,
        *,
        file: str | PathLike[str] | None = None,
        key: str | None = None,
        hint: str | None = None,
        others: Sequence[ConfigError] = (),
        kind: str | None = None,
    ) -> None:
        self.problem = problem
        self.kind = kind
        self.file = None if file is None else str(file)
        self.key = key
        self.hint = hint
        self.others = tuple(others)
        where = "".join(f"{part}: " for part in (self.file, key) if part)
        super().__init__("\n".join([f"{where}{problem}{f'; {hint}' if hint else ''}", *map(str, others)]))

    @property
    def title(self) -> str:
        return "wrong configuration"

    @property
    def public(self) -> str:
        parts = (self.file, self.key and _public_key(self.key), self.kind or self.title)
        return "\n".join([": ".join(filter(None, parts)), *(each.public for each in self.others)])


class GrantError(ConfigError):
    """A directory that a policy grants cannot be had: it is none, or a link is on the way."""

    slug = "grant"


class ModuleLoadError(WasmError):
    """A module is missing, corrupt, or for another architecture."""

    slug = "module-load"

    def __init__(self, problem: str, *, file: str | PathLike[str] | None = None, hint: str | None = None) -> None:
        self.problem = problem
        self.file = None if file is None else str(file)
        self.hint = hint
        where = f" {self.file}" if self.file else ""
        super().__init__(f"{self.title}{where}: {problem}{f'; {hint}' if hint else ''}")

    @property
    def title(self) -> str:
        return "failed to load module"

    @property
    def public(self) -> str:
        return f"{self.title} {self.file}" if self.file else self.title


class CompileError(ModuleLoadError):
    """A module uses WebAssembly features that the engine lacks or does not allow."""

    slug = "module-compile"

    @property
    def title(self) -> str:
        return "AOT compile failed"


class UnsignedModule(ModuleLoadError):
    """None of the keys of ``requireSignatures`` has signed a version of a function as it is. ``keys`` names them."""

    slug = "signature-refused"

    def __init__(
        self, function: str, version: str, reason: str, *, file: str | PathLike[str] | None = None, keys: str = ""
    ) -> None:
        self.function = function
        self.version = version
        self.reason = reason
        self.keys = keys
        hint = (
            f"sign it with starlette-wasm sign {function}@{version} --key KEY, where KEY belongs to {keys}, "
            "or sync what was pushed with --sign"
        )
        super().__init__(f"{function} v{version} is refused by requireSignatures: {reason}", file=file, hint=hint)

    @property
    def public(self) -> str:
        where = f" {self.file}" if self.file else ""
        return f"{self.title}{where}: {self.function} v{self.version} is not signed as requireSignatures asks"


def _did_you_mean(name: str, known: Sequence[str]) -> str | None:
    """Return a question for the name that is nearest, None if none is near or there is only one anyway."""
    import difflib  # only for what is wrong anyway

    near = difflib.get_close_matches(name, known, n=1) if len(known) > 1 else []
    return f"did you mean {near[0]}?" if near else None


class FunctionNotFound(WasmError):
    """No such function, or no such version of it."""

    status = 404
    slug = "function-not-found"

    def __init__(
        self,
        function: str,
        version: str | None = None,
        *,
        known: Sequence[str] = (),
        where: str = "",
        hint: str | None = None,
    ) -> None:
        self.function = function
        self.version = version
        self.known = tuple(known)
        self.hint = hint = hint or (_did_you_mean(function, known) if version is None else None)
        self.where = where
        what = function if version is None else f"{function} v{version}"
        kind = "functions" if version is None else "versions"
        there = f"; known {kind}: {', '.join(known)}" if known else "; there is none"
        super().__init__(f"{_prefix(where)}function not found: {what}{there}{f'; {hint}' if hint else ''}")

    @property
    def title(self) -> str:
        return "function not found"

    @property
    def public(self) -> str:
        return f"{_prefix(self.where)}{self.title}"


class ExportNotFound(WasmError):
    """A component exports no function of that name, or several that it may stand for."""

    status = 404
    slug = "export-not-found"

    def __init__(
        self, function: str, version: str, *, export: str, known: Sequence[str] = (), hint: str | None = None
    ) -> None:
        self.function = function
        self.version = version
        self.export = export
        self.known = tuple(known)
        self.hint = hint
        there = f"; there are: {', '.join(self.known)}" if known else ""
        super().__init__(f"{function} v{version}: no export is called {export!r}{there}{f'; {hint}' if hint else ''}")

    @property
    def title(self) -> str:
        return "function not found"


class ResultError(WasmError):
    """A function that was called by name gave the error of its ``result``: ``value``, as a Python value.

    The invocation itself went well: nothing is counted against the function.
    """

    slug = "result-error"

    def __init__(self, function: str, version: str, *, export: str, value: object) -> None:
        self.function = function
        self.version = version
        self.export = export
        self.value = value
        super().__init__(f"{function} v{version} {export}: {value!r:.500}")


class FunctionUnavailable(WasmError):
    """A version of a function is left out of what is served, since it is bad; ``reason`` is the cause.

    ``version`` is empty if that is so of the whole function.
    """

    status = 503
    slug = "function-unavailable"

    def __init__(self, function: str, version: str, reason: WasmError) -> None:
        self.function = function
        self.version = version
        self.reason = reason
        super().__init__(f"{self._what} is left out: {reason}")

    @property
    def _what(self) -> str:
        return f"{self.function} v{self.version}" if self.version else self.function

    def again(self) -> FunctionUnavailable:
        """Make the same error again, to be raised: an exception that is raised twice keeps both tracebacks."""
        return FunctionUnavailable(self.function, self.version, self.reason)

    @property
    def title(self) -> str:
        return "function unavailable"

    @property
    def public(self) -> str:
        return f"{self._what} is unhealthy: left out: {self.reason.public}"


class PolicyViolation(WasmError):
    """A function declares an environment variable that the policy of its rule or route does not grant."""

    slug = "policy-violation"

    def __init__(self, function: str, env_var: str, policy: str, *, where: str = "") -> None:
        self.function = function
        self.env_var = env_var
        self.policy = policy
        self.where = where
        super().__init__(
            f"{_prefix(where)}env var not allowed: {env_var} (declared by {function}, not granted by policy {policy}); "
            f"add it to allowedEnvVars of the policy, or take it out of function.yaml"
        )

    @property
    def title(self) -> str:
        return f"env var not allowed: {self.env_var}"

    @property
    def public(self) -> str:
        return f"{_prefix(self.where)}{self.function}: env var not allowed"


class CanaryConflict(WasmError):
    """What was asked of a canary cannot be done in the state that it is in."""

    status = 409
    slug = "canary-conflict"

    def __init__(self, function: str, problem: str, hint: str) -> None:
        self.function = function
        self.problem = problem
        self.hint = hint
        super().__init__(f"canary of {function}: {problem}; {hint}")

    @property
    def title(self) -> str:
        return "not possible in this state"


class RuntimeClosed(WasmError):
    """The runtime is not open: not started, draining, or closed."""

    status = 503
    slug = "runtime-closed"

    def __init__(self, state: str = "closed") -> None:
        self.state = state
        super().__init__(f"the Wasm runtime is {state}")

    @property
    def title(self) -> str:
        return "service is shutting down"


class RequestTooLarge(WasmError):
    """The request body exceeds ``maxRequestBytes`` of the policy, or path, query and headers what any may have.

    ``part`` is ``body`` or ``head``, ``limit`` in bytes. The status of a head is 431.
    """

    status = 413
    slug = "request-too-large"

    def __init__(self, limit: int, part: str = "body") -> None:
        self.limit = limit
        self.part = part
        if part == "head":
            self.status = 431
        super().__init__(f"request {part} exceeds {limit} bytes{' (maxRequestBytes)' if part == 'body' else ''}")

    @property
    def title(self) -> str:
        return f"request {self.part} too large"

    @property
    def detail(self) -> str:
        return f"the {self.part} may have at most {self.limit} bytes"


class RequestTimeout(WasmError):
    """The body of a request did not come within ``body_timeout_ms``."""

    status = 408
    slug = "request-timeout"

    def __init__(self, limit_ms: int) -> None:
        self.limit_ms = limit_ms
        super().__init__(f"request body did not come within {limit_ms} ms (body_timeout_ms)")

    @property
    def title(self) -> str:
        return "request body did not come in time"


class FunctionOverloaded(WasmError):
    """The bulkhead of a route is full, its queue timed out, no instance is free, or a pipeline's circuit is open.

    ``retry_after`` is in whole seconds, as in the ``Retry-After`` header.
    """

    status = 503
    slug = "function-overloaded"

    def __init__(self, function: str, reason: str, *, retry_after: int = 1) -> None:
        self.function = function
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(f"function {function} is overloaded: {reason}")

    @property
    def title(self) -> str:
        return "function overloaded"


class TenantLimited(FunctionOverloaded):
    """A tenant has used up one of its quotas: ``quota`` is its key in ``tenants``."""

    status = 429
    slug = "tenant-limited"

    def __init__(self, function: str, tenant: str, quota: str, *, retry_after: int) -> None:
        super().__init__(function, f"tenant {tenant!r} has used up its {quota}", retry_after=retry_after)
        self.tenant = tenant
        self.quota = quota
        self.args = (f"{function} is refused: {self.reason}",)

    @property
    def title(self) -> str:
        return "too many requests"

    @property
    def detail(self) -> str:
        """The quota, which is the caller's own."""
        return f"{self.quota} is used up"


class PipelineTimeout(WasmError):
    """A pipeline took longer than its ``timeoutMs``, retries and waits included. ``step`` is where it was."""

    status = 504
    slug = "pipeline-timeout"

    def __init__(self, path: str, step: str, *, limit_ms: int) -> None:
        self.path = path
        self.step = step
        self.limit_ms = limit_ms
        super().__init__(f"pipeline {path}: time limit exceeded ({limit_ms} ms) at step {step}")

    @property
    def title(self) -> str:
        return "time limit exceeded"


class FunctionError(WasmError):
    """An invocation that went wrong. ``function`` and ``version`` name it."""

    slug = "function-error"

    def __init__(self, function: str, version: str, message: str, *, where: str = "") -> None:
        self.function = function
        self.version = version
        super().__init__(f"{_prefix(where)}{function} v{version}: {message}")

    @property
    def public(self) -> str:
        return f"{self.function} v{self.version}: {self.title}"


_LARGE_STACK = 16
"""Pages: linkers give a guest up to 1 MiB without being asked."""


class MemoryLimitExceeded(FunctionError):
    """A guest asked for more memory than ``maxMemoryPages`` and ended abnormally, or needs more from the start."""

    slug = "memory-limit"

    def __init__(
        self,
        function: str,
        version: str,
        *,
        limit_pages: int,
        asked_pages: int | None = None,
        stack_pages: int = 0,
        where: str = "",
    ) -> None:
        self.limit_pages = limit_pages
        self.asked_pages = asked_pages
        self.stack_pages = stack_pages
        asked = "" if asked_pages is None else f"asked for {asked_pages} pages of 64 KiB, "
        less = "use less memory"
        if stack_pages > _LARGE_STACK:
            asked += f"{stack_pages} of them for its stack, "
            less = f"link it with a smaller stack than {stack_pages // 16} MiB (-z stack-size; --stack in Zig)"
        problem = f"out of memory ({asked}limit {limit_pages}); raise maxMemoryPages of the policy, or {less}"
        super().__init__(function, version, problem, where=where)

    @property
    def title(self) -> str:
        return "out of memory"


class ExecutionTimeout(FunctionError):
    """An invocation took longer than ``executionTimeoutMs``."""

    status = 504
    slug = "execution-timeout"

    def __init__(self, function: str, version: str, *, limit_ms: int) -> None:
        self.limit_ms = limit_ms
        super().__init__(function, version, f"time limit exceeded ({limit_ms} ms)")

    @property
    def title(self) -> str:
        return "time limit exceeded"


class FunctionTrapped(FunctionError):
    """A WebAssembly trap. ``reason`` is its kind, ``frames`` the guest's frames, innermost first."""

    slug = "wasm-trap"

    def __init__(self, function: str, version: str, *, reason: str, frames: Sequence[str] = ()) -> None:
        self.reason = reason
        self.frames = tuple(frames)
        trace = "".join(f"\n  at {frame}" for frame in frames)
        super().__init__(function, version, f"wasm trap: {reason}{trace}")

    @property
    def title(self) -> str:
        return f"wasm trap: {self.reason}"


class FunctionExited(FunctionError):
    """The guest ended with a non-zero exit code."""

    slug = "function-exit"

    def __init__(self, function: str, version: str, *, code: int) -> None:
        self.code = code
        super().__init__(function, version, f"exited with code {code}")

    @property
    def title(self) -> str:
        return "function exited with an error"


class InvalidFunctionResponse(FunctionError):
    """What the guest printed is not a valid response. ``offset`` is the byte at which it went wrong, if known."""

    status = 502
    slug = "invalid-function-response"

    def __init__(self, function: str, version: str, *, problem: str, offset: int | None = None, hint: str = "") -> None:
        self.problem = problem
        self.offset = offset
        at = "" if offset is None else f" at byte {offset}"
        super().__init__(function, version, f"invalid response on stdout: {problem}{at}{hint}")

    @property
    def title(self) -> str:
        return "invalid function response"
