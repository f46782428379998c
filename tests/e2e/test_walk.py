"""A FastAPI app with what such apps have, served by uvicorn and walked from end to end: nothing of it may surprise."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from apps import add_function
from openapi_spec_validator import validate
from processes import ROOT, SHORT, Server

APP = '''\
import json
import os
from typing import Annotated

import sentry_sdk
from sentry_sdk.transport import Transport


class Kept(Transport):
    """Keeps what would be sent, in a file."""

    def capture_envelope(self, envelope):
        with open("sentry.jsonl", "a") as file:
            for item in envelope.items:
                sent = item.payload.json
                if item.type in ("event", "transaction"):
                    kept = [item.type, sent["transaction"], sent.get("logentry", {}).get("message")]
                    file.write(json.dumps(kept) + "\\n")


sentry_sdk.init(dsn="http://key@localhost/1", transport=Kept, traces_sample_rate=1.0)

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request
from fastapi.security import OAuth2PasswordBearer
from slowapi import Limiter
from slowapi.middleware import SlowAPIASGIMiddleware
from slowapi.util import get_remote_address
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware

from starlette_wasm import EdgeRequest, ExecutionTimeout, WasmMiddleware, WasmRoute, WasmRules, WasmRuntime
from starlette_wasm import wasm_endpoint, wasm_route

runtime = WasmRuntime("wasm.yaml")


async def signed_in(token: Annotated[str, Depends(OAuth2PasswordBearer(tokenUrl="token"))]):
    if token != "secret":
        raise HTTPException(401, "wrong token")


async def csrf(token: Annotated[str, Form()]):
    if token != "csrf":
        raise HTTPException(403, "wrong form")


app = FastAPI()
app.state.limiter = Limiter(key_func=get_remote_address, default_limits=["1000/minute"])


@app.exception_handler(ExecutionTimeout)
async def too_slow(request, error):
    from starlette.responses import JSONResponse
    return JSONResponse({"mine": "too slow"}, 504)


@app.get("/visits")
async def visits(request: Request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return request.session


@app.get("/welcome/{name}")
async def welcome(name: str, request: Request) -> dict[str, str]:
    answer = await runtime.invoke("greeter", EdgeRequest(path=f"/{name}", params={"name": name}))
    return json.loads(answer.body)


private = APIRouter(prefix="/private", dependencies=[Depends(signed_in)])
private.add_api_route("/echo/{id}", wasm_endpoint("echo"), methods=["GET"])
private.add_api_route("/echo/{id}", wasm_endpoint("echo"), methods=["POST"])
app.include_router(private, prefix="/v1")
app.add_api_route("/form", wasm_endpoint("echo"), methods=["POST"], dependencies=[Depends(csrf)])


@app.get("/limited")
@app.state.limiter.limit("2/minute")
async def limited(request: Request):
    return {}


@wasm_route("/py/{name}", function="greeter")
async def py(request, call):
    response = await call(request)
    response.headers["x-visits"] = str(request.session.get("visits", 0))
    return response


shop = FastAPI()
shop.add_api_route("/items/{item}", wasm_endpoint("echo"))
shop.router.routes.append(WasmRoute("/fails", function="exit3"))
app.router.routes.append(py)
app.router.routes.append(WasmRoute("/spin", function="spin", policy="short"))
app.mount("/shops/{shop}", shop)
app.include_router(WasmRules().router(), prefix="/edge", dependencies=[Depends(signed_in)])

app.add_middleware(WasmMiddleware, runtime=runtime)
app.add_middleware(GZipMiddleware, minimum_size=200)
app.add_middleware(SessionMiddleware, secret_key="x")
app.add_middleware(SlowAPIASGIMiddleware)
app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"], allow_credentials=True)
app.add_middleware(CorrelationIdMiddleware)
'''
TOKEN = {"authorization": "Bearer secret"}
ID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("walk")


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server], folder: Path) -> Server:
    for name in ("echo", "exit3", "spin"):
        add_function(folder, name)
    shutil.copytree(ROOT / "sample_app/functions/greeter", folder / "functions/greeter")
    (folder / "policies").mkdir()
    (folder / "policies/short.yaml").write_text("executionTimeoutMs: 200\n")
    rules = [{"pathPattern": "/items/{id}", "functionName": "echo"}, {"pathPattern": "/spin", "functionName": "spin"}]
    config = {"policiesDir": "policies", "exposeEndpoints": True, "rules": rules}
    (folder / "wasm.yaml").write_text(yaml.safe_dump(config))
    (folder / "walked.py").write_text(APP)
    return serve(folder, "walked:app", STARLETTE_WASM_LOG="text")


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60, limits=SHORT) as client:
        yield client


def test_dependencies_guard_endpoints_and_rules(http: httpx.Client) -> None:
    for path in ("/v1/private/echo/7", "/edge/items/7"):
        assert http.get(path).status_code == 401
        assert http.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
        answer = http.get(f"{path}?q=1", headers=TOKEN)
        assert (answer.status_code, answer.json()["query"], answer.json()["params"]) == (200, {"q": "1"}, {"id": "7"})
    assert http.post("/v1/private/echo/7", headers=TOKEN, content=b"hello").json()["body"] == "hello"
    assert http.get("/items/7", headers=TOKEN).status_code == 404
    form = {"token": "csrf", "name": "Ada Lovelace"}
    assert http.post("/form", data=form).json()["body"] == "token=csrf&name=Ada+Lovelace"
    assert http.post("/form", data=form | {"token": "other"}).status_code == 403


def test_sessions_and_compression_reach_functions(http: httpx.Client) -> None:
    assert [http.get("/visits").json()["visits"] for _ in range(2)] == [1, 2]
    answer = http.get("/py/Ada")
    assert (answer.headers["x-visits"], answer.json()) == ("2", {"greeting": "Hello, Ada!"})
    assert http.get("/welcome/Bo").json() == {"greeting": "Hello, Bo!"}
    zipped = http.get("/shops/1/items/2", headers={"accept-encoding": "gzip"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.json()["path"] == "/items/2"


def test_cors_is_on_every_answer_of_a_function(http: httpx.Client) -> None:
    origin = {"origin": "https://shop.example"}
    for path in ("/py/Ada", "/shops/1/items/2", "/shops/1/fails", "/spin", "/edge/items/7"):
        answer = http.get(path, headers=origin)
        assert answer.headers.get_list("access-control-allow-origin") == ["https://shop.example"], path
    asked = origin | {"access-control-request-method": "GET"}
    assert http.options("/v1/private/echo/7", headers=asked).status_code == 200


def test_each_answer_has_the_id_that_was_chosen_once(http: httpx.Client) -> None:
    for path in ("/shops/1/items/2", "/v1/private/echo/7", "/edge/items/7"):
        answer = http.get(path, headers=TOKEN | {"x-request-id": ID})
        assert answer.headers.get_list("x-request-id") == [ID]
        assert answer.json()["context"]["request_id"] == ID
        (made,) = http.get(path, headers=TOKEN).headers.get_list("x-request-id")
        assert made != ID
    assert http.get("/py/Ada", headers={"x-request-id": ID}).headers.get_list("x-request-id") == [ID]


def test_faults_are_problems_or_the_apps_own_answers(http: httpx.Client, server: Server) -> None:
    failed = http.get("/shops/1/fails", headers={"x-request-id": ID})
    assert (failed.status_code, failed.headers["content-type"]) == (500, "application/problem+json")
    assert (failed.json()["type"], failed.json()["request_id"]) == ("function-exit", ID)
    assert http.get("/spin").json() == {"mine": "too slow"}
    server.wait(lambda: "exit3 (function-exit)" in server.log and "time limit exceeded" in server.log, 180)


def test_slowapi_limits_what_it_is_to_limit(http: httpx.Client) -> None:
    assert [http.get("/limited").status_code for _ in range(3)] == [200, 200, 429]
    assert http.get("/py/Ada").status_code == 200


def test_the_document_validates_and_has_the_functions(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    validate(document)
    echo = document["paths"]["/v1/private/echo/{id}"]
    assert [each["name"] for each in echo["get"]["parameters"]] == ["id"]
    assert echo["post"]["security"] == [{"OAuth2PasswordBearer": []}]


def test_many_tenants_are_one_series(http: httpx.Client) -> None:
    for tenant in range(50):
        assert http.get(f"/shops/{tenant}/items/{tenant}").status_code == 200
    counts = [line for line in http.get("/metrics").text.splitlines() if line.startswith("faas_invocations_total{")]
    routes = [line.partition('http_route="')[2].partition('"')[0] for line in counts]
    assert routes.count("/shops/{shop}/items/{item}") == 1
    assert not any(character.isdigit() for route in routes for character in route.replace("/v1/", "/"))


def test_the_start_and_the_stop_are_quiet(server: Server, folder: Path) -> None:
    server.terminate()
    assert server.ended(180) in (0, -signal.SIGTERM)
    log = server.log
    assert "loaded greeter v2" in log
    for trouble in ("guards that do not guard", "shadows", "gets no request", "Traceback", "never awaited"):
        assert trouble not in log
    sent = [json.loads(line) for line in (folder / "sentry.jsonl").read_text().splitlines()]
    names = {name for kind, name, _ in sent if kind == "transaction"}
    assert {"/shops/{shop}/items/{item}", "/v1/private/echo/{id}", "/edge/items/{id}", "/py/{name}"} <= names
    assert "/shops/{shop}/fails" in names
    assert ["event", "/shops/{shop}/fails", "exit3 (function-exit): %s%s"] in sent
