"""What a canary makes of weights."""

from __future__ import annotations

from typing import Any, cast

import pytest

from starlette_wasm import RouteRule
from starlette_wasm.canary.traffic_split import Part, TrafficSplit
from starlette_wasm.functions.target import Target
from starlette_wasm.traffic.choices import Choice
from starlette_wasm.traffic.router import Router


def rule(version: str, weight: int = 100, function: str = "f", **keys: Any) -> RouteRule:
    return RouteRule(path_pattern="/f", function_name=function, version=version, weight=weight, **keys)


def weights(rules: list[RouteRule], percent: int, *, out: bool = False) -> list[int]:
    shares = TrafficSplit({"f": Part("1", "2", percent, out)})
    return [choice.weight for choice in shares([(each, cast(Target, None)) for each in rules])]


@pytest.mark.parametrize(
    ("rules", "percent", "wanted"),
    [
        ([rule("1", 100), rule("2", 0)], 10, [90, 10]),
        ([rule("1", 80), rule("2", 20)], 30, [70, 30]),
        ([rule("1", 80), rule("2", 20)], 0, [100, 0]),
        ([rule("1", 80), rule("2", 20)], 100, [0, 100]),
        ([rule("2", 5), rule("1", 0), rule("9", 3, "g")], 30, [3, 7, 6]),
        ([rule("1", 0), rule("2", 0)], 50, [0, 0]),
        ([rule("1", 60, policy="a"), rule("1", 20, policy="b"), rule("2", 20)], 50, [75, 25, 100]),
        ([rule("1", 80), rule("3", 20)], 50, [80, 20]),
        ([rule("2", 80)], 50, [80]),
    ],
)
def test_both_versions_share_what_they_have_together(rules: list[RouteRule], percent: int, wanted: list[int]) -> None:
    given = weights(rules, percent)
    assert [each * sum(wanted) for each in given] == [each * sum(given) for each in wanted]


def test_a_version_that_is_out_gets_nothing_even_alone() -> None:
    assert weights([rule("2", 80), rule("3", 20)], 0, out=True) == [0, 20]


def test_no_caller_goes_back_as_the_canary_rises() -> None:
    rules = [rule("1"), rule("2", 0), rule("1", 50, "g")]
    router: Router[RouteRule, Target] = Router([(each, cast(Target, each)) for each in rules])
    keys = [f"client {at}" for at in range(500)]
    before: dict[str, str] = {}
    for percent in (0, 10, 30, 50, 100):
        router.reweigh(TrafficSplit({"f": Part("1", "2", percent)}), {"f"})
        match = router.match("/f")
        assert match is not None
        now = {}
        for key in keys:
            choice = match.group.pick("GET", "", sticky_key=key)
            assert isinstance(choice, Choice)
            now[key] = f"{choice.rule.function_name}{choice.rule.version}"
        assert all(now[key] == "f2" for key, at in before.items() if at == "f2")
        before = now
    assert set(before.values()) == {"f2", "g1"}
