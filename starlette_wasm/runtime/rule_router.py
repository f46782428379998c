"""The router of a deployment's rules: one, or one for each audience."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..config.router import RouteRule
from ..traffic.audience import Audience, AudienceRouter
from ..traffic.router import Router
from ..traffic.weights import process_phase

if TYPE_CHECKING:
    from ..canary.traffic_split import TrafficSplit
    from ..functions.target import Target
    from ..pipelines.plan import Pipeline

    RuleRouter = Router[RouteRule, Target | Pipeline] | AudienceRouter[RouteRule, Target | Pipeline]
    _Group = tuple[list[tuple[RouteRule, Target | Pipeline]], list[RouteRule]]
    """The rules of one audience, with their targets, and those whose function is left out."""


def audience_of(rule: RouteRule) -> Audience:
    """Return whose requests a rule is for."""
    return Audience(tuple(sorted(rule.hosts)), tuple(sorted(rule.tenants)))


def route_rules(
    rules: Sequence[tuple[RouteRule, Target | Pipeline]], absent: Sequence[RouteRule], weigh: TrafficSplit
) -> RuleRouter:
    """Return the router; a plain one if no rule names hosts or tenants. Raises ValueError."""
    groups: dict[Audience, _Group] = {}
    for member in rules:
        groups.setdefault(audience_of(member[0]), ([], []))[0].append(member)
    for rule in absent:
        groups.setdefault(audience_of(rule), ([], []))[1].append(rule)
    routers = [
        (audience, Router(members, absent=missing, weigh=weigh, phase=process_phase()))
        for audience, (members, missing) in (groups or {Audience(): ([], [])}).items()
    ]
    return routers[0][1] if groups.keys() <= {Audience()} else AudienceRouter(routers)
