"""The template of a route, as it is known to the outside."""

from __future__ import annotations

import re

from starlette.types import Scope

_PARAMETER = re.compile(r"\{([^{}:]+)[^{}]*\}")


def whole_route(scope: Scope, route: str) -> str:
    """The template with the prefix of the mounts, whose parameters are names again; empty where it is not known.

    Where a value cannot be found in the prefix, the prefix is left out: a route must not vary with the request.
    """
    root: str = scope.get("root_path", "")
    if not root or not route:
        return route
    own = _PARAMETER.findall(route)
    outer = {str(value): name for name, value in scope.get("path_params", {}).items() if name not in own}
    if not outer:
        return root + route
    segments = root.split("/")
    if not outer.keys() <= set(segments):
        return route
    return "/".join(f"{{{outer[each]}}}" if each in outer else each for each in segments) + route
