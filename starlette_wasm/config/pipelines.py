"""The ``pipelines`` of ``wasm.yaml``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, field_validator, model_validator

from ..messages import EdgeResponse
from ..protocols.errors import ResponseError
from ..protocols.headers import check_base64, check_headers, check_status
from .types import FunctionName, Methods, Name, PathPattern, Percent, TimeoutMs, Version
from .validation import FileModel, wrong

_OF_A_FUNCTION = ("version", "policy", "timeout_ms", "retries", "retry_unsafe", "backoff_ms", "max_backoff_ms",
                  "fallback", "name")  # fmt: skip


def _status(status: int) -> int:
    try:
        return check_status(status)
    except ResponseError:
        raise wrong("is not a status of an answer", "give one from 200 to 599") from None


Status = Annotated[StrictInt, AfterValidator(_status)]
BackoffMs = Annotated[StrictInt, Field(ge=0, le=60_000)]


class FixedAnswer(FileModel):
    """An answer that needs no function."""

    status: Status = 200
    headers: dict[StrictStr, StrictStr | list[StrictStr]] = Field(default={})
    body: StrictStr = ""
    is_base64_encoded: StrictBool = False

    @model_validator(mode="after")
    def _legal(self) -> FixedAnswer:
        try:
            check_headers(dict(self.headers))
            check_base64(self.response())
        except ResponseError as error:
            raise wrong(f"is not an answer: {error.problem}", "correct it") from None
        return self

    def response(self) -> EdgeResponse:
        """Make a new response, its headers without those that only the host may set."""
        return EdgeResponse(self.status, check_headers(dict(self.headers)), self.body, self.is_base64_encoded)


class PipelineFallback(FileModel):
    """What runs, or answers, if a step failed for good: a function or ``answer``."""

    function: FunctionName | None = None
    version: Version | None = None
    policy: Name | None = None
    timeout_ms: TimeoutMs | None = Field(default=None, description="None: the policy's.")
    answer: FixedAnswer | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> PipelineFallback:
        if (self.function is None) == (self.answer is None):
            kind = "neither" if self.function is None else "both"
            raise wrong(f"names {kind} of function and answer", "give one of the two")
        _refuse_beside("answer", self, self.answer, ("version", "policy", "timeout_ms"))
        return self


class PipelineCall(FileModel):
    """One function of a pipeline, and what is done if it fails."""

    function: FunctionName
    name: Name | None = Field(default=None, description="In traces and merged answers; None: the function's.")
    version: Version | None = None
    policy: Name | None = None
    timeout_ms: TimeoutMs | None = Field(default=None, description="Of each attempt; None: the policy's.")
    retries: StrictInt = Field(default=0, ge=0, le=10, description="Attempts after the first.")
    retry_unsafe: StrictBool = Field(default=False, description="Whether a POST may be repeated that had effects.")
    backoff_ms: BackoffMs = Field(default=25, description="The most before the first retry; doubles with each.")
    max_backoff_ms: BackoffMs = Field(default=1000, description="The most before any retry.")
    fallback: PipelineFallback | None = None


class PipelineBranch(PipelineCall):
    """One of the functions that get the same request at the same time."""

    optional: StrictBool = Field(default=False, description="Whether the rest goes on without its answer.")


class PipelineStep(PipelineCall):
    """A function, which gets the response of the step before as its request, or several in ``parallel``."""

    function: FunctionName | None = None  # type: ignore[assignment]
    parallel: list[PipelineBranch] | None = Field(default=None, min_length=2)
    merge: PipelineCall | None = Field(default=None, description="Gets the branches' answers; None: a JSON object.")

    @model_validator(mode="after")
    def _one_of_two(self) -> PipelineStep:
        if (self.function is None) == (self.parallel is None):
            kind = "neither" if self.function is None else "both"
            raise wrong(f"names {kind} of function and parallel", "give one of the two")
        _refuse_beside("parallel", self, self.parallel, _OF_A_FUNCTION)
        if self.parallel is None and self.merge is not None:
            raise wrong("has merge without parallel", "take merge out, or name the branches in parallel")
        return self

    @field_validator("parallel")
    @classmethod
    def _one_name_each(cls, branches: list[PipelineBranch] | None) -> list[PipelineBranch] | None:
        names = Counter(branch.name or branch.function for branch in branches or ())
        for name, count in names.items():
            if count > 1:
                raise wrong(f"has {count} branches called {name}", "give each a name")
        return branches


class RetryBudgetConfig(FileModel):
    """How many of the calls of a pipeline may be retries, over the last 10 seconds."""

    percent: Annotated[StrictInt, Field(ge=0, le=100)] = Field(default=20, description="Of first attempts.")
    per_second: float = Field(
        default=1, ge=0, le=10_000, allow_inf_nan=False, strict=True, description="On top, where there are few."
    )


class PipelineConfig(FileModel):
    """Functions in a row behind one path."""

    path: PathPattern
    steps: list[PipelineStep] = Field(min_length=1)
    policy: Name | None = Field(default=None, description="For the steps that name none.")
    methods: Methods | None = None
    timeout_ms: TimeoutMs | None = Field(
        default=None, description="Of the whole, waits included; None: the sum of what its steps may take."
    )
    retry_budget: RetryBudgetConfig = Field(default=RetryBudgetConfig())


class CircuitBreakerConfig(FileModel):
    """When pipelines stop to call a version of a function that fails most of the time."""

    enabled: StrictBool = True
    window_seconds: float = Field(default=10, gt=0, le=3600, strict=True, description="How far back calls count.")
    minimum_calls: StrictInt = Field(default=20, ge=1, description="Fewer in the window open nothing.")
    failure_percent: Percent = Field(default=50, description="Share of failures that opens.")
    open_seconds: float = Field(default=5, gt=0, le=3600, strict=True, description="Before it is tried again.")
    probes: StrictInt = Field(default=3, ge=1, le=100, description="Calls that must succeed to close it again.")


def both_serve(one: Sequence[str] | None, other: Sequence[str] | None) -> bool:
    """Return whether a request could be for both of two lists of methods; HEAD is served where GET is."""
    if one is None or other is None:
        return True
    mine, theirs = ({*each, "HEAD"} if "GET" in each else set(each) for each in (one, other))
    return not mine.isdisjoint(theirs)


def _refuse_beside(key: str, model: FileModel, value: object, others: Sequence[str]) -> None:
    if value is None:
        return
    for name in others:
        if name in model.model_fields_set:
            alias = type(model).model_fields[name].alias or name
            raise wrong(f"has {alias} beside {key}", f"{alias} belongs to a function; take it out")
