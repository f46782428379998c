"""What the admin API shows. Nothing here changes anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from ...canary.report import describe
from ...capabilities.backends import without_secrets
from ...config.settings import split_list
from ...exceptions import FunctionNotFound
from ...pipelines.plan import Pipeline
from ...runtime.runtime import WasmRuntime
from ...sync.pace import Paces
from .access import Refused
from .call import AdminCall

paces = Paces()
"""For what is as long as there are functions, or tenants."""
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_COMMENT_SECONDS = 15.0
_LOOK_SECONDS = 0.5


async def functions(call: AdminCall) -> Response:
    """List functions: versions, digests, policies, health, cold starts, memory, p50 and p99, errors."""
    return await _listed(call, "functions", await functions_seen(call))


async def _listed(call: AdminCall, key: str, things: Sequence[dict[str, Any]]) -> Response:
    """Return a list as JSONResponse would, encoded thing by thing."""
    encoded = [_encode(each) async for each in paces.here().in_turns(call.identity.name, things)]
    return Response(f'{{"{key}":[{",".join(encoded)}]}}', media_type="application/json")


async def function(call: AdminCall) -> Response:
    """Show one function."""
    if not any(name == call.function for name, _ in call.runtime.deployment.functions):
        raise FunctionNotFound(call.function)
    return JSONResponse((await _described(call, [call.function]))[0])


async def functions_seen(call: AdminCall) -> list[dict[str, Any]]:
    """Return the functions that the caller sees, each with its versions and their figures."""
    names = sorted({name for name, _ in call.runtime.deployment.functions if call.identity.sees(name)})
    return await _described(call, names)


async def _described(call: AdminCall, names: Sequence[str]) -> list[dict[str, Any]]:
    """Go through functions and targets once, however many there are: this is on the event loop."""
    deployment, verdicts = call.runtime.deployment, call.runtime.health.verdicts()
    policies: dict[int, set[str]] = {}
    for target in deployment.bound:
        policies.setdefault(id(target.function), set()).add(target.policy.name)
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    functions = sorted(deployment.functions.items())
    async for (name, version), loaded in paces.here().in_turns(call.identity.name, functions):
        if name in found:
            found[name][version] = {
                "digest": f"sha256:{loaded.digest}",
                "size": loaded.size,
                "from_aot_cache": loaded.cached,
                "healthy": verdicts.get((name, version)),
                "policies": sorted(policies.get(id(loaded), ())),
                "protocol": loaded.source.manifest.protocol,
                "description": loaded.source.manifest.description,
                **call.figures.describe(name, version),
            }
    return [{"name": name, "versions": versions} for name, versions in found.items()]


async def routes(call: AdminCall) -> Response:
    """List the rules, with their weights, and what routes of the app name."""
    return JSONResponse(routes_seen(call))


def routes_seen(call: AdminCall) -> dict[str, Any]:
    """Return the rules, routes and shifts of the functions that the caller sees."""
    deployment = call.runtime.deployment
    rules = [
        rule.model_dump(mode="json", by_alias=True)
        for rule in deployment.config.rules
        if call.identity.sees(rule.function_name)
    ]
    bound = [
        {"route": route, "functionName": name, "version": version, "policy": policy}
        for name, version, policy, route in deployment.targets
        if route and call.identity.sees(name)
    ]
    return {"rules": rules, "routes": bound, "shifts": shifts_seen(call)}


def shifts_seen(call: AdminCall) -> dict[str, Any]:
    """Return the weights that were given for a while, by function."""
    return {
        name: {"from": part.stable, "to": part.canary, "percent": part.percent}
        for name, part in call.runtime.shifts.all.items()
        if call.identity.sees(name)
    }


async def canaries(call: AdminCall) -> Response:
    """List the canaries, as the store knows them."""
    await call.runtime.canaries.look()
    found = [
        describe(name, live) | {"unavailable": call.runtime.canaries.unavailable(live)}
        for name, live in call.runtime.canaries.all.items()
        if call.identity.sees(name)
    ]
    return JSONResponse({"canaries": found})


async def canary(call: AdminCall) -> Response:
    """Show one canary."""
    await call.runtime.canaries.look()
    live = call.runtime.canaries.all.get(call.function)
    if live is None:
        raise Refused(404, f"{call.function} has no canary")
    record = None if live.record is None else live.record.dump()
    return JSONResponse(describe(call.function, live) | {"record": record})


async def pipelines(call: AdminCall) -> Response:
    """List the pipelines, with the functions of their steps."""
    found = [
        {
            "path": pipeline.route,
            "methods": pipeline.methods,
            "steps": str(pipeline),
            "functions": [{"name": target.name, "version": target.version} for target in pipeline.targets],
        }
        for pipeline in pipelines_seen(call)
    ]
    return JSONResponse({"pipelines": found})


def pipelines_seen(call: AdminCall) -> list[Pipeline]:
    """Return the pipelines whose functions the caller sees, each one of them."""
    return [
        pipeline
        for pipeline in call.runtime.deployment.pipelines.all
        if all(call.identity.sees(target.name) for target in pipeline.targets)
    ]


async def circuits(call: AdminCall) -> Response:
    """List the circuits of pipelines, with their states."""
    return JSONResponse({"circuits": circuits_seen(call)})


def circuits_seen(call: AdminCall) -> dict[str, str]:
    """Return the states of the circuits that the caller sees, by name."""
    return {
        name: str(state) for name, state in call.runtime.circuits.items() if call.identity.sees(name.partition(" ")[0])
    }


async def stores(call: AdminCall) -> Response:
    """Show which stores are used, without secrets, the state of the runtime, and what is amiss."""
    runtime, settings = call.runtime, call.runtime.settings
    urls = {key: without_secrets(getattr(settings, key)) for key in ("canary_url", "kv_url", "queue_url")}
    return JSONResponse({"stores": urls, "state": runtime.state, "stats": runtime.stats(), "notes": notes(runtime)})


def notes(runtime: WasmRuntime) -> list[str]:
    """Return what is amiss, a line each."""
    return [*runtime.canaries.notes, *(f"{topic}: {note}" for topic, note in runtime.notes.items())]


async def tenants(call: AdminCall) -> Response:
    """List the tenants with their quotas, and what this process knows of their use."""
    return await _listed(call, "tenants", await tenants_seen(call))


async def tenants_seen(call: AdminCall) -> list[dict[str, Any]]:
    """Return the tenants, of which clients may have made up thousands."""
    usages = call.runtime.tenancy.listed()
    return [each.describe() async for each in paces.here().in_turns(call.identity.name, usages)]


async def nodes(call: AdminCall) -> Response:
    """Compare the nodes of the setting ``nodes``, and name what each has otherwise than most."""
    return JSONResponse({"nodes": await nodes_seen(call)})


async def nodes_seen(call: AdminCall) -> list[dict[str, Any]]:
    """Return a row for each node of the setting ``nodes``; none without it."""
    settings = call.runtime.settings
    token = settings.endpoints_token
    urls = split_list(settings.nodes)
    return await call.node_watch.rows(urls, None if token is None else token.get_secret_value()) if urls else []


async def faults(call: AdminCall) -> Response:
    """List the last faults, the newest first, with the ids of their traces and requests."""
    wanted = call.request.query_params.get("function")
    return JSONResponse({"faults": list(faults_seen(call, wanted))})


def faults_seen(call: AdminCall, wanted: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the faults that the caller sees, the newest first; those of one function if it is ``wanted``."""
    for fault in reversed(list(call.recorder.faults)):
        if call.identity.sees(fault["function"]) and wanted in (None, fault["function"]):
            yield fault


