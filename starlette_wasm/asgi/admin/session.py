"""The cookie that keeps the token of a browser: it cannot send one with each page that it opens."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ...traffic.cookies import cookie_value

COOKIE = "starlette_wasm_admin"
SECURE_COOKIE = f"__Secure-{COOKIE}"
"""Over HTTPS, where browsers take it from nobody else. ``__Host-`` needs the path /: each function would get it."""
SECONDS = 8 * 3600
"""How long a browser keeps the cookie."""


def kept_token(request: Request) -> str | None:
    """Return the token in the cookie, if there is one."""
    for header in request.headers.getlist("cookie"):
        if token := cookie_value(header, _name(request)):
            return token
    return None


def comes_from_elsewhere(request: Request) -> bool:
    """Return whether a link of another site was followed, with which the browser sends no cookie."""
    return request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site"


def keep(response: Response, request: Request, token: str) -> None:
    """Set the cookie: for this mount alone, out of reach of scripts, and never sent with what other sites ask for."""
    response.set_cookie(
        _name(request),
        token,
        max_age=SECONDS,
        path=_path(request),
        secure=_is_secure(request),
        httponly=True,
        samesite="strict",
    )


def forget(response: Response, request: Request) -> None:
    """Take the cookie out of the browser."""
    response.delete_cookie(
        _name(request), path=_path(request), secure=_is_secure(request), httponly=True, samesite="strict"
    )


def _name(request: Request) -> str:
    return SECURE_COOKIE if _is_secure(request) else COOKIE


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"


def _path(request: Request) -> str:
    return str(request.scope.get("root_path", "")) or "/"
