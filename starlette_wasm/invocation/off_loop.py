"""Work on a client's bytes, whose cost the client chooses: on the event loop if it is small, else in a thread."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar

from starlette.types import Scope

from ..exceptions import FunctionOverloaded
from ..functions.target import Target
from ..messages import EdgeRequest, EdgeResponse
from ..protocols.headers import Rendered, render
from ..sync.threads import FairThreads

T = TypeVar("T")

_MOST_ON_LOOP = 256 << 10
"""Bytes of a body that are encoded on the event loop: it takes 1 to 3 ms for them."""
_HEAD_WEIGHT = 64
"""What a byte of a path or query counts beside one of a body: a query may be a pair for each two bytes."""
_HEADER_WEIGHT = 256
"""What each header counts, however short it is."""
LONGEST_WAIT = 30.0
"""Seconds until a request is refused whose work waits, or is done, in these threads, if it has no time limit yet."""
_threads = FairThreads("starlette-wasm-bytes", most=4, each=1)


def is_large_scope(scope: Scope, body: bytes) -> bool:
    """Return whether ``EdgeRequest.from_scope()`` is to run in a thread."""
    head = len(scope["path"]) + len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
    return len(body) + _HEAD_WEIGHT * head + _HEADER_WEIGHT * len(scope["headers"]) > _MOST_ON_LOOP


def is_large(request: EdgeRequest) -> bool:
    """Return whether a request is to be encoded in a thread."""
    size = 0 if request.body is None else len(request.body)
    head = len(request.path) + len(request.raw_path) + len(request.url)
    headers = len(request.headers)
    if request.multi_value_headers:
        headers += sum(map(len, request.multi_value_headers.values()))
    return size + _HEAD_WEIGHT * head + _HEADER_WEIGHT * headers > _MOST_ON_LOOP


class TooBusy(FunctionOverloaded):
    """A request waited too long for its tenant's share of these threads."""

    def __init__(self, function: str, limit: float) -> None:
        reason = f"other large requests of the function were read for {limit:.3g} s"
        super().__init__(function, reason, retry_after=max(1, math.ceil(limit)))


async def off_loop(tenant: Hashable, work: Callable[[], T], limit: float = LONGEST_WAIT) -> T:
    """Run ``work`` in a thread; each tenant has one at a time. Raises TooBusy after ``limit`` seconds."""
    try:
        async with asyncio.timeout(limit) as bound:
            return await _threads.run(tenant, work)
    except TimeoutError:
        if bound.expired():
            raise TooBusy(str(tenant[0] if isinstance(tenant, tuple) else tenant), limit) from None
        raise


async def check_size(target: Target, request: EdgeRequest) -> None:
    """Raise RequestTooLarge; a large body is counted in a thread."""
    check = partial(target.check_size, request)
    await off_loop(target.tenant, check) if is_large(request) else check()


async def rendered(tenant: Hashable, response: EdgeResponse, method: str) -> Rendered:
    """Call ``render()``, in a thread if the body is large and is yet to be encoded."""
    work = partial(render, response, method, checked=True)
    body = response.body
    plain = response.is_base64_encoded or len(body) <= _MOST_ON_LOOP or body.isascii()
    return work() if plain else await off_loop(tenant, work)
