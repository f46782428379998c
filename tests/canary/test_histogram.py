from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm.canary.histogram import BUCKETS, LEAST, MOST, RELATIVE_ERROR, bucket_of, quantile

DURATIONS = st.lists(st.floats(LEAST, MOST), min_size=1, max_size=300)


@given(DURATIONS, st.floats(0, 1))
def test_a_quantile_is_that_of_the_sorted_durations_give_or_take_one_per_cent(durations: list[float], q: float) -> None:
    exact = sorted(durations)[max(math.ceil(q * len(durations)), 1) - 1]
    assert quantile(Counter(map(bucket_of, durations)), q) == pytest.approx(exact, rel=RELATIVE_ERROR * 1.0001)


@given(DURATIONS, DURATIONS)
def test_the_sum_of_two_is_the_histogram_of_both(one: list[float], other: list[float]) -> None:
    both = Counter(map(bucket_of, one)) + Counter(map(bucket_of, other))
    assert both == Counter(map(bucket_of, one + other))


def test_what_is_out_of_range_is_in_the_first_or_last_bucket() -> None:
    assert bucket_of(0) == bucket_of(-1) == bucket_of(-math.inf) == bucket_of(LEAST / 2) == 0
    assert bucket_of(MOST * 10) == BUCKETS - 1
    assert quantile({}, 0.99) is None
