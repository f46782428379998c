"""What was measured or logged right before a stop arrives: uvicorn ends by the signal, before any flush at exit."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apps import config_file
from collector import Backend
from processes import ROOT, Server

EXPECTED = {"faas.invoke_duration", "faas.invocations", "faas.mem_usage", "faas.cpu_usage"}


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_spans_and_metrics_before_a_stop_arrive(
    serve: Callable[..., Server], backend: Backend, tmp_path: Path, workers: str
) -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": backend.url,
        "OTEL_BSP_SCHEDULE_DELAY": "600000",
        "OTEL_METRIC_EXPORT_INTERVAL": "600000",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    server = serve(ROOT, "sample_app.app:app", "--workers", workers, **environ)
    for _ in range(10):
        assert server.get("/greet/Ada").status_code == 200
    assert not backend.spans
    server.terminate()
    server.ended(180)
    asked = [span for span in backend.spans if span.name == "GET /greet/{name}"]
    assert len(asked) == 10
    traces = {span.trace for span in asked}
    assert len([span for span in backend.spans if span.trace in traces]) >= 20
    assert backend.metrics >= EXPECTED


@pytest.mark.parametrize("lifespan", ["on", "off"])
def test_access_lines_before_a_stop_are_written(serve: Callable[..., Server], tmp_path: Path, lifespan: str) -> None:
    """All of them and in order, after a reload, too."""
    config_file(tmp_path, {"/echo": "echo"}, exposeEndpoints=True)
    server = serve(
        tmp_path,
        "plain:app",
        *("--lifespan", lifespan, "--no-access-log"),
        STARLETTE_WASM_ACCESS_LOG="true",
    )
    wanted = [f"r-{number}" for number in range(30)]
    for number, each in enumerate(wanted):
        if number == 15:
            server.process.send_signal(signal.SIGHUP)
        assert server.get("/echo", headers={"x-request-id": each}).status_code == 200
    server.terminate()
    server.ended(180)
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith('{"time":')]
    assert [line["request_id"] for line in lines] == wanted
