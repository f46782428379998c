"""Hostile guests one by one, all at once, and beside healthy functions. The long form is ``scripts/attack``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack import grown, one_by_one, together
from hostile_manifest import GUESTS, TIMEOUT, Refused
from hostile_range import REFUSED, RUNNING, SOURCES, Range, refusal, serving, used


class Results:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wrong: dict[str, str] = {}
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with serving(self.folder, RUNNING) as there:
            await there.warm()
            await self._one_by_one(there)
            await together(there, width=32, seconds=0.5, seed=1)
            for seed in (2, 3, 4):  # what is opened once, with the load, grows in one of them; a leak in each
                before = used()
                self.seconds = await together(there, width=32, seconds=2.5, seed=seed)
                self.grown = await grown(before)
                self.memory = used()[0] - before[0]
                if not self.grown:
                    break
            self.wrong_together = there.wrong
            self.stats = there.runtime.stats()
        for guest in REFUSED:
            if problem := await refusal(self.folder, guest):
                self.wrong[guest.name] = problem

    async def _one_by_one(self, there: Range) -> None:
        await one_by_one(there, 1)
        self.took = dict(there.took)
        for problem in there.wrong:
            self.wrong[problem.partition(":")[0]] = problem
        there.wrong.clear()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    logging.disable(logging.CRITICAL)  # they have much to say, and what is logged has tests of its own
    try:
        yield Results(tmp_path_factory.mktemp("range"))
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", [guest.name for guest in GUESTS])
def test_a_guest_comes_to_what_the_manifest_says(results: Results, name: str) -> None:
    assert name not in results.wrong, results.wrong[name]


def test_a_guest_that_never_ends_is_stopped_in_time(results: Results) -> None:
    endless = [guest for guest in RUNNING if guest.want is TIMEOUT]
    assert len(endless) > 30
    for guest in endless:
        assert 0.09 < results.took[guest.name] < 60, guest.name


def test_all_together_come_to_the_same_and_healthy_answers_are_right(results: Results) -> None:
    assert not results.wrong_together
    assert len(results.seconds) >= 4


def test_every_slot_comes_back(results: Results) -> None:
    assert [results.stats[key] for key in ("running", "live", "busy", "waiting")] == [0, 0, 0, 0]
    assert results.stats["ok"] > 100
    assert "slots are lost" not in results.wrong


def test_memory_descriptors_and_threads_are_level_afterwards(results: Results) -> None:
    assert not results.grown
    assert results.memory < 64 << 20


def test_the_manifest_names_every_guest_and_every_guest_is_there() -> None:
    assert len(GUESTS) > 300
    named = {guest.name for guest in GUESTS}
    sources = {file.stem for file in SOURCES.iterdir()} - {"escape", "tenant"}  # those have suites of their own
    assert sources <= named
    assert all(guest.attacks for guest in GUESTS)
    assert {guest.want.error for guest in GUESTS if isinstance(guest.want, Refused)} == {
        "CompileError",
        "MemoryLimitExceeded",
        "ModuleLoadError",
    }
