from __future__ import annotations

import time

import pytest

from starlette_wasm.config.router import load_config
from starlette_wasm.config.tenants import TenantConfig
from starlette_wasm.exceptions import ConfigError, TenantLimited
from starlette_wasm.runtime.tenancy import Allowance, Tenancy, TenantUsage, pay
from starlette_wasm.telemetry import Telemetry
from starlette_wasm.telemetry.observation import Observation


def tenancy(*tenants: dict[str, object]) -> Tenancy:
    made = Tenancy(Telemetry())
    made.configure([TenantConfig.model_validate(each) for each in tenants])
    return made


def usage(made: Tenancy, name: str = "acme") -> TenantUsage:
    found = made.usage(name)
    assert found is not None
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_an_allowance_is_filled_up_over_a_minute(clock: list[float]) -> None:
    allowance = Allowance(60)
    allowance.take(60)
    assert (allowance.left, allowance.wait_for(1)) == (0, 1)
    clock[0] += 10
    assert allowance.left == 10
    clock[0] += 600
    assert allowance.left == 60


def test_requests_of_a_minute_are_counted(clock: list[float]) -> None:
    acme = usage(tenancy({"name": "acme", "requestsPerMinute": 2}))
    acme.take_request("f")
    acme.take_request("f")
    with pytest.raises(TenantLimited) as caught:
        acme.take_request("f")
    assert (caught.value.status, caught.value.retry_after, caught.value.quota) == (429, 30, "requestsPerMinute")
    clock[0] += 30
    acme.take_request("f")


def test_places_and_memory_are_given_back() -> None:
    acme = usage(tenancy({"name": "acme", "maxConcurrency": 2, "maxMemoryMb": 3}))
    with acme.hold_slot("f", 2 << 20):
        with pytest.raises(TenantLimited, match="maxMemoryMb"), acme.hold_slot("f", 2 << 20):
            pass
        with acme.hold_slot("f", 1 << 20), pytest.raises(TenantLimited, match="maxConcurrency"), acme.hold_slot("f", 0):
            pass
    with pytest.raises(ValueError, match="of the guest"), acme.hold_slot("f", 3 << 20):
        raise ValueError("of the guest")
    assert (acme.running, acme.memory) == (0, 0)
    told = acme.describe()
    assert (told["served"], told["failed"], told["limited"]) == (2, 1, {"maxConcurrency": 1, "maxMemoryMb": 1})


def test_cpu_time_is_paid_by_the_context_that_runs(clock: list[float]) -> None:
    made = tenancy({"name": "acme", "cpuSecondsPerMinute": 1}, {"name": "globex", "cpuSecondsPerMinute": 1})
    acme, globex = usage(made), usage(made, "globex")
    with acme.hold_slot("f", 0):
        pay(Observation("f", "1", cpu=3.0))
    pay(Observation("f", "1", cpu=9.0))  # nobody's
    assert (acme.cpu, globex.cpu) == (3.0, 0.0)
    globex.take_request("f")
    with pytest.raises(TenantLimited) as caught:
        acme.take_request("f")
    assert caught.value.retry_after == 120
    clock[0] += 121
    acme.take_request("f")


def test_others_have_a_quota_each_and_idle_ones_are_forgotten(clock: list[float]) -> None:
    made = tenancy({"name": "*", "requestsPerMinute": 1})
    busy = usage(made, "busy")
    with busy.hold_slot("f", 0):
        for number in range(5000):
            usage(made, str(number)).take_request("f")
            clock[0] += 1
        assert made.usage("busy") is busy
    assert len(made.listed()) <= 4096
    assert {each["name"] for each in map(TenantUsage.describe, made.listed())} >= {"busy", "4999"}
    assert made.usage("") is None
    assert tenancy({"name": "acme"}).usage("other") is None


def test_a_quota_is_not_evaded_by_many_names(clock: list[float]) -> None:
    made = tenancy({"name": "*", "requestsPerMinute": 1})
    for number in range(4096):
        usage(made, str(number)).take_request("f")
    usage(made, "one more").take_request("f")
    for name in ("0", "4095", "another", "one more"):  # each remembers, or shares what is left
        with pytest.raises(TenantLimited):
            usage(made, name).take_request("f")
    clock[0] += 61
    usage(made, "another").take_request("f")
    with pytest.raises(TenantLimited):
        usage(made, "another").take_request("f")
    usage(made, "0").take_request("f")


def test_a_reload_keeps_what_is_used() -> None:
    made = tenancy({"name": "acme", "requestsPerMinute": 1}, {"name": "*"})
    acme, other = usage(made), usage(made, "other")
    acme.take_request("f")
    with other.hold_slot("f", 1):
        made.configure(
            [TenantConfig(name="acme", requests_per_minute=1), TenantConfig(name="other", max_concurrency=1)]
        )
        assert usage(made) is acme
        with pytest.raises(TenantLimited):
            acme.take_request("f")
        with pytest.raises(TenantLimited), usage(made, "other").hold_slot("f", 1):
            pass
        made.configure([])
        assert not made.active
    assert other.running == 0


@pytest.mark.parametrize(
    ("tenants", "problem"),
    [
        ([{"name": "a"}, {"name": "a"}], "the tenant a twice"),
        ([{"name": "a", "hosts": ["x"]}, {"name": "b", "hosts": ["X"]}], "the host x twice"),
        ([{"name": "a", "hosts": ["x:80"]}], "is not a host"),
        ([{"name": "a", "hosts": ["https://x"]}], "is not a host"),
        ([{"name": "a", "hosts": ["*"]}], "is not a host"),
        ([{"name": ""}], "name"),
        ([{"name": "a\n"}], "not the name of a tenant"),
        ([{"name": "a", "maxConcurrency": 0}], "maxConcurrency"),
        ([{"name": "a", "maxConcurency": 1}], "maxConcurrency"),
    ],
)
def test_what_is_wrong_with_tenants_is_named(tenants: list[dict[str, object]], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_config({"tenants": tenants})


def test_refusals_of_made_up_tenants_have_a_share_of_the_log(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """Each name is refused at once, and none of them twice."""
    made = tenancy({"name": "*", "maxMemoryMb": 1})
    function = "test_refusals_of_made_up_tenants"  # with a share that no other test has used
    for number in range(3000):
        with pytest.raises(TenantLimited), usage(made, str(number)).hold_slot(function, 2 << 20):
            pass
    assert len(caplog.records) == 2000  # what is saved up


def test_the_closest_host_names_the_tenant() -> None:
    made = tenancy(
        {"name": "wide", "hosts": ["*.example"]}, {"name": "narrow", "hosts": ["*.b.example"]},
        {"name": "exact", "hosts": ["a.b.example"]},
    )  # fmt: skip
    asked = ("a.b.example", "c.b.example", "b.example", "example", "a.b.example.evil", "x" * 300 + ".example")
    assert [made.of_host(host) for host in asked] == ["exact", "narrow", "wide", "", "", ""]
