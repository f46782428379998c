"""Rules for some requests alone: those of a host, or of a tenant."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

from .choices import Match, Rule, Weigh
from .router import Router

R = TypeVar("R", bound=Rule)
T = TypeVar("T")

_MOST_KNOWN = 1024
_LONGEST_HOST = 255
"""Characters of a name that can be one: what clients send as a host may have thousands."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Whose requests rules are for; empty tuples stand for all."""

    hosts: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()

    def rank(self, host: str, tenant: str) -> tuple[bool, int] | None:
        """Return how closely it fits a request, the higher the better; None if it does not."""
        if self.tenants and tenant not in self.tenants:
            return None
        fits = [len(each) + (each[:1] != "*") * 1000 for each in self.hosts if fits_host(each, host)]
        if self.hosts and not fits:
            return None
        return bool(self.tenants), max(fits, default=0)


def patterns_of(host: str) -> Iterator[str]:
    """Yield the patterns that fit a host, the closest first."""
    if len(host) <= _LONGEST_HOST:
        yield host
        at = host.find(".")
        while at >= 0:
            yield f"*{host[at:]}"
            at = host.find(".", at + 1)


def fits_host(pattern: str, host: str) -> bool:
    """Return whether a host is meant; ``*.b.example`` means what is below b.example, not itself."""
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


_Member = tuple[Audience, Router[R, T]]


class AudienceRouter(Generic[R, T]):
    """A router for each audience. A request goes to the one that fits it closest and has a pattern for its path.

    A tenant goes before a host, a host before ``*.domain``, and that before rules for all.
    """

    def __init__(self, routers: Sequence[tuple[Audience, Router[R, T]]]) -> None:
        self._routers = routers
        self._known: dict[tuple[str, str], list[Router[R, T]]] = {}
        self._of_host: dict[str, list[_Member[R, T]]] = {}
        self._of_tenant: dict[str, list[_Member[R, T]]] = {}
        """Of any host."""
        self._of_all: list[_Member[R, T]] = []
        for member in routers:
            audience = member[0]
            for host in audience.hosts:
                self._of_host.setdefault(host, []).append(member)
            if not audience.hosts:
                for tenant in audience.tenants:
                    self._of_tenant.setdefault(tenant, []).append(member)
                if not audience.tenants:
                    self._of_all.append(member)

    def match(self, path: str) -> Match[R, T] | None:
        """Return the pattern that fits a path, whoever asks."""
        return next((found for _, router in self._routers if (found := router.match(path)) is not None), None)

    def match_for(self, path: str, host: str, tenant: str) -> Match[R, T] | None:
        """Return the most specific pattern that fits, of the rules for this host and tenant; None if there is none."""
        for router in self._fitting(host, tenant):
            found = router.match(path)
            if found is not None:
                return found
        return None

    def _fitting(self, host: str, tenant: str) -> list[Router[R, T]]:
        key = host[: _LONGEST_HOST + 1], tenant
        found = self._known.get(key)
        if found is None:
            members = dict.fromkeys(self._candidates(host, tenant))
            ranked = [(rank, router) for audience, router in members if (rank := audience.rank(host, tenant))]
            ranked.sort(key=lambda pair: pair[0], reverse=True)
            found = [router for _, router in ranked]
            if len(self._known) >= _MOST_KNOWN:  # hosts are what clients send
                self._known.clear()
            self._known[key] = found
        return found

    def _candidates(self, host: str, tenant: str) -> Iterator[_Member[R, T]]:
        """Yield those that may fit, some more than once, however many there are: hosts are what clients send."""
        for pattern in patterns_of(host):
            yield from self._of_host.get(pattern, ())
        yield from self._of_tenant.get(tenant, ())
        yield from self._of_all

    def targets(self) -> Iterator[tuple[T, bool]]:
        return chain.from_iterable(router.targets() for _, router in self._routers)

    def reweigh(self, weigh: Weigh[R, T], functions: Collection[str]) -> None:
        """Change weights as Router.reweigh() does. Raises ValueError."""
        for _, router in self._routers:
            router.reweigh(weigh, functions)
