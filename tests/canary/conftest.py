from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a store that is empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'canary.db'}"
    redis: str = request.getfixturevalue("flushed_redis")
    return redis
