"""``bounded_session``: what OTLP over HTTP is sent with, whatever the collector answers."""

from __future__ import annotations

from functools import cache
from http.client import HTTPException
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from .bounded_answer import MOST_BYTES, BoundedAnswer


@cache
def _bounded(pool: Any) -> Any:
    """Derive a class of pools that reads bounded answers, and connects as it did: through a SOCKS proxy, for one."""
    if issubclass(pool.ConnectionCls.response_class, BoundedAnswer):
        return pool
    connection = type(f"Bounded{pool.ConnectionCls.__name__}", (pool.ConnectionCls,), {"response_class": BoundedAnswer})
    return type(f"Bounded{pool.__name__}", (pool,), {"ConnectionCls": connection})


def _bound(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _bounded(pool) for scheme, pool in pools.items()}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *given: Any, **named: Any) -> None:
        super().init_poolmanager(*given, **named)
        _bound(self.poolmanager)

    def proxy_manager_for(self, *given: Any, **named: Any) -> Any:
        manager = super().proxy_manager_for(*given, **named)
        _bound(manager)
        return manager

    def send(self, *given: Any, **named: Any) -> requests.Response:
        """Send a request, and keep nothing of the answer but its head: no exporter reads more."""
        answer = super().send(*given, **named)
        try:
            answer.raw.read(MOST_BYTES, decode_content=False)  # an end that is near lets the connection be used again
        except (HTTPError, HTTPException, OSError):
            answer.raw.close()
        answer._content = b""
        answer.close()
        return answer


def bounded_session() -> requests.Session:
    """Return a session for OpenTelemetry's exporters of OTLP over HTTP: ``OTLPLogExporter(session=bounded_session())``.

    The timeout of an exporter is then that of a whole answer, of which 64 KiB are read and nothing is decompressed. By
    itself the library waits that long for each byte, and keeps a body without end in memory.
    """
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session
