"""``Group``: the rules of one pattern, and among them the one whose turn it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from typing import Generic, Protocol, TypeAlias, TypeVar

from .sticky import Stickiness
from .weights import Cycle

MAX_SUBSETS = 64


class Rule(Protocol):
    """What the router reads of a rule; `regions` empty and `methods` None stand for all."""

    @property
    def path_pattern(self) -> str: ...
    @property
    def function_name(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def weight(self) -> int: ...
    @property
    def regions(self) -> Sequence[str]: ...
    @property
    def methods(self) -> Sequence[str] | None: ...
    @property
    def policy(self) -> str | None: ...


R = TypeVar("R", bound=Rule)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trial(Generic[T]):
    """A rule's part in a canary that runs, if both of its versions compete."""

    target: T
    """The rule's, counted for the verdict."""
    is_canary: bool
    percent: int
    """The version's share of what both get."""
    shadow: T | None = None
    """The canary's target, to be given a copy of what is safe, if it has no share yet."""


@dataclass(frozen=True, slots=True)
class Choice(Generic[R, T]):
    """The rule that gets the request, with its target and the weight in force."""

    rule: R
    target: T
    weight: int
    trial: Trial[T] | None = None
    out: bool = False
    """Nothing may reach it, not even a request that asks for its version: such as a canary that was rolled back."""


class Reason(Enum):
    NO_RULE = "no rule"
    """Region, weights or health left none: for the default function, else 503."""

    METHOD_NOT_ALLOWED = "method not allowed"
    """The region has rules, but none for the method: 405."""

    VERSION_NOT_FOUND = "version not found"
    """No rule for region and method has the version that the request asks for."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no rule gets the request; `allowed`, sorted, is for the Allow header of a 405."""

    reason: Reason
    allowed: tuple[str, ...] = ()


Pick: TypeAlias = Choice[R, T] | Refusal

_NO_RULE = Refusal(Reason.NO_RULE)
_VERSION_NOT_FOUND = Refusal(Reason.VERSION_NOT_FOUND)


Weigh: TypeAlias = Callable[[Sequence[tuple[R, T]]], Sequence[Choice[R, T]]]
"""Gives rules that compete for the same requests their weights, in the same order."""


@dataclass(slots=True)
class Match(Generic[R, T]):
    """The pattern that fits a path, the path's parameters, and the rules to pick from."""

    pattern: str
    params: dict[str, str]
    group: Group[R, T]


class Group(Generic[R, T]):
    """The rules of one pattern."""

    def __init__(
        self, pattern: str, members: Sequence[tuple[R, T]], absent: Sequence[R], weigh: Weigh[R, T], phase: float
    ) -> None:
        self.pattern = pattern
        self.function = [*(rule for rule, _ in members), *absent][0].function_name
        self._members = members
        self._absent = absent
        self._phase = phase
        self.pools: _Pools[R, T]
        self.only: Choice[R, T] | None
        """What gets each request, whatever its region and method, as long as it is healthy and no version is asked for.

        None if there is more to choose from, or a canary.
        """
        self.take(self.weighed(weigh))
        self.match: Match[R, T] = Match(pattern, {}, self)
        """The match of a path without parameters."""

    def take(self, pools: _Pools[R, T]) -> None:
        """Serve these from now on."""
        pool = pools[""][""]
        choice = pool.only if len(pools) == len(pools[""]) == 1 and isinstance(pool, _Pool) else None
        self.pools = pools
        self.only = choice if choice is not None and choice.trial is None else None

    def serves(self, functions: Collection[str]) -> bool:
        return any(rule.function_name in functions for rule, _ in self._members)

    def targets(self) -> Iterator[tuple[T, bool]]:
        for by_method in self.pools.values():
            for pool in by_method.values():
                if isinstance(pool, _Pool):
                    yield from pool.targets()

    def weighed(self, weigh: Weigh[R, T]) -> _Pools[R, T]:
        """Return the rules by region and method, with these weights. Raises ValueError."""
        # "" stands for every region, and every method, that no rule names: what clients send is
        # looked up here and never stored.
        pools: _Pools[R, T] = {}
        rules = [*(rule for rule, _ in self._members), *self._absent]
        named = {region for rule in rules for region in rule.regions}
        try:
            for region in {"", *named}:
                serving = [
                    (rule, target)
                    for rule, target in self._members
                    if not rule.regions or (region and region in rule.regions)
                ]
                left_out = [rule for rule in self._absent if not rule.regions or (region and region in rule.regions)]
                pools[region] = _by_method(serving, left_out, weigh, self._phase)
        except ValueError as error:
            raise ValueError(f"rules of {self.pattern}: {error}") from error
        return pools

    def pick(
        self,
        method: str,
        region: str,
        *,
        healthy: Callable[[T], bool] | None = None,
        forced_version: str | None = None,
        sticky_key: str | None = None,
    ) -> Pick[R, T]:
        """Return the rule for one request.

        Rules of the region and rules without regions share it by weight, exactly over any window of
        the sum of their weights; HEAD is allowed where GET is. With `healthy`, the targets that fail
        it are left out, and the others share by their weights. With `forced_version`, only rules of
        that version count, also at weight 0. With `sticky_key`, the same key gets the same rule as
        long as weights and health allow (see Stickiness).
        """
        by_method = self.pools.get(region) or self.pools[""]
        pool = by_method.get(method) or by_method[""]
        if isinstance(pool, Refusal):
            return pool
        return pool.pick(healthy, forced_version, sticky_key)