async def audit(call: AdminCall) -> Response:
    """List the last entries of the audit log of this process, the newest first."""
    return JSONResponse({"entries": [asdict(entry) for entry in reversed(list(call.audit.entries))]})


async def log(call: AdminCall) -> Response:
    """Send the log lines of a function as they come (server-sent events), until the client goes or the drain begins."""
    if call.recorder.is_full_for(call.identity.name):
        raise Refused(503, "too many follow a log already", retry_after=5)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(call), 200, headers, "text/event-stream")


async def _events(call: AdminCall) -> AsyncIterator[str]:
    if call.recorder.is_full_for(call.identity.name):  # others began between the look in log() and now
        yield ": too many follow a log already\n\n"
        return
    lines = call.recorder.follow(call.function, call.identity.name)
    number, silent = 0, 0.0
    try:
        yield ": the lines of this process follow\n\n"
        while call.runtime.state == "open":
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    line = await lines.get()
            except TimeoutError:
                silent += _LOOK_SECONDS
                if silent >= _COMMENT_SECONDS:
                    silent = 0.0
                    yield ": still here\n\n"
                continue
            number, silent = number + 1, 0.0
            yield f"id: {number}\nevent: line\ndata: {json.dumps(line)}\n\n"
    finally:
        call.recorder.leave(lines)
