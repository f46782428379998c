"""The endpoints of exposeEndpoints: their prefix, their token, and what they shadow."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from apps import JSON, app, config, native, settings
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from starlette_wasm import ConfigError, WasmMiddleware, WasmRules
from starlette_wasm.config.router import load_config
from starlette_wasm.config.settings import load_settings

SHADOWED = "; set endpointsPrefix, such as /internal"


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    return config(tmp_path, {"/echo": "echo", "/files/{name}": "echo"})


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_endpoints_stand_below_their_prefix(wasm: JSON) -> None:
    with TestClient(app({**wasm, "exposeEndpoints": True, "endpointsPrefix": "/internal/wasm"})) as http:
        assert http.get("/internal/wasm/health").json()["status"] == "alive"
        assert http.get("/internal/wasm/metrics/canary").json() == {"error": "no canary"}
        assert [http.get(path).status_code for path in ("/health", "/internal/wasm", "/internal/wasmhealth")] == [
            404
        ] * 3


@pytest.mark.parametrize("prefix", ["/", "internal", "/internal/", "/{x}", "//x", "/a b"])
def test_a_wrong_prefix_of_endpoints_is_refused(wasm: JSON, prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"endpointsPrefix: .* is no plain path; use for example /internal"):
        load_config({**wasm, "endpointsPrefix": prefix})


@pytest.mark.parametrize("behind", [False, True])
def test_endpoints_require_the_token(wasm: JSON, behind: bool) -> None:
    made, given = {**wasm, "exposeEndpoints": True}, settings(endpoints_token="s3cret")
    if behind:
        rules = WasmRules(made, settings=given)
        guarded = Starlette(routes=[rules], lifespan=rules.lifespan)
    else:
        guarded = Starlette(middleware=[Middleware(WasmMiddleware, config=made, settings=given)])
    with TestClient(guarded) as http:
        for path in ("/health", "/ready", "/metrics", "/metrics/canary"):
            for wrong in ("", "s3cret", "Basic s3cret", "Bearer", "Bearer s3cre", "Bearer s3cret2", "Bearer s3crét"):
                answer = http.get(path, headers={"authorization": wrong.encode()})
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert answer.text == "Unauthorized"
            twice = [("authorization", "Bearer s3cret"), ("authorization", "Bearer x")]
            assert http.get(path, headers=twice).status_code == 401
            assert http.get(path, headers={"authorization": "bearer  s3cret"}).status_code in (200, 404)
        assert http.get("/echo").status_code == 200
    assert "s3cret" not in repr(given)


def test_an_empty_token_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="endpoints_token: '' is too short"):
        load_settings(endpoints_token="")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("STARLETTE_WASM_ENDPOINTS_TOKEN=\n")
    with pytest.raises(ConfigError, match=r"\.env: STARLETTE_WASM_ENDPOINTS_TOKEN: is empty"):
        load_settings()
    monkeypatch.setenv("STARLETTE_WASM_ENDPOINTS_TOKEN", "")
    with pytest.raises(ConfigError, match=r"^STARLETTE_WASM_ENDPOINTS_TOKEN: is empty; give a token"):
        load_settings()


def test_endpoints_that_shadow_or_are_shadowed_are_warned_of(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    made = {**wasm, "exposeEndpoints": True}
    made["rules"] = [*made["rules"], {"pathPattern": "/ready", "functionName": "echo"}]
    taken: list[BaseRoute] = [
        Route("/health", native),
        Route("/health", native, methods=["POST"]),
        Mount("/metrics", app=PlainTextResponse("figures")),
        Mount("/", routes=[Route("/metrics/{name}", native)]),
        Route("/{anything}", native),
        Mount("/", app=PlainTextResponse("static")),
    ]
    with TestClient(app(made, taken)):
        assert warnings(caplog) == [
            f"exposeEndpoints shadows the route /health of the app{SHADOWED}",
            f"the rule for /ready shadows the endpoint /ready{SHADOWED}",
            f"exposeEndpoints shadows the route /metrics of the app{SHADOWED}",
            f"exposeEndpoints shadows the route /metrics of the app{SHADOWED}",
        ]
    caplog.clear()
    with TestClient(app({**made, "endpointsPrefix": "/internal"}, taken)):
        assert warnings(caplog) == []


def test_routes_that_shadow_an_endpoint_are_warned_of(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    rules = WasmRules({**wasm, "exposeEndpoints": True}, settings=settings())
    with TestClient(Starlette(routes=[Route("/ready", native), rules], lifespan=rules.lifespan)) as http:
        assert warnings(caplog) == [f"the route /ready of the app shadows the endpoint /ready{SHADOWED}"]
        assert http.get("/ready").text == "native /ready"


def test_routes_of_a_fastapi_router_that_are_shadowed_are_warned_of(
    wasm: JSON, caplog: pytest.LogCaptureFixture
) -> None:
    fastapi, router = FastAPI(), APIRouter()
    router.add_api_route("/canary", native)
    fastapi.include_router(router, prefix="/metrics")
    fastapi.add_middleware(WasmMiddleware, config={**wasm, "exposeEndpoints": True}, settings=settings())
    with TestClient(fastapi):
        assert warnings(caplog) == [f"exposeEndpoints shadows the route /metrics/canary of the app{SHADOWED}"]
