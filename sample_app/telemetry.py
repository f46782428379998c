"""Traces, metrics and logs, to the collector that ``OTEL_EXPORTER_OTLP_ENDPOINT`` names (OTLP over HTTP).

Needs ``pip install 'starlette-wasm[otel]'``. Runs in each worker, as it is imported by the app's module.
"""

import logging
import os
import uuid

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.middleware import Middleware
from starlette.types import Scope

from starlette_wasm.telemetry.bounded_session import bounded_session
from starlette_wasm.telemetry.otlp import FastSpanExporter


def export() -> Middleware:
    """Set the global providers; gives the middleware that starts the server spans of the app's own routes."""
    os.environ.setdefault("OTEL_SERVICE_NAME", "starlette-wasm-sample")
    # Each worker counts for itself: a collector must not take their metrics for those of one.
    resource = Resource.create({"service.instance.id": str(uuid.uuid4())})
    tracers = TracerProvider(resource=resource)
    # The default of 2048 is full after 700 requests that the collector does not take. A span takes about 3 KB here.
    queue = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "16384"))
    # A request to the collector takes as long as to encode two hundred spans: by default there are 512 in each.
    batch = int(os.environ.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") or min(2048, queue))
    tracers.add_span_processor(BatchSpanProcessor(FastSpanExporter(), queue, max_export_batch_size=batch))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(
        MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(session=bounded_session()))], resource=resource)
    )
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(session=bounded_session())))
    set_logger_provider(loggers)
    logging.basicConfig()  # else what goes to the collector would no longer go to stderr
    logger = logging.getLogger("starlette_wasm")
    logger.setLevel(logging.INFO)
    logger.addHandler(LoggingHandler(logger_provider=loggers))
    return Middleware(OpenTelemetryMiddleware, default_span_details=_unnamed, exclude_spans=["receive", "send"])


def _unnamed(scope: Scope) -> tuple[str, dict[str, str]]:
    """Name no span by the path, which may be anything; the functions' routes name theirs."""
    return scope.get("method", "WebSocket"), {}
