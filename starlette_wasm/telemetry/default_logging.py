"""Log records on stderr, for an app that has no logging of its own: no server shows INFO of other loggers."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

_logger = logging.getLogger("starlette_wasm")
_ATTRIBUTES = ("function", "version", "request_id", "error.type", "event.name", "event.id")
_EXPORTERS = "opentelemetry."
"""Modules whose handlers send records away, and show nobody anything here."""


class JsonFormatter(logging.Formatter):
    """Formats one JSON object a line. Keys that do not apply are left out."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: vars(record)[name] for name in _ATTRIBUTES if name in vars(record)}
        span = get_current_span().get_span_context()
        if span.is_valid:
            line |= {"trace_id": format_trace_id(span.trace_id), "span_id": format_span_id(span.span_id)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class StderrHandler(logging.StreamHandler[Any]):
    """Writes what no handler of the app gets, also when the app adds one later."""

    def emit(self, record: logging.LogRecord) -> None:
        if not any(_shows(handler) for handler in _handlers(record.name)):
            super().emit(record)


_FORMATTERS = {"json": JsonFormatter(), "text": logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")}
_installed: list[StderrHandler] = []


def install(form: str | None) -> None:
    """Show INFO and above as ``text`` or ``json``; with None nothing is touched."""
    if form is None:
        return
    if not _installed:
        _installed.append(StderrHandler())
        _logger.addHandler(_installed[0])
    _installed[0].setFormatter(_FORMATTERS[form])
    if _logger.level == logging.NOTSET and not _logger.isEnabledFor(logging.INFO):
        _logger.setLevel(logging.INFO)


def _shows(handler: logging.Handler) -> bool:
    if getattr(handler, "shows_nobody", False):
        return False
    return handler not in _installed and not type(handler).__module__.startswith(_EXPORTERS)


def _handlers(name: str) -> Iterator[logging.Handler]:
    """Yield the handlers that a record of the logger ``name`` reaches."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
