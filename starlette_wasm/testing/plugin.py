"""The pytest plugin: the fixture ``wasm``, a kit of the project's config.

A ``conftest.py`` in the root of the project turns it on::

    pytest_plugins = ["starlette_wasm.testing.plugin"]

``wasm_config`` in pytest's ini file names another config than ``wasm.yaml`` in that root.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .kit import WasmKit


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare ``wasm_config``."""
    parser.addini(
        "wasm_config", "path of the wasm.yaml that the fixture wasm is of, from the root", default="wasm.yaml"
    )


@pytest.fixture
def wasm(request: pytest.FixtureRequest) -> Iterator[WasmKit]:
    """Give a WasmKit of the project's config, with nothing in its stores."""
    with WasmKit(request.config.rootpath / request.config.getini("wasm_config")) as kit:
        yield kit
