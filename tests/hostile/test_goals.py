"""The goals under load in their short form, bounded widely. ``scripts/attack --goals`` measures the long one.

Deadlines are in test_attack.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack_goals import full_route, markers, memory_bombs, spinners


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
def test_a_route_answers_while_32_clients_hammer_one_that_spins(tmp_path: Path) -> None:
    took, statuses = asyncio.run(spinners(tmp_path, 1.5, least=4))
    assert set(statuses) == {504}
    assert len(took) > 3


@pytest.mark.usefixtures("quiet")
def test_a_full_route_says_so_to_a_thousand_at_once_and_to_no_one_else(tmp_path: Path) -> None:
    took, statuses, healthy = asyncio.run(full_route(tmp_path))
    assert statuses == {503: 980}
    assert healthy > 0
    assert took[len(took) // 2] < 30_000  # those that found the queue full did not wait for a minute in it


@pytest.mark.usefixtures("quiet")
def test_memory_bombs_stay_within_their_bounds(tmp_path: Path) -> None:
    grown, ended = asyncio.run(memory_bombs(tmp_path, mebibytes=16))
    assert ended == 32
    assert grown <= 32 * (16 << 20) * 1.1


def test_nothing_of_a_tenant_crosses_to_another(tmp_path: Path) -> None:
    ended, crossed, records = markers(tmp_path, 1600)
    assert not crossed
    assert sum(ended.values()) == 1600
    assert set(ended) == {
        "answered",
        "ExecutionTimeout",
        "FunctionExited",
        "FunctionTrapped",
        "MemoryLimitExceeded",
    }
    assert records > 1600
