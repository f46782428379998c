"""What each page of the dashboard shows, as data for its template. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from ....canary.report import describe
from ....exceptions import FunctionNotFound
from .. import reads
from ..call import AdminCall
from ..history import SLOT_SECONDS
from .graph import graph
from .policy_words import in_plain_words

Context = dict[str, Any]
_RECENT_SLOTS = 12
"""Slots that the figures "now" are made of: a minute."""
_FAULTS_OF_FUNCTION = 20
_SORTS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "name": lambda row: row["name"],
    "traffic": lambda row: (-row["rate"], row["name"]),
    "errors": lambda row: (-row["error_rate"], -row["errors"], row["name"]),
    "p99": lambda row: (-(row["p99_ms"] or 0), row["name"]),
}


_ACTIONS = {
    "running": ["pause", "promote", "abort"],
    "paused": ["resume", "promote", "abort"],
    "waiting": ["abort"],
    "none in this region": [],
}
"""What can be done to a canary in each state; in others it can be started."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: ``context`` gives what its template needs."""

    path: str
    template: str
    title: str
    context: Callable[[AdminCall], Awaitable[Context]]
    of_all: bool = False
    """Whether it is about the runtime as a whole, and so not for who may see some functions only."""

    @property
    def name(self) -> str:
        return self.template.removesuffix(".html")


async def overview(call: AdminCall) -> Context:
    """Show traffic, errors and p99 of each function, and what is amiss."""
    seen = await reads.functions_seen(call)
    rows = [_row(call, each) async for each in reads.paces.here().in_turns(call.identity.name, seen)]
    sort = call.request.query_params.get("sort", "name")
    rows.sort(key=_SORTS.get(sort, _SORTS["name"]))
    runtime, sees_all = call.runtime, call.identity.may("read")
    circuits = reads.circuits_seen(call)
    return {
        "functions": rows,
        "sort": sort if sort in _SORTS else "name",
        "sorts": list(_SORTS),
        "rate": sum(row["rate"] for row in rows),
        "error_rate": _share(sum(row["recent_errors"] for row in rows), sum(row["recent"] for row in rows)),
        "state": runtime.state,
        "region": runtime.settings.region,
        "running": runtime.stats()["running"] if sees_all else None,
        "open_circuits": sum(state != "closed" for state in circuits.values()),
        "moving": sum(live.mine is not None and live.mine.runs for _, live in _canaries_seen(call)),
        "notes": reads.notes(runtime) if sees_all else [],
    }


def _row(call: AdminCall, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of all versions of a function, added up."""
    versions: Mapping[str, Mapping[str, Any]] = described["versions"]
    counts = [call.figures.history(described["name"], version) for version in versions]
    requests = [sum(slot) for slot in zip(*(each for each, _ in counts), strict=True)]
    errors = [sum(slot) for slot in zip(*(each for _, each in counts), strict=True)]
    recent, recent_errors = sum(requests[-_RECENT_SLOTS:]), sum(errors[-_RECENT_SLOTS:])
    verdicts = [each["healthy"] for each in versions.values()]
    return {
        "name": described["name"],
        "versions": list(versions),
        "requests": requests,
        "errors": sum(sum(each["errors"].values()) for each in versions.values()),
        "recent": recent,
        "recent_errors": recent_errors,
        "rate": recent / (_RECENT_SLOTS * SLOT_SECONDS),
        "error_rate": _share(recent_errors, recent),
        "p50_ms": _most(each["p50_ms"] for each in versions.values()),
        "p99_ms": _most(each["p99_ms"] for each in versions.values()),
        "memory": max((each["memory_peak_bytes"] for each in versions.values()), default=0),
        "healthy": False if False in verdicts else True if True in verdicts else None,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


async def function(call: AdminCall) -> Context:
    """Show one function: versions, policies, canary, latest faults, and its log as it comes."""
    seen = await reads.functions_seen(call)
    described = next((each for each in seen if each["name"] == call.function), None)
    if described is None:
        raise FunctionNotFound(call.function)
    used = {name for version in described["versions"].values() for name in version["policies"]}
    policies = {target.policy.name: target.policy for target in call.runtime.deployment.bound}
    for version, figures in described["versions"].items():
        figures["history"] = call.figures.history(call.function, version)[0]
    live = dict(_canaries_seen(call)).get(call.function)
    return {
        "function": described,
        "policies": {name: in_plain_words(policies[name]) for name in sorted(used)},
        "rules": [rule for rule in call.runtime.deployment.config.rules if rule.function_name == call.function],
        "shift": reads.shifts_seen(call).get(call.function),
        "canary": None if live is None else _canary(call, call.function, live),
        "faults": list(islice(reads.faults_seen(call, call.function), _FAULTS_OF_FUNCTION)),
    }


async def canaries(call: AdminCall) -> Context:
    """Show each canary: both versions' figures, the verdict, and when the next step can come."""
    await call.runtime.canaries.look()
    return {"canaries": [_canary(call, name, live) for name, live in _canaries_seen(call)]}


def _canaries_seen(call: AdminCall) -> list[tuple[str, Any]]:
    return [(name, live) for name, live in sorted(call.runtime.canaries.all.items()) if call.identity.sees(name)]


def _canary(call: AdminCall, name: str, live: Any) -> dict[str, Any]:
    described = describe(name, live) | {"unavailable": call.runtime.canaries.unavailable(live)}
    return described | {"actions": _possible(described["status"]) if call.identity.may("operate", name) else []}


def _possible(status: str) -> list[str]:
    """Return the actions that make sense in a state."""
    return _ACTIONS.get(status, ["start"])


async def pipelines(call: AdminCall) -> Context:
    """Show pipelines as graphs, with the states of their circuits."""
    circuits = reads.circuits_seen(call)
    return {
        "pipelines": [graph(pipeline, circuits) for pipeline in reads.pipelines_seen(call)],
        "circuits": circuits,
        "operable": {name for name in circuits if call.identity.may("operate", name.partition(" ")[0])},
    }


async def routes(call: AdminCall) -> Context:
    """Show the rules and what routes of the app name."""
    return reads.routes_seen(call)


async def faults(call: AdminCall) -> Context:
    """Show the last faults, with the guest's stack."""
    wanted = call.request.query_params.get("function") or None
    return {"faults": list(reads.faults_seen(call, wanted)), "wanted": wanted}


async def nodes(call: AdminCall) -> Context:
    """Show the nodes of the fleet, and what each has otherwise than most."""
    return {"nodes": await reads.nodes_seen(call)}


async def tenants(call: AdminCall) -> Context:
    """Show the tenants, their quotas and what they use."""
    return {"tenants": await reads.tenants_seen(call)}


async def audit(call: AdminCall) -> Context:
    """Show the last entries of the audit log."""
    return {"entries": [asdict(entry) for entry in reversed(list(call.audit.entries))]}


PAGES = [
    Page("/", "overview.html", "Overview", overview),
    Page("/ui/functions/{name}", "function.html", "Function", function),
    Page("/ui/canaries", "canaries.html", "Canaries", canaries),
    Page("/ui/pipelines", "pipelines.html", "Pipelines", pipelines),
    Page("/ui/routes", "routes.html", "Routes", routes),
    Page("/ui/tenants", "tenants.html", "Tenants", tenants, of_all=True),
    Page("/ui/nodes", "nodes.html", "Nodes", nodes, of_all=True),
    Page("/ui/faults", "faults.html", "Faults", faults),
    Page("/ui/audit", "audit.html", "Audit log", audit, of_all=True),
]
