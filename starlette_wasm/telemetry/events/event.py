"""``Event``: something that happened, and its forms."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ...config.events import Kind

_ICONS = {
    Kind.CANARY_ROLLED_BACK: ":rotating_light:",
    Kind.CANARY_ABORTED: ":rotating_light:",
    Kind.CANARY_HELD: ":hourglass:",
    Kind.CANARY_PROMOTED: ":white_check_mark:",
    Kind.FUNCTION_UNHEALTHY: ":warning:",
    Kind.FUNCTION_HEALTHY: ":white_check_mark:",
    Kind.RELOAD_REFUSED: ":warning:",
    Kind.SIGNATURE_REFUSED: ":rotating_light:",
}
_MOST_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``text`` is for people, ``data`` for programs; neither has values of a config."""

    kind: Kind
    text: str
    function: str = ""
    """Empty if it does not concern a function."""
    data: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def to_cloudevent(self, source: str) -> dict[str, Any]:
        """Return the event as CloudEvents 1.0 has it in JSON."""
        subject = {"subject": self.function} if self.function else {}
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": source,
            "type": f"starlette-wasm.{self.kind}",
            **subject,
            "time": self.time.isoformat(timespec="milliseconds"),
            "datacontenttype": "application/json",
            "data": {"function": self.function or None, "text": self.text[:_MOST_TEXT], **self.data},
        }

    def to_slack(self, source: str) -> dict[str, Any]:
        """Return the event as incoming webhooks of Slack, Mattermost and others take it."""
        text = f"{self.text} ({source})"[:_MOST_TEXT]
        for sign, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(sign, escaped)
        icon = _ICONS.get(self.kind)
        return {"text": f"{icon} {text}" if icon else text}
