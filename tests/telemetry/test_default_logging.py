"""``STARLETTE_WASM_LOG`` shows the log where the app has no handler, and only there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from apps import config_file

SERVE = """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.testclient import TestClient
    from starlette_wasm import WasmMiddleware
    app = Starlette(middleware=[Middleware(WasmMiddleware, config="wasm.yaml")])
    with TestClient(app) as client:
        client.post("/log", content="hello", headers={"x-request-id": "abc"})
"""


def serve(folder: Path, before: str = "", **environment: str) -> str:
    """What is on stderr of a process that asks a guest which logs ``hello``."""
    folder.mkdir(exist_ok=True)
    config_file(folder, {"/log": "log"})
    code = "\n".join(map(textwrap.dedent, (before, SERVE)))
    variables = {**os.environ, "XDG_CACHE_HOME": str(folder), "STARLETTE_WASM_CANARY_URL": "sqlite://", **environment}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=True
    ).stderr


def test_nothing_is_shown_by_default(tmp_path: Path) -> None:
    assert serve(tmp_path) == ""


def test_text_has_the_guests_lines_and_progress(tmp_path: Path) -> None:
    shown = serve(tmp_path, STARLETTE_WASM_LOG="text")
    assert "INFO starlette_wasm.guest: log v1: hello" in shown
    assert "INFO starlette_wasm: loaded " in shown


def test_json_has_an_object_a_line(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in serve(tmp_path, STARLETTE_WASM_LOG="json").splitlines()]
    guest = [line for line in lines if line["logger"] == "starlette_wasm.guest"]
    assert guest
    assert {(line["function"], line["version"], line["request_id"]) for line in guest} == {("log", "1", "abc")}
    assert {"time", "level", "message"} <= set(lines[0])


def test_the_two_lines_of_the_readme_show_the_same(tmp_path: Path) -> None:
    shown = serve(tmp_path, "import logging\nlogging.basicConfig(level=logging.INFO)")
    assert "INFO:starlette_wasm.guest:log v1: hello" in shown
    assert "INFO:starlette_wasm:loaded " in shown


def test_a_handler_of_the_app_gets_each_record_alone(tmp_path: Path) -> None:
    before = "import logging\nlogging.basicConfig(format='mine %(name)s')"
    for place in (before, f"{before.replace('basicConfig', 'getLogger().setLevel(30) or logging.basicConfig')}"):
        lines = serve(tmp_path / str(len(place)), place, STARLETTE_WASM_LOG="text").splitlines()
        assert "mine starlette_wasm.guest" in lines
        assert [line for line in lines if not line.startswith("mine ")] == []


def test_a_handler_that_exports_does_not_count(tmp_path: Path) -> None:
    before = """
        import logging
        from opentelemetry.instrumentation.logging.handler import LoggingHandler
        from opentelemetry.sdk._logs import LoggerProvider
        logging.getLogger().addHandler(LoggingHandler(logger_provider=LoggerProvider()))
    """
    assert "starlette_wasm.guest" in serve(tmp_path, before, STARLETTE_WASM_LOG="text")
