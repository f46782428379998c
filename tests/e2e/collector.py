"""A real collector, rotel, and a backend behind it that keeps the traces, metrics and logs it gets, by OTLP."""

from __future__ import annotations

import gzip
import socket
import subprocess
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from apps import wait_until
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from ports import free_port
from processes import stop

KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_ERROR = 2


@dataclass(frozen=True)
class Span:
    """A span as it was received; ids are hexadecimal, ``parent`` is empty for a root, times are in ns."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    begin: int
    end: int
    error: bool
    attributes: dict[str, Any]
    events: tuple[str, ...]
    scope: str
    resource: dict[str, Any]


@dataclass(frozen=True)
class Record:
    """A log record as it was received."""

    severity: str
    body: str
    trace: str
    span: str
    attributes: dict[str, Any]


class Backend:
    """An OTLP/HTTP server that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.records: list[Record] = []
        self.metrics: set[str] = set()
        take = {"/v1/traces": self._take_spans, "/v1/logs": self._take_logs, "/v1/metrics": self._take_metrics}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                take[self.path](gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _take_spans(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Span(
                            span.name,
                            KINDS[span.kind],
                            *(span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()),
                            *(span.start_time_unix_nano, span.end_time_unix_nano),
                            span.status.code == _ERROR,
                            _attributes(span.attributes),
                            tuple(event.name for event in span.events),
                            scope.scope.name,
                            about,
                        )
                    )

    def _take_logs(self, body: bytes) -> None:
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    ids = record.trace_id.hex(), record.span_id.hex()
                    text = str(_value(record.body))
                    self.records.append(Record(record.severity_text, text, *ids, _attributes(record.attributes)))

    def _take_metrics(self, body: bytes) -> None:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.metrics |= {metric.name for scope in resource.scope_metrics for metric in scope.metrics}

    def trace(self, trace: str) -> list[Span]:
        """The spans of a trace, in the order of their start."""
        return sorted((span for span in list(self.spans) if span.trace == trace), key=lambda span: span.begin)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None


class Rotel:
    """The collector as a process: takes OTLP at ``url``, and sends it on to a backend."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        spec = find_spec("rotel")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        http, grpc = free_port(), free_port()
        self.url = f"http://127.0.0.1:{http}"
        options = {
            "otlp-http-endpoint": f"127.0.0.1:{http}",
            "otlp-grpc-endpoint": f"127.0.0.1:{grpc}",
            "exporter": "otlp",
            "otlp-exporter-endpoint": backend.url,
            "otlp-exporter-protocol": "http",
            "pid-file": str(folder / "rotel.pid"),
            "log-file": str(folder / "rotel-agent.log"),
        }
        agent = Path(spec.submodule_search_locations[0]) / "rotel-agent"
        command = [str(agent), "start", *(f"--{name}={value}" for name, value in options.items())]
        with (folder / "rotel.log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        wait_until(lambda: self.process.poll() is not None or _listens(http), 180)
        assert self.process.poll() is None, (folder / "rotel.log").read_text()

    def close(self) -> None:
        stop(self.process)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
