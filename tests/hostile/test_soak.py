"""A few seconds of the soak, with some of the guests; what grew in so short a time is not judged here."""

from __future__ import annotations

import pytest
from soak import RUNNING, soak


def test_under_load_every_answer_is_right_and_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    missed = soak(2.0, 0.25, guests=RUNNING[::9])
    assert not [each for each in missed if " grew " not in each]
    lines = capsys.readouterr().out.splitlines()
    assert sum("healthy" in line and "hostile" in line for line in lines) >= 4
