from __future__ import annotations

from collections.abc import Iterator

import pytest
from webhooks import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as given:
        yield given
