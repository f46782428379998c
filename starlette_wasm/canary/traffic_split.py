"""What a canary makes of the weights of rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING

from ..config.router import RouteRule
from ..functions.target import Tally, Target
from ..traffic.choices import Choice, Trial

if TYPE_CHECKING:
    from ..pipelines.plan import Pipeline


@dataclass(frozen=True, slots=True)
class Part:
    """What the canary of a function gets if both versions serve."""

    stable: str
    canary: str
    percent: int
    out: bool = False
    """It gets nothing, not even if it serves alone."""
    tallies: tuple[Tally, Tally] | None = None
    """The parts of stable and of the canary, while it runs."""
    shadows: bool = False
    """The canary gets copies of what stable gets."""


class TrafficSplit:
    """Weighs rules for ``Router``: canaries by their parts, everything else by its own weight.

    The versions of a canary go on sharing what their rules have together.
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts
        self.met: set[str] = set()
        """The functions of which both versions were seen to compete."""

    def __call__(
        self, members: Sequence[tuple[RouteRule, Target | Pipeline]]
    ) -> list[Choice[RouteRule, Target | Pipeline]]:
        weights = [Fraction(rule.weight) for rule, _ in members]
        trials: list[Trial[Target | Pipeline] | None] = [None] * len(members)
        for function in {rule.function_name for rule, _ in members} & self._parts.keys():
            part = self._parts[function]
            stable, canary = (
                [
                    at
                    for at, (rule, _) in enumerate(members)
                    if rule.function_name == function and rule.version == version
                ]
                for version in (part.stable, part.canary)
            )
            if stable and canary:
                self.met.add(function)
                total = sum((weights[at] for at in (*stable, *canary)), Fraction())
                for is_canary, places in enumerate((stable, canary)):
                    percent = part.percent if is_canary else 100 - part.percent
                    _spread(weights, places, total * percent / 100)
                    if part.tallies is not None:
                        for at in places:
                            counted = replace(_target(members[at]), tally=part.tallies[is_canary])
                            trials[at] = Trial(counted, bool(is_canary), percent)
                if part.tallies is not None and part.shadows:
                    shadow = replace(_target(members[canary[0]]).isolated(), tally=part.tallies[1])
                    for at in stable:
                        trial = trials[at]
                        assert trial is not None
                        trials[at] = replace(trial, shadow=shadow)
            elif part.out:
                _spread(weights, canary, Fraction())
        outs = {(function, part.canary) for function, part in self._parts.items() if part.out}
        scale = lcm(*(weight.denominator for weight in weights))
        return [
            Choice(rule, target, int(weight * scale), trial, (rule.function_name, rule.version) in outs)
            for (rule, target), weight, trial in zip(members, weights, trials, strict=True)
        ]


def _target(member: tuple[RouteRule, Target | Pipeline]) -> Target:
    target = member[1]
    assert isinstance(target, Target), "a pipeline has no canary"
    return target


def _spread(weights: list[Fraction], places: Sequence[int], share: Fraction) -> None:
    """Give the rules at ``places`` the share, in proportion to their weights, evenly if they have none."""
    total = sum((weights[at] for at in places), Fraction())
    for at in places:
        weights[at] = share * weights[at] / total if total else share / len(places)
