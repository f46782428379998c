"""What ``check`` and ``compile`` list: a config, loaded as an app would."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from ..capabilities.backends import without_making
from ..config.settings import WasmSettings, load_settings
from ..runtime.runtime import WasmRuntime
from .table import Row


def without_files(**given: Any) -> WasmSettings:
    """Return settings for a runtime that makes no files of stores, and begins no rollout."""
    settings = load_settings(canary_url="", **given)
    stores = {key: without_making(getattr(settings, key), key) for key in ("kv_url", "queue_url")}
    return settings.model_copy(update=stores)


def in_order(config: str | Path, of: str) -> str:
    """Return the text for a config that has nothing to list."""
    return f"{config} is in order, and has no {of} to list"


def rules(config: str | Path) -> list[Row]:
    """Return a row for each rule and pipeline of a config. Raises WasmError for what is wrong with it."""
    return asyncio.run(_rules(config))


async def _rules(config: str | Path) -> list[Row]:
    settings = without_files(aot_cache=False)
    async with WasmRuntime(config, settings) as runtime:
        return [
            {
                "path": rule.path_pattern,
                "function": rule.function_name,
                "version": rule.version or "highest",
                "weight": rule.weight,
                "regions": ", ".join(rule.regions) or "all",
                "policy": rule.policy or settings.default_policy,
            }
            for rule in runtime.deployment.config.rules
        ] + [
            {
                "path": pipeline.route,
                "function": str(pipeline),
                "version": ", ".join(target.version for target in pipeline.targets),
                "weight": 100,
                "regions": "all",
                "policy": ", ".join(dict.fromkeys(target.policy.name for target in pipeline.targets)),
            }
            for pipeline in runtime.deployment.pipelines.all
        ]


def compiled(config: str | Path) -> list[Row]:
    """Compile what the AOT cache lacks, and return a row for each function. Raises WasmError."""
    return asyncio.run(_compiled(config))


async def _compiled(config: str | Path) -> list[Row]:
    # An image or an init container has the modules and nothing else: stores are for whoever serves.
    settings = load_settings(canary_url="", kv_url="sqlite://", queue_url="sqlite://")
    async with WasmRuntime(config, settings) as runtime:
        return [
            {
                "function": name,
                "version": version,
                "digest": f"sha256:{function.digest}",
                "code": "in the AOT cache already" if function.cached else "compiled",
            }
            for (name, version), function in sorted(runtime.deployment.functions.items())
        ]
