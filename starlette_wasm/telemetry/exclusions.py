"""Requests that are not traced: suppressed, excluded by an instrumentation around us, or by a setting.

An instrumentation that leaves a request out does so without a trace: what it would have started is missing, as if there
were none. So those around us are asked again, before a server span of our own takes the place of theirs.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Protocol

from opentelemetry import context as contexts
from opentelemetry.context import Context
from starlette.types import Scope

from .._compat import calling_apps
from ..traffic.router import PathTree

logger = logging.getLogger("starlette_wasm")

UNTRACED = contexts.create_key("starlette_wasm.untraced")
"""In a context in which nothing of ours is traced."""
_VARIABLES = ("OTEL_PYTHON_STARLETTE_WASM_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")
# As ``suppress_instrumentation()`` and ``suppress_http_instrumentation()`` of opentelemetry-instrumentation set them.
_SUPPRESSED = ("suppress_instrumentation", contexts._SUPPRESS_INSTRUMENTATION_KEY, UNTRACED)
_ALL_SUPPRESSED = (*_SUPPRESSED, contexts._SUPPRESS_HTTP_INSTRUMENTATION_KEY)
_DEEPEST = 200
_LIST = "excluded_urls"
"""The attribute in which the instrumentations of OpenTelemetry keep what they leave out."""


class UrlList(Protocol):
    """The ``ExcludeList`` of OpenTelemetry's instrumentations."""

    def url_disabled(self, url: str) -> bool: ...


class Patterns:
    """Regular expressions, searched for in the whole URL."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [re.compile(pattern) for pattern in patterns]

    def url_disabled(self, url: str) -> bool:
        return any(pattern.search(url) for pattern in self._patterns)


def untraced() -> bool:
    """Return whether nothing of ours is traced in this context."""
    return _has_any(contexts.get_current(), _SUPPRESSED)


def _has_any(context: Context, keys: Iterable[str]) -> bool:
    """Return whether one of them is set in a context."""
    for key in keys:  # noqa: SIM110 (any() takes twice as long)
        if context.get(key):
            return True
    return False


class Exclusions:
    """The paths that one runtime does not trace."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        """Take ``paths``, patterns as in rules."""
        self._paths: PathTree[bool] = PathTree()
        self._any_paths = False
        for path in paths:
            self._any_paths = True
            with suppress(ValueError):  # it fits the same paths as one before
                self._paths.add(path, True)
        self._around: list[UrlList] = _of_environment()

    def remember(self, app: object) -> None:
        """Keep the lists of the middleware inside ``app``, and of what is around this call."""
        for found in [*_lists(_inside(app)), *_lists(calling_apps(_DEEPEST, _LIST))]:
            if not any(found is each for each in self._around):
                self._around.append(found)

    def __call__(self, scope: Scope, context: Context, has_span: bool) -> bool:
        """Return whether a request is not to be traced; ``context`` is what it runs in, maybe with a valid span."""
        if context and _has_any(context, _ALL_SUPPRESSED):
            return True
        if self._any_paths and self._paths.match(_path(scope)) is not None:
            return True
        if has_span:
            return False
        if scope.get("fastapi.telemetry", scope) is None:  # so FastAPI marks what its telemetry excludes
            return True
        return self._is_excluded(scope)

    def _is_excluded(self, scope: Scope) -> bool:
        found = [*self._around, *_lists(calling_apps(_DEEPEST, _LIST))]
        if not found:
            return False
        url = _url(scope)
        return any(each.url_disabled(url) for each in found)


def _of_environment() -> list[UrlList]:
    """Return what the variables of OpenTelemetry exclude; the first one that is set counts, as it does there."""
    for variable in _VARIABLES:
        if variable in os.environ:
            urls = [url.strip() for url in os.environ[variable].split(",")]
            try:
                return [Patterns(filter(None, urls))]
            except re.error as error:
                logger.warning("%s excludes nothing: %s; write regular expressions, with commas", variable, error)
    return []


def _inside(app: object) -> Iterator[object]:
    while app is not None:
        yield app
        app = getattr(app, "app", None) or getattr(app, "middleware_stack", None)


def _lists(apps: Iterable[object]) -> list[UrlList]:
    lists: Iterable[Any] = (getattr(app, _LIST, None) for app in apps)
    return [each for each in lists if callable(getattr(each, "url_disabled", None))]


def _path(scope: Scope) -> str:
    """Return the path as the outermost app sees it."""
    path: str = scope["path"]
    root: str = scope.get("app_root_path", scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def _url(scope: Scope) -> str:
    """Return the URL as OpenTelemetry's ASGI instrumentation has it."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), None)
    if host is None:
        name, port = scope.get("server") or ("0.0.0.0", 80)
        host = name if port in (80, None) else f"{name}:{port}"
    return f"{scope.get('scheme', 'http')}://{host}{scope['path']}"
