"""Renders the pages with Jinja2, with headers that let a page load nothing from elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.responses import HTMLResponse, Response

from ....sync.threads import FairThreads
from .policy_words import duration, size

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_WIDTH, _HEIGHT = 120, 24  # of a chart
_threads = FairThreads("starlette-wasm-pages", most=2, each=1)
_KINDS = {"dashboard.css": "text/css", "dashboard.js": "text/javascript", "icon.svg": "image/svg+xml"}
HINT = "the dashboard needs Jinja2: pip install 'starlette-wasm[dashboard]'"


async def render(template: str, status: int, context: dict[str, Any]) -> Response:
    """Return a page. A page of many functions takes milliseconds: a thread makes it. Raises ImportError.

    Strangers get pages too: theirs wait for each other.
    """
    environment = _environment()
    text = await _threads.run(context.get("who"), lambda: environment.get_template(template).render(context))
    return HTMLResponse(text, status, HEADERS)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "size": size,
        "duration": duration,
        "points": points,
        "percent": lambda share: f"{share * 100:.3g} %",
        "segment": lambda text: quote(text, safe=""),
        "short": lambda digest: digest.removeprefix("sha256:")[:12],
    }
    made.globals |= {"chart": {"width": _WIDTH, "height": _HEIGHT}, "edition": edition()}
    return made


@cache
def _files() -> dict[str, bytes]:
    return {name: (_FOLDER / "static" / name).read_bytes() for name in _KINDS}


@cache
def edition() -> str:
    """Return what the addresses of static files carry, so that browsers may keep them: it changes with the files."""
    return hashlib.sha256(b"".join(_files().values())).hexdigest()[:12]


def static_file(name: str) -> Response | None:
    """Return a file of the folder ``static``, or None."""
    if name not in _KINDS:
        return None
    headers = HEADERS | {"cache-control": "public, max-age=31536000, immutable"}
    return Response(_files()[name], 200, headers, media_type=_KINDS[name])


def points(values: Sequence[float], top: float | None = None) -> str:
    """Return the ``points`` of a polyline in a box of 120 by 24; ``top`` is the value at its upper edge."""
    most = max(values, default=0) if top is None else top
    if len(values) < 2 or most <= 0:
        return f"0,{_HEIGHT} {_WIDTH},{_HEIGHT}"
    step = _WIDTH / (len(values) - 1)
    return " ".join(f"{i * step:.1f},{_HEIGHT - value / most * (_HEIGHT - 1):.1f}" for i, value in enumerate(values))
