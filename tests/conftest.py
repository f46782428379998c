from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from oci import Registry
from servers import server

from starlette_wasm.engine import capi
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.native import library

GUESTS = Path(__file__).parent / "guests"

# The same examples on every run, so that a failure is one of the change; what is random is for the long forms. And a
# loaded machine is no failure.
hypothesis.settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine that runtimes with the default settings share."""
    return Engine.shared(EngineConfig())


@pytest.fixture(scope="session")
def guest(engine: Engine) -> Callable[[str], Module]:
    """A compiled module of ``tests/guests``, by its name."""
    return cache(lambda name: Module.compile(engine, (GUESTS / f"{name}.wasm").read_bytes()))


@pytest.fixture(scope="session")
def wat(engine: Engine) -> Callable[[str], Module]:
    """A compiled module, from its text."""
    return cache(lambda text: Module.compile(engine, capi.assemble(text)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests of the C library if it cannot have been compiled; else they fail without it."""
    if library.native is None and not compilable():
        left_out = pytest.mark.skip(reason="there is no C compiler, or STARLETTE_WASM_PURE is set")
        for item in items:
            if item.get_closest_marker("native"):
                item.add_marker(left_out)


def compilable() -> bool:
    """Whether scripts/build_native.py compiles the C library on this machine."""
    compilers = ("cc", "gcc", "clang")
    return "STARLETTE_WASM_PURE" not in os.environ and ("CC" in os.environ or any(map(shutil.which, compilers)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--live-requests", type=int, default=800, help="how many requests live changes are tried under")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("redis")
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with server("redis-server", *options, folder=folder) as port:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def flushed_redis(redis_url: str) -> str:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    return redis_url


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host and port of an empty registry that needs no login."""
    with Registry(tmp_path_factory.mktemp("registry")) as host:
        yield host
