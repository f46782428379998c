"""The names that leave this package: span names, attributes, metrics, error types.

After the OpenTelemetry semantic conventions for FaaS (status: development) and HTTP; what they lack is under
``starlette_wasm``. ``docs/telemetry.md`` lists the same, and a test holds it to this file.
"""

from __future__ import annotations

from asyncio import CancelledError
from dataclasses import dataclass
from enum import StrEnum

from ..capabilities.errors import VIOLATIONS
from ..exceptions import WasmError
from ..sync.cancel_scope import Interrupted

ACQUIRE = "wasm acquire"
COMPILE = "wasm compile"
EXECUTE = "wasm execute"
GUEST_SCOPE = "starlette_wasm.guest"
"""The instrumentation scope of the spans that guests start."""
GUEST_PREFIX = "guest."
"""Before the name of every attribute that a guest sets: it cannot take the place of one of the host's."""


class Attribute(StrEnum):
    """Attributes of spans; some of them also of metrics and log records."""

    HTTP_ROUTE = "http.route"
    TRIGGER = "faas.trigger"
    NAME = "faas.name"
    COLDSTART = "faas.coldstart"
    VARIANT = "starlette_wasm.route.variant"
    WEIGHT = "starlette_wasm.route.weight"
    REASON = "starlette_wasm.route.reason"
    VERSION = "faas.version"
    INVOCATION_ID = "faas.invocation_id"
    EXPORT = "starlette_wasm.export"
    ATTEMPT = "starlette_wasm.attempt"
    ATTEMPT_ROLE = "starlette_wasm.attempt.role"
    ATTEMPT_CAUSE = "starlette_wasm.attempt.cause"
    STEP = "starlette_wasm.pipeline.step"
    STEP_INDEX = "starlette_wasm.pipeline.step_index"
    CIRCUIT = "starlette_wasm.circuit.state"
    NOT_RETRIED = "starlette_wasm.pipeline.not_retried"
    CPU = "starlette_wasm.guest.cpu_s"
    MEMORY = "starlette_wasm.guest.memory_peak"
    HOST_CALLS = "starlette_wasm.host_calls"
    VIOLATIONS = "starlette_wasm.policy.violations"
    VIOLATION = "starlette_wasm.policy.violation"
    TENANT = "starlette_wasm.tenant"
    TENANT_OUTCOME = "starlette_wasm.tenant.outcome"
    ERROR_TYPE = "error.type"
    STATUS_CODE = "http.response.status_code"


class Variant(StrEnum):
    """Which of the versions that share a route got the request: ``starlette_wasm.route.variant``."""

    STABLE = "stable"
    CANARY = "canary"
    """The version on trial of a running canary."""
    DEFAULT = "default"
    """The default function."""


class PickedBy(StrEnum):
    """Why it got the request: ``starlette_wasm.route.reason``."""

    ROUTE = "route"
    """A WasmRoute, or an endpoint, names it."""
    WEIGHT = "weight"
    """Its turn, by the weights of the rules."""
    STEP = "step"
    """Its turn, by the step of a running canary."""
    STICKY = "sticky"
    """The caller had it before."""
    FORCED = "forced"
    """``x-wasm-version`` asked for it."""
    NO_RULE = "no-rule"
    """Region, weights or health left no rule."""
    PIPELINE = "pipeline"
    """A step of the path's pipeline names it."""


class Role(StrEnum):
    """What an attempt of a pipeline is, if it is not the first: ``starlette_wasm.attempt.role``."""

    RETRY = "retry"
    FALLBACK = "fallback"


FS_ACCESS = "fs-access"
FS_WRITE = "fs-write"
VIOLATION_KINDS = (FS_ACCESS, FS_WRITE, *sorted(code.value for code in VIOLATIONS))
"""What a policy refuses a guest, and how ``starlette_wasm.policy.violation`` calls it: the codes of ``edge.call``."""


class ErrorType(StrEnum):
    """All values of ``error.type``, beside status codes on a server span.

    The slugs of ``exceptions.py``, what a function is not at fault for, and what the conventions have for the rest.
    """

    WASM_ERROR = "wasm-error"
    CONFIGURATION = "configuration"
    MODULE_LOAD = "module-load"
    MODULE_COMPILE = "module-compile"
    FUNCTION_NOT_FOUND = "function-not-found"
    EXPORT_NOT_FOUND = "export-not-found"
    RESULT_ERROR = "result-error"
    POLICY_VIOLATION = "policy-violation"
    CANARY_CONFLICT = "canary-conflict"
    RUNTIME_CLOSED = "runtime-closed"
    REQUEST_TOO_LARGE = "request-too-large"
    REQUEST_TIMEOUT = "request-timeout"
    FUNCTION_OVERLOADED = "function-overloaded"
    TENANT_LIMITED = "tenant-limited"
    PIPELINE_TIMEOUT = "pipeline-timeout"
    FUNCTION_ERROR = "function-error"
    MEMORY_LIMIT = "memory-limit"
    EXECUTION_TIMEOUT = "execution-timeout"
    WASM_TRAP = "wasm-trap"
    FUNCTION_UNAVAILABLE = "function-unavailable"
    GRANT = "grant"
    SIGNATURE_REFUSED = "signature-refused"
    FUNCTION_EXIT = "function-exit"
    INVALID_FUNCTION_RESPONSE = "invalid-function-response"
    CANCELLED = "cancelled"
    """The client went away, or the app cancelled the call."""
    OTHER = "_OTHER"
    """Anything else."""


_SLUGS: dict[str, ErrorType] = {each.value: each for each in ErrorType}


