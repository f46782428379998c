from __future__ import annotations

import threading
from pathlib import Path

import pytest

from starlette_wasm.cli.build_turn import turn


def nothing() -> None:
    pass


def test_turns_follow_each_other_and_leave_no_file(tmp_path: Path) -> None:
    file, inside, most, waited = tmp_path / "f.lock", list[int](), list[int](), list[int]()

    def build(number: int) -> None:
        with turn(file, nothing, lambda: waited.append(number)):
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    with turn(file, nothing, nothing):
        threads = [threading.Thread(target=build, args=(number,)) for number in range(4)]
        for each in threads:
            each.start()
        while len(waited) < 4:
            threads[0].join(0.01)
        assert file.exists()
    for each in threads:
        each.join(60)
    assert most == [1] * 4
    assert not file.exists()


def test_a_wait_can_be_given_up(tmp_path: Path) -> None:
    def stopped() -> None:
        raise InterruptedError

    file = tmp_path / "f.lock"
    with turn(file, nothing, nothing), pytest.raises(InterruptedError), turn(file, stopped, nothing):
        raise AssertionError("it is another's turn")
    assert not file.exists()
