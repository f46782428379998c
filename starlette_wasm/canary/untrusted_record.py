"""Checks what comes out of a canary store by type, range and length: others may write to it, too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from ..capabilities.errors import CapabilityError, Code, printable
from .histogram import BUCKETS
from .status import Status
from .verdict import Looks
from .window import Field

MAX_RECORD_BYTES = 256 << 10
MAX_EPOCH = (1 << 31) - 1
MAX_COUNT = (1 << 53) - 1
MAX_ROWS = 20_000
"""Counts of one function that are read: two versions, two observations, and the workers of each."""
_MAX_LIST = 100
_MAX_TEXT = 256
_MAX_REASON = 500
_MAX_SECONDS = 1e11
_DIGEST = re.compile(r"(?:[0-9a-f]{64})?")
_FIELDS = frozenset(str(field) for field in Field) | {f"b{bucket}" for bucket in range(BUCKETS)}


def unreadable(detail: str, field: str = "") -> CapabilityError:
    """Make an error for what others wrote. ``field`` is one of ours and not a secret; ``detail`` may hold values."""
    where = f" ({field})" if field else ""
    return CapabilityError(Code.UNAVAILABLE, f"the record cannot be read{where}", detail=printable(detail, 200))


def read_record(text: str) -> dict[str, Any]:
    """Read the fields of a record. Raises CapabilityError that names the field at fault."""
    if len(text) > MAX_RECORD_BYTES:
        raise unreadable(f"it has more than {MAX_RECORD_BYTES} characters")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(f"it is not JSON: {error!r}") from None
    if not isinstance(given, dict) or not given.keys() <= _CHECKS.keys():
        raise unreadable("it has fields that this version does not know")
    missing = _CHECKS.keys() - given.keys() - _OPTIONAL
    if missing:
        raise unreadable(f"it has no {min(missing)}", min(missing))
    return {name: read_field(name, value) for name, value in given.items()}


def read_field(name: str, value: object) -> Any:
    """Return one field of a record. Raises CapabilityError that names it."""
    try:
        return _CHECKS[name](value)
    except (ValueError, TypeError, KeyError):
        raise unreadable(f"{name} is {value!r:.80}", name) from None


def whole(value: object, least: int, most: int) -> int:
    """Raise ValueError for what is not a whole number in the range."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError
    return value


def read_epoch(value: object) -> int:
    """Raise CapabilityError."""
    return _number("epoch", value, 1, MAX_EPOCH)


def read_revision(value: object) -> int:
    """Raise CapabilityError."""
    return _number("revision", value, 1, MAX_COUNT)


def read_count(field: object, value: object) -> tuple[str, int]:
    """Raise CapabilityError for a field or a count that no worker writes."""
    if not isinstance(field, str) or field not in _FIELDS:
        raise unreadable(f"the unknown count {field!r:.80}")
    return field, _number(field, value, 0, MAX_COUNT)


def _number(name: str, value: object, least: int, most: int) -> int:
    try:
        return whole(value, least, most)
    except ValueError:
        raise unreadable(f"{name} is {value!r:.80}", name) from None


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
        raise ValueError
    return value


def _reason(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return printable(value, _MAX_REASON)


def _seconds(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MAX_SECONDS:  # type: ignore[operator]
        raise ValueError
    return float(value)  # type: ignore[arg-type]


def _digest(value: object) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError
    return value


def _list(value: object, check: Callable[[object], object]) -> tuple[object, ...]:
    if not isinstance(value, list) or len(value) > _MAX_LIST:
        raise ValueError
    return tuple(check(each) for each in value)


def _pair(value: object) -> tuple[object, ...]:
    pair = _list(value, _text)
    if len(pair) != 2:
        raise ValueError
    return pair


def _looks(value: object) -> Looks:
    if not isinstance(value, dict) or value.keys() - {"quarter"} != {"count", "samples"}:
        raise ValueError
    return Looks(**{name: whole(number, 0, MAX_COUNT) for name, number in value.items()})


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _baseline(value: object) -> tuple[object, ...] | None:
    if value is None:
        return None
    counts = _list(value, lambda each: whole(each, 0, MAX_COUNT))
    if len(counts) != 3:
        raise ValueError
    return counts


_CHECKS: dict[str, Callable[[Any], object]] = {
    "stable": _text,
    "canary": _text,
    "status": Status,
    "percent": lambda value: whole(value, 0, 100),
    "epoch": lambda value: whole(value, 1, MAX_EPOCH),
    "since": _seconds,
    "started": _seconds,
    "changed": _seconds,
    "reason": _reason,
    "looks": _looks,
    "baseline": _baseline,
    "past": lambda value: _list(value, _pair),
    "digest": _digest,
    "replaced": lambda value: _list(value, _digest),
    "seen": _seconds,
    "announced": lambda value: value and _text(value),
    "bakes": _flag,
    "turn": lambda value: whole(value, 0, MAX_COUNT),
}
_OPTIONAL = {"digest", "replaced", "seen", "bakes", "announced", "turn"}
