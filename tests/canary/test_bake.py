"""``bakeSeconds``: a promoted canary that does clearly worse goes back to stable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from apps import run
from test_controller import SLOW, functions, record, serving, versions
from test_verdict import config, window

from starlette_wasm.canary.low_traffic import rule
from starlette_wasm.canary.record import Record, Status, begin, follow, promote, rival
from starlette_wasm.canary.window import Window

CONFIG = config(bake_seconds=1000.0)


def promoted(*, stable: Window | None = None) -> Record:
    last = replace(begin(CONFIG, 0.0, None, 100, ""), baseline=(5000, 5, 0))
    return promote(last, CONFIG, 100.0, stable or window(0), "")


def after(record: Record, canary: Window, now: float) -> Record:
    verdict = rule(CONFIG)(CONFIG, canary, rival(record, window(0)), now - record.since, record.looks)
    return follow(record, CONFIG, verdict, now, window(0), held=False)


def test_without_the_key_a_promotion_is_the_end() -> None:
    record = promote(begin(config(), 0.0, None, 50, ""), config(), 1.0, window(10), "")
    assert (record.status, record.bakes, record.is_judged) == (Status.PROMOTED, False, False)


def test_a_promotion_bakes_against_what_stable_did_last() -> None:
    assert (promoted().status, promoted().bakes, promoted().epoch) == (Status.PROMOTED, True, 2)
    assert promoted().baseline == (5000, 5, 0)
    assert promoted(stable=window(70, 1, 2)).baseline == (70, 1, 2)


def test_a_clear_worsening_brings_stable_back() -> None:
    record = after(promoted(), window(450, 50), 200)
    assert (record.status, record.percent, record.bakes) == (Status.ROLLED_BACK, 0, False)
    assert record.reason.endswith("after the promotion")
    assert "than stable was before" in record.reason


def test_what_does_well_is_done_when_the_time_is_over() -> None:
    record = promoted()
    assert after(record, window(500), 1099).bakes
    done = after(record, window(500), 1100)
    assert (done.status, done.bakes) == (Status.PROMOTED, False)


def test_old_successes_do_not_hide_new_failures() -> None:
    record = after(promoted(), window(50_000), 900)
    assert (record.epoch, record.since, record.changed, record.bakes) == (3, 900, 100, True)


def test_a_worsening_after_the_promotion_is_rolled_back_live(tmp_path: Path) -> None:
    functions(tmp_path, flaky=128)

    async def main() -> None:
        keys = {"steps": [50, 100], "bakeSeconds": 3600.0}
        async with serving(tmp_path, SLOW | keys) as (runtime, http):
            live = runtime.canaries.all["f"]
            await runtime.canaries.promote("f", full=True)
            await runtime.canaries._look_at_all(10)
            assert record(runtime).bakes
            assert runtime.canaries.version("f") == "2"
            seen = await versions(http, 120)
            assert set(seen) == {"v2", "500"}
            await runtime.canaries._look_at_all(10)
            assert record(runtime).status is Status.ROLLED_BACK, live.verdict
            assert await versions(http, 10) == {"v1": 10}
            assert runtime.canaries.version("f") == "1"

    run(main())