def error_type(error: BaseException) -> ErrorType:
    """Return the ``error.type`` of an exception."""
    if isinstance(error, WasmError):
        return _SLUGS.get(error.slug, ErrorType.OTHER)
    return ErrorType.CANCELLED if isinstance(error, Interrupted | CancelledError) else ErrorType.OTHER


SECONDS = (
    *(50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3),
    *(25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Bounds of buckets, in seconds. Those that the conventions suggest start at 5 ms, where most guests have ended."""
BYTES = tuple(float(64 << 10 << (2 * step)) for step in range(9))
"""Bounds of buckets, in bytes: a page of 64 KiB to 4 GiB."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One instrument. ``buckets`` are the upper bounds of a histogram, ``attributes`` those that a point may have."""

    name: str
    kind: str
    unit: str
    description: str
    buckets: tuple[float, ...] = ()
    attributes: tuple[str, ...] = ()


INVOCATION = (Attribute.TRIGGER, Attribute.NAME, Attribute.VERSION, Attribute.HTTP_ROUTE, Attribute.VARIANT)
"""Attributes of the metrics of an invocation. Without HTTP there is neither route nor variant."""
_FAILED = (*INVOCATION, Attribute.ERROR_TYPE)

INVOKE_DURATION = Metric(
    "faas.invoke_duration",
    "histogram",
    "s",
    "Duration of an invocation, queueing included.",
    SECONDS,
    _FAILED,
)
INIT_DURATION = Metric(
    "faas.init_duration",
    "histogram",
    "s",
    "How long a cold start took, as its request saw it.",
    SECONDS,
    INVOCATION,
)
CPU_USAGE = Metric("faas.cpu_usage", "histogram", "s", "CPU time of the guest in one invocation.", SECONDS, INVOCATION)
MEM_USAGE = Metric(
    "faas.mem_usage", "histogram", "By", "Peak memory of the guest in one invocation.", BYTES, INVOCATION
)
INVOCATIONS = Metric(
    "faas.invocations", "counter", "{invocation}", "Invocations that succeeded.", attributes=INVOCATION
)
COLDSTARTS = Metric(
    "faas.coldstarts", "counter", "{coldstart}", "Invocations that waited for a cold start.", attributes=INVOCATION
)
ERRORS = Metric("faas.errors", "counter", "{error}", "Invocations that failed, timeouts included.", attributes=_FAILED)
TIMEOUTS = Metric("faas.timeouts", "counter", "{timeout}", "Invocations that ran out of time.", attributes=INVOCATION)
QUEUE_WAIT = Metric(
    "starlette_wasm.queue.wait",
    "histogram",
    "s",
    "How long an invocation waited for a place, of those that had to wait.",
    SECONDS,
    INVOCATION,
)
POLICY_VIOLATIONS = Metric(
    "starlette_wasm.policy.violations",
    "counter",
    "{violation}",
    "What policies refused to guests.",
    attributes=(Attribute.NAME, Attribute.VIOLATION),
)
CANARY_WEIGHT = Metric(
    "starlette_wasm.canary.weight",
    "gauge",
    "%",
    "Share of requests that a running canary gets.",
    attributes=(Attribute.NAME, Attribute.VERSION),
)
CANARY_OVERDUE = Metric(
    "starlette_wasm.canary.overdue",
    "gauge",
    "1",
    "Whether a canary has taken no step within progressDeadlineSeconds, 1 or 0.",
    attributes=(Attribute.NAME, Attribute.VERSION),
)
FUNCTION_HEALTHY = Metric(
    "starlette_wasm.function.healthy",
    "gauge",
    "1",
    "Whether a version passes its probes, 1 or 0.",
    attributes=(Attribute.NAME, Attribute.VERSION),
)
RELOAD_REFUSED = Metric(
    "starlette_wasm.reload.refused",
    "gauge",
    "1",
    "Whether the last reload was refused, 1 or 0.",
)
PIPELINE_RETRIES = Metric(
    "starlette_wasm.pipeline.retries",
    "counter",
    "{retry}",
    "Attempts of pipelines after the first of a step.",
    attributes=(Attribute.NAME, Attribute.VERSION),
)
PIPELINE_FALLBACKS = Metric(
    "starlette_wasm.pipeline.fallbacks",
    "counter",
    "{fallback}",
    "Steps of pipelines whose function failed for good and that had a fallback.",
    attributes=(Attribute.NAME, Attribute.VERSION),
)
CIRCUIT_OPENINGS = Metric(
    "starlette_wasm.circuit.openings",
    "counter",
    "{opening}",
    "How often a circuit opened, after failed probes too.",
    attributes=(Attribute.NAME, Attribute.VERSION),
)
TENANT_REQUESTS = Metric(
    "starlette_wasm.tenant.requests",
    "counter",
    "{request}",
    "Requests of tenants: served, failed, or refused by the quota that the outcome names.",
    attributes=(Attribute.TENANT, Attribute.TENANT_OUTCOME),
)
TENANT_CPU = Metric(
    "starlette_wasm.tenant.cpu",
    "counter",
    "s",
    "CPU time of the guests of tenants.",
    attributes=(Attribute.TENANT,),
)
PIPELINES = (PIPELINE_RETRIES, PIPELINE_FALLBACKS, CIRCUIT_OPENINGS)

METRICS = (
    INVOKE_DURATION,
    INIT_DURATION,
    CPU_USAGE,
    MEM_USAGE,
    INVOCATIONS,
    COLDSTARTS,
    ERRORS,
    TIMEOUTS,
    QUEUE_WAIT,
    POLICY_VIOLATIONS,
    CANARY_WEIGHT,
    CANARY_OVERDUE,
    FUNCTION_HEALTHY,
    RELOAD_REFUSED,
    TENANT_REQUESTS,
    TENANT_CPU,
    *PIPELINES,
)
