"""Which versions of functions a config names: what must not be removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .router import EdgeRouterConfig

_FUNCTION = ("function_name", "function")
_VERSION = ("version", "stable_version", "canary_version")


def named_versions(config: EdgeRouterConfig) -> dict[str, set[str]]:
    """Return the versions that rules, canaries and pipelines name, by function."""
    found: dict[str, set[str]] = {}
    for name, version in _pairs(config.model_dump()):
        found.setdefault(name, set()).add(version)
    return found


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        name = next((value[key] for key in _FUNCTION if isinstance(value.get(key), str)), None)
        if name is not None:
            yield from ((name, value[key]) for key in _VERSION if isinstance(value.get(key), str))
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _pairs(each)
