"""Values of the component model in Python, and what is wrong with one that does not fit its type.

Numbers are int and float, ``char`` and ``string`` are str, ``list<u8>`` is bytes and other lists are list, records are
dict, tuples are tuple, a variant is ``(case, payload)``, an enum the name of its case, flags are a frozenset of names.
An option is None or the value; if the value may be None itself, it is wrapped in Some. A result is Ok or Err.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .types import ValueType, VariantType

Value = Any
"""One of the kinds that the head of this module names. It depends on the type of a guest's function which."""


@dataclass(frozen=True, slots=True)
class Ok:
    value: Value = None


@dataclass(frozen=True, slots=True)
class Err:
    value: Value = None


@dataclass(frozen=True, slots=True)
class Some:
    """What an option holds, if that may be None itself."""

    value: Value


class ValueMismatchError(ValueError):
    """A Python value does not fit the type that it is to become; the message names the place in it."""


def wraps(kind: VariantType) -> bool:
    """Return whether what an option of that type holds is wrapped in Some."""
    payload = kind.cases[1][1]
    return isinstance(payload, VariantType) and payload.kind == "option"


def mismatch(kind: ValueType, value: Value) -> ValueMismatchError:
    return ValueMismatchError(f"{kind} is expected, not {type(value).__name__} {value!r:.60}")
