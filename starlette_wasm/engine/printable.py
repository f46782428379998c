"""Makes text of guests and of files fit to be shown."""

from __future__ import annotations


def escape(text: str, keep: str = "\t") -> str:
    """Put text on one line, and without what a terminal takes for a command; ``keep`` stays."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)


def bounded(text: str, most: int) -> str:
    """Escape text, and cut it after ``most`` characters."""
    return escape(text) if len(text) <= most else f"{escape(text[:most])}..."
