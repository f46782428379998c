from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from starlette_wasm.engine import capi
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.module import Module

# The same examples on every run, so that a failure is one of the change; what is random is for the long forms.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")

GUESTS = Path(__file__).parent / "guests"


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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--live-requests", type=int, default=800, help="how many requests live changes are tried under")
