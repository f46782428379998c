from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from starlette_wasm.engine import capi
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.module import Module

GUESTS = Path(__file__).parent / "guests"

# A loaded machine is no failure.
hypothesis.settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-machine")


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


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not (binary := shutil.which("redis-server")):
        pytest.fail("redis-server is not on PATH; apt-get install redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, *options], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def flushed_redis(redis_url: str) -> str:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    return redis_url
