"""``starlette-wasm routes``, on apps of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from apps import config_file

from starlette_wasm.cli.main import main

APP = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount, Route
from starlette_wasm import WasmMiddleware, WasmRoute, WasmRules

async def native(request): ...

routes = [Route("/native", native), Mount("/in", routes=[WasmRoute("/f/{x}", function="echo", methods=["PUT"])])]
front = Starlette(
    routes=routes,
    middleware=[Middleware(CORSMiddleware), Middleware(WasmMiddleware, config="wasm.yaml"), Middleware(GZipMiddleware)],
)
rules = WasmRules("wasm.yaml")
behind = Starlette(routes=[Route("/native", native), rules], middleware=[Middleware(CORSMiddleware)],
                   lifespan=rules.lifespan)
"""
FAST = """
from fastapi import Depends, FastAPI, Security
from starlette.routing import Mount
from starlette_wasm import WasmMiddleware, WasmRoute, WasmRules, wasm_endpoint

def token(): ...
def user(): ...

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
app.add_api_route("/hello", wasm_endpoint("hello"), methods=["GET"], dependencies=[Depends(token)])
app.include_router(WasmRules().router(), dependencies=[Depends(token)])
app.add_middleware(WasmMiddleware, config="wasm.yaml")

inner = FastAPI(dependencies=[Depends(token)], openapi_url=None)
inner.add_api_route("/endpoint", wasm_endpoint("hello"), methods=["GET"])
guarded = FastAPI(dependencies=[Depends(token)], docs_url=None, redoc_url=None)
guarded.add_api_route("/endpoint", wasm_endpoint("hello"), methods=["GET"], dependencies=[
    Security(user, scopes=["read", "write"])])
guarded.router.routes += [WasmRoute("/raw", function="hello"), Mount("/in", routes=[WasmRoute("/f", function="hello")])]
guarded.mount("/sub", inner)
guarded.router.routes.append(WasmRules())
guarded.add_middleware(WasmMiddleware, config="wasm.yaml")
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    rules = {"/a/{rest:path}": "echo", "/a/b": {"functionName": "hello", "weight": 20}, "/a/{x}": "echo"}
    config_file(tmp_path, rules)
    name = f"routes_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(APP)
    (tmp_path / f"{name}_fast.py").write_text(FAST)
    monkeypatch.setenv("APP_UNDER_TEST", name)
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(tmp_path / "aot"))
    monkeypatch.chdir(tmp_path)


def routes(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["routes", *arguments, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture
def name(project: None, monkeypatch: pytest.MonkeyPatch) -> str:
    import os

    return os.environ["APP_UNDER_TEST"]


def test_rules_stand_in_the_order_of_their_match(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["path"] for row in routes(capsys)] == ["/a/b", "/a/{x}", "/a/{rest:path}"]


def test_rules_in_front_come_first(capsys: pytest.CaptureFixture[str], name: str, tmp_path: Path) -> None:
    found = routes(capsys, f"{name}:front")
    assert [(row["path"], row["by"]) for row in found] == [
        ("/a/b", "rule, weight 20"),
        ("/a/{x}", "rule"),
        ("/a/{rest:path}", "rule"),
        ("/native", "native"),
        ("/in/f/{x}", "function route"),
    ]
    assert (found[0]["guards"], found[3]["guards"]) == ("CORSMiddleware", "CORSMiddleware, GZipMiddleware")
    assert (found[4]["function"], found[4]["version"], found[4]["policy"], found[4]["methods"]) == (
        *("echo", "1", "edge-none"),
        "PUT",
    )
    assert not list(tmp_path.glob("*.db"))


def test_rules_behind_come_where_they_stand(capsys: pytest.CaptureFixture[str], name: str, tmp_path: Path) -> None:
    found = routes(capsys, f"{name}:behind")
    assert [row["path"] for row in found] == ["/native", "/a/b", "/a/{x}", "/a/{rest:path}"]
    assert {row["guards"] for row in found} == {"CORSMiddleware"}
    assert not list(tmp_path.glob("*.db"))


def test_dependencies_of_fastapi_are_guards(capsys: pytest.CaptureFixture[str], name: str) -> None:
    found = routes(capsys, f"{name}_fast:app")
    assert found[0]["path"] == "/hello"
    assert "Depends(token)" in found[0]["guards"]
    assert [row["path"] for row in found[1:]] == ["/a/b", "/a/{x}", "/a/{rest:path}"]
    assert {row["guards"] for row in found[1:]} == {"Depends(token)"}


def test_a_dependency_guards_only_routes_of_fastapi(capsys: pytest.CaptureFixture[str], name: str) -> None:
    found = {row["path"]: row["guards"] for row in routes(capsys, f"{name}_fast:guarded")}
    assert found == {
        "/openapi.json": "",
        "/endpoint": "Depends(token), Security(user, 'read', 'write')",
        "/raw": "",
        "/in/f": "",
        "/sub/endpoint": "Depends(token)",
        "/a/b": "",
        "/a/{x}": "",
        "/a/{rest:path}": "",
    }


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("nowhere", "'nowhere' is not MODULE:NAME; write for example app:app"),
        ("nowhere:app", "there is no module 'nowhere' here"),
        ("json:app", "json has no 'app'"),
    ],
)
def test_a_wrong_app_has_a_remedy(capsys: pytest.CaptureFixture[str], app: str, message: str) -> None:
    assert main(["routes", app]) == 1
    assert message in capsys.readouterr().err
