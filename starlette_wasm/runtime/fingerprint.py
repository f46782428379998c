"""Digests of what a node goes by, for ``/ready``: so that nodes can be compared without showing a value."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from ..config.policy import SandboxPolicy
from ..config.router import EdgeRouterConfig
from ..config.settings import WasmSettings

_OF_THE_NODE = (
    "region", "cache_dir", "cache_volume", "kv_url", "queue_url", "canary_url", "canary_waves_url", "registry_ca",
    "endpoints_token", "nodes",
)  # fmt: skip
"""Settings in which nodes may differ, or that are secret."""
_PATHS = ("functions_dir", "policies_dir", "require_signatures")
_SHOWN = 16


def fingerprints(
    config: EdgeRouterConfig, policies: Mapping[str, SandboxPolicy], settings: WasmSettings
) -> dict[str, Any]:
    """Return the digest of the config, of each policy that it names, and of the settings.

    They are keyed by the token of the endpoints, if there is one: whoever lacks it cannot try values.
    """
    token = settings.endpoints_token
    key = b"starlette-wasm" if token is None else token.get_secret_value().encode()

    def digest(value: object) -> str:
        text = json.dumps(value, sort_keys=True, default=str).encode()
        return hmac.new(key, text, hashlib.sha256).hexdigest()[:_SHOWN]

    given = settings.model_dump(mode="json", exclude=set(_OF_THE_NODE))
    named = {rule.policy for rule in config.rules} | {config.default_policy, settings.default_policy}
    return {
        "config": digest(config.model_dump(mode="json", exclude=set(_PATHS))),
        "policies": {
            name: digest(policy.model_dump(mode="json")) for name, policy in sorted(policies.items()) if name in named
        },
        "settings": digest(given),
    }
