"""``openapi:`` of ``function.yaml`` in the document of FastAPI."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from apps import add_function, config, settings
from fastapi import APIRouter, FastAPI
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from starlette_wasm import ConfigError, WasmMiddleware, WasmRuntime, wasm_endpoint

ORDER = {
    "type": "object",
    "description": "An order.",
    "properties": {"sku": {"type": "string", "pattern": "^[A-Z]+$"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["sku"],
}
PROBLEM = {"type": ["object", "null"], "additionalProperties": True}
SCHEMAS = {"summary": "Take an order", "request": ORDER, "response": ORDER, "responses": {404: PROBLEM}}


def document(folder: Path, add: Any) -> dict[str, Any]:
    app = FastAPI()
    add(app)
    app.add_middleware(WasmMiddleware, config=config(folder), settings=settings())
    with TestClient(app) as http:
        found: dict[str, Any] = http.get("/openapi.json").json()
    validate(found)
    return found["paths"]


def test_schemas_are_in_the_document(tmp_path: Path) -> None:
    add_function(tmp_path, "echo", openapi=SCHEMAS)

    def add(app: FastAPI) -> None:
        app.add_api_route("/orders/{id}", wasm_endpoint("echo"), methods=["POST"])
        router = APIRouter(prefix="/r")
        router.add_api_route("/orders", wasm_endpoint("echo"), methods=["PUT"])
        app.include_router(router, prefix="/in")

    paths = document(tmp_path, add)
    for operation in (paths["/orders/{id}"]["post"], paths["/in/r/orders"]["put"]):
        assert operation["summary"] == "Take an order"
        assert operation["requestBody"]["content"]["application/json"]["schema"] == ORDER
        assert operation["responses"]["200"]["content"]["application/json"]["schema"] == ORDER
        assert operation["responses"]["404"]["content"]["application/json"]["schema"] == PROBLEM
    assert [each["name"] for each in paths["/orders/{id}"]["post"]["parameters"]] == ["id"]


def test_what_the_app_says_wins(tmp_path: Path) -> None:
    add_function(tmp_path, "echo", openapi=SCHEMAS)

    def add(app: FastAPI) -> None:
        app.add_api_route("/a", wasm_endpoint("echo"), openapi_extra={"summary": "Mine", "x-own": 1})

    operation = document(tmp_path, add)["/a"]["get"]
    assert (operation["summary"], operation["x-own"]) == ("Mine", 1)
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] == ORDER
    assert "requestBody" not in operation


def test_a_reload_changes_the_document(tmp_path: Path) -> None:
    module = add_function(tmp_path, "echo", openapi=SCHEMAS)
    runtime = WasmRuntime(config(tmp_path), settings())
    app = FastAPI()
    app.add_api_route("/a", wasm_endpoint("echo"))

    async def main() -> None:
        async with runtime:
            middleware = WasmMiddleware(app, runtime=runtime)
            async with middleware.opened():
                pass
            assert app.openapi()["paths"]["/a"]["get"]["summary"] == "Take an order"
            (module.parent / "function.yaml").write_text(yaml.safe_dump({"openapi": {"summary": "Other"}}))
            await runtime.reload()
            app.openapi_schema = None
            operation = app.openapi()["paths"]["/a"]["get"]
            assert operation["summary"] == "Other"
            assert operation["responses"]["200"]["content"]["application/json"]["schema"] == {}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("openapi", "key", "words"),
    [
        ({"request": {"type": "strin"}}, "openapi.request", "at type there is 'strin'; give a type of JSON Schema"),
        ({"response": {"properties": {"a": {"items": 7}}}}, "openapi.response", "at properties.a.items there is 7"),
        ({"responses": {404: {"required": "a"}}}, "openapi.responses.404", "give a list of names of properties"),
        ({"responses": {99: {}}}, "openapi.responses", "not a status of an answer; give one from 200 to 599"),
        ({"request": {"$ref": "#/x"}}, "openapi.request", "the schema itself in place of a reference"),
        ({"request": {"anyOf": []}}, "openapi.request", "a list of schemas"),
        ({"request": {"minLength": -1}}, "openapi.request", "a whole number from 0"),
        ({"request": {"maximum": True}}, "openapi.request", "a number"),
        ({"request": ["string"]}, "openapi.request", "a mapping such as"),
        ({"requests": {}}, "openapi.requests", "request"),
    ],
)
def test_a_wrong_schema_is_refused(tmp_path: Path, openapi: Any, key: str, words: str) -> None:
    add_function(tmp_path, "echo", openapi=openapi)
    with pytest.raises(ConfigError) as caught:
        asyncio.run(WasmRuntime(config(tmp_path), settings()).start())
    assert "function.yaml" in str(caught.value)
    assert key in str(caught.value)
    assert words in str(caught.value)
