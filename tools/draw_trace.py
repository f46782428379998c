"""Draws docs/trace.svg, or the file that is given: what a backend got of one cold request, behind a real collector."""

import os
import secrets
import sys
import tempfile
from pathlib import Path

import httpx
from apps import config_file, wait_until
from collector import Backend, Rotel
from drawing import draw
from processes import Server
from upstream import Upstream

ROOT = Path(__file__).resolve().parents[1]
APP = """\
from starlette.applications import Starlette
from starlette.middleware import Middleware

from sample_app import telemetry
from starlette_wasm import WasmMiddleware

app = Starlette(middleware=[telemetry.export(), Middleware(WasmMiddleware, config="wasm.yaml")])
"""
SPANS = 8


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "trace.svg"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backend, upstream = Backend(), Upstream()
        rotel = Rotel(folder, backend)
        rule = {"functionName": "edge_c", "policy": "web"}
        config_file(folder, {"/api/v1/enrich": rule}, policies={"web": upstream.policy})
        (folder / "drawn.py").write_text(APP)
        server = Server(
            folder,
            folder / "uvicorn.log",
            "drawn:app",
            *("--lifespan", "off"),
            PYTHONPATH=f"{folder}{os.pathsep}{ROOT}",
            OTEL_EXPORTER_OTLP_ENDPOINT=rotel.url,
            OTEL_BSP_SCHEDULE_DELAY="100",
            STARLETTE_WASM_CACHE_DIR=str(folder / "cache"),
        )
        trace = secrets.token_hex(16)
        commands = [
            {"op": "trace.start", "name": "look up rates", "attributes": {"currency": "EUR"}},
            {"op": "http.fetch", "url": f"{upstream.url}/moved"},
            {"op": "trace.end", "span": 1},
        ]
        headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        transport = httpx.HTTPTransport(retries=8)  # the server is starting, and the first request is the cold one
        try:
            with httpx.Client(transport=transport, timeout=60) as client:
                client.post(f"{server.url}/api/v1/enrich", json=commands, headers=headers).raise_for_status()
            wait_until(lambda: len(backend.trace(trace)) >= SPANS, 30, lambda: server.log)
        finally:
            server.close()
            rotel.close()
            upstream.close()
            backend.close()
        target.write_text(draw(backend.trace(trace)))


if __name__ == "__main__":
    main()
