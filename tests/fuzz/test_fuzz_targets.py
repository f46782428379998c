"""The short form of scripts/fuzz: the corpus, and a few hundred inputs made from its pieces, the same in each run."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import outputs
import pytest
from fuzz_targets import CORPUS, NAMES, checker, corpus, target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

logger = logging.getLogger("starlette_wasm")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of warnings, of files in the AOT cache for instance, are not for the report."""
    level, logger.propagate = logger.level, False
    logger.addHandler(handler := logging.NullHandler())
    yield
    logger.removeHandler(handler)
    logger.setLevel(level)
    logger.propagate = True


@pytest.fixture(scope="module", autouse=True)
def _stores() -> Iterator[None]:
    yield
    target("frames").close()


@st.composite
def mutated(draw: st.DrawFn, inputs: list[bytes], tokens: tuple[bytes, ...]) -> bytes:
    data = draw(st.sampled_from(inputs))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        removed = draw(st.integers(0, 4))
        piece = draw(st.sampled_from(tokens) | st.binary(max_size=3) | st.sampled_from(inputs))
        data = data[:at] + piece[-100:] + data[at + removed :]
    return data[:4096]


def test_there_is_a_corpus_for_each_target_and_it_is_small() -> None:
    assert sorted(each.name for each in CORPUS.iterdir()) == NAMES
    files = [each for folder in CORPUS.iterdir() for each in folder.iterdir()]
    assert len(files) < 500
    assert sum(each.stat().st_size for each in files) < 500 * 1024


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_passes(name: str) -> None:
    check = checker(name)
    for data in corpus(name):
        check(data)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_made_of_its_pieces_passes(name: str) -> None:
    check, tokens = checker(name), target(name).TOKENS
    pieces = st.lists(st.sampled_from(tokens) | st.binary(max_size=4), max_size=12).map(b"".join)
    given_data = st.one_of(
        mutated(corpus(name), tokens), st.tuples(st.binary(min_size=1, max_size=2), pieces).map(b"".join)
    )

    @settings(
        max_examples=getattr(target(name), "EXAMPLES", 50),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(given_data)
    def passes(data: bytes) -> None:
        check(data)

    passes()


def test_no_made_up_output_goes_wrong() -> None:
    counts, wrong = outputs.run(3000, jobs=1)
    assert not wrong
    assert sum(counts.values()) == 3000
    assert len(counts) == 6, "each protocol takes some and refuses some"
    assert min(counts.values()) > 100
