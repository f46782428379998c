"""Strings of the canonical ABI: UTF-8, UTF-16, and Latin-1 or UTF-16 with a tag in the length."""

from __future__ import annotations

from .errors import CanonicalTrap

UTF16_TAG = 1 << 31
MAX_BYTES = (1 << 28) - 1
"""Bytes of a string, by the specification."""


def place_of(encoding: str, length: int) -> tuple[int, int]:
    """Return alignment and bytes of a string with that length by the guest."""
    if encoding == "utf8":
        alignment, size = 1, length
    elif encoding == "utf16":
        alignment, size = 2, length * 2
    else:
        alignment, size = 2, (length ^ UTF16_TAG) * 2 if length & UTF16_TAG else length
    if size > MAX_BYTES:
        raise CanonicalTrap("string is too long")
    return alignment, size


def decode(encoding: str, length: int, data: bytes) -> str:
    codec = "utf-8"
    if encoding == "utf16" or (encoding != "utf8" and length & UTF16_TAG):
        codec = "utf-16-le"
    elif encoding != "utf8":
        codec = "latin-1"
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        raise CanonicalTrap(f"invalid {codec} in a string") from None


def encode(encoding: str, text: str) -> tuple[int, int, bytes]:
    """Return alignment, length as the guest gets it, and bytes. Raises UnicodeEncodeError for lone surrogates."""
    if encoding == "utf8":
        data = text.encode()
        length, alignment = len(data), 1
    elif encoding == "utf16" or not _is_latin1(text):
        data = text.encode("utf-16-le")
        length, alignment = len(data) // 2, 2
        if encoding != "utf16":
            length |= UTF16_TAG
    else:
        data = text.encode("latin-1")
        length, alignment = len(data), 2
    if len(data) > MAX_BYTES:
        raise CanonicalTrap("string is too long")
    return alignment, length, data


def _is_latin1(text: str) -> bool:
    return text.isascii() or all(char <= "\xff" for char in text)
