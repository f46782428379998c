"""The call under all the others, as docs/capabilities.md has it."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any

from wit_world.imports import host


class Operation(IntEnum):
    HTTP_FETCH = 1
    KV_GET = 2
    KV_SET = 3
    KV_DELETE = 4
    KV_LIST = 5
    KV_INCREMENT = 6
    KV_CAS = 7
    QUEUE_PUBLISH = 8
    TRACE_START = 9
    TRACE_END = 10
    TRACE_SET = 11
    TRACE_EVENT = 12


class EdgeError(Exception):
    """A call that failed; ``code`` is stable, such as ``host-not-allowed``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def call(operation: Operation, body: bytes | str = b"", **fields: Any) -> tuple[dict[str, Any], bytes]:
    """Send fields, but those that are None, and a body; return those of the result. Raises EdgeError."""
    header = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
    content = body.encode() if isinstance(body, str) else body
    frame = host.call(operation, len(header).to_bytes(4, "little") + header + content)
    end = 4 + int.from_bytes(frame[:4], "little")
    result = json.loads(frame[4:end])
    if not result["ok"]:
        raise EdgeError(result["error"]["code"], result["error"]["message"])
    return result, frame[end:]
