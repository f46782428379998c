"""The OpenAPI document of the admin API."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .access import SCOPES

if TYPE_CHECKING:
    from .mount import Operation

_PARAMETER = re.compile(r"\{(\w+)\}")
_OBJECT = {"type": "object"}
_PROBLEM = {
    "description": "Why it was not done.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_SHIFT = {
    "type": "object",
    "required": ["from", "to", "percent", "seconds"],
    "properties": {
        "from": {"type": "string"},
        "to": {"type": "string"},
        "percent": {"type": "integer", "minimum": 0, "maximum": 100},
        "seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 86400},
    },
}
_UPLOAD = {
    "type": "object",
    "required": ["module"],
    "properties": {
        "module": {"type": "string", "contentEncoding": "base64"},
        "manifest": {"type": "string"},
        "signatures": {"type": "string"},
    },
}
_BODIES: dict[str, dict[str, Any]] = {
    "move_canary": {"application/json": {"schema": {"type": "object", "properties": {"full": {"type": "boolean"}}}}},
    "shift": {"application/json": {"schema": _SHIFT}},
    "reset_circuit": {
        "application/json": {
            "schema": {"type": "object", "required": ["circuit"], "properties": {"circuit": {"type": "string"}}}
        }
    },
    "put": {
        "application/wasm": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {"schema": _UPLOAD},
    },
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document, without ``servers``."""
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "starlette-wasm admin", "version": "1"},
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": f"A token with scopes of {', '.join(SCOPES)}.",
                }
            },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail", "request_id"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "request_id": {"type": "string"},
                    },
                }
            },
        },
        "security": [{"token": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    lines = (inspect.getdoc(operation.handler) or "").splitlines()
    described: dict[str, Any] = {
        "operationId": f"{operation.name}",
        "summary": lines[0] if lines else operation.name,
        "description": "\n".join(lines[2:]),
        "tags": [operation.scope],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(operation.path)
        ],
        "responses": {"2XX": {"description": "Done.", **_answer(operation)}, "4XX": _PROBLEM, "5XX": _PROBLEM},
    }
    if operation.name in _BODIES:
        required = operation.name != "move_canary"
        described["requestBody"] = {"required": required, "content": _BODIES[operation.name]}
    return described


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.method == "DELETE":
        return {}
    kind = "text/event-stream" if operation.name == "log" else "application/json"
    return {"content": {kind: {"schema": {"type": "string"} if operation.name == "log" else _OBJECT}}}
