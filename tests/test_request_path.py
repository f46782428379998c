"""How many files of the package a request goes through: docs/architecture.md gives the reasons."""

from __future__ import annotations

import asyncio

from request_path import FAST, SLOW, Trace, follow

from starlette_wasm.engine.native.library import native


def shortest(path: str, most: int) -> Trace:
    """Follow a request, again if it went through more files: a guest that waits for a busy CPU goes on elsewhere."""
    traces = []
    for _ in range(10):
        traces.append(asyncio.run(follow(path)))
        if len(traces[-1].files) <= most:
            break
    return min(traces, key=lambda trace: len(trace.files))


def test_a_fast_request_stays_in_few_files() -> None:
    """Without the C library there is no fast path."""
    most = 8 if native is not None else 30
    trace = shortest(FAST, most)
    assert len(trace.files) <= most, "\n".join(trace.visits)
    assert ("invocation/execution.py" in trace.files) == (native is None)


def test_a_slow_request_stays_in_few_files() -> None:
    most = 12 if native is not None else 30
    trace = shortest(SLOW, most)
    assert len(trace.files) <= most, "\n".join(trace.visits)
    assert "invocation/invoker.py" in trace.files
