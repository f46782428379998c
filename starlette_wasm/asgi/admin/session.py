"""The cookie that keeps the token of a browser: it cannot send one with each page that it opens."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ...traffic.cookies import cookie_value

COOKIE = "starlette_wasm_admin"
SECONDS = 8 * 3600
"""How long a browser keeps the cookie."""


def kept_token(request: Request) -> str | None:
    """Return the token in the cookie, if there is one."""
    for header in request.headers.getlist("cookie"):
        if token := cookie_value(header, COOKIE):
            return token
    return None


def keep(response: Response, request: Request, token: str) -> None:
    """Set the cookie: for this mount alone, out of reach of scripts, and not sent by what other sites post."""
    response.set_cookie(
        COOKIE,
        token,
        max_age=SECONDS,
        path=_path(request),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )


def forget(response: Response, request: Request) -> None:
    """Take the cookie out of the browser."""
    response.delete_cookie(COOKIE, path=_path(request), httponly=True, samesite="lax")


def _path(request: Request) -> str:
    return str(request.scope.get("root_path", "")) or "/"
