"""The comparison, held to scipy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact, hypergeom

from starlette_wasm.canary.statistics import ALPHA, alpha_of_look, p_value


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    total, other = draw(st.integers(1, 5000)), draw(st.integers(0, 50_000))
    return draw(st.integers(0, total)), total, draw(st.integers(0, other)), other


@settings(max_examples=300)
@given(outcomes())
def test_it_is_fishers_exact_test(given: tuple[int, int, int, int]) -> None:
    failed, total, other_failed, other_total = given
    wanted = hypergeom.sf(failed - 1, total + other_total, failed + other_failed, total)
    assert p_value(*given) == pytest.approx(wanted, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    "given", [(38, 1500, 68, 13_500), (3, 50, 1, 450), (0, 100, 0, 0), (50, 50, 450, 450), (9, 100, 0, 900)]
)
def test_it_agrees_with_the_table_of_two_by_two(given: tuple[int, int, int, int]) -> None:
    failed, total, other_failed, other_total = given
    table = [[failed, total - failed], [other_failed, other_total - other_failed]]
    assert p_value(*given) == pytest.approx(fisher_exact(table, alternative="greater").pvalue, rel=1e-8)


def test_a_hundred_million_requests_are_no_problem() -> None:
    given = 1_010_000, 100_000_000, 1_000_000, 100_000_000
    z = 10_000 / math.sqrt(2_010_000 * (1 - 0.01005))
    assert p_value(*given) == pytest.approx(math.erfc(z / math.sqrt(2)) / 2, rel=0.01)


def test_what_all_looks_together_spend_is_bounded() -> None:
    spent = math.fsum(alpha_of_look(look) for look in range(1, 100_001))
    assert ALPHA * 0.9999 < spent < ALPHA
