"""Recognises what comes from other frameworks, or is misspelt, in path patterns and HTTP methods."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_METHOD_FIRST = re.compile(r"([A-Z]{3,10})\s+(/.*)")

Mend = Callable[[re.Match[str]], str]


def _identifier(name: str) -> str:
    return name.replace("-", "_")


def _rest(found: re.Match[str]) -> str:
    return f"{{{_identifier(found['name'] or 'rest')}:path}}"


def _parameter(found: re.Match[str]) -> str:
    return f"{{{_identifier(found['name'])}}}"


# One whole segment, and how it is written here. The first that fits counts.
_SEGMENTS: tuple[tuple[re.Pattern[str], Mend], ...] = tuple(
    (re.compile(pattern), hint)
    for pattern, hint in (
        (rf"\*+(?P<name>{_NAME})?", _rest),
        (rf"<path:(?P<name>{_NAME})>", _rest),
        (rf"<(?:\w+:)?(?P<name>{_NAME})>", _parameter),
        (rf":(?P<name>{_NAME})[*+]", _rest),
        (rf":(?P<name>{_NAME})(?:\(.*\))?\??", _parameter),
        (rf"\[\[?\.\.\.(?P<name>{_NAME})\]\]?", _rest),
        (rf"\[(?P<name>{_NAME})\]", _parameter),
        (rf"\{{\*+(?P<name>{_NAME})\}}", _rest),
        (rf"\{{(?P<name>{_NAME})(?:\.\.\.|\*)\}}", _rest),
        (rf"\{{(?P<name>{_NAME})\?\}}", _parameter),
        (rf"\(\?P<(?P<name>{_NAME})>.*\)", _parameter),
    )
)


_QUOTES = "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb"
"""What word processors make of plain quotes; YAML reads them as part of the text."""


def foreign_pattern(pattern: str) -> tuple[str, str] | None:
    """Find what is foreign in a path pattern, and how it is written here; None if nothing is."""
    if found := _METHOD_FIRST.fullmatch(pattern):
        return "begins with a method", f"write {found[2]}, and methods: [{found[1]}]"
    if "://" in pattern:
        path = "/" + pattern.split("://", 1)[1].partition("/")[2]
        return "is a URL", f"write the path alone: {path}"
    if pattern.strip(_QUOTES) != pattern:
        return "has typographic quotes", f'write "{pattern.strip(_QUOTES)}"'
    if pattern != pattern.strip():
        return "has white space around it", f"write {pattern.strip()}"
    if pattern.startswith("^") or (pattern.endswith("$") and len(pattern) > 1):
        return "is a regular expression", f"write {pattern.strip('^$') or '/'}; a parameter is {{name}}"
    if not pattern.startswith("/"):
        return None
    segments = pattern.split("/")
    for index, segment in enumerate(segments):
        ours = _ours(segment)
        if ours is not None:
            return _foreign_segment(segments, index, ours)
        if "*" in segment and "{" not in segment:
            return f"has the segment {segment!r}", "let a parameter be a whole segment, such as {name}"
    if "%" in pattern and unquote(pattern) != pattern:
        return "has an escape, and paths are matched decoded", f"write {unquote(pattern)}"
    return None


def _ours(segment: str) -> str | None:
    if segment in ("...", "\N{HORIZONTAL ELLIPSIS}"):
        return "{rest:path}"
    for pattern, hint in _SEGMENTS:
        if found := pattern.fullmatch(segment):
            return hint(found)
    return None


def _foreign_segment(segments: list[str], index: int, ours: str) -> tuple[str, str]:
    problem = f"has the segment {segments[index]!r}"
    if index < len(segments) - 1:
        ours = ours.replace(":path", "")
    prefix = "/".join(segments[:index])
    whole = "/".join([*segments[:index], ours, *segments[index + 1 :]])
    if ours == "{rest:path}":
        everything = f"{prefix}, which takes all below it too" if prefix else "/, which takes every path"
        return problem, f"write {everything}, or {whole}"
    return problem, f"write {whole}"


KNOWN_METHODS = frozenset(
    (
        *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "PRI"),
        *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "ACL", "SEARCH", "REPORT", "BIND"),
        *("REBIND", "UNBIND", "CHECKIN", "CHECKOUT", "UNCHECKOUT", "MERGE", "LABEL", "UPDATE", "MKACTIVITY"),
        *("MKCALENDAR", "MKWORKSPACE", "ORDERPATCH", "BASELINE-CONTROL", "VERSION-CONTROL", "LINK", "UNLINK"),
        *("MKREDIRECTREF", "UPDATEREDIRECTREF", "PURGE", "BAN", "SUBSCRIBE", "UNSUBSCRIBE", "NOTIFY", "M-SEARCH"),
    )
)
"""IANA's registry of HTTP methods, and those that caches and UPnP use."""
IDEMPOTENT_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "QUERY", "TRACE"})
"""Methods of requests that may be sent twice: RFC 9110, section 9.2.2, and QUERY, which is safe by its draft."""
_COMMON = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def misspelt_method(method: str) -> str | None:
    """Find the common method that is meant by one that nobody knows; None if it is known, or like none."""
    if method in KNOWN_METHODS:
        return None
    from difflib import get_close_matches  # only for what is wrong anyway

    near = get_close_matches(method, _COMMON, n=1, cutoff=0.7)
    return near[0] if near else None
