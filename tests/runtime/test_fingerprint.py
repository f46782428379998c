from __future__ import annotations

from typing import Any

import pytest
from apps import settings
from pydantic import SecretStr

from starlette_wasm.config.policy import SandboxPolicy
from starlette_wasm.config.router import EdgeRouterConfig, load_config
from starlette_wasm.runtime.fingerprint import fingerprints

POLICIES = {"edge-none": SandboxPolicy(name="edge-none"), "p": SandboxPolicy(name="p")}


def config(**given: Any) -> EdgeRouterConfig:
    return load_config({"rules": [{"pathPattern": "/x", "functionName": "f", "policy": "p"}], **given})


def test_the_same_gives_the_same_in_any_region_and_folder() -> None:
    one = fingerprints(config(functionsDir="/a"), POLICIES, settings(region="ap", canary_url="redis://ap/0"))
    two = fingerprints(config(functionsDir="/b"), POLICIES, settings(region="eu", canary_url="redis://eu/0"))
    assert one == two
    assert set(one["policies"]) == {"edge-none", "p"}


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ((config(defaultFunction="f"), POLICIES, settings()), "config"),
        ((config(), POLICIES | {"p": SandboxPolicy(name="p", max_memory_pages=1)}, settings()), "policies"),
        ((config(), POLICIES, settings(debug=True)), "settings"),
    ],
)
def test_what_differs_shows(changed: Any, key: str) -> None:
    before, after = fingerprints(config(), POLICIES, settings()), fingerprints(*changed)
    assert {each for each in before if before[each] != after[each]} == {key}


def test_the_token_of_the_endpoints_keys_the_digests() -> None:
    """Else a reader of /ready could try values until one fits."""
    open_, closed = (fingerprints(config(), POLICIES, settings(**each)) for each in ({}, {"endpoints_token": "t"}))
    assert open_["settings"] != closed["settings"]
    assert isinstance(settings(endpoints_token="t").endpoints_token, SecretStr)
    assert open_.keys() == closed.keys()
