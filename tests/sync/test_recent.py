"""What happened last, of several owners."""

from __future__ import annotations

from starlette_wasm.sync.recent import Recent


def test_one_owner_pushes_out_nothing_of_others() -> None:
    recent: Recent[str] = Recent(10)
    for number in range(3):
        recent.add("quiet", f"quiet {number}")
    for number in range(1000):
        recent.add("loud", f"loud {number}")
    assert len(recent) == 10
    assert list(recent) == [
        *(f"quiet {number}" for number in range(3)),
        *(f"loud {number}" for number in range(993, 1000)),
    ]


def test_owners_come_to_have_equally_much() -> None:
    recent: Recent[int] = Recent(9)
    for number in range(300):
        recent.add(number % 3, number)
    assert list(recent) == list(range(291, 300))
    for number in range(9):
        recent.add("one more", number)
    assert sum(isinstance(each, int) and each < 9 for each in recent) == 3


def test_many_owners_leave_no_more_than_there_may_be() -> None:
    recent: Recent[int] = Recent(5)
    for number in range(100):
        recent.add(number, number)
    assert len(list(recent)) == len(recent._held) == 5
