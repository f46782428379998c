from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from starlette_wasm.exceptions import FunctionOverloaded
from starlette_wasm.invocation.invoker import Invoker
from starlette_wasm.messages import EdgeContext


def test_one_overloaded_function_leaves_another_its_record(caplog: pytest.LogCaptureFixture) -> None:
    """Of each, there is one record a second."""
    runtime: Any = SimpleNamespace()
    invoker = Invoker(runtime)

    def refuse(name: str) -> None:
        context = EdgeContext("id", "", False, name, "1", 0)
        execution: Any = SimpleNamespace(target=SimpleNamespace(name=name, tally=None), context=context)
        invoker._failed(execution, FunctionOverloaded(name, "full"), 0.0)

    with caplog.at_level(logging.WARNING, "starlette_wasm"):
        for name in ("a", "a", "b"):
            refuse(name)
    assert [vars(record)["function"] for record in caplog.records].count("b") == 1
