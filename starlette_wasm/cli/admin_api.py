"""A client of the admin API of an app, for ``canary --url``."""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from typing import IO, Any
from urllib.parse import quote, urlsplit

from ..config.router import CanaryConfig
from ..exceptions import CanaryConflict, ConfigError

TOKEN = "WASM_ADMIN_TOKEN"
_SECONDS = 15.0
_MOST_BYTES = 8 << 20


class Unreachable(ConfigError):
    """The admin API does not answer, for now."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token along."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


class AdminApi:
    """Speaks to the admin API below a URL, with a token."""

    def __init__(self, url: str, token: str | None) -> None:
        """Raise ConfigError for what is not a URL, and without a token."""
        if not _is_url(url):
            hint = "write for example https://app.example.com/admin"
            raise ConfigError(f"{url!r} is not the address of an admin API", key="--url", hint=hint)
        if not token or not token.isascii() or not token.isprintable():
            raise ConfigError("the admin API needs a token", key=TOKEN, hint="put one into this environment variable")
        self._url = url.rstrip("/")
        self._token = token

    async def canaries(self, function: str | None = None) -> list[dict[str, Any]]:
        """Return the canaries, as ``canary status`` has them. Raises ConfigError."""
        answer = await self._ask("GET", "/canaries")
        found = answer.get("canaries")
        rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
        return [row for row in rows if function in (None, row.get("function"))]

    async def act(self, action: str, function: str, *, full: bool) -> None:
        """Move a canary. Raises ConfigError and CanaryConflict."""
        await self._ask("POST", f"/canaries/{quote(function, safe='')}/{action}", {"full": full}, function)

    async def record(self, canary: CanaryConfig) -> str | None:
        """Return the record of a canary, as a store has it."""
        record = (await self._canary(canary)).get("record")
        return record if isinstance(record, str) else None

    async def waves(self, canary: CanaryConfig) -> list[dict[str, Any]]:
        """Return how each region of a canary stands."""
        found = (await self._canary(canary)).get("waves")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []

    async def _canary(self, canary: CanaryConfig) -> dict[str, Any]:
        return await self._ask("GET", f"/canaries/{quote(canary.function_name, safe='')}")

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, function: str = ""
    ) -> dict[str, Any]:
        status, answer = await asyncio.to_thread(self._send, method, path, body)
        if status == 200:
            return answer
        problem = str(answer.get("detail") or f"answered {status}")[:500]
        if status == 409:
            raise CanaryConflict(function, problem, "see its status")
        kind = Unreachable if status >= 500 or status == 429 else ConfigError
        hints = {401: f"look at {TOKEN}", 403: "use a token with that scope", 404: "look at the path of --url"}
        if status == 404 and "detail" in answer:  # the admin API's own: the address is right
            hints[404] = "canary status lists those that have one"
        hint = hints.get(status)
        raise kind(problem, file=self._url, hint=hint)

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with _OPENER.open(request, timeout=_SECONDS) as answer:
                return answer.status, _json(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"cannot be reached: {error}", file=self._url, hint="check whether it runs") from None


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:  # half an IPv6 address, or a port that is not a number
        return False


def _json(stream: IO[bytes] | Any) -> dict[str, Any]:
    try:
        document = json.loads(stream.read(_MOST_BYTES))
    except (ValueError, RecursionError, OSError):
        document = None
    return document if isinstance(document, dict) else {}
