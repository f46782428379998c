"""What a registry's answers mean: when to try again, where they lead, what they hold, and why they refuse."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin

import httpx

from ...protocols.small_json import load_small
from .errors import RegistryError
from .reference import Reference

_LONGEST_PAUSE = 30.0


async def pause(attempt: int, answer: httpx.Response | None) -> None:
    """Wait before the next try: as long as the registry asks for, else exponentially longer, with full jitter."""
    wanted = None if answer is None else _retry_after(answer.headers.get("retry-after"))
    seconds = random.uniform(0, 0.5 * 2**attempt) if wanted is None else wanted
    await asyncio.sleep(min(seconds, _LONGEST_PAUSE))


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def joined(answer: httpx.Response, place: str, reference: Reference) -> str:
    """Return the address that an answer leads to."""
    try:
        return urljoin(str(answer.url), place)
    except ValueError:
        raise RegistryError("leads to an address that cannot be used", source=str(reference)) from None


def read_object(answer: httpx.Response, reference: Reference) -> dict[str, Any]:
    """Return the JSON object that an answer holds. Raises RegistryError."""
    try:
        document = load_small(answer.content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RegistryError("did not answer with a JSON object", source=str(reference))
    return document


def refusal(reference: Reference, answer: httpx.Response) -> RegistryError:
    """Make an error of an answer, with the registry's own codes."""
    codes = ""
    with suppress(ValueError, httpx.ResponseNotRead, AttributeError, TypeError):
        errors = load_small(answer.content)["errors"]
        codes = ", ".join(str(error.get("code", ""))[:60] for error in errors[:3])
    if answer.status_code == 404:
        return RegistryError(
            f"not found{f' ({codes})' if codes else ''}", source=str(reference), hint="check name and tag"
        )
    if answer.status_code in (401, 403):
        hint = f"run docker login {reference.host} with an account that may"
        return RegistryError("access denied", source=str(reference), hint=hint)
    return RegistryError(f"answered {answer.status_code}{f' ({codes})' if codes else ''}", source=str(reference))


def unreachable(reference: Reference, error: Exception) -> RegistryError:
    """Make an error for a registry that gave no answer."""
    text = str(error) or type(error).__name__
    hint = "check the address, and whether the registry runs"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        hint = "name the certificate of its authority with --ca FILE"
    return RegistryError(f"cannot be reached: {text}", source=str(reference), hint=hint)
