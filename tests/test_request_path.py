"""How many files of the package a request goes through: docs/architecture.md gives the reasons."""

from __future__ import annotations

import asyncio

from request_path import FAST, SLOW, follow

from starlette_wasm.engine.native.library import native


def test_a_fast_request_stays_in_few_files() -> None:
    """Without the C library there is no fast path."""
    trace = asyncio.run(follow(FAST))
    assert len(trace.files) <= (8 if native is not None else 30), "\n".join(trace.visits)
    assert ("invocation/execution.py" in trace.files) == (native is None)


def test_a_slow_request_stays_in_few_files() -> None:
    trace = asyncio.run(follow(SLOW))
    assert len(trace.files) <= (16 if native is not None else 30), "\n".join(trace.visits)
    assert "invocation/execution.py" in trace.files
