"""A strict, bounded reader for the one JSON object that a guest prints.

``json.loads`` is neither: it takes UTF-16, a byte order mark, NaN, duplicate keys and lone surrogates, raises
RecursionError on deep nesting, and holds the GIL for a second on 8 MiB of ``[],``. Here a loop walks over the
text; the C scanner reads the strings, in one call each, and what nobody asked for is checked but never built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from json import JSONDecodeError, JSONDecoder
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NoReturn

from starlette_wasm.messages import EdgeResponse
from starlette_wasm.protocols.errors import ResponseError
from starlette_wasm.protocols.headers import (
    MAX_HEADERS,
    check_base64,
    check_headers,
    check_status,
    declared_length,
    shorten,
)

MAX_DEPTH = 64
MAX_TOKENS = 10_000
LOOP_TOKENS = 1_000
"""What is walked over on the event loop, in about 2 ms."""

_SPACE = " \t\n\r"
_space = re.compile(r"[ \t\n\r]*").match
_open_object = re.compile(r"[ \t\n\r]*\{[ \t\n\r]*").match
# A key without escapes, with its colon: the common case in one step.
_plain_key = re.compile(r'"([^"\\\x00-\x1f]{0,256})"[ \t\n\r]*:[ \t\n\r]*').match
_colon = re.compile(r"[ \t\n\r]*:[ \t\n\r]*").match
_after_value = re.compile(r"[ \t\n\r]*([,}\]])[ \t\n\r]*").match
_number = re.compile(r"-?(?:0|[1-9][0-9]*)((?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)").match
_literal = re.compile(r"true|false|null").match


class LongAnswerError(Exception):
    """Reading was given up: there are more tokens than the caller allowed, though not more than MAX_TOKENS."""


class Kind(Enum):
    """The type that the value of a key must have; ``plain`` is what the C scanner makes of it."""

    STRING = "a string", str
    INTEGER = "an integer", int
    BOOL = "true or false", bool
    HEADERS = "an object of strings, or lists of strings", tuple

    def __init__(self, text: str, plain: type) -> None:
        self.text = text
        self.plain = plain


# Looking a member up on its class takes longer than reading a short string.
_STRING, _INTEGER, _BOOL, _HEADERS = Kind.STRING, Kind.INTEGER, Kind.BOOL, Kind.HEADERS


def scan(data: bytes, kinds: Mapping[str, Kind], tokens: int = MAX_TOKENS) -> tuple[dict[str, Any], dict[str, int]]:
    """Read a JSON object and return the values of the keys in ``kinds``, and if each of them starts.

    The places are indices into the decoded text (see `byte_offset`). A key whose value is null is absent, but
    for integers. Values of other keys are checked for grammar, not returned.

    Raises:
        ResponseError: No UTF-8, no object, a duplicate key in it or in its headers, a value of another kind,
            a lone surrogate in a value, more than 64 levels, or more than 10,000 keys and values of no use.
        LongAnswerError: ``tokens`` is less, and there are more of no use than that.
    """
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise ResponseError("not UTF-8", error.start) from None
    try:
        return _Scanner(text, kinds, tokens).scan()
    except _ScanError as error:
        raise ResponseError(error.problem, _utf8_length(text, error.at)) from None
    except JSONDecodeError as error:  # from scanstring
        raise ResponseError(_string_problem(error), _utf8_length(text, error.pos)) from None


def _no_constant(_: str) -> NoReturn:
    raise ValueError


_scan_once = JSONDecoder(object_pairs_hook=tuple, parse_constant=_no_constant).scan_once  # type: ignore[attr-defined]
_MAX_PLAIN = 32 * 1024
_TOO_LONG = 10**17  # as a digit less than `_Scanner.integer` takes, so that the sign need not be looked at


def read_plain(data: bytes, kinds: Mapping[str, Kind]) -> dict[str, Any] | None:
    """Return the same as the values of `scan`, in half its time, for what is short, valid and has no other keys.

    None for anything else, right or wrong: `scan` decides.
    """
    if len(data) > _MAX_PLAIN or b"\\u" in data:  # an escape may be a lone surrogate
        return None
    try:
        text = str(data, "utf-8").strip(_SPACE)
        pairs, end = _scan_once(text, 0)
    except (ValueError, StopIteration, RecursionError):
        return None
    if end != len(text) or type(pairs) is not tuple:
        return None
    found = dict(pairs)
    if len(found) != len(pairs):
        return None
    for key, value in pairs:
        kind = kinds.get(key)
        if value is None and kind is not None and kind is not _INTEGER:
            del found[key]
        elif kind is _HEADERS and type(value) is tuple:
            headers = found[key] = dict(value)
            if len(headers) != len(value):
                return None
            for each in headers.values():
                if type(each) is not str and (type(each) is not list or any(type(line) is not str for line in each)):
                    return None
        elif kind is _INTEGER and type(value) is int:
            if not -_TOO_LONG < value < _TOO_LONG:
                return None
        elif kind is None or type(value) is not kind.plain:
            return None
    return found


def byte_offset(data: bytes, place: int | None) -> int | None:
    """Return the byte of ``data``, known to be UTF-8, at which the character with index ``place`` starts."""
    return None if place is None else _utf8_length(str(data, "utf-8"), place)


def _skip_space(text: str, pos: int) -> int:
    return _space(text, pos).end()  # type: ignore[union-attr]  # matches anywhere


def _utf8_length(text: str, end: int) -> int:
    return min(end, len(text)) if text.isascii() else len(text[:end].encode())


def _string_problem(error: JSONDecodeError) -> str:
    problem = error.msg.removesuffix(" starting at").removesuffix(" at")
    return problem[:1].lower() + problem[1:]


class _ScanError(Exception):
    def __init__(self, problem: str, at: int) -> None:
        self.problem = problem
        self.at = at


class _Scanner:
    __slots__ = ("kinds", "limit", "text", "tokens")

    def __init__(self, text: str, kinds: Mapping[str, Kind], tokens: int) -> None:
        self.text = text
        self.kinds = kinds
        self.tokens = self.limit = tokens

    def scan(self) -> tuple[dict[str, Any], dict[str, int]]:
        text, kinds = self.text, self.kinds
        start = _open_object(text)
        if start is None:
            raise self.no_object()
        pos = start.end()
        found: dict[str, Any] = {}
        places: dict[str, int] = {}
        others: set[str] = set()
        more = text[pos : pos + 1] != "}"
        if not more:
            pos = _skip_space(text, pos + 1)
        while more:
            at = pos
            plain = _plain_key(text, pos)
            if plain is not None:
                key, pos = plain[1], plain.end()
            else:
                key, pos = self.key(pos)
            if key in places or key in others:
                raise _ScanError(f"duplicate key {shorten(key)}", at)
            kind = kinds.get(key)
            first = text[pos : pos + 1]
            if kind is None:
                self.spend(at)
                others.add(key)
                pos = self.skip(pos)
            else:
                places[key] = pos
                if kind is not _INTEGER and (null := _literal(text, pos)) and null[0] == "null":
                    pos = null.end()
                elif kind is _STRING and first == '"':
                    found[key], pos = self.string(pos)
                elif kind is _HEADERS and first == "{":
                    found[key], pos = self.headers(pos)
                elif kind is _INTEGER and first in "-0123456789" and first:
                    found[key], pos = self.integer(key, pos)
                elif kind is _BOOL and (literal := _literal(text, pos)):
                    found[key] = literal[0] == "true"
                    pos = literal.end()
                else:
                    raise self.wrong_kind(key, kind, pos)
            pos, more = self.comma(pos, "}")
        if pos != len(text):
            raise _ScanError("something follows the JSON object", pos)
        return found, places

    def key(self, pos: int) -> tuple[str, int]:
        text = self.text
        if text[pos : pos + 1] != '"':
            raise self.unexpected("a key in double quotes", pos)
        key, pos = scanstring(text, pos + 1, True)
        colon = _colon(text, pos)
        if colon is None:
            raise self.unexpected("':'", pos)
        return key, colon.end()

    def comma(self, pos: int, close: str) -> tuple[int, bool]:
        """Step over the comma or the closing bracket after a value; the bool is True for a comma."""
        text = self.text
        # Compact JSON needs no regex, which saves a tenth of a small response.
        if text[pos : pos + 2] == ',"':
            return pos + 1, True
        after = _after_value(text, pos)
        if after is None or (after[1] != "," and after[1] != close):
            raise self.unexpected(f"',' or '{close}'", pos)
        return after.end(), after[1] == ","

    def string(self, pos: int) -> tuple[str, int]:
        text = self.text
        value, end = scanstring(text, pos + 1, True)
        # A surrogate can only come from an escape, as the text was UTF-8.
        if not value.isascii() and text.find("\\u", pos, end) >= 0:
            try:
                value.encode()
            except UnicodeEncodeError:
                raise _ScanError("lone surrogate in a string", pos) from None
        return value, end

    def integer(self, key: str, pos: int) -> tuple[int, int]:
        number = _number(self.text, pos)
        if number is None or number[1]:
            raise self.wrong_kind(key, _INTEGER, pos)
        if number.end() - pos > 18:  # int() is quadratic, and nobody wants such a number
            raise _ScanError(f"{shorten(key)} is out of range", pos)
        return int(number[0]), number.end()

    def headers(self, pos: int) -> tuple[dict[str, str | list[str]], int]:
        text = self.text
        found: dict[str, str | list[str]] = {}
        pos = _skip_space(text, pos + 1)
        if text[pos : pos + 1] == "}":
            return found, pos + 1
        more = True
        while more:
            at = pos
            plain = _plain_key(text, pos)
            if plain is not None:
                name, pos = plain[1], plain.end()
            else:
                name, pos = self.key(pos)
            if name in found:
                raise _ScanError(f"duplicate header {shorten(name)}", at)
            if len(found) >= MAX_HEADERS:
                raise _ScanError(f"more than {MAX_HEADERS} headers", at)
            if text[pos : pos + 1] == '"':
                found[name], pos = scanstring(text, pos + 1, True)
            elif text[pos : pos + 1] == "[":
                found[name], pos = self.strings(name, pos)
            else:
                raise self.bad_header(name, pos)
            pos, more = self.comma(pos, "}")
        return found, pos

    def strings(self, name: str, pos: int) -> tuple[list[str], int]:
        text = self.text
        values: list[str] = []
        pos = _skip_space(text, pos + 1)
        if text[pos : pos + 1] == "]":
            return values, pos + 1
        more = True
        while more:
            if len(values) >= MAX_HEADERS:
                raise _ScanError(f"more than {MAX_HEADERS} headers", pos)
            if text[pos : pos + 1] != '"':
                raise self.bad_header(name, pos)
            value, pos = scanstring(text, pos + 1, True)
            values.append(value)
            pos, more = self.comma(pos, "]")
        return values, pos

    def skip(self, pos: int) -> int:
        """Step over a value of any kind. The open brackets are a list, so that depth costs no recursion."""
        text = self.text
        closers: list[str] = []
        while True:
            self.spend(pos)
            first = text[pos : pos + 1]
            if first == '"':
                _, pos = scanstring(text, pos + 1, True)
            elif first == "{" or first == "[":
                if len(closers) + 1 >= MAX_DEPTH:
                    raise _ScanError(f"nested deeper than {MAX_DEPTH} levels", pos)
                close = "}" if first == "{" else "]"
                pos = _skip_space(text, pos + 1)
                if text[pos : pos + 1] != close:
                    closers.append(close)
                    if close == "}":
                        _, pos = self.key(pos)
                    continue
                pos += 1
            else:
                scalar = _number(text, pos) or _literal(text, pos)
                if scalar is None:
                    raise self.unexpected("a value", pos)
                pos = scalar.end()
            while closers:
                pos, more = self.comma(pos, closers[-1])
                if more:
                    break
                closers.pop()
            else:
                return pos
            if closers[-1] == "}":
                self.spend(pos)
                _, pos = self.key(pos)

    def spend(self, pos: int) -> None:
        self.tokens -= 1
        if self.tokens < 0:
            if self.limit < MAX_TOKENS:
                raise LongAnswerError
            raise _ScanError(f"more than {MAX_TOKENS} keys and values", pos)

    def unexpected(self, wanted: str, pos: int) -> _ScanError:
        pos = _skip_space(self.text, pos)
        got = shorten(self.text[pos]) if pos < len(self.text) else "the end"
        return _ScanError(f"expected {wanted}, not {got}", pos)

    def no_object(self) -> _ScanError:
        if not self.text.strip(_SPACE):
            return _ScanError("empty, expected a JSON object", 0)
        if self.text.startswith("\ufeff"):
            return _ScanError("byte order mark, expected a JSON object", 0)
        return self.unexpected("a JSON object", 0)

    def wrong_kind(self, key: str, kind: Kind, pos: int) -> _ScanError:
        return _ScanError(f"{shorten(key)} must be {kind.text}", pos)

    def bad_header(self, name: str, pos: int) -> _ScanError:
        return _ScanError(f"value of header {shorten(name)} must be a string, or a list of strings", pos)


class ResponseReader:
    """Reads a response out of the JSON object of a guest, given the keys that a protocol has for its parts.

    ``default_status`` is used where the status is left out; without it the status is required.
    """

    def __init__(
        self, *, status: str, headers: str, body: str, is_base64: str, default_status: int | None = None
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.is_base64 = is_base64
        self.default_status = default_status
        self.kinds = {
            status: Kind.INTEGER,
            headers: Kind.HEADERS,
            body: Kind.STRING,
            is_base64: Kind.BOOL,
        }

    def read(self, data: bytes, tokens: int = MAX_TOKENS) -> EdgeResponse:
        """Decode and validate.

        Raises:
            ResponseError: See `scan` and `check_headers`; or a status or base64 body that is none.
            LongAnswerError: See `scan`.
        """
        places: dict[str, int] = {}
        found = read_plain(data, self.kinds)
        if found is None:
            found, places = scan(data, self.kinds, tokens)
        status = found.get(self.status, self.default_status)
        if status is None:
            raise ResponseError(f"{shorten(self.status)} is missing")
        key = self.status
        try:
            status = check_status(status)
            key = self.headers
            headers = found.get(key)
            response = EdgeResponse(
                status,
                check_headers(headers) if headers else {},
                found.get(self.body, ""),
                found.get(self.is_base64, False),
            )
            response._length = declared_length(headers or {})
            if response.is_base64_encoded:
                key = self.body
                check_base64(response)
        except ResponseError as error:
            places = places or scan(data, self.kinds, tokens)[1]
            raise ResponseError(error.problem, byte_offset(data, places.get(key))) from None
        return response
