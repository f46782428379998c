"""How names and values of a config stand in an error: short, printable, without passwords, with what was meant."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable

from ..engine.printable import escape

_MOST_SHOWN = 500
_MOST_MEANT = 3
_LOGIN = re.compile(r"//[^/\s@'\"]*@")
"""Who logs in, in a URL: a password has no place in a log."""
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80
_repr.maxlevel = 3


def show(value: object) -> str:
    """Show ``value`` as the user may recognise it, in at most about a hundred characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _LOGIN.sub("//...@", _repr.repr(value))


def plain(text: str) -> str:
    """Clean a part of a message that comes from a file: one printable line, at most about 500 characters."""
    shown = escape(text[:_MOST_SHOWN], keep="")[:_MOST_SHOWN]
    return shown if len(text) <= _MOST_SHOWN else f"{shown}..."


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return ``did you mean ...?``, or all the known names if none is near. A common ``prefix`` makes none nearer."""
    import difflib  # only for what is wrong anyway

    names = sorted(known)
    bare = {each.removeprefix(prefix).lower(): each for each in names}
    close = [bare[each] for each in difflib.get_close_matches(name.removeprefix(prefix).lower(), bare, n=1)]
    parts = [each for each in names if _has_word(each.removeprefix(prefix), name.removeprefix(prefix))]
    # timeoutMs is near to queueTimeoutMs, and may as well be meant as executionTimeoutMs.
    meant = parts if len(parts) <= _MOST_MEANT and set(close) <= set(parts) else close
    if meant:
        return f"did you mean {' or '.join(meant)}?"
    return f"known are {', '.join(names)}" if names else "take it out"


def _has_word(known: str, name: str) -> bool:
    """Return whether a name such as pathPattern has another, such as path or pattern, as one of its words."""
    wanted = _words(name)
    return bool(wanted) and wanted <= _words(known)


def _words(name: str) -> set[str]:
    """Return the words of a name, without the s of several."""
    return {word.lower().removesuffix("s") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
