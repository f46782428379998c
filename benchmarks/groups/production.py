"""What production sends, against a native route with the same telemetry: CPU time of a request, and throughput.

At 64 connections both servers are busy, and the two agree; with few, a native route waits for its client.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..measure import Plan, Progress, Row, interleave, ratio
from ..processes import Failed, Server, uvicorn
from . import sample

CONNECTIONS = 64
SECONDS = 2
"""On a busy machine wrk may get no CPU for one."""
_BROWSER = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-language": "en-US,en;q=0.5",
    "accept-encoding": "gzip, deflate, br",
    "cookie": "session=abc123; theme=dark",
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-proto": "https",
}
_UNSAMPLED = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}


@dataclass(frozen=True)
class Case:
    """One request; ``body`` is repeated ``times`` times, and answered as it is on ``/body``.

    ``rules`` are those of the mapped side, ``native`` what stands before the path of the native one.
    """

    title: str
    telemetry: str = "none"
    rules: str = "plain"
    native: str = ""
    path: str = "/job"
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    times: int = 1
    goal: float | None = None
    seconds: int = SECONDS

    def script(self) -> str:
        """Write the request as a script of wrk. ``body`` is the inside of a Lua string."""
        lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in self.headers.items()]
        if self.body:
            lines.append(f'wrk.method = "POST"\nwrk.body = string.rep("{self.body}", {self.times})')
        return "\n".join(lines)


_TYPE = {"content-type": "application/json"}
_MULTIPART = {"content-type": "multipart/form-data; boundary=b"}
_PART = '--b\\r\\ncontent-disposition: form-data; name=\\"a\\"\\r\\n\\r\\n0123456789abcdef0123456789abcdef\\r\\n'
CASES = {
    "plain": Case("benchmark request", goal=1.1),
    "browser": Case("a browser's headers", headers=_BROWSER, goal=1.1),
    "escapes": Case("escapes in the query", query="?q=a%20b+c&q=%C3%A9", headers=_BROWSER, goal=1.05),
    "traceparent": Case("`traceparent`, no SDK", headers=_UNSAMPLED, goal=1.05),
    "post": Case("POST of 2 KB of JSON", headers=_TYPE, body='{\\"a\\":1}', times=250, goal=0.95),
    "answer-12k": Case("answer of 12 KB of JSON", path="/list", query="?n=1000", goal=1.5),
    "answer-200k": Case("answer of 200 KB of JSON", path="/list", query="?n=16500", seconds=6),
    "multipart": Case("16 KB of multipart, echoed", path="/body", headers=_MULTIPART, body=_PART, times=170),
    "echo-12k": Case("12 KB, echoed", path="/body", body="0123456789ab", times=1024),
    "echo-200k": Case("200 KB, echoed", path="/body", body="0123456789ab", times=17_000),
    "binary": Case("2 KB of binary, echoed", path="/body", body="\\255\\254\\0a", times=512),
    "binary-200k": Case("200 KB of binary, echoed", path="/body", body="\\255\\254\\0a", times=50_000),
    "sticky": Case("two versions, sticky to a cookie", rules="sticky", headers=_BROWSER),
    "canary": Case("a canary of 10 %", rules="canary", headers=_BROWSER),
    "sampled-10": Case("SDK that samples 10 %", "0.1", goal=1.0),
    "unsampled": Case("SDK, unsampled parent", "0.1", headers=_UNSAMPLED, goal=1.0),
    "sampled": Case("SDK that samples all", "1.0", goal=0.8),
    "spanned": Case("SDK that samples all, native with a span of its own", "1.0", native="/spanned", goal=1.0),
    "metrics": Case("SDK that samples all, metrics too", "metrics"),
    "prometheus": Case("figures for Prometheus", "prometheus"),
    "access": Case("a line of JSON in the access log", "access"),
}


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    if plan.wrk is None:
        return
    for telemetry, rules in dict.fromkeys((case.telemetry, case.rules) for case in CASES.values()):
        with ExitStack() as stack:
            servers = {
                side: stack.enter_context(
                    uvicorn(
                        "production:app",
                        work,
                        path="/job",
                        env={"BENCH_TELEMETRY": telemetry, "BENCH_RULES": rules, "BENCH_SIDE": side},
                    )
                )
                for side in ("wasm", "native")
            }
            for name, case in CASES.items():
                if (case.telemetry, case.rules) != (telemetry, rules):
                    continue
                try:
                    yield from _case(name, case, servers, plan, progress, work)
                except Failed as error:  # such as no answer within the time, on a busy machine
                    row_id, title = f"production/{name}/mapped/cpu", f"{case.title}: CPU of a request, native / mapped"
                    yield Row(row_id, title, None, "higher", goal=case.goal, note=error.reason)
    yield from sample.run(plan, progress, work)


def _case(
    name: str, case: Case, servers: Mapping[str, Server], plan: Plan, progress: Progress, work: Path
) -> Iterator[Row]:
    script = work / f"production-{name}.lua"
    script.write_text(case.script())
    # The routes are without a canary and without rules: they have one row, of the plain side.
    sides = ("mapped", "route", "native") if case.rules == "plain" else ("mapped", "native")
    rates: dict[str, list[float]] = {side: [] for side in sides}

    def load(contender: str) -> float:
        """Return the CPU microseconds of the server for a request."""
        server = servers["native" if contender == "native" else "wasm"]
        prefix = {"route": "/route", "native": case.native}.get(contender, "")
        path = f"{prefix}{case.path}{case.query}"
        return sample.cpu_of_requests(plan, server, path, rates[contender], case.seconds, script)

    contenders = {contender: partial(load, contender) for contender in rates}
    interleave(contenders, 1, progress, f"production, {case.title}, warm-up")
    for each in rates.values():
        each.clear()
    times = interleave(contenders, plan.pick(1, 3), progress, f"production, {case.title}")
    labels = {"mapped": "mapped", "route": "`wasm_route` with a handler"}
    for contender, label in labels.items():
        if contender not in times:
            continue
        yield Row(
            f"production/{name}/{contender}/cpu",
            f"{case.title}: CPU of a request, native / {label}",
            ratio(times["native"], times[contender]),
            "higher",
            goal=case.goal if contender == "mapped" else 0.75,
            ours=statistics.median(times[contender]),
            theirs=statistics.median(times["native"]),
            measure="µs",
            against="a native route",
        )
    yield Row(
        f"production/{name}/mapped/throughput",
        f"{case.title}: throughput, mapped / native",
        ratio(rates["mapped"], rates["native"]),
        "higher",
        ours=statistics.median(rates["mapped"]),
        theirs=statistics.median(rates["native"]),
        measure="req/s",
        against="a native route",
        checked=False,
    )
