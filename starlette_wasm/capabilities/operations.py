"""The operations of the import module ``edge``; their numbers and names are part of its ABI."""

from __future__ import annotations

from enum import IntEnum

from .errors import CapabilityError, Code, printable


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

    @property
    def title(self) -> str:
        """As in ``http.fetch``."""
        return self.name.lower().replace("_", ".")


TRACING = frozenset({Operation.TRACE_START, Operation.TRACE_END, Operation.TRACE_SET, Operation.TRACE_EVENT})
_BY_NAME = {operation.title: operation for operation in Operation}


def find(operation: int | str) -> Operation:
    """Find one by number or name. Raises CapabilityError."""
    try:
        return _BY_NAME[operation] if isinstance(operation, str) else Operation(operation)
    except (KeyError, ValueError):
        shown = printable(operation, 40) if isinstance(operation, str) else str(operation)
        raise CapabilityError(Code.UNKNOWN_OPERATION, f"unknown operation: {shown}") from None
