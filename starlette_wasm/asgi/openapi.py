"""Puts the schemas of ``function.yaml`` into the OpenAPI document that FastAPI makes."""

from __future__ import annotations

import copy
from typing import Any

from ..functions.openapi import FunctionSchemas

_OWN = "_starlette_wasm_openapi_extra"
"""On a route: the ``openapi_extra`` that the app gave it, which wins."""
_WITHOUT_BODY = frozenset(("GET", "HEAD", "DELETE", "TRACE"))


def describe(route: Any, schemas: FunctionSchemas | None) -> None:
    """Add what the document declares for a function to its route. A document that was made before stays as it is."""
    original = getattr(route, "original_route", route)
    if not hasattr(original, "openapi_extra"):
        return  # Starlette's
    if not hasattr(original, _OWN):
        setattr(original, _OWN, original.openapi_extra)
    extra = own = getattr(original, _OWN)
    if schemas is not None:
        takes_body = not set(original.methods or ()) <= _WITHOUT_BODY
        extra = _merged(copy.deepcopy(schemas.operation(takes_body=takes_body)), own or {})
    for each in (original, getattr(route, "_route_context", None)):  # what an include_router made of it, too
        if each is not None:
            each.openapi_extra = extra


def _merged(ours: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    for key, value in own.items():
        under = ours.get(key)
        ours[key] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return ours
