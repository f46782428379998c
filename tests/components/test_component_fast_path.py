"""Components on the fast path, against the same requests on the slow one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from apps import JSON, add_function, app, client, config, eventually

from starlette_wasm import WasmMiddleware
from starlette_wasm.asgi import answer_sender
from starlette_wasm.components.fast_path import ComponentFastPath

pytestmark = pytest.mark.native
ASKED = [
    *(("GET", f"/stream/{path}") for path in ("hello", "status/201", "status/204", "status/404", "empty", "trailers",
                                              "before/100", "before/70000", "download/200000", "declared/5", "short/5",
                                              "long/5", "invalid/1", "unfinished/1", "hello?a=b%20c&d")),
    ("HEAD", "/stream/hello"), ("HEAD", "/stream/empty"), ("OPTIONS", "/stream/hello"), ("POST", "/stream/hello"),
    ("GET", "/calls/m00s00u00p00h02e20c23g38r34b45w56o14B65F50."), ("GET", "/calls/l62r23b34w45o13B50F40"),
    ("GET", "/calls/h02r23o13."), ("GET", "/calls/f02r23O10."), ("GET", "/calls/e00"), ("GET", "/js/x"),
    ("POST", "/js/x"),
]  # fmt: skip


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    rules: dict[str, str | JSON] = {}
    for name, guest in (("stream", "http_stream"), ("calls", "http_calls"), ("js", "edge_js")):
        add_function(tmp_path, name, f"components/{guest}")
        rules[f"/{name}/{{rest:path}}"] = {"functionName": name, "policy": "p"}
    return config(tmp_path, rules, policies={"p": {"executionTimeoutMs": 30_000}})


async def answers(wasm: JSON, rounds: int = 1) -> list[Any]:
    """Status, headers and body of each request; for a fault that is raised, what it is."""
    served, found = app(wasm), []
    async with client(served) as http:
        for method, path in ASKED * rounds:
            headers = {"x-request-id": "1", "x-a": "b", "cookie": "c=d"}
            body = b"body" if method == "POST" else None
            try:
                answer = await http.request(method, path, headers=headers, content=body)
            except Exception as error:
                found.append((method, path, type(error).__name__))
            else:
                content = answer.content if answer.status_code != 500 else answer.json()["title"]
                found.append((method, path, answer.status_code, sorted(answer.headers.items()), content))
            await asyncio.sleep(0.01)
    stack: Any = served.middleware_stack
    while not isinstance(stack, WasmMiddleware):
        stack = stack.app
    runtime = stack.runtime
    await eventually(lambda: runtime.stats()["live"] == 0, 60)
    await runtime.close()
    return found


def test_all_ways_answer_alike(wasm: JSON, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one call of C, if there is an instance for it; in steps; and as what nothing is known of at first."""
    monkeypatch.setattr(answer_sender, "_LINGER", 300)  # else time decides what leaves in one write, with its length
    in_one_call = asyncio.run(answers(wasm, 2))
    monkeypatch.setattr(ComponentFastPath, "_lend", lambda _: False)
    in_steps = asyncio.run(answers(wasm))
    monkeypatch.setattr(ComponentFastPath, "_may_begin", False)
    slow = asyncio.run(answers(wasm))
    for first, second, third, last in zip(in_one_call, in_one_call[len(ASKED) :], in_steps, slow, strict=False):
        assert first == second == third == last
