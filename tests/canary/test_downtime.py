"""Time in which nothing ran, and clocks that were set: neither counts as observed."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from apps import eventually, run
from test_controller import SLOW, functions, record, serving, versions
from test_verdict import config

from starlette_wasm.canary.record import Record, begin
from starlette_wasm.canary.state import CanaryState
from starlette_wasm.canary.store import Reading
from starlette_wasm.canary.succession import succeed

CONFIG = config()


def running(**times: float) -> Record:
    return replace(begin(CONFIG, 1000.0, None, 10, ""), digest="a" * 64, **times)


def worker(*, saw: Record | None = None) -> CanaryState:
    live = CanaryState(CONFIG, "a" * 64)
    if saw is not None:
        live.see(Reading(0.0), saw, 1)
    return live


def test_a_worker_that_starts_leaves_out_the_downtime() -> None:
    found = succeed(worker(), running(seen=1020), 1620, 10, longest_gap=12)
    assert found is not None
    assert (found.since, found.changed, found.seen) == (1600, 1600, 1620)
    assert succeed(worker(), running(seen=1020), 1030, 10, longest_gap=12) is None


def test_the_warning_of_few_samples_leaves_out_the_downtime() -> None:
    live = worker()
    found = succeed(live, running(seen=1020), 10_000, 10, longest_gap=12)
    assert found is not None
    live.see(Reading(10_000.0, None, 0, {(1, CONFIG.canary_version): {"ok": 2}}), found, 1)
    assert live.trouble(found, 10_000) is None
    told = live.trouble(found, 10_000 + 10 * CONFIG.step_seconds)
    assert told is not None
    assert told.startswith(f"2 canary requests in {20 + 10 * CONFIG.step_seconds:.0f} s: ")


def test_a_worker_that_ran_all_the_time_counts_it() -> None:
    live = worker(saw=running())
    live.seen_at = time.monotonic() - 600  # the store was away
    assert succeed(live, running(seen=1020), 1620, 10, longest_gap=12) is None


def test_a_clock_that_is_put_on_ends_no_step() -> None:
    found = succeed(worker(saw=running()), running(seen=1020), 1020 + 3600, 10, longest_gap=12)
    assert found is not None
    assert 4598 <= found.since <= 4600


def test_a_record_from_the_future_begins_now() -> None:
    ahead = running(since=4600, changed=4600, seen=4605)
    found = succeed(worker(), ahead, 1010, 10, longest_gap=12)
    assert found is not None
    assert (found.since, found.changed, found.seen) == (1010, 1010, 1010)


def test_a_restart_after_downtime_goes_on_with_the_seconds_that_were_left(tmp_path: Path) -> None:
    functions(tmp_path)
    path = tmp_path / "canary.db"
    url = f"sqlite:///{path}"

    async def main() -> None:
        async with serving(tmp_path, SLOW, url=url) as (runtime, http):
            await versions(http, 20)
            await runtime.canaries._look_at_all(10)
            before = record(runtime)
        with closing(sqlite3.connect(path)) as connection, connection:  # as if all that had been two hours ago
            [text] = connection.execute("SELECT record FROM canary").fetchone()
            past = {name: json.loads(text)[name] - 7200 for name in ("since", "changed", "seen", "started")}
            connection.execute("UPDATE canary SET record = ?", (json.dumps(json.loads(text) | past),))
        connection.close()
        async with serving(tmp_path, SLOW, url=url) as (runtime, _):
            await eventually(lambda: runtime.canaries.all["f"].record, within=30)
            after, verdict = record(runtime), runtime.canaries.all["f"].verdict
            assert (after.percent, after.epoch) == (before.percent, before.epoch)
            assert verdict is not None
            assert verdict.seconds > 3600 - 60

    run(main())


def test_a_record_from_the_future_holds_no_rollout_up(tmp_path: Path) -> None:
    functions(tmp_path)
    path = tmp_path / "canary.db"

    async def main() -> None:
        async with serving(tmp_path, SLOW, url=f"sqlite:///{path}") as (runtime, _):
            text = replace(record(runtime), since=time.time() + 3600, changed=time.time() + 3600).dump()
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("UPDATE canary SET record = ?", (text,))
            connection.close()
            await runtime.canaries._look_at_all(10)
            await eventually(lambda: record(runtime).since <= time.time() + 1, within=30)

    run(main())
