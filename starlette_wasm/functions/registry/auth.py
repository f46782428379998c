"""The token flow of the OCI distribution specification: from a 401 to an ``authorization`` header."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from ...protocols.small_json import load_small
from . import credentials
from .errors import RegistryError
from .reach import check_place
from .reference import Reference

_SCHEME = re.compile(r"\s*(Basic|Bearer)\s+(.*)\Z", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'(?<![a-z_])([a-z_]++)\s*+=\s*+(?:"([^"]*)"|([^\s,"]+))', re.IGNORECASE)
_LONGEST_CHALLENGE = 8192
_LEAST_SECONDS = 60
_LONGEST_SECONDS = 86_400
_EARLY_SECONDS = 5


class Authenticator:
    """Answers the challenges of one client's registries, and keeps tokens until they end."""

    def __init__(self, http: httpx.AsyncClient, *, plain: bool = False) -> None:
        """Take ``plain``: a token service may be without TLS, as it may on this machine for a registry that is here."""
        self._http = http
        self._plain = plain
        self._headers: dict[tuple[str, str, str], tuple[float, str]] = {}

    def header(self, reference: Reference, actions: str) -> str | None:
        """Return the ``authorization`` that was got before for a repository, if it is still valid."""
        until, value = self._headers.get((reference.host, reference.repository, actions), (0.0, ""))
        return value if value and time.monotonic() < until else None

    async def answer(self, reference: Reference, actions: str, challenge: str) -> str:
        """Return an ``authorization`` for a challenge (``www-authenticate``). Raises RegistryError."""
        found = _SCHEME.match(challenge) if len(challenge) <= _LONGEST_CHALLENGE else None
        if found is None:
            raise RegistryError(f"asks for a login of an unknown kind: {challenge[:80]!r}", source=str(reference))
        known = await credentials.find(reference.host, reference.repository)
        if found[1].lower() == "basic":
            if known is None or known.identity_token:
                raise _login(reference)
            value, seconds = known.basic, 3600.0
        else:
            parameters = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(found[2])}
            scope = parameters.get("scope") or f"repository:{reference.repository}:{actions}"
            value, seconds = await self._token(reference, parameters, scope, known)
        until = time.monotonic() + max(seconds, _LEAST_SECONDS) - _EARLY_SECONDS
        self._headers[reference.host, reference.repository, actions] = until, value
        return value

    async def _token(
        self, reference: Reference, parameters: Mapping[str, str], scope: str, known: credentials.Credentials | None
    ) -> tuple[str, float]:
        realm = parameters.get("realm", "")
        url = urlsplit(realm)
        local = reference.loopback and url.hostname in ("localhost", "127.0.0.1", "::1")
        if not url.hostname or url.scheme not in ("https", "http"):
            raise RegistryError(f"names no URL to get a token from: {realm[:80]!r}", source=str(reference))
        if url.scheme == "http" and not (local or self._plain):
            raise RegistryError(f"wants credentials sent to {url.hostname} without TLS", source=str(reference))
        scheme = "http" if self._plain or reference.loopback else "https"
        await check_place(reference, f"{scheme}://{reference.host}/", httpx.URL(realm))
        query = {"service": parameters.get("service", ""), "scope": scope}
        if known is not None and known.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": known.identity_token, **query}
            answer = await self._http.post(realm, data=form, follow_redirects=False)
        else:
            headers = {} if known is None else {"authorization": known.basic}
            answer = await self._http.get(realm, params=query, headers=headers, follow_redirects=False)
        if answer.status_code in (401, 403):
            raise _login(reference)
        token, seconds = _read_token(answer)
        if not token:
            raise RegistryError(
                f"the token service answered {answer.status_code}, without a token", source=str(reference)
            )
        return f"Bearer {token}", seconds


def _read_token(answer: httpx.Response) -> tuple[str, float]:
    try:
        document: Any = load_small(answer.content) if answer.status_code == 200 else {}
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        return "", 0.0
    token = document.get("token") or document.get("access_token")
    seconds = document.get("expires_in")
    lasts = 0.0
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        lasts = float(min(seconds, _LONGEST_SECONDS))
    return token if isinstance(token, str) and token.isascii() else "", lasts


def _login(reference: Reference) -> RegistryError:
    return RegistryError(
        "refuses the login", source=str(reference), hint=f"run docker login {reference.host} with an account that may"
    )
