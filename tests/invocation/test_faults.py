"""Every fault: what the caller gets, what the log says, and that the next request works."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import JSON, add_constant, app, client, config, eventually, native, run, settings
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.testclient import TestClient

from starlette_wasm import WasmMiddleware, WasmRoute, WasmRuntime, wasm_endpoint

SHORT = {"executionTimeoutMs": 150, "maxResponseBytes": 1 << 20}
DEEP = {"executionTimeoutMs": 5000, "maxMemoryPages": 64}
# guest: status, type, title, what the log holds
FAULTS: dict[str, tuple[int, str, str, str]] = {
    "alloc": (500, "memory-limit", "out of memory", "limit 64"),
    "recurse": (500, "wasm-trap", "wasm trap: call stack exhausted", "  at func["),
    "exit3": (500, "function-exit", "function exited with an error", "exited with code 3"),
    "garbage": (502, "invalid-function-response", "invalid function response", "at byte 0"),
    "partial": (500, "wasm-trap", "wasm trap: unreachable", "  at"),
    "crash_after": (500, "wasm-trap", "wasm trap: unreachable", "  at"),
    "flood_stdout": (502, "invalid-function-response", "invalid function response", "more than 1048576 bytes"),
    "sleep60": (504, "execution-timeout", "time limit exceeded", "150 ms"),
    "spin": (504, "execution-timeout", "time limit exceeded", "150 ms"),
    "trap": (500, "wasm-trap", "wasm trap: out of bounds memory access", "  at trap_oob\n  at innermost\n  at middle"),
}
POLICIES: dict[str, JSON] = {
    "short": SHORT,
    "deep": DEEP,
    "talks": {"maxLogBytes": 1000, "executionTimeoutMs": 10_000},
}


def policy(guest: str) -> str:
    return "deep" if guest in ("alloc", "recurse") else "short"


@pytest.fixture(scope="module")
def wasm(tmp_path_factory: pytest.TempPathFactory) -> JSON:
    rules: dict[str, str | JSON] = {
        f"/rule/{guest}": {"functionName": guest, "policy": policy(guest)} for guest in FAULTS
    }
    rules["/flood_stderr"] = {"functionName": "flood_stderr", "policy": "talks"}
    rules["/trap"] = "trap"
    rules["/hello"] = "hello"
    return config(tmp_path_factory.mktemp("faults"), rules, policies=POLICIES)


ROUTES: list[BaseRoute] = [
    Route("/native", native),
    *(WasmRoute(f"/route/{guest}", function=guest, policy=policy(guest)) for guest in FAULTS),
    *(Route(f"/endpoint/{guest}", wasm_endpoint(guest, policy=policy(guest))) for guest in FAULTS),
]


@pytest.fixture(scope="module")
def http(wasm: JSON) -> Iterator[TestClient]:
    with TestClient(app(wasm, ROUTES)) as http:
        yield http


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.ERROR) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("starlette_wasm") and record.levelno >= level]


@pytest.mark.parametrize("how", ["rule", "route", "endpoint"])
@pytest.mark.parametrize("guest", FAULTS)
def test_a_fault_is_answered_as_the_table_says(
    http: TestClient, caplog: pytest.LogCaptureFixture, how: str, guest: str
) -> None:
    status, slug, title, cause = FAULTS[guest]
    begin = time.monotonic()
    response = http.get(f"/{how}/{guest}?mode=oob", headers={"x-request-id": "r-1"})
    assert time.monotonic() - begin < 30
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == "r-1"
    assert "retry-after" not in response.headers
    assert response.json() == {"type": slug, "title": title, "status": status, "request_id": "r-1"}
    (record,) = logged(caplog)
    assert cause in record.getMessage()
    assert record.__dict__["request_id"] == "r-1"
    assert http.get("/hello").text == "hello"
    assert http.get("/native").text == "native /native"


@pytest.mark.parametrize("how", ["rule", "route", "endpoint"])
def test_a_problem_without_an_incoming_request_id_gets_a_new_one(http: TestClient, how: str) -> None:
    response = http.get(f"/{how}/exit3")
    assert len(response.json()["request_id"]) == 32
    assert response.headers["x-request-id"] == response.json()["request_id"]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("unreachable", "unreachable"),
        ("div0", "integer divide by zero"),
        ("oob", "out of bounds memory access"),
        ("null", "indirect call to null"),
    ],
)
def test_each_kind_of_trap_is_named(http: TestClient, mode: str, reason: str) -> None:
    response = http.get(f"/trap?mode={mode}")
    assert (response.status_code, response.json()["title"]) == (500, f"wasm trap: {reason}")


@pytest.mark.parametrize("guest", FAULTS)
def test_with_debug_the_caller_gets_the_cause(wasm: JSON, guest: str) -> None:
    with TestClient(app(wasm, ROUTES, debug=True)) as http:
        for how in ("rule", "route", "endpoint"):
            assert FAULTS[guest][3] in http.get(f"/{how}/{guest}?mode=oob").json()["detail"]


def test_a_flood_of_stderr_is_cut_and_the_answer_comes(http: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "starlette_wasm.guest"):
        assert http.get("/flood_stderr").json() == {"logged": 100_000_000}
    texts = [record.getMessage() for record in caplog.records if record.name == "starlette_wasm.guest"]
    assert texts[-1] == "flood_stderr v1: 99999000 bytes of stderr dropped (maxLogBytes)"
    assert sum(text.count("x") for text in texts) <= 1000


@pytest.mark.parametrize(
    "stdout",
    [
        b"",
        b"null",
        b"[]",
        b'{"status_code": true}',
        b'{"status_code": 199}',
        b'{"status_code": 600}',
        b'{"status_code": NaN}',
        b'{"status_code": 200, "status_code": 200}',
        b'{"status_code": 200} x',
        b'{"status_code": 200, "headers": {"a": "b\\r\\nc: d"}}',
        b'{"status_code": 200, "headers": {"a b": "c"}}',
        b'{"status_code": 200, "body": "\\ud800"}',
        b'{"status_code": 200, "body": "!", "is_base64_encoded": true}',
        b"[" * 100_000,
        '{"status_code": 200}'.encode("utf-16"),
        b"\xff",
    ],
)
def test_what_is_no_valid_response_is_a_502(tmp_path: Path, stdout: bytes) -> None:
    add_constant(tmp_path, "bad", stdout)

    async def main() -> None:
        async with client(app(config(tmp_path, {"/bad": "bad"}))) as http:
            response = await http.get("/bad")
            assert (response.status_code, response.json()["type"]) == (502, "invalid-function-response")

    run(main())


def test_a_large_request_is_told_the_limit(tmp_path: Path) -> None:
    made = config(
        tmp_path, {"/rule": {"functionName": "echo", "policy": "tiny"}}, policies={"tiny": {"maxRequestBytes": 3}}
    )
    with TestClient(app(made, [WasmRoute("/route", function="echo", policy="tiny")])) as http:
        for path in ("/rule", "/route"):
            response = http.post(path, content=b"four", headers={"x-request-id": "r-1"})
            assert response.status_code == 413
            assert response.json() == {
                "type": "request-too-large",
                "title": "request body too large",
                "status": 413,
                "request_id": "r-1",
                "detail": "the body may have at most 3 bytes",
            }
            assert http.post(path, content=b"123").status_code == 200
            assert len(http.post(path, content=b"four").json()["request_id"]) == 32


def test_a_grant_is_the_directory_that_was_checked_whatever_its_path_becomes(tmp_path: Path) -> None:
    """A guest that may write above a granted directory cannot make another one of it for the next request."""
    outer, secret = tmp_path / "outer", tmp_path / "secret"
    (outer / "inner").mkdir(parents=True)
    (outer / "inner" / "x").write_text("granted")
    secret.mkdir()
    (secret / "x").write_text("secret")
    grants = [
        {"hostPath": str(outer), "guestPath": "/outer", "readonly": False},
        {"hostPath": str(outer / "inner"), "guestPath": "/inner", "readonly": False},
    ]
    made = config(
        tmp_path, {"/files": {"functionName": "files", "policy": "dirs"}}, policies={"dirs": {"allowedDirs": grants}}
    )
    with TestClient(app(made)) as http:

        def ask(**command: str) -> dict[str, Any]:
            answer: dict[str, Any] = http.post("/files", json=command).json()
            return answer

        assert ask(op="rename", path="/outer/inner", to="/outer/moved")["ok"]
        (outer / "inner").symlink_to(secret)
        assert ask(op="read", path="/inner/x")["data"] == "granted"
        assert ask(op="write", path="/inner/y", data="mine")["ok"]
        assert ask(op="read", path="/outer/inner/x")["ok"] is False
    assert sorted(path.name for path in secret.iterdir()) == ["x"]
    assert (outer / "moved" / "y").read_text() == "mine"


def test_faults_leave_no_guest_behind_and_are_counted(wasm: JSON) -> None:
    async def main() -> None:
        async with (
            WasmRuntime(wasm, settings()) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            await asyncio.gather(*(http.get(f"/rule/{guest}?mode=oob") for guest in FAULTS for _ in range(3)))
            stats = runtime.stats()
            await eventually(lambda: runtime.stats()["live"] == runtime.stats()["busy"] == 0)
            assert stats["running"] == 0
            for slug in {fault[1] for fault in FAULTS.values()}:
                assert stats[slug] == 3 * sum(fault[1] == slug for fault in FAULTS.values())

    run(main())
