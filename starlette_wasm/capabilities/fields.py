"""Typed access to the header of a request."""

from __future__ import annotations

from math import isfinite

from .errors import CapabilityError, Code, printable


class Fields:
    """The fields of a header, each taken once; ``done()`` refuses what is left. All raise CapabilityError."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, object]) -> None:
        self._values = values

    def text(self, name: str, default: str | None = None) -> str:
        """Take a string without lone surrogates; null counts as absent."""
        value = self._values.pop(name, None)
        if value is None:
            if default is None:
                raise bad_field(name, "is missing")
            return default
        return _text(name, value)

    def peek(self, name: str) -> str:
        """Read what text() would take of a field, and leave it there."""
        value = self._values[name] = self.text(name)
        return value

    def maybe_text(self, name: str) -> str | None:
        value = self._values.pop(name, None)
        return None if value is None else _text(name, value)

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        value = self.maybe_integer(name, low, high)
        if value is None:
            if default is None:
                raise bad_field(name, "is missing")
            return default
        return value

    def maybe_integer(self, name: str, low: int, high: int) -> int | None:
        value = self._values.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise bad_field(name, "is not an integer")
        if not low <= value <= high:
            raise bad_field(name, f"is not from {low} to {high}")
        return value

    def texts(self, name: str) -> list[tuple[str, str]]:
        """Take an object of strings, or of lists of strings, as pairs."""
        value = self._values.pop(name, None)
        if value is None:
            return []
        if not isinstance(value, dict):
            raise bad_field(name, "is not an object")
        pairs = []
        for key, values in value.items():
            for each in values if isinstance(values, list) else [values]:
                pairs.append((_text(name, key), _text(name, each)))
        return pairs

    def scalars(self, name: str) -> dict[str, str | bool | int | float]:
        """Take an object of strings, bools, integers of 64 bits and finite numbers."""
        value = self._values.pop(name, None)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise bad_field(name, "is not an object")
        return {_text(name, key): _scalar(name, each) for key, each in value.items()}

    def done(self) -> None:
        for name in self._values:
            raise bad_field(printable(name, 40), "is not known here")


def bad_field(name: str, problem: str) -> CapabilityError:
    return CapabilityError(Code.BAD_REQUEST, f"bad request: {name} {problem}")


def _scalar(name: str, value: object) -> str | bool | int | float:
    if isinstance(value, bool) or (isinstance(value, int) and -(1 << 63) <= value < 1 << 63):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, str):
        return _text(name, value)
    raise bad_field(name, "has a value that is not a string, bool or number")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise bad_field(name, "is not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise bad_field(name, "has a lone surrogate") from None
    return value
