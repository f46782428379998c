"""The audit log: the author, action, time, origin and outcome of each request, as lines of JSON on a logger of its own.

Through the logging of OpenTelemetry, if the app has set that up, the same records go out as OTLP.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from ...sync.recent import Recent

logger = logging.getLogger("starlette_wasm.audit")
_KEPT = 200


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action, refused ones included."""

    time: str
    who: str
    """The name of the token or user; empty if nobody is known."""
    what: str
    function: str
    source: str
    """The address that the request came from."""
    request_id: str
    status: int
    outcome: str
    detail: str = ""


class AuditLog:
    """Writes entries, and keeps the last ones for the API."""

    def __init__(self) -> None:
        self.entries: Recent[AuditEntry] = Recent(_KEPT)

    def write(self, entry: AuditEntry) -> None:
        """Log an entry, at WARNING if it was refused."""
        self.entries.add(entry.who, entry)
        level = logging.INFO if entry.status < 400 else logging.WARNING
        fields = {f"audit.{key}": value for key, value in asdict(entry).items()}
        logger.log(level, "%s", json.dumps(asdict(entry)), extra=fields)


def now() -> str:
    """Return the time as RFC 3339 writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
