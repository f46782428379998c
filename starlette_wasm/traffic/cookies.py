"""Looks for one cookie in a client's ``Cookie`` header."""

from __future__ import annotations

MAX_HEADER = 64 << 10
"""Characters of the header that are looked at. Some servers pass longer ones on."""
MAX_VALUE = 4096
"""Characters of a value, as browsers keep them (RFC 6265, 6.1). A longer one is not a key."""


def cookie_value(header: str, name: str) -> str | None:
    """Return the value of the cookie, as the client sent it, or None.

    Nothing is unquoted: ``http.cookies`` takes quadratic time for it on Python 3.11.7 and 3.12.1
    (CVE-2024-7592). If the name comes more than once, the last one counts, as in Starlette.
    """
    found = None
    for pair in header[:MAX_HEADER].split(";"):
        key, equals, value = pair.partition("=")
        if equals and key.strip() == name:
            found = value.strip()
    return found if found is not None and len(found) <= MAX_VALUE else None
