from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from starlette_wasm.functions.descriptors import of_guest, raise_limit


@pytest.fixture
def limit() -> Iterator[int]:
    """A soft limit of 1,024, and the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_soft_limit_is_raised_and_never_lowered(limit: int) -> None:
    assert raise_limit(0) == raise_limit(512) == 1024
    wanted = 4096 if limit == resource.RLIM_INFINITY else min(4096, limit)
    assert raise_limit(4096) == wanted
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, limit)
    assert raise_limit(2048) == wanted


def test_a_tenant_leaves_files_to_others_and_the_app(limit: int) -> None:
    for concurrency in (1, 4, 16, 48):
        assert 4 <= of_guest(concurrency) <= 64
        assert concurrency * of_guest(concurrency) <= 1024 // 4
    raise_limit(65_536)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 11_000:
        assert of_guest(64) == 64
