"""Bodies posted and sent back: a C guest that parses its message, against Starlette and the plain recipe."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from .. import wrk
from ..measure import Plan, Progress, Row, interleave, ratio
from ..processes import uvicorn

_SIZES = {"1 KiB": 1 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20}
_LABELS = {"native": "native Starlette route", "plain": "plain wasmtime-py recipe in a route"}


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    with ExitStack() as stack:
        urls = {
            name: stack.enter_context(uvicorn(f"{app}:app", work, path="/body")).url
            for name, app in (("ours", "ours"), ("native", "native"), ("plain", "plain"))
        }
        for label, size in _SIZES.items():
            script = work / f"body-{size}.lua"
            script.write_text(f"wrk.method = 'POST'\nwrk.body = string.rep('x', {size})\n")

            def load(name: str, script: Path = script) -> float:
                return wrk.run(str(plan.wrk), urls[name], connections=8, seconds=2, script=script).rate

            contenders = {name: partial(load, name) for name in urls}
            interleave(contenders, 1, progress, f"bodies of {label}, warm-up")
            rates = interleave(contenders, plan.pick(2, 5), progress, f"bodies of {label}")
            for name, against in _LABELS.items():
                yield Row(
                    f"bodies/{size}/{name}",
                    f"{label} in and out, 8 connections: ours / {against}",
                    ratio(rates["ours"], rates[name]),
                    "higher",
                    ours=statistics.median(rates["ours"]),
                    theirs=statistics.median(rates[name]),
                    measure="req/s",
                    against=against,
                )
