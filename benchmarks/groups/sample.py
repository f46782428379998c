"""The sample app with its telemetry as documented (traces, metrics and logs to a collector) against that without."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from .. import wrk
from ..measure import Plan, Progress, Row, interleave, ratio
from ..processes import uvicorn

CONNECTIONS = 64
SECONDS = 2
_GOAL = 0.5
_APP = "sample_app.app:app"
_PATHS = {"process": "/api/v1/process", "native": "/native"}


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    with ExitStack() as stack:
        sink = stack.enter_context(uvicorn("sink:app", work, path="/", cpu=None))
        env = {"XDG_CACHE_HOME": str(work)}
        collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink.port}"}
        servers = {
            side: stack.enter_context(uvicorn(_APP, work, package="", path=_PATHS["process"], env=env | more))
            for side, more in (("off", {}), ("on", collector))
        }
        for name, path in _PATHS.items():

            def load(side: str, path: str = path) -> float:
                url = f"http://127.0.0.1:{servers[side].port}{path}"
                return wrk.run(str(plan.wrk), url, connections=CONNECTIONS, seconds=SECONDS).rate

            contenders = {side: partial(load, side) for side in servers}
            interleave(contenders, 1, progress, f"sample app, {path}, warm-up")
            rates = interleave(contenders, plan.pick(1, 5), progress, f"sample app, {path}")
            yield Row(
                f"production/sample-app/{name}/throughput",
                f"sample app, `{path}`: throughput, telemetry on / off",
                ratio(rates["on"], rates["off"]),
                "higher",
                goal=_GOAL if name == "process" else None,
                ours=statistics.median(rates["on"]),
                theirs=statistics.median(rates["off"]),
                measure="req/s",
                against="the same without telemetry",
            )
