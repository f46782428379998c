"""How functions, versions and path patterns are written."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .notation import foreign_pattern

_FUNCTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z", re.ASCII)
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,62}\Z", re.ASCII)
_PARAM = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([^{}]*))?\}\Z", re.ASCII)
_DIGITS = re.compile(r"([0-9]*)(.*)\Z", re.ASCII)

MAX_SEGMENTS = 100
"""Most segments of a path pattern: the search for a path recurses once for each."""

VersionKey = tuple[object, ...]


def is_function_name(name: str) -> bool:
    """Allow up to 63 ASCII letters, digits and ``. _ -``, a letter or digit first, no two dots in a row."""
    return bool(_FUNCTION.match(name)) and ".." not in name


def is_version(version: str) -> bool:
    """Allow up to 63 ASCII letters, digits and ``. + -``, a letter or digit first, no two dots in a row."""
    return bool(_VERSION.match(version)) and ".." not in version


def version_key(version: str) -> VersionKey:
    """Return a key that sorts versions: number by number at the dots, so ``1.9`` before ``1.10``.

    Text sorts after numbers, and what follows a hyphen is a pre-release (Semantic Versioning, item 11):
    ``2-rc.1`` before ``2``. Build metadata after ``+`` only breaks ties.
    """
    core, _, pre = version.partition("+")[0].partition("-")
    return (_parts(core), not pre, _parts(pre), version)


def _parts(text: str) -> tuple[tuple[bool, int, str], ...]:
    parts = (_DIGITS.match(part) for part in text.split("."))
    return tuple((not part[1], int(part[1] or 0), part[2]) for part in parts if part)


class PatternSyntaxError(ValueError):
    """A path pattern that is not valid: ``problem`` is its fault, ``hint`` what to write instead."""

    def __init__(self, problem: str, hint: str) -> None:
        self.problem = problem
        self.hint = hint
        super().__init__(f"{problem}; {hint}")


def path_params(pattern: str) -> list[str]:
    """Return the names of the parameters in a path pattern, in order."""
    return [found[1] for segment in pattern.split("/") if (found := _PARAM.match(segment))]


def check_path_pattern(pattern: str) -> None:
    """Raise ``PatternSyntaxError``.

    A pattern starts with ``/``. A segment is text or a parameter ``{name}``; the last may be
    ``{name:path}``.
    """
    foreign = foreign_pattern(pattern)
    if foreign is not None:
        raise PatternSyntaxError(*foreign)
    if not pattern.startswith("/"):
        raise PatternSyntaxError("does not start with /", f"write /{pattern}")
    if any(character < " " or character == "\x7f" or character in "?#\\" for character in pattern):
        raise PatternSyntaxError("has a ?, a #, a backslash or a control character", "write the path alone")
    segments = pattern[1:].split("/")
    if len(segments) > MAX_SEGMENTS:
        raise PatternSyntaxError(f"has {len(segments)} segments", f"write {MAX_SEGMENTS} at most")
    if "" in segments[:-1] or "." in segments or ".." in segments:
        raise PatternSyntaxError("has an empty, . or .. segment", "write the path without it")
    for index, segment in enumerate(segments):
        if "{" in segment or "}" in segment:
            _param_segment(segment, last=index == len(segments) - 1)
    names = path_params(pattern)
    for name in names:
        if names.count(name) > 1:
            raise PatternSyntaxError(f"has the parameter {name} twice", "give each its own name")


def _param_segment(segment: str, *, last: bool) -> None:
    found = _PARAM.match(segment)
    if not found:
        raise PatternSyntaxError(f"has the segment {segment!r}", "let a parameter be a whole segment, such as {name}")
    name, convertor = found.groups()
    if convertor not in (None, "path"):
        hint = f"write {{{name}}}; parameters reach the function as strings"
        raise PatternSyntaxError(f"has the convertor {convertor!r}, and only path is known", hint)
    if convertor == "path" and not last:
        raise PatternSyntaxError(f"has {segment} before the end", "put it last; it takes the whole rest of the path")


def is_node_address(url: str) -> bool:
    """Return whether a text is an address such as ``http://10.0.0.7:8000``."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
