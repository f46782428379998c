"""Records each call of a runtime, beside what its telemetry does."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any

from ..capabilities import Attempt, Code, Observer, Recorder, Violation
from ..capabilities.trace import Attributes
from ..engine.outcome import Outcome
from ..exceptions import WasmError
from ..functions.target import Target
from ..messages import EdgeContext, EdgeRequest
from ..telemetry import CallTelemetry, Telemetry
from ..telemetry.guest_log import severity
from .calls import Call, Line, Span


class RecordingTelemetry(Telemetry):
    """Telemetry that also appends each call to a list."""

    def __init__(self, calls: list[Call]) -> None:
        super().__init__()
        self._calls = calls

    def watch(self, target: Target, request: EdgeRequest, **more: Any) -> CallTelemetry:
        call = Call(target.name, target.version, target.policy.name, request, asked=request)
        call.folder = target.function.source.file.parent
        self._calls.append(call)
        return _RecordingWatch(super().watch(target, request, **more), call, target)


class _RecordingWatch(CallTelemetry):
    """One call, handed on to the watch that would be there without it."""

    __slots__ = ("_call", "_inner", "_target", "observer", "outside", "recorder")

    def __init__(self, inner: CallTelemetry, call: Call, target: Target) -> None:
        self._inner = inner
        self._call = call
        self._target = target
        self.outside = self.observer = self.recorder = None

    def __enter__(self) -> CallTelemetry:
        self._inner.__enter__()
        self.outside = self._inner.outside
        self._call.span = Span(f"{self._call.function} v{self._call.version}", time.perf_counter())
        return self

    def queued(self) -> None:
        self._inner.queued()
        self._call.span.events.append("queued")

    def executing(self, request: EdgeRequest, context: EdgeContext) -> EdgeRequest:
        given = self._call.request = self._inner.executing(request, context)
        execute = Span("execute", time.perf_counter())
        self._call.span.children.append(execute)
        if self._target.grants is not None:
            recorder = _SpanRecorder(execute, self._inner.recorder)
            self.recorder = recorder
            self.observer = _observer(recorder, self._inner.observer)
        return given

    def executed(self, outcome: Outcome, fault: WasmError | None) -> None:
        self._inner.executed(outcome, fault)
        call = self._call
        call.end = outcome.end.value
        call.cpu_s, call.memory_bytes, call.host_calls = outcome.cpu_s, outcome.memory_bytes, outcome.host_calls
        call.stderr = outcome.stderr.decode("utf-8", "replace")
        call.logs = [Line(severity(line), line) for line in call.stderr.split("\n") if line.strip()]
        call.violations += [
            Violation(
                "fs.write" if denial.write else "fs.open",
                Code.BAD_REQUEST,
                f"{'sandbox violation: fs write' if denial.write else 'permission denied'}: {denial.path}",
            )
            for denial in outcome.denials
        ]
        execute = call.span.children[-1]
        execute.seconds = time.perf_counter() - execute.begin
        execute.error = None if fault is None else fault.title
        if isinstance(self.recorder, _SpanRecorder):
            self.recorder.close()

    def violated(self, violations: Sequence[Violation]) -> None:
        self._inner.violated(violations)
        self._call.violations += violations

    def answered(self, status: int) -> None:
        self._inner.answered(status)
        self._call.span.attributes["status"] = status

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call = self._call
        call.seconds = call.span.seconds = time.perf_counter() - call.span.begin
        if isinstance(error, WasmError):
            call.error = error
            call.span.error = error.title
        self._inner.__exit__(kind, error, trace)


class _SpanRecorder(Recorder):
    """Takes what a guest adds to the trace; hands it on to the one that exports it, if there is one."""

    def __init__(self, execute: Span, inner: Recorder | None) -> None:
        self._execute = execute
        self._inner = inner
        self._open: dict[int, Span] = {}
        self._last = 0
        self._numbers: dict[int, int] = {}
        """The numbers of the inner recorder, by ours."""

    @property
    def innermost(self) -> Span:
        return next(reversed(self._open.values())) if self._open else self._execute

    def start(self, name: str, attributes: Attributes) -> int:
        span = Span(name, time.perf_counter(), attributes={"kind": "guest", **attributes})
        self.innermost.children.append(span)
        self._last += 1
        self._open[self._last] = span
        if self._inner is not None:
            self._numbers[self._last] = self._inner.start(name, attributes)
        return self._last

    def end(self, span: int, error: str | None) -> bool:
        found = self._open.pop(span, None)
        if found is None:
            return False
        found.seconds = time.perf_counter() - found.begin
        found.error = error
        if self._inner is not None:
            self._inner.end(self._numbers[span], error)
        return True

    def set(self, span: int | None, attributes: Attributes) -> bool:
        found = self._find(span)
        if found is not None:
            found.attributes.update(attributes)
            if self._inner is not None:
                self._inner.set(None if span is None else self._numbers[span], attributes)
        return found is not None

    def event(self, span: int | None, name: str, attributes: Attributes) -> bool:
        found = self._find(span)
        if found is not None:
            found.events.append(name)
            if self._inner is not None:
                self._inner.event(None if span is None else self._numbers[span], name, attributes)
        return found is not None

    def close(self) -> None:
        """Take nothing more: what the guest left open has no end."""
        self._open.clear()

    def _find(self, span: int | None) -> Span | None:
        return self.innermost if span is None else self._open.get(span)


def _observer(recorder: _SpanRecorder, inner: Observer | None) -> Observer:
    @contextmanager
    def observe(attempt: Attempt) -> Iterator[Mapping[str, str]]:
        span = Span(f"{attempt.method} {attempt.url}", time.perf_counter(), attributes={"kind": "request"})
        recorder.innermost.children.append(span)
        with nullcontext({}) if inner is None else inner(attempt) as headers:
            try:
                yield headers
            finally:
                span.seconds = time.perf_counter() - span.begin
                span.error = attempt.error
                if attempt.status is not None:
                    span.attributes["status"] = attempt.status

    return observe


def level_name(level: int) -> str:
    """Return ``info`` for INFO, and so on."""
    return logging.getLevelName(level).lower()
