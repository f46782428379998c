from __future__ import annotations

import gc
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from starlette_wasm.traffic.choices import MAX_SUBSETS, Choice, Group, Pick, Reason, Refusal, Trial, Weigh
from starlette_wasm.traffic.router import Router


@dataclass(frozen=True)
class FakeRule:
    path_pattern: str = "/f"
    function_name: str = "f"
    version: str | None = "1"
    weight: int = 100
    regions: list[str] = field(default_factory=list)
    methods: list[str] | None = None
    policy: str | None = None


Rules = Group[FakeRule, str]

PROCESS = "/api/v1/process"
CONTRACT = [
    FakeRule(PROCESS, "edge-processor", "2", 80, ["ap-east-1", "ap-southeast-1"], policy="edge-strict"),
    FakeRule(PROCESS, "edge-processor", "3", 20, ["ap-east-1"], policy="edge-strict"),
    FakeRule("/api/v1/cache/{key}", "edge-cache", "1", 100),
    FakeRule("/api", "edge-rest", "1", 100),
]


def router(
    rules: Sequence[FakeRule], weigh: Callable[[Sequence[FakeRule]], Sequence[int]] | None = None, phase: float = 0.0
) -> Router[FakeRule, str]:
    return Router(
        [(rule, f"{rule.function_name}@{rule.version}") for rule in rules],
        weigh=weigh and weighing(weigh),
        phase=phase,
    )


def weighing(weights: Callable[[Sequence[FakeRule]], Sequence[int]]) -> Weigh[FakeRule, str]:
    return lambda members: [
        Choice(rule, target, weight)
        for (rule, target), weight in zip(members, weights([rule for rule, _ in members]), strict=True)
    ]


def group(*rules: FakeRule) -> Rules:
    match = router(rules).match("/f")
    assert match is not None
    return match.group


def at(path: str, rules: Sequence[FakeRule] = CONTRACT) -> Rules:
    match = router(rules).match(path)
    assert match is not None
    return match.group


def target(pick: Pick[FakeRule, str]) -> str:
    assert isinstance(pick, Choice)
    return pick.target


def targets(rules: Rules, count: int, region: str = "") -> list[str]:
    return [target(rules.pick("GET", region)) for _ in range(count)]


def test_process_splits_80_to_20_in_ap_east_1() -> None:
    seen = targets(at(PROCESS), 300, "ap-east-1")
    for start in range(len(seen) - 9):
        window = Counter(seen[start : start + 10])
        assert window == {"edge-processor@2": 8, "edge-processor@3": 2}


def test_process_is_all_version_2_in_ap_southeast_1() -> None:
    assert set(targets(at(PROCESS), 50, "ap-southeast-1")) == {"edge-processor@2"}


@pytest.mark.parametrize("region", ["us-west-1", ""])
def test_region_that_no_rule_serves_gets_none_and_no_shorter_pattern(region: str) -> None:
    assert at(PROCESS).pick("GET", region) == Refusal(Reason.NO_RULE)


def test_match_gives_pattern_params_and_rules() -> None:
    routes = router(CONTRACT)
    match = routes.match("/api/v1/cache/k1")
    assert match is not None
    assert (match.pattern, match.params) == ("/api/v1/cache/{key}", {"key": "k1"})
    pick = match.group.pick("PUT", "anywhere")
    assert pick == Choice(CONTRACT[2], "edge-cache@1", 100)
    rest = routes.match("/api/v1/processor")
    assert rest is not None
    assert rest.pattern == "/api"
    assert routes.match("/") is None
    assert routes.match("/apis") is None


def test_rules_without_regions_share_a_region_with_those_that_name_it() -> None:
    rules = group(FakeRule(version="1", weight=30), FakeRule(version="2", weight=10, regions=["eu"]))
    assert Counter(targets(rules, 40, "eu")) == {"f@1": 30, "f@2": 10}
    assert set(targets(rules, 40, "us")) == {"f@1"}


def test_empty_region_is_that_of_no_rule() -> None:
    assert group(FakeRule(regions=[""])).pick("GET", "") == Refusal(Reason.NO_RULE)


def test_each_region_has_turns_of_its_own() -> None:
    rules = group(*[FakeRule(version=v, weight=50, regions=["eu", "us"]) for v in ("1", "2")])
    for _ in range(20):
        assert targets(rules, 1, "eu") == targets(rules, 1, "us")


