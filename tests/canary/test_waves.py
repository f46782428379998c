"""Regions of one rollout: each a runtime with a Redis database of its own, and one that they share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import add_constant, add_flaky, client, config, run, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.canary.board import Board, Standing, follow_board, held_by, note_on
from starlette_wasm.canary.record import Record, begin
from starlette_wasm.canary.status import Status
from starlette_wasm.capabilities import CapabilityError
from starlette_wasm.config.router import CanaryConfig, load_config
from starlette_wasm.exceptions import CanaryConflict, ConfigError

WAVES = ["ap", "eu", "us"]
CANARY: dict[str, Any] = {
    "functionName": "f",
    "stableVersion": "1",
    "canaryVersion": "2",
    "steps": [50, 100],
    "stepSeconds": 0.3,
    "lowTraffic": True,
    "latencyP99ThresholdMs": None,
    "waves": WAVES,
}


class Region:
    """A node of a region, and its client."""

    def __init__(self, runtime: WasmRuntime, http: httpx.AsyncClient) -> None:
        self.runtime = runtime
        self.http = http
        self.seen: Counter[str] = Counter()

    @property
    def record(self) -> Record:
        found = self.runtime.canaries.all["f"].record
        assert found is not None
        return found

    @property
    def status(self) -> Status:
        return self.record.status

    async def ask(self, count: int) -> None:
        for _ in range(count):
            self.seen[(await self.http.get("/f")).text] += 1
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(
    folder: Path, urls: dict[str, str], canary: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[dict[str, Region]]:
    wasm = config(folder, {"/f": {"functionName": "f"}}, canaries=[canary or CANARY], exposeEndpoints=True)
    async with AsyncExitStack() as stack:
        found = {}
        for region, url in urls.items():
            runtime = WasmRuntime(wasm, settings(region=region, canary_url=url, **more))
            app = Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])
            await stack.enter_async_context(runtime)
            found[region] = Region(runtime, await stack.enter_async_context(client(app)))
            await read(runtime)
        yield found


async def read(runtime: WasmRuntime) -> None:
    """Wait until the record is known, if there is one: a start does not wait for a slow store."""
    state = runtime.canaries.all["f"]
    async with asyncio.timeout(60):
        while state.takes_part and state.record is None:
            await runtime.canaries.look(10)
            await asyncio.sleep(0.01)


def databases(url: str) -> dict[str, str]:
    """One for each region."""
    return {region: f"{url.removesuffix('/0')}/{number}" for number, region in enumerate(WAVES, 1)}


@pytest.fixture
def redis(redis_url: str) -> str:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


def functions(folder: Path, flaky: int = 0) -> None:
    add_constant(folder, "f", b'{"status_code": 200, "body": "v1"}')
    add_flaky(folder, "f", b'{"status_code": 200, "body": "v2"}', flaky, version="2")


async def until(condition: Callable[[], bool], asked: list[Region]) -> None:
    async with asyncio.timeout(200):
        while not condition():
            for region in asked:
                await region.ask(10)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("shared", [True, False], ids=["one store", "a store each"])
def test_each_region_begins_when_the_one_before_has_promoted(tmp_path: Path, redis: str, shared: bool) -> None:
    functions(tmp_path)
    urls = dict.fromkeys(WAVES, redis) if shared else databases(redis)
    more: dict[str, Any] = {} if shared else {"canary_waves_url": redis}

    async def main() -> None:
        async with serving(tmp_path, urls, canary_prefix="shop", **more) as found:
            ap, eu, us = found.values()
            order: list[str] = []

            def done() -> bool:
                for name, region in found.items():
                    if region.status is not Status.WAITING and name not in order:
                        order.append(name)
                        assert all(found[each].status is Status.PROMOTED for each in order[:-1])
                return us.status is Status.PROMOTED

            assert [region.status for region in (eu, us)] == [Status.WAITING] * 2
            await eu.ask(10)
            assert eu.seen == {"v1": 10}
            await until(done, [ap, eu, us])
            assert order == WAVES
            assert set(ap.seen) == set(us.seen) == {"v1", "v2"}
            await us.runtime.canaries.look(30)
            [shown] = (await us.http.get("/metrics/canary")).json()["canaries"]
            assert [(each["region"], each["status"]) for each in shown["waves"]] == [
                (region, "promoted") for region in WAVES
            ]

    run(main())


def test_a_bad_version_is_stopped_before_the_second_region(tmp_path: Path, redis: str) -> None:
    functions(tmp_path, flaky=200)

    async def main() -> None:
        async with serving(tmp_path, databases(redis), canary_waves_url=redis) as found:
            ap, eu, us = found.values()
            await until(lambda: {eu.status, us.status} == {Status.ABORTED}, [ap, eu, us])
            assert ap.status is Status.ROLLED_BACK
            assert eu.record.reason == "rolled back in ap"
            assert set(eu.seen) == set(us.seen) == {"v1"}

    run(main())


def test_an_abort_anywhere_stops_the_rest_until_a_start(tmp_path: Path, redis: str) -> None:
    functions(tmp_path)
    slow = CANARY | {"stepSeconds": 3600}

    async def main() -> None:
        async with serving(tmp_path, databases(redis), slow, canary_waves_url=redis) as found:
            ap, eu, us = found.values()
            canaries = [each.runtime.canaries for each in (ap, eu, us)]

            async def looked(*wanted: Status) -> None:
                async with asyncio.timeout(60):
                    while [each.status for each in (ap, eu, us)] != list(wanted):
                        await asyncio.gather(*(each.look(10) for each in canaries))
                        await asyncio.sleep(0.01)

            await looked(Status.RUNNING, Status.WAITING, Status.WAITING)
            await canaries[0].promote("f", full=True)
            await looked(Status.PROMOTED, Status.RUNNING, Status.WAITING)
            await canaries[2].abort("f")  # the one that has not begun
            await looked(Status.PROMOTED, Status.ABORTED, Status.ABORTED)
            assert eu.record.reason == "aborted in us"
            await eu.ask(4)
            assert eu.seen == {"v1": 4}
            await canaries[1].start("f")
            await looked(Status.PROMOTED, Status.RUNNING, Status.WAITING)
            await canaries[2].pause("f")
            await canaries[1].promote("f", full=True)
            await looked(Status.PROMOTED, Status.PROMOTED, Status.PAUSED)
            assert us.record.percent == 0
            await canaries[2].resume("f")
            await looked(Status.PROMOTED, Status.PROMOTED, Status.RUNNING)
            assert us.record.percent == 50

    run(main())


def test_a_region_goes_on_alone_if_the_shared_store_is_away(tmp_path: Path, redis: str) -> None:
    functions(tmp_path)
    urls = databases(redis)

    async def main() -> None:
        async with serving(tmp_path, urls, canary_waves_url="redis://127.0.0.1:1/0") as found:
            ap, eu = found["ap"], found["eu"]
            await until(lambda: ap.status is Status.PROMOTED, [ap, eu])
            assert eu.status is Status.WAITING
            assert set(eu.seen) == {"v1"}
            assert any("waves" in note for note in (await eu.http.get("/ready")).json()["notes"])

    run(main())


def test_a_region_outside_the_waves_serves_stable(tmp_path: Path, redis: str) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with serving(tmp_path, {"jp": redis}) as found:
            jp = found["jp"]
            await jp.ask(10)
            assert jp.seen == {"v1": 10}
            notes = (await jp.http.get("/ready")).json()["notes"]
            assert [note for note in notes if "is not one of its waves" in note], notes
            with pytest.raises(ConfigError, match="no canary in the region 'jp'"):
                await jp.runtime.canaries.start("f")

    run(main())


def test_a_region_of_no_name_is_refused_at_start(tmp_path: Path, redis: str) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with serving(tmp_path, {"": redis}):
            pass

    with pytest.raises(ConfigError, match=r"canaries\[0\]\.waves.*STARLETTE_WASM_REGION"):
        run(main())


@pytest.mark.parametrize(("waves", "problem"), [(["ap", "ap"], "has ap twice"), (["a\nb"], "cannot be a region")])
def test_waves_are_checked(waves: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_config({"canaries": [CANARY | {"waves": waves}]})


CONFIG = CanaryConfig.model_validate(CANARY)


def record(status: Status = Status.RUNNING, *, turn: int = 1, waits: bool = False, digest: str = "") -> Record:
    made = begin(CONFIG, 0.0, None, 50, "started", waits=waits)
    return replace(made, status=Status.WAITING if waits else status, turn=turn, digest=digest)


def test_a_module_that_differs_holds_the_next_region() -> None:
    board = note_on(None, replace(record(Status.PROMOTED), digest="a" * 64), "ap")
    assert board is not None
    waiting = record(waits=True, digest="b" * 64)
    assert "another module" in (held_by(board, waiting, CONFIG, "eu") or "")
    assert follow_board(board, waiting, CONFIG, "eu", 50, 1.0) is waiting
    assert held_by(board, replace(waiting, digest="a" * 64), CONFIG, "eu") is None


def test_a_region_that_bakes_holds_the_next_one() -> None:
    board = note_on(None, replace(record(Status.PROMOTED), bakes=True), "ap")
    assert held_by(board, record(waits=True), CONFIG, "eu") == "waits for ap"


def test_what_a_region_did_in_an_older_turn_stops_nobody() -> None:
    old = Board("1", "2", 2, {"ap": Standing(Status.ROLLED_BACK, 0, 1)})
    assert old.stopped_by(CONFIG) is None
    running = record(turn=2)
    assert follow_board(old, running, CONFIG, "eu", 50, 1.0) is running
    again = follow_board(old, record(Status.ROLLED_BACK, turn=1), CONFIG, "ap", 50, 1.0)
    assert (again.status, again.percent, again.turn) == (Status.RUNNING, 50, 2)
    promoted = follow_board(old, record(Status.PROMOTED, turn=1), CONFIG, "ap", 50, 1.0)
    assert (promoted.status, promoted.turn) == (Status.PROMOTED, 2)


def test_only_a_newer_rollout_takes_the_board() -> None:
    board = note_on(None, record(Status.PROMOTED), "ap")
    assert board is not None
    newer = replace(record(), stable="2", canary="3", turn=0)
    taken = note_on(board, newer, "ap")
    assert taken is not None
    assert (taken.versions, taken.turn, list(taken.regions)) == (("2", "3"), 2, ["ap"])
    assert note_on(taken, record(), "eu") is None
    assert "has taken its place" in (held_by(taken, record(waits=True), CONFIG, "eu") or "")
    back = note_on(taken, record(turn=3), "eu")  # started by hand
    assert back is not None
    assert (back.versions, back.past) == (("1", "2"), (("2", "3"),))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"stable":"1"}',
        '{"stable":"1","canary":"2","past":[],"turn":0,"regions":{}}',
        '{"stable":"1","canary":"2","past":[],"turn":1,"regions":[]}',
        '{"stable":"1","canary":"2","past":[],"turn":1,"regions":{"ap":{"status":"gone"}}}',
        "[" * 100_000,
    ],
)
def test_an_odd_board_is_refused(text: str) -> None:
    with pytest.raises(CapabilityError):
        Board.load(text)


def test_a_board_is_read_as_it_was_written() -> None:
    board = Board("1", "2", 3, {"ap": Standing(Status.PROMOTED, 100, 3, "a" * 64, bakes=True)}, (("0", "1"),))
    assert Board.load(board.dump()) == board


def test_two_apps_share_a_store_by_their_prefixes(tmp_path: Path, redis: str) -> None:
    functions(tmp_path)
    canary = CANARY | {"waves": [], "stepSeconds": 3600}

    async def main() -> None:
        async with (
            serving(tmp_path, {"ap": redis}, canary, canary_prefix="one") as one,
            serving(tmp_path, {"ap": redis}, canary, canary_prefix="two") as two,
        ):
            await one["ap"].runtime.canaries.abort("f")
            await two["ap"].runtime.canaries.look(10)
            assert two["ap"].status is Status.RUNNING
            with pytest.raises(CanaryConflict):
                await two["ap"].runtime.canaries.start("f")

    run(main())


def test_a_hand_that_expects_another_state_changes_nothing(tmp_path: Path, redis: str) -> None:
    """What is expected is compared with the record that is replaced, not with what was seen before."""
    functions(tmp_path)
    canary = CANARY | {"waves": [], "stepSeconds": 3600}

    async def main() -> None:
        async with serving(tmp_path, {"ap": redis}, canary) as one, serving(tmp_path, {"ap": redis}, canary) as other:
            seen = {"status": one["ap"].status.value, "weight": one["ap"].record.percent}
            await other["ap"].runtime.canaries.promote("f", expected=seen)
            with pytest.raises(CanaryConflict, match="has moved: it is running at 100 %"):
                await one["ap"].runtime.canaries.promote("f", expected=seen)
            await one["ap"].runtime.canaries.look(30)
            assert one["ap"].record.percent == 100

    run(main())
