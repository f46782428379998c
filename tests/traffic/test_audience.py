from __future__ import annotations

import pytest

from starlette_wasm.config.router import RouteRule
from starlette_wasm.traffic.audience import Audience, AudienceRouter, fits_host
from starlette_wasm.traffic.choices import Choice
from starlette_wasm.traffic.router import Router


def router(*given: tuple[Audience, str, str]) -> AudienceRouter[RouteRule, str]:
    """Of one rule each: for whom, its pattern, and its function, which is its target too."""
    return AudienceRouter(
        [
            (audience, Router([(RouteRule(path_pattern=pattern, function_name=function), function)]))
            for audience, pattern, function in given
        ]
    )


def served(router: AudienceRouter[RouteRule, str], path: str, host: str = "", tenant: str = "") -> str | None:
    match = router.match_for(path, host, tenant)
    if match is None:
        return None
    choice = match.group.pick("GET", "")
    assert isinstance(choice, Choice)
    return choice.target


EVERY = (
    (Audience(), "/x", "all"),
    (Audience(("*.example",)), "/x", "wide"),
    (Audience(("*.b.example",)), "/x", "narrow"),
    (Audience(("a.b.example", "other.example")), "/x", "exact"),
    (Audience((), ("acme",)), "/x", "tenant"),
    (Audience(("a.b.example",), ("acme",)), "/x", "both"),
)


@pytest.mark.parametrize(
    ("host", "tenant", "function"),
    [
        ("", "", "all"),
        ("example", "", "all"),
        ("b.example", "", "wide"),
        ("c.b.example", "", "narrow"),
        ("a.b.example", "", "exact"),
        ("other.example", "", "exact"),
        ("evil-other.example", "", "wide"),
        ("a.b.example.evil", "", "all"),
        ("c.b.example", "acme", "tenant"),
        ("a.b.example", "acme", "both"),
        ("a.b.example", "Acme", "exact"),
    ],
)
def test_the_closest_audience_serves(host: str, tenant: str, function: str) -> None:
    for order in (EVERY, EVERY[::-1]):
        assert served(router(*order), "/x", host, tenant) == function


def test_a_path_that_the_closest_lacks_is_served_by_the_next() -> None:
    found = router((Audience(), "/all", "all"), (Audience(("a",)), "/a", "a"))
    assert served(found, "/all", "a") == "all"
    assert served(found, "/a", "b") is None
    assert found.match("/a") is not None  # whoever asks


def test_what_clients_send_is_forgotten_again() -> None:
    found = router(*EVERY)
    for number in range(5000):
        assert served(found, "/x", f"{number}.nowhere") == "all"
    assert len(found._known) <= 1024


@pytest.mark.parametrize(
    ("pattern", "host", "fits"),
    [
        ("*.b.example", "b.example", False),
        ("*.b.example", "xb.example", False),
        ("*.b.example", "x.b.example", True),
        ("a", "a", True),
    ],
)
def test_a_wildcard_means_what_is_below(pattern: str, host: str, fits: bool) -> None:
    assert fits_host(pattern, host) is fits


def test_few_audiences_are_looked_at_for_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client sends what it likes as a host, and there may be thousands of them."""
    hosts = [(Audience((f"{name}.example", f"*.{name}.example")), "/x", name) for name in map(str, range(300))]
    tenants = [(Audience((), (name,)), "/x", f"of-{name}") for name in map(str, range(300))]
    made, looked, rank = router(*hosts, *tenants, (Audience(), "/x", "all")), list[Audience](), Audience.rank

    def noted(audience: Audience, host: str, tenant: str) -> tuple[bool, int] | None:
        looked.append(audience)
        return rank(audience, host, tenant)

    monkeypatch.setattr(Audience, "rank", noted)
    asked = {("7.example", ""): "7", ("a.7.example", ""): "7", ("no.one", "7"): "of-7", ("no.one", "me"): "all"}
    for (host, tenant), function in asked.items():
        assert served(made, "/x", host, tenant) == function
    assert served(made, "/x", "x" * 60_000 + ".7.example") == "all"
    assert len(looked) <= 10
    assert max(len(host) for host, _ in made._known) <= 256
