"""Shares of rules: exact over any window, and clients that stay where weights allow."""

from __future__ import annotations

from collections import Counter
from math import gcd

from starlette_wasm.traffic.sticky import Stickiness
from starlette_wasm.traffic.weights import MAX_CYCLE, Cycle, interleave

from .source import Source

TOKENS = (b"\x64\0\0", b"\x50\x14", b"\0\0\0\0", b"\xff\xff\xff")


def check(data: bytes) -> None:
    source = Source(data)
    high = source.pick([3, 100, 1000, 100_000])
    weights = [source.integer(0, high) for _ in range(source.integer(0, 6))]
    total, divisor = sum(weights), gcd(*weights)
    if total and total // divisor > MAX_CYCLE:
        try:
            interleave(weights)
        except ValueError as error:
            assert "smaller weights" in str(error)
            return
        raise AssertionError(f"taken: {weights}")
    if total and total // divisor <= 2000:
        cycle = interleave(weights)
        window = Counter((cycle * divisor)[:total])
        assert window == {index: weight for index, weight in enumerate(weights) if weight}
        turns = Cycle(weights)
        skipped = source.integer(0, len(cycle))
        picks = [turns.next() for _ in range(skipped + len(cycle))]
        assert Counter(picks[skipped:]) == Counter(cycle)
    if weights:
        _sticky(source, weights)


def _sticky(source: Source, weights: list[int]) -> None:
    names = [f"v{index}" for index in range(len(weights))]
    sticky, every = Stickiness(names), range(len(weights))
    raised = source.integer(0, len(weights) - 1)
    higher = [weight + (1000 if index == raised else 0) for index, weight in enumerate(weights)]
    removed = source.integer(0, len(weights) - 1)
    left = [index for index in every if index != removed]
    while source.more():
        client = source.text()
        before = sticky.place(client, every, weights)
        assert before in every
        assert weights[before] or not any(weights)
        assert sticky.place(client, every, weights) == before
        if any(weights):
            assert sticky.place(client, every, higher) in (before, raised)
            rest = [weights[index] for index in left]
            if before != removed and any(rest):
                assert sticky.place(client, left, rest) == before
