"""Another module under the version of a canary: nothing that was seen of the old one counts for it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from apps import add_constant, client, config, run, settings
from starlette.applications import Starlette
from test_controller import SLOW, functions, record, versions

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.canary.record import Status


def build(folder: Path, text: str) -> None:
    """Put another module in the place of version 2 of ``f``."""
    add_constant(folder / "aside", text, b'{"status_code": 200, "body": "%s"}' % text.encode())
    made = folder / f"aside/functions/{text}/v1"
    (made / f"{text}.wasm").rename(folder / "functions/f/v2/f.wasm")
    made.rmdir()


def replica(folder: Path, url: str, canary: dict[str, Any] = SLOW) -> WasmRuntime:
    wasm = config(folder, {"/f": {"functionName": "f"}}, canaries=[canary])
    return WasmRuntime(wasm, settings(canary_url=url, reload_interval_ms=0))


def http(runtime: WasmRuntime) -> Any:
    return client(WasmMiddleware(Starlette(), runtime=runtime))


@asynccontextmanager
async def two(folder: Path, url: str) -> AsyncIterator[tuple[WasmRuntime, Any, WasmRuntime, Any]]:
    """Replicas of the folders a and b, each with who asks it."""
    async with (
        replica(folder / "a", url) as first,
        http(first) as ask_first,
        replica(folder / "b", url) as second,
        http(second) as ask_second,
    ):
        yield first, ask_first, second, ask_second


def test_a_reload_with_another_module_begins_the_rollout_anew(tmp_path: Path, url: str) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with replica(tmp_path, url) as runtime, http(runtime) as ask:
            await runtime.canaries.promote("f")
            await runtime.canaries._look_at_all(10)
            assert await versions(ask, 200) == {"v1": 140, "v2": 60}
            await runtime.canaries._look_at_all(10)
            live = runtime.canaries.all["f"]
            assert live.canary.samples == 60
            before = record(runtime)
            await runtime.reload()
            await runtime.canaries._look_at_all(10)
            assert record(runtime) == before
            build(tmp_path, "v2b")
            await runtime.reload()
            assert await versions(ask, 10) == {"v1": 10}
            await runtime.canaries._look_at_all(10)
            after = record(runtime)
            assert (after.percent, after.status) == (10, Status.RUNNING)
            assert after.reason == "the module of v2 is another one"
            assert await versions(ask, 10) == {"v1": 9, "v2b": 1}
            await runtime.canaries._look_at_all(10)
            live = runtime.canaries.all["f"]
            assert (live.canary.samples, live.longer.samples, live.stable.samples) == (1, 1, 9)
            assert not runtime.canaries.notes

    run(main())


def test_a_replica_with_the_old_module_gives_it_nothing_until_it_has_the_new_one(tmp_path: Path, url: str) -> None:
    functions(tmp_path / "a")
    functions(tmp_path / "b")

    async def main() -> None:
        async with two(tmp_path, url) as (first, ask_first, second, ask_second):
            build(tmp_path / "a", "new")
            await first.reload()
            for _ in range(2):
                await first.canaries._look_at_all(10)
                await second.canaries._look_at_all(10)
            assert await versions(ask_first, 10) == {"v1": 9, "new": 1}
            assert await versions(ask_second, 10) == {"v1": 10}
            assert second.canaries.notes == [
                "canary of f: another module has taken the place of this one as v2",
            ]
            epoch = record(first).epoch
            build(tmp_path / "b", "new")
            await second.reload()
            await second.canaries._look_at_all(10)
            assert await versions(ask_second, 10) == {"v1": 9, "new": 1}
            assert (second.canaries.notes, record(second).epoch) == ([], epoch)
            (tmp_path / "a/functions/f/v2/f.wasm").unlink()
            build(tmp_path / "a", "old")
            await first.reload()
            await first.canaries._look_at_all(10)
            build(tmp_path / "a", "new")  # and back: it is here that it changes
            await first.reload()
            await first.canaries._look_at_all(10)
            assert await versions(ask_first, 10) == {"v1": 9, "new": 1}
            assert not first.canaries.notes
        build(tmp_path / "a", "old")
        async with replica(tmp_path / "a", url) as first, http(first) as ask_first:  # a restart brings nothing back
            assert await versions(ask_first, 10) == {"v1": 10}
            assert first.canaries.notes
            await first.canaries.abort("f")
            await first.canaries.start("f")
            await first.canaries._look_at_all(10)
            assert await versions(ask_first, 10) == {"v1": 9, "old": 1}
        build(tmp_path / "a", "newest")
        async with replica(tmp_path / "a", url) as first, http(first) as ask_first:
            assert record(first).reason == "the module of v2 is another one"
            assert await versions(ask_first, 10) == {"v1": 9, "newest": 1}

    run(main())


@pytest.mark.parametrize(("hand", "answer"), [("promote", "v1"), ("abort", "v1"), ("pause", None)])
def test_what_is_over_stays_over_and_what_is_paused_paused(tmp_path: Path, hand: str, answer: str | None) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with replica(tmp_path, f"sqlite:///{tmp_path}/canary.db") as runtime, http(runtime) as ask:
            await runtime.canaries.promote("f")
            if hand == "promote":
                before = await runtime.canaries.promote("f", full=True)
            else:
                before = await getattr(runtime.canaries, hand)("f")
            await runtime.canaries._look_at_all(10)
            build(tmp_path, "new")
            await runtime.reload()
            for _ in range(2):
                await runtime.canaries._look_at_all(10)
            assert record(runtime).status is before.status
            assert await versions(ask, 10) == ({"v1": 9, "new": 1} if answer is None else {answer: 10})

    run(main())


def test_what_is_promoted_is_a_module_and_not_a_number(tmp_path: Path, url: str) -> None:
    functions(tmp_path / "a")
    functions(tmp_path / "b")

    async def main() -> None:
        async with two(tmp_path, url) as (first, ask_first, second, ask_second):
            await first.canaries.promote("f", full=True)
            await first.canaries._look_at_all(10)
            await second.canaries._look_at_all(10)
            assert (await versions(ask_first, 5), await versions(ask_second, 5)) == ({"v2": 5}, {"v2": 5})
            promoted = record(first)
            assert promoted.digest == first.deployment.functions["f", "2"].digest
            build(tmp_path / "b", "other")
            await second.reload()
            await second.canaries._look_at_all(10)
            assert (await versions(ask_first, 5), await versions(ask_second, 5)) == ({"v2": 5}, {"v1": 5})
            assert second.canaries.version("f") == "1"
            [note] = second.canaries.notes
            assert f"promoted with another module (sha256:{promoted.digest[:12]})" in note
            assert record(second) == promoted
            shutil.copy(tmp_path / "a/functions/f/v2/f.wasm", tmp_path / "b/functions/f/v2/f.wasm")
            await second.reload()
            await second.canaries._look_at_all(10)
            assert (await versions(ask_second, 5), second.canaries.notes) == ({"v2": 5}, [])

    run(main())


def test_a_record_without_a_digest_gets_that_of_the_module_that_is_there(tmp_path: Path) -> None:
    """Such as that of a rollout that was started by hand, or by an earlier version."""
    functions(tmp_path)

    async def main() -> None:
        async with replica(tmp_path, "sqlite://") as runtime, http(runtime) as ask:
            await versions(ask, 20)
            await runtime.canaries.abort("f")
            started = await runtime.canaries.start("f")
            assert started.digest == ""
            await runtime.canaries._look_at_all(10)
            digest = runtime.deployment.functions["f", "2"].digest
            assert (record(runtime).digest, record(runtime).epoch) == (digest, started.epoch)

    run(main())


@pytest.mark.parametrize("looks_first", ["new", "old"])
def test_a_start_by_hand_lets_no_old_replica_shut_out_the_new_module(tmp_path: Path, looks_first: str) -> None:
    functions(tmp_path / "a")
    functions(tmp_path / "b")

    async def main() -> None:
        async with two(tmp_path, f"sqlite:///{tmp_path}/canary.db") as (first, ask_first, second, ask_second):
            build(tmp_path / "a", "new")
            await first.reload()
            await first.canaries._look_at_all(10)
            await first.canaries.abort("f")
            await first.canaries.start("f")
            looks = [first, second] if looks_first == "new" else [second, first]
            for runtime in looks * 3:
                await runtime.canaries._look_at_all(10)
            assert await versions(ask_first, 10) == {"v1": 9, "new": 1}
            assert await versions(ask_second, 10) == {"v1": 10}

    run(main())


def test_of_two_modules_under_one_version_one_is_served(tmp_path: Path) -> None:
    """However often both look: they do not take the place of each other for ever."""
    functions(tmp_path / "a")
    functions(tmp_path / "b")
    build(tmp_path / "b", "other")
    url = f"sqlite:///{tmp_path}/canary.db"

    async def main() -> None:
        async with two(tmp_path, url) as (first, ask_first, second, ask_second):
            for by_hand in (False, True):
                if by_hand:
                    await first.canaries.abort("f")
                    await first.canaries.start("f")
                epochs = []
                for _ in range(3):
                    await second.canaries._look_at_all(10)
                    await first.canaries._look_at_all(10)
                    epochs.append(record(first).epoch)
                assert len(set(epochs[1:])) == 1
                await second.canaries._look_at_all(10)
                served = [await versions(ask, 10) for ask in (ask_first, ask_second)]
                assert sorted(seen["v1"] for seen in served) == [9, 10]

    run(main())
