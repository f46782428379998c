"""``GET /health``, ``/ready``, ``/metrics``, ``/metrics/canary``: served if the config has ``exposeEndpoints``.

They stand below ``endpointsPrefix``, and require the token of the settings if there is one.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.datastructures import QueryParams
from starlette.types import Scope, Send

from ..config.router import EdgeRouterConfig
from ..sync.pace import Paces
from ..sync.shared_work import SharedWork
from ..sync.threads import FairThreads
from ..telemetry.prometheus import form, readable, text
from .problems import send_plain

if TYPE_CHECKING:
    from ..runtime.runtime import WasmRuntime

_LONGEST_QUERY = 1024
_metrics: SharedWork[tuple[bytes, str]] = SharedWork(FairThreads("starlette-wasm-metrics", most=1, each=1))
"""A thread of its own: the event loop's may all be busy with the app's work, or wait for what it waits for."""
_paces = Paces()
Endpoint = Callable[["WasmRuntime", Scope, Send], Awaitable[None]]


async def health(runtime: WasmRuntime, scope: Scope, send: Send) -> None:
    """Answer that the process is alive: the event loop answers, and what makes busy guests yield runs."""
    begin = time.perf_counter()
    await asyncio.sleep(0)
    lag = time.perf_counter() - begin
    alive = runtime.engine.ticker.alive
    body = {
        "status": "alive" if alive else "the epoch ticker has stopped",
        "loop_lag_ms": round(lag * 1000, 3),
        "ticker": alive,
    }
    await _send_json(scope, send, 200 if alive else 503, body)


async def ready(runtime: WasmRuntime, scope: Scope, send: Send) -> None:
    """Answer whether traffic may come, and what would serve it: versions with the digests of their modules."""
    functions = await _functions(runtime)
    is_open = runtime.state == "open"
    reasons = runtime.health.reasons() if is_open else [f"the runtime is {runtime.state}"]
    last = runtime.reloader.last
    body = {
        "status": "not ready" if is_open and reasons else "ready" if is_open else runtime.state,
        "reasons": reasons,
        "region": runtime.settings.region,
        "functions": functions,
        **runtime.deployment.fingerprints,
        "reload": None if last is None else {"at": last.at.isoformat(timespec="seconds"), "refused": last.refused},
        "notes": list(_notes(runtime)),
    }
    await _send_json(scope, send, 503 if reasons else 200, body)


async def _functions(runtime: WasmRuntime) -> dict[str, dict[str, Any]]:
    """Return what is said of each version, however many there are."""
    functions: dict[str, dict[str, Any]] = {}
    deployment, verdicts = runtime.deployment, runtime.health.verdicts()
    found = sorted(deployment.functions.items())
    async for (name, version), function in _paces.here().in_turns("ready", found):
        functions.setdefault(name, {})[version] = {
            "digest": f"sha256:{function.digest}",
            "healthy": verdicts.get((name, version)),
        }
    for name, version in deployment.left_out:
        functions.setdefault(name, {}).setdefault(version, {"digest": None})["healthy"] = False
    return functions


def _notes(runtime: WasmRuntime) -> Iterator[str]:
    """Yield what is amiss, but does not keep traffic away."""
    for topic, note in runtime.notes.items():
        yield f"{topic}: {note}"
    if runtime.state == "open":
        yield from runtime.health.notes()
    yield from runtime.canaries.notes
    yield from runtime.events.notes
    for name, state in runtime.circuits.items():
        if state != "closed":
            yield f"circuit of {name}: {state}"


async def canary(runtime: WasmRuntime, scope: Scope, send: Send) -> None:
    """Report on the canaries, or with ``?function=`` on one of them; 503 without a body until there are enough samples.

    ``x-samples-missing`` is then how many more the canary needs that lacks most; it is not sent if none runs.
    """
    canaries = runtime.canaries.all
    query: bytes = scope["query_string"]
    if len(query) > _LONGEST_QUERY:
        await _send_json(scope, send, 414, {"error": f"the query has more than {_LONGEST_QUERY} bytes"})
        return
    function = QueryParams(query).get("function")
    if function is not None:
        canaries = {name: live for name, live in canaries.items() if name == function}
    if not canaries:
        await _send_json(scope, send, 404, {"error": "no canary" if function is None else f"no canary of {function!r}"})
        return
    from ..canary.report import describe, samples_missing, success_rate  # loaded with the first canary

    rate = success_rate(canaries)
    unavailable = {
        name: why for name, live in canaries.items() if (why := runtime.canaries.unavailable(live)) is not None
    }
    if rate is None or unavailable:
        headers = [(b"cache-control", b"no-store")]
        if unavailable:
            why = "; ".join(f"{name}: {each}" for name, each in unavailable.items())
            headers.append((b"x-canary-unavailable", why.encode("ascii", "replace")))
        missing = samples_missing(canaries)
        if missing is not None:
            headers.append((b"x-samples-missing", str(missing).encode()))
        await send_plain(scope, send, 503, b"application/json", b"", headers)
        return
    described = [describe(name, live) for name, live in canaries.items()]
    await _send_json(scope, send, 200, {"canary_success_rate": rate, "canaries": described})


async def metrics(runtime: WasmRuntime, scope: Scope, send: Send) -> None:
    """Answer with the figures for Prometheus, or 501 without prometheus-client."""
    kind = b"text/plain; charset=utf-8"
    if scope["method"] not in ("GET", "HEAD"):
        await send_plain(scope, send, 405, kind, b"Method Not Allowed", [(b"allow", b"GET, HEAD")])
        return
    accept = readable(",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"))
    try:
        body, content_type = await _metrics.run(form(accept), partial(text, accept))
    except ImportError:
        hint = b"metrics need prometheus-client: pip install 'starlette-wasm[prometheus]'\n"
        await send_plain(scope, send, 501, kind, hint)
        return
    await send_plain(scope, send, 200, content_type.encode("ascii"), body, [(b"cache-control", b"no-store")])


async def _send_json(scope: Scope, send: Send, status: int, body: dict[str, Any]) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        await send_plain(scope, send, 405, b"text/plain", b"Method Not Allowed", [(b"allow", b"GET, HEAD")])
        return
    headers = [(b"cache-control", b"no-store")]
    await send_plain(scope, send, status, b"application/json", json.dumps(body).encode(), headers)


def find_endpoint(config: EdgeRouterConfig, path: str) -> Endpoint | None:
    """Return what answers ``path``, if the config exposes it."""
    if not config.expose_endpoints or not path.startswith(config.endpoints_prefix):
        return None
    return _ENDPOINTS.get(path[len(config.endpoints_prefix) :])


def exposed(config: EdgeRouterConfig) -> list[str]:
    """Return the paths of all endpoints that the config exposes."""
    return [config.endpoints_prefix + path for path in _ENDPOINTS] if config.expose_endpoints else []


async def answer(endpoint: Endpoint, runtime: WasmRuntime, scope: Scope, send: Send) -> None:
    """Answer by ``endpoint``, or 401 without the token of the settings."""
    token = runtime.settings.endpoints_token
    if token is not None and not _has_token(scope, token.get_secret_value()):
        headers = [(b"www-authenticate", b"Bearer"), (b"cache-control", b"no-store")]
        await send_plain(scope, send, 401, b"text/plain", b"Unauthorized", headers)
        return
    await endpoint(runtime, scope, send)


def _has_token(scope: Scope, token: str) -> bool:
    """Return whether the request has the token, compared in a time that does not show how much of it was right."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, credentials = (given[0] if len(given) == 1 else b"").partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(credentials.strip(b" "), token.encode())


_ENDPOINTS: dict[str, Endpoint] = {
    "/health": health,
    "/ready": ready,
    "/metrics": metrics,
    "/metrics/canary": canary,
}
