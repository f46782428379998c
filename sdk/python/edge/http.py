"""Requests of the function's own, to the hosts that its policy allows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .host import Operation, call


@dataclass(frozen=True)
class Fetched:
    """An answer. ``headers`` has lists under lower-case names; ``url`` is where the redirects led."""

    status: int
    headers: dict[str, list[str]]
    url: str
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        return json.loads(self.body)


def fetch(
    url: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str | list[str]] | None = None,
    body: bytes | str = b"",
    timeout_ms: int | None = None,
    max_redirects: int | None = None,
) -> Fetched:
    """Send a request. Raises EdgeError if there is no answer; one of any status is returned."""
    given = {"url": url, "method": method, "headers": dict(headers or {})}
    result, content = call(Operation.HTTP_FETCH, body, **given, timeoutMs=timeout_ms, maxRedirects=max_redirects)
    return Fetched(result["status"], result["headers"], result["url"], content)
