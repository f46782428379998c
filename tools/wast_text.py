"""Reads the text of a .wast file: nested lists of words and strings, with their places in the text."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SPACE = re.compile(r"(?:\s|;;[^\n]*)+")
_WORD = re.compile(r"[^\s()\";]+")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u\{([0-9a-fA-F_]+)\}|([0-9a-fA-F]{2})|(.))", re.DOTALL)
_COMMENT = re.compile(r"\(;|;\)")
_PLAIN = {"n": b"\n", "t": b"\t", "r": b"\r"}


class WastError(Exception):
    """The text is not what was expected."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string: its bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """A list. ``items`` are words (str), strings and lists; ``ends`` says where in the source each item ends."""

    items: tuple[str | Text | Form, ...]
    ends: tuple[int, ...]
    start: int
    end: int

    @property
    def head(self) -> str:
        """The first word; empty if there is none."""
        first = self.items[0] if self.items else ""
        return first if isinstance(first, str) else ""


def read_forms(source: str) -> list[Form]:
    """Return the lists at the outermost level. Raises WastError."""
    reader = _Reader(source)
    found = []
    while (form := reader.next()) is not None:
        if not isinstance(form, Form):
            raise WastError(f"line {line_of(source, reader.at)}: a list is expected, not {form!r:.60}")
        found.append(form)
    return found


def line_of(source: str, at: int) -> int:
    """Return the number of the line in which that place is."""
    return source.count("\n", 0, at) + 1


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self.at = 0

    def next(self) -> str | Text | Form | None:
        """Return the next item; None at the end of the text."""
        self._skip()
        if self.at >= len(self._source):
            return None
        char = self._source[self.at]
        if char == "(":
            return self._list()
        if char == '"':
            return Text(unescaped(self._match(_STRING)[1]))
        return self._match(_WORD)[0]

    def _list(self) -> Form:
        start = self.at
        self.at += 1
        items: list[str | Text | Form] = []
        ends = []
        while True:
            self._skip()
            if self._source.startswith(")", self.at):
                self.at += 1
                return Form(tuple(items), tuple(ends), start, self.at)
            item = self.next()
            if item is None:
                raise WastError(f"line {line_of(self._source, start)}: a list has no end")
            items.append(item)
            ends.append(self.at)

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._source, self.at)
        if found is None:
            raise WastError(
                f"line {line_of(self._source, self.at)}: {self._source[self.at : self.at + 20]!r} is unexpected"
            )
        self.at = found.end()
        return found

    def _skip(self) -> None:
        """Go over white space and comments, which may be nested."""
        while True:
            space = _SPACE.match(self._source, self.at)
            if space is not None:
                self.at = space.end()
            elif self._source.startswith("(;", self.at):
                self._skip_comment()
            else:
                return

    def _skip_comment(self) -> None:
        start, depth = self.at, 0
        for mark in _COMMENT.finditer(self._source, start):
            depth += 1 if mark[0] == "(;" else -1
            if not depth:
                self.at = mark.end()
                return
        raise WastError(f"line {line_of(self._source, start)}: a comment has no end")


def unescaped(text: str) -> bytes:
    """Return the bytes of a string as it is written."""
    parts, at = [], 0
    for found in _ESCAPE.finditer(text):
        parts.append(text[at : found.start()].encode())
        point, byte, plain = found.groups()
        if point:
            parts.append(chr(int(point.replace("_", ""), 16)).encode())
        else:
            parts.append(bytes.fromhex(byte) if byte else _PLAIN.get(plain, plain.encode()))
        at = found.end()
    return b"".join([*parts, text[at:].encode()])