def test_weight_zero_gets_nothing() -> None:
    rules = group(FakeRule(version="1", weight=0), FakeRule(version="2", weight=5))
    assert set(targets(rules, 20)) == {"f@2"}


@pytest.mark.parametrize("sticky_key", [None, "alice"])
def test_all_weights_zero_is_no_rule(sticky_key: str | None) -> None:
    rules = group(FakeRule(version="1", weight=0), FakeRule(version="2", weight=0))
    assert rules.pick("GET", "", sticky_key=sticky_key) == Refusal(Reason.NO_RULE)


def test_method_picks_among_the_rules_that_allow_it() -> None:
    rules = group(
        FakeRule(version="1", methods=["get"]),
        FakeRule(version="2", methods=["POST", "PUT"]),
        FakeRule(version="3", methods=["DELETE"], regions=["eu"]),
    )
    assert target(rules.pick("GET", "")) == "f@1"
    assert target(rules.pick("HEAD", "")) == "f@1"
    assert target(rules.pick("PUT", "")) == "f@2"
    assert target(rules.pick("DELETE", "eu")) == "f@3"
    assert rules.pick("DELETE", "") == Refusal(Reason.METHOD_NOT_ALLOWED, ("GET", "HEAD", "POST", "PUT"))
    assert rules.pick("", "") == rules.pick("DELETE", "")


def test_rule_without_methods_takes_part_in_each() -> None:
    rules = group(FakeRule(version="1"), FakeRule(version="2", methods=["POST"]))
    assert {target(rules.pick("POST", "")) for _ in range(4)} == {"f@1", "f@2"}
    assert {target(rules.pick("PATCH", "")) for _ in range(4)} == {"f@1"}


def test_empty_method_is_that_of_no_rule() -> None:
    assert group(FakeRule(methods=[""])).pick("PUT", "") == Refusal(Reason.METHOD_NOT_ALLOWED, ("",))


def test_region_that_no_rule_serves_is_no_405() -> None:
    assert group(FakeRule(methods=["GET"], regions=["eu"])).pick("PUT", "us") == Refusal(Reason.NO_RULE)


def test_healthy_rules_share_by_their_weights() -> None:
    rules = group(*[FakeRule(version=v, weight=w) for v, w in (("1", 50), ("2", 30), ("3", 20))])
    seen = Counter(target(rules.pick("GET", "", healthy=lambda t: t != "f@1")) for _ in range(50))
    assert seen == {"f@2": 30, "f@3": 20}
    assert target(rules.pick("GET", "", healthy=lambda t: t == "f@3")) == "f@3"
    assert rules.pick("GET", "", healthy=lambda t: False) == Refusal(Reason.NO_RULE)
    assert Counter(target(rules.pick("GET", "", healthy=lambda t: True)) for _ in range(10)) == {
        "f@1": 5,
        "f@2": 3,
        "f@3": 2,
    }


def test_health_never_brings_a_rule_of_weight_zero_back() -> None:
    rules = group(FakeRule(version="1"), FakeRule(version="2", weight=0))
    assert rules.pick("GET", "", healthy=lambda t: t == "f@2") == Refusal(Reason.NO_RULE)


def test_forced_version_serves_also_at_weight_zero() -> None:
    rules = group(FakeRule(version="1"), FakeRule(version="2", weight=0), FakeRule(version="3", regions=["eu"]))
    assert target(rules.pick("GET", "", forced_version="2")) == "f@2"
    assert target(rules.pick("GET", "eu", forced_version="3")) == "f@3"
    for missing in ("3", "4", ""):
        assert rules.pick("GET", "us", forced_version=missing) == Refusal(Reason.VERSION_NOT_FOUND)
    assert rules.pick("GET", "", forced_version="2", healthy=lambda t: False) == Refusal(Reason.NO_RULE)


def test_rules_of_a_forced_version_share_by_weight_and_evenly_where_all_are_zero() -> None:
    rules = group(*[FakeRule(function_name=n, weight=w) for n, w in (("f", 3), ("g", 1), ("h", 0))])
    seen = Counter(target(rules.pick("GET", "", forced_version="1")) for _ in range(40))
    assert seen == {"f@1": 30, "g@1": 10}
    zero = group(*[FakeRule(function_name=n, weight=0) for n in "fg"])
    assert Counter(target(zero.pick("GET", "", forced_version="1")) for _ in range(10)) == {
        "f@1": 5,
        "g@1": 5,
    }