class _Pool(Generic[R, T]):
    """The rules that compete for the same requests."""

    def __init__(self, choices: Sequence[Choice[R, T]], phase: float) -> None:
        self._choices = choices
        self._weighted = tuple(index for index, choice in enumerate(choices) if choice.weight)
        self.only = choices[self._weighted[0]] if len(self._weighted) == 1 else None
        """The only choice, if all versions are healthy and no version is asked for."""
        self._versioned = any(choice.rule.version is not None for choice in choices)
        self._phase = phase
        self._cycle = Cycle([choice.weight for choice in choices], phase)
        self._stickiness = Stickiness(_names([choice.rule for choice in choices]))
        self._subsets: dict[tuple[bool, tuple[int, ...]], Cycle] = {}
        self._lock = Lock()

    def targets(self) -> Iterator[tuple[T, bool]]:
        return ((choice.target, choice.weight > 0) for choice in self._choices)

    def pick(self, healthy: Callable[[T], bool] | None, version: str | None, sticky_key: str | None) -> Pick[R, T]:
        among = self._weighted
        forced = version is not None and self._versioned
        if forced:
            among = tuple(
                [i for i, choice in enumerate(self._choices) if choice.rule.version == version and not choice.out]
            )
            if not among:
                return _VERSION_NOT_FOUND
        if healthy is not None:
            among = tuple([i for i in among if healthy(self._choices[i].target)])
            if not among and not forced:
                among = self._stable(healthy)
        if not among:
            return _NO_RULE
        if len(among) == 1:
            return self._choices[among[0]]
        if sticky_key is not None:
            return self._choices[self._stickiness.place(sticky_key, among, self._weights(among))]
        if not forced and len(among) == len(self._weighted):
            at = self._cycle.next()
            return _NO_RULE if at is None else self._choices[at]
        at = self._subset(forced, among).next()
        return _NO_RULE if at is None else self._choices[among[at]]

    def _stable(self, healthy: Callable[[T], bool]) -> tuple[int, ...]:
        """Return what a canary that has all of the traffic, and fails its probes, was to replace."""
        return tuple(
            index
            for index, choice in enumerate(self._choices)
            if choice.trial is not None and not choice.trial.is_canary and healthy(choice.target)
        )

    def _weights(self, among: tuple[int, ...]) -> list[int]:
        weights = [self._choices[i].weight for i in among]
        return weights if any(weights) else [1] * len(weights)

    def _subset(self, forced: bool, among: tuple[int, ...]) -> Cycle:
        # Forced requests have turns of their own: they take none from the others.
        key = (forced, among)
        cycle = self._subsets.get(key)
        if cycle is None:
            with self._lock:
                cycle = self._subsets.get(key)
                if cycle is None:
                    if len(self._subsets) >= MAX_SUBSETS:
                        del self._subsets[next(iter(self._subsets))]
                    cycle = self._subsets[key] = Cycle(self._weights(among), self._phase)
        return cycle


_Pools: TypeAlias = dict[str, dict[str, _Pool[R, T] | Refusal]]
"""By region, then by method."""


def _by_method(
    serving: list[tuple[R, T]], left_out: list[R], weigh: Weigh[R, T], phase: float
) -> dict[str, _Pool[R, T] | Refusal]:
    if not serving:
        return {"": _NO_RULE}
    methods = [_methods(rule) for rule, _ in serving]
    missing = [_methods(rule) for rule in left_out]
    named = {method for some in [*methods, *missing] if some is not None for method in some}
    pools: dict[str, _Pool[R, T] | Refusal] = {}
    for method in {"", *named}:
        members = [
            member for member, some in zip(serving, methods, strict=True) if some is None or (method and method in some)
        ]
        if members:
            pools[method] = _Pool(weigh(members), phase)
        elif any(some is None or (method and method in some) for some in missing):
            pools[method] = _NO_RULE
        else:
            pools[method] = Refusal(Reason.METHOD_NOT_ALLOWED, tuple(sorted(named)))
    return pools


def _methods(rule: Rule) -> set[str] | None:
    if rule.methods is None:
        return None
    methods = {method.upper() for method in rule.methods}
    return methods | {"HEAD"} if "GET" in methods else methods


def _names(rules: Sequence[Rule]) -> list[str]:
    seen: Counter[tuple[str, str | None]] = Counter()
    names = []
    for rule in rules:
        key = (rule.function_name, rule.version)
        names.append(f"{rule.function_name}\n{rule.version or ''}\n{seen[key]}")
        seen[key] += 1
    return names


def own_weights(members: Sequence[tuple[R, T]]) -> list[Choice[R, T]]:
    """Give each rule the weight that it names."""
    return [Choice(rule, target, rule.weight) for rule, target in members]
