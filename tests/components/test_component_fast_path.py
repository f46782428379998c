"""Components on the fast path, against the same requests on the slow one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apps import JSON, add_function, app, client, config, eventually
from starlette.requests import Request
from starlette.responses import Response

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.asgi import answer_sender
from starlette_wasm.asgi.routes import wasm_route
from starlette_wasm.components.fast_path import ComponentFastPath

pytestmark = pytest.mark.native
ASKED = {
    "http_stream": [
        *(("GET", path) for path in ("hello", "status/201", "status/204", "status/404", "empty", "trailers", "long/5",
                                     "before/100", "before/70000", "download/200000", "declared/5", "short/5",
                                     "invalid/1", "unfinished/1", "hello?a=b%20c&d")),
        ("HEAD", "hello"), ("HEAD", "empty"), ("OPTIONS", "hello"),
        *(("POST", path) for path in ("hello", "upload", "echo")),
    ],
    "http_calls": [
        ("GET", "m00s00u00p00h02e20c23g38r34b45w56o14B65F50."), ("GET", "l62r23b34w45o13B50F40"), ("GET", "h02r23o13."),
        ("GET", "f02r23O10."), ("GET", "e00"), ("GET", "h02c26r63o13."),
        ("GET", "l92r23b34w45o13B52v50F40."), ("POST", "D02N23j35j38I24J40f04r45b56w67o15B70F60."),
    ],
    "edge_js": [("GET", "x"), ("POST", "x")],
}  # fmt: skip
"""For each guest, by method and path."""


@pytest.fixture
def served_by(tmp_path: Path) -> Callable[[str], JSON]:
    """Make a config in which one guest serves all paths."""

    def make(guest: str) -> JSON:
        root = tmp_path / guest
        add_function(root, guest, f"components/{guest}")
        rules: dict[str, str | JSON] = {"/{rest:path}": {"functionName": guest, "policy": "p"}}
        return config(root, rules, policies={"p": {"executionTimeoutMs": 30_000}})

    return make


def runtime_of(served: Any) -> WasmRuntime:
    stack: Any = served.middleware_stack
    while not isinstance(stack, WasmMiddleware):
        stack = stack.app
    runtime: WasmRuntime = stack.runtime
    return runtime


async def answers(wasm: JSON, asked: list[tuple[str, str]], rounds: int = 1) -> list[Any]:
    """Status, headers and body of each request; for a fault that is raised, what it is."""
    served, found = app(wasm), []
    async with client(served) as http:
        for method, path in asked * rounds:
            headers = {"x-request-id": "1", "x-a": "b", "cookie": "c=d", "te": "trailers", "upgrade": "x"}
            body = b"body" if method == "POST" else None
            try:
                answer = await http.request(method, f"/{path}", headers=headers, content=body)
            except Exception as error:
                found.append((method, path, type(error).__name__))
            else:
                content = answer.content if answer.status_code != 500 else answer.json()["title"]
                found.append((method, path, answer.status_code, sorted(answer.headers.items()), content))
            await asyncio.sleep(0.01)
    runtime = runtime_of(served)
    await eventually(lambda: runtime.stats()["live"] == 0, 60)
    await runtime.close()
    return found


@pytest.mark.parametrize("guest", ASKED)
def test_all_ways_answer_alike(served_by: Callable[[str], JSON], guest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one call of C, if there is an instance for it; in steps; and as what nothing is known of at first."""
    monkeypatch.setattr(answer_sender, "_LINGER", 300)  # else time decides what leaves in one write, with its length
    wasm, asked = served_by(guest), ASKED[guest]
    in_one_call = asyncio.run(answers(wasm, asked, 2))
    monkeypatch.setattr(ComponentFastPath, "_lend", lambda _: False)
    in_steps = asyncio.run(answers(wasm, asked))
    monkeypatch.setattr(ComponentFastPath, "_may_begin", False)
    slow = asyncio.run(answers(wasm, asked))
    for first, second, third, last in zip(in_one_call, in_one_call[len(asked) :], in_steps, slow, strict=False):
        assert first == second == third == last


@pytest.mark.parametrize("may_begin", [True, False])
def test_handlers_see_no_fields_between_hops(
    served_by: Callable[[str], JSON], may_begin: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script gives the header fields of its request back, with those that C and that Python reads."""
    monkeypatch.setattr(ComponentFastPath, "_may_begin", may_begin)
    (found,) = asyncio.run(answers(served_by("http_calls"), [("GET", "h02c26r63o13.")]))
    names = {name for name, _ in found[3]}
    assert names >= {"x-a", "cookie", "user-agent"}
    assert not names & {"host", "te", "upgrade"}


@pytest.mark.parametrize("may_begin", [True, False])
def test_routes_give_handlers_their_body(
    served_by: Callable[[str], JSON], may_begin: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not may_begin:
        monkeypatch.setattr(ComponentFastPath, "_may_begin", False)

    @wasm_route("/upload", function="http_stream", policy="p", methods=["POST"])
    async def handler(request: Request, call: Any) -> Response:
        response: Response = await call(request)
        return response

    async def go() -> None:
        served = app({**served_by("http_stream"), "rules": []}, [handler])
        async with client(served) as http:
            assert (await http.post("/upload", content=b"abc")).content == b"3"
        await runtime_of(served).close()

    asyncio.run(go())


@pytest.mark.parametrize(
    ("guest", "path", "body"),
    [
        ("http_stream", "hello", b""),
        ("http_stream", "upload", bytes(2000)),
        ("http_calls", "D02N23j35j38I24J40f04r45b56w67o15B70F60.", b"abc"),
        ("edge_js", "x", b"abc"),
    ],
)
def test_requests_take_the_fast_path(
    served_by: Callable[[str], JSON], guest: str, path: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    attempt = ComponentFastPath._try

    def noted(self: ComponentFastPath, *given: Any) -> Any:
        found = attempt(self, *given)
        taken.append(type(found).__name__)
        return found

    monkeypatch.setattr(ComponentFastPath, "_try", noted)
    monkeypatch.setattr(ComponentFastPath, "_lend", lambda _: False)

    async def go() -> None:
        served = app(served_by(guest))
        async with client(served) as http, asyncio.timeout(60):
            while "Completed" not in taken:  # a guest may meet a tick by chance
                assert (await http.request("POST" if body else "GET", f"/{path}", content=body)).status_code == 200
                await asyncio.sleep(0.01)
        await runtime_of(served).close()

    asyncio.run(go())
