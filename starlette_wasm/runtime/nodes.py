"""Compares what several nodes serve, by their ``/ready``."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ..config.names import is_node_address
from ..exceptions import ConfigError
from ..sync.own_thread import in_own_thread

_SECONDS = 10.0
_MOST_BYTES = 1 << 20
_MOST_SHOWN = 2000
_UNREACHABLE = "unreachable"
_VERSION = "\0"
_NAMES = {"config": "wasm.yaml", "settings": "the digest of the settings"}
FORM = "write for example http://10.0.0.7:8000"
_FRESH_SECONDS = 5.0
_MOST_THREADS = 4
_places: defaultdict[str, threading.BoundedSemaphore] = defaultdict(partial(threading.BoundedSemaphore, _MOST_THREADS))
"""For the threads that wait for each node: one that answers a byte now and then holds no more of them."""


async def compare_nodes(urls: Sequence[str], token: str | None) -> list[dict[str, Any]]:
    """Ask each node, all at once, and compare their answers. Raises ConfigError for what is not an address."""
    for url in urls:
        if not is_node_address(url):
            raise ConfigError(f"{url!r} is not the address of a node", hint=FORM)
    urls = list(dict.fromkeys(urls))
    found = await asyncio.gather(*(_look(url, token) for url in urls))
    return await in_own_thread(lambda: compare(dict(zip(urls, found, strict=True))))


class NodeWatch:
    """Compares the same nodes for whoever looks, once in five seconds at most."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._rows: list[dict[str, Any]] = []
        self._at = -_FRESH_SECONDS

    async def rows(self, urls: Sequence[str], token: str | None) -> list[dict[str, Any]]:
        """Return what compare_nodes() does."""
        async with self._turn:
            if time.monotonic() - self._at >= _FRESH_SECONDS:
                self._rows = await compare_nodes(urls, token)
                self._at = time.monotonic()
            return self._rows


class Away(str):
    """The reason why a node was not reached; any other text is why it cannot be compared."""


def compare(nodes: Mapping[str, Mapping[str, Any] | str]) -> list[dict[str, Any]]:
    """Return a row for each node; ``differs`` names what it has otherwise than most nodes.

    A node is the body of its ``/ready``, or why there is none, which is then its ``problem``.
    """
    served = {url: _digests(body) for url, body in nodes.items() if not isinstance(body, str)}
    usual = {key: _usual([digests.get(key, "") for digests in served.values()]) for key in _keys(served)}
    rows = []
    for url, body in nodes.items():
        about: Mapping[str, Any] = {} if isinstance(body, str) else body
        rows.append(
            {
                "node": url,
                "status": _UNREACHABLE if isinstance(body, Away) else str(about.get("status", "unknown"))[:60],
                "region": str(about.get("region", ""))[:60],
                "functions": sum(key.startswith(_VERSION) for key in served.get(url, ())),
                "differs": _shown("; ".join(_differences(served[url], usual))) if url in served else "",
                "problem": _shown(body) if isinstance(body, str) else "",
            }
        )
    return rows


def _keys(served: Mapping[str, Mapping[str, str]]) -> list[str]:
    return sorted({key for digests in served.values() for key in digests})


def _usual(values: list[str]) -> str:
    """Return what most nodes have; of several that are as many, the first in order."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def _digests(body: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of each version, and of what else the node goes by; versions begin with ``_VERSION``."""
    functions, policies = body.get("functions"), body.get("policies")
    found = {
        f"{_VERSION}{name} v{version}": str(about.get("digest", ""))
        for name, versions in (functions.items() if isinstance(functions, dict) else ())
        if isinstance(versions, dict)
        for version, about in versions.items()
        if isinstance(about, dict)
    }
    found |= {
        f"the policy {name}": str(each) for name, each in (policies if isinstance(policies, dict) else {}).items()
    }
    return found | {_NAMES[key]: str(body[key]) for key in _NAMES if isinstance(body.get(key), str)}


def _differences(digests: Mapping[str, str], usual: Mapping[str, str]) -> list[str]:
    found = []
    for key, common in usual.items():
        here, name = digests.get(key, ""), key.removeprefix(_VERSION)
        if here != common:
            what = f"{name} is {_short(here)}, elsewhere {_short(common)}" if here and common else ""
            found.append(what or (f"{name} is missing" if common else f"{name} is only here"))
    return found


def _shown(text: str) -> str:
    """Return what a node may have made up, so that it can be shown."""
    cut = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
    return "".join(char if char.isprintable() else "?" for char in cut)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


async def _look(url: str, token: str | None) -> dict[str, Any] | str:
    """Return the body of a node's ``/ready``, or why there is none."""
    place = _places[url]
    if not place.acquire(blocking=False):
        return Away("has not answered when it was asked before")

    def read() -> dict[str, Any] | str:
        try:
            return _read(url, token)
        finally:
            place.release()

    try:
        async with asyncio.timeout(2 * _SECONDS):
            return await in_own_thread(read)
    except TimeoutError:
        return Away(f"has not answered within {2 * _SECONDS:.0f} s")
    except RuntimeError as error:  # no thread can be started, so that nothing else gives the place back
        place.release()
        return Away(f"cannot be asked: {error}")


def _read(url: str, token: str | None) -> dict[str, Any] | str:
    parts = urlsplit(url)
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        with closing(kind(parts.netloc.rpartition("@")[2], timeout=_SECONDS)) as connection:
            connection.request("GET", f"{parts.path.rstrip('/').removesuffix('/ready')}/ready", headers=headers)
            answer = connection.getresponse()
            data = answer.read(_MOST_BYTES + 1)
        if answer.status == 401:
            return "requires a token: give it with --token"
        if len(data) > _MOST_BYTES:
            return f"answered with more than {_MOST_BYTES} bytes"
        body = json.loads(data)
    except (OSError, http.client.HTTPException) as error:
        return Away(f"cannot be reached: {error}")
    except (ValueError, RecursionError):
        body = None
    return body if isinstance(body, dict) else "did not answer with JSON: exposeEndpoints must be true there"
