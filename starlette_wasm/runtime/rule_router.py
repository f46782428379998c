"""The router of a deployment's rules: one, or one for each audience."""

from __future__ import annotations

from collections.abc import Sequence

from ..canary.traffic_split import TrafficSplit
from ..config.router import RouteRule
from ..functions.target import Target
from ..pipelines.plan import Pipeline
from ..traffic.audience import Audience, AudienceRouter
from ..traffic.router import Router
from ..traffic.weights import process_phase

RuleRouter = Router[RouteRule, Target | Pipeline] | AudienceRouter[RouteRule, Target | Pipeline]


def audience_of(rule: RouteRule) -> Audience:
    """Return whose requests a rule is for."""
    return Audience(tuple(sorted(rule.hosts)), tuple(sorted(rule.tenants)))


def route_rules(
    rules: Sequence[tuple[RouteRule, Target | Pipeline]], absent: Sequence[RouteRule], weigh: TrafficSplit
) -> RuleRouter:
    """Return the router; a plain one if no rule names hosts or tenants. Raises ValueError."""
    audiences = list(dict.fromkeys(audience_of(rule) for rule in (*(rule for rule, _ in rules), *absent)))
    routers = [
        (
            audience,
            Router(
                [member for member in rules if audience_of(member[0]) == audience],
                absent=[rule for rule in absent if audience_of(rule) == audience],
                weigh=weigh,
                phase=process_phase(),
            ),
        )
        for audience in audiences or [Audience()]
    ]
    return routers[0][1] if audiences in ([], [Audience()]) else AudienceRouter(routers)