def test_forced_and_sticky_requests_take_no_turn_from_the_others() -> None:
    rules = group(*[FakeRule(function_name=n, weight=w) for n, w in (("f", 80), ("g", 20))])
    seen = []
    for number in range(50):
        rules.pick("GET", "", forced_version="1")
        rules.pick("GET", "", sticky_key=str(number))
        seen.append(target(rules.pick("GET", "")))
    assert seen == targets(group(*[FakeRule(function_name=n, weight=w) for n, w in (("f", 80), ("g", 20))]), 50)


def test_forced_requests_take_no_turn_from_a_healthy_subset_of_the_same_rules() -> None:
    rules = group(*[FakeRule(function_name=n, version=v) for n, v in (("f", "1"), ("g", "1"), ("h", "2"))])
    seen = []
    for _ in range(10):
        rules.pick("GET", "", forced_version="1")
        seen.append(target(rules.pick("GET", "", healthy=lambda t: t != "h@2")))
    assert seen == ["f@1", "g@1"] * 5


def sticky(*weights: int, healthy: Callable[[str], bool] | None = None) -> dict[str, str]:
    rules = group(*[FakeRule(version=str(v), weight=w) for v, w in enumerate(weights, 1)])
    return {
        key: target(rules.pick("GET", "", sticky_key=key, healthy=healthy))
        for key in (f"client-{number}" for number in range(2000))
    }


def test_client_stays_where_it_is() -> None:
    assert sticky(50, 30, 20) == sticky(50, 30, 20)
    assert sticky(50, 30, 20) == sticky(500, 300, 200)


def test_raising_the_canary_takes_clients_from_stable_and_gives_none_back() -> None:
    before = sticky(90, 10)
    for step in (30, 50, 100):
        after = sticky(100 - step, step)
        assert all(after[key] == "f@2" for key, at in before.items() if at == "f@2")
        assert abs(list(after.values()).count("f@2") / len(after) - step / 100) < 0.05
        before = after


def test_only_clients_of_an_unhealthy_version_move() -> None:
    before, after = sticky(50, 30, 20), sticky(50, 30, 20, healthy=lambda t: t != "f@2")
    assert all(after[key] == at for key, at in before.items() if at != "f@2")
    assert "f@2" not in after.values()


def test_order_and_number_of_rules_move_no_client() -> None:
    one = group(FakeRule(version="1", weight=60), FakeRule(version="2", weight=40))
    other = group(FakeRule(version="2", weight=40), FakeRule(version="1", weight=60))
    for key in map(str, range(500)):
        assert target(one.pick("GET", "", sticky_key=key)) == target(other.pick("GET", "", sticky_key=key))


def test_rules_of_the_same_version_share_its_clients() -> None:
    rules = group(FakeRule(weight=50, policy="a"), FakeRule(weight=50, policy="b"))
    policies: Counter[str | None] = Counter()
    for key in map(str, range(1000)):
        pick = rules.pick("GET", "", sticky_key=key)
        assert isinstance(pick, Choice)
        policies[pick.rule.policy] += 1
    assert all(400 < count < 600 for count in policies.values())


def test_weigh_replaces_weights_only_where_both_versions_serve() -> None:
    def canary(rules: Sequence[FakeRule]) -> list[int]:
        if {"2", "3"} <= {rule.version for rule in rules}:
            return [{"2": 90, "3": 10}[rule.version or ""] for rule in rules]
        return [rule.weight for rule in rules]

    match = router(CONTRACT[:2], canary).match(PROCESS)
    assert match is not None
    seen = Counter(targets(match.group, 100, "ap-east-1"))
    assert seen == {"edge-processor@2": 90, "edge-processor@3": 10}
    elsewhere = match.group.pick("GET", "ap-southeast-1")
    assert elsewhere == Choice(CONTRACT[0], "edge-processor@2", 80)


def test_weights_that_cannot_be_interleaved_name_the_pattern() -> None:
    with pytest.raises(ValueError, match="rules of /f: weights repeat only after"):
        group(FakeRule(version="1", weight=100_003), FakeRule(version="2", weight=1))
    with pytest.raises(ValueError, match="rules of /f: weights must not be negative"):
        group(FakeRule(weight=-1))


def test_same_requests_give_the_same_split_under_eight_threads() -> None:
    rules = group(*[FakeRule(version=v, weight=w) for v, w in (("1", 80), ("2", 15), ("3", 5))])
    alone = targets(group(*[FakeRule(version=v, weight=w) for v, w in (("1", 80), ("2", 15), ("3", 5))]), 20)

    def work(_: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        for _ in range(5_000):
            seen["all " + target(rules.pick("GET", ""))] += 1
            seen["some " + target(rules.pick("GET", "", healthy=lambda t: t != "f@3"))] += 1
        return seen

    with ThreadPoolExecutor(8) as pool:
        total = sum(pool.map(work, range(8)), Counter[str]())
    assert {name: total[name] for name in ("all f@1", "all f@2", "all f@3")} == {
        "all f@1": 32_000,
        "all f@2": 6_000,
        "all f@3": 2_000,
    }
    # 40,000 is no multiple of the 19 turns of 80 to 15: one turn more or less.
    assert abs(total["some f@1"] - 40_000 * 80 / 95) <= 1
    assert targets(rules, 20) == alone


def test_what_clients_send_never_grows_memory() -> None:
    rules = group(FakeRule(version="1", weight=80, regions=["eu"]), FakeRule(version="2", weight=20))
    noise = random.Random(7)

    def send(count: int) -> None:
        for _ in range(count):
            word = f"{noise.getrandbits(64):x}"
            rules.pick(word, word)
            rules.pick("GET", word, forced_version=word)
            rules.pick("GET", "eu", sticky_key=word)

    send(100)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        send(20_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000


def test_cycles_of_healthy_subsets_are_bounded_and_stay_right() -> None:
    rules = group(*[FakeRule(version=str(v), weight=1 + v % 3) for v in range(10)])
    noise = random.Random(7)
    for _ in range(2_000):
        alive = {f"f@{v}" for v in range(10) if noise.random() < 0.5}
        pick = rules.pick("GET", "", healthy=alive.__contains__)
        assert isinstance(pick, Refusal) or pick.target in alive
    pool = rules.pools[""][""]
    assert not isinstance(pool, Refusal)
    assert len(pool._subsets) == MAX_SUBSETS


def test_weighing_anew_changes_the_patterns_of_that_function_and_leaves_the_turns_of_the_others() -> None:
    both = router(
        [
            FakeRule("/f", "f", "1", 80),
            FakeRule("/f", "f", "2", 20),
            FakeRule("/g", "g", "1", 80),
            FakeRule("/g", "g", "2", 20),
        ]
    )
    f, g = both.match("/f"), both.match("/g")
    assert f is not None
    assert g is not None
    untouched = router([FakeRule("/g", "g", "1", 80), FakeRule("/g", "g", "2", 20)]).match("/g")
    assert untouched is not None
    turns = [target(untouched.group.pick("GET", "")) for _ in range(10)]
    started = [target(g.group.pick("GET", "")) for _ in range(2)]

    both.reweigh(weighing(lambda rules: [50, 50]), {"f"})

    assert Counter(target(f.group.pick("GET", "")) for _ in range(100)) == {"f@1": 50, "f@2": 50}
    assert started + [target(g.group.pick("GET", "")) for _ in range(8)] == turns
    with pytest.raises(ValueError, match=r"rules of /f: .*negative"):
        both.reweigh(weighing(lambda rules: [-1, 1]), {"f"})
    assert Counter(target(f.group.pick("GET", "")) for _ in range(100)) == {"f@1": 50, "f@2": 50}


def test_a_canary_with_all_of_the_traffic_that_is_unhealthy_leaves_it_to_stable() -> None:
    both = router([FakeRule("/f", "f", "1", 100), FakeRule("/f", "f", "2", 0)])

    def running(members: Sequence[tuple[FakeRule, str]]) -> list[Choice[FakeRule, str]]:
        return [
            Choice(rule, at, 100 if rule.version == "2" else 0, Trial(at, rule.version == "2", 100))
            for rule, at in members
        ]

    both.reweigh(running, {"f"})
    match = both.match("/f")
    assert match is not None
    assert target(match.group.pick("GET", "")) == "f@2"
    assert target(match.group.pick("GET", "", healthy=lambda at: at != "f@2")) == "f@1"
    assert isinstance(match.group.pick("GET", "", healthy=lambda at: False), Refusal)
