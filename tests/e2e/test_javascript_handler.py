"""A handler of ``wasi:http`` in JavaScript, as componentize-js makes them with StarlingMonkey in it."""

from __future__ import annotations

import shutil
from pathlib import Path

from apps import app, client, config, run
from toolchains import aot_cache, javascript_handler


def test_a_javascript_handler_answers(tmp_path: Path) -> None:
    home = tmp_path / "functions" / "js" / "v1"
    home.mkdir(parents=True)
    shutil.copy(javascript_handler(), home / "js.wasm")
    bounds = {"executionTimeoutMs": 20_000, "maxMemoryPages": 1024, "maxRequestBytes": 4 << 20}
    wasm = config(tmp_path, {"/js/{what}": {"functionName": "js", "policy": "p"}}, policies={"p": bounds})

    async def go() -> None:
        async with client(app(wasm, cache_dir=aot_cache(), compile_cpu_s=300)) as http:
            for number in range(3):
                answer = await http.get(f"/js/{number}?q=1", headers={"x-agent": "é".encode()})
                assert (answer.status_code, answer.headers["content-type"]) == (201, "application/json")
                given = {"asked": 1, "method": "GET", "path": f"/js/{number}", "agent": "Ã©"}
                assert answer.json() == given, "each request has the first state"
            for size in (0, 5, 300_000):
                body = bytes(number % 251 for number in range(size))
                answer = await http.post("/js/echo", content=body)
                assert (answer.status_code, answer.content == body) == (200, True)

    run(go(), 300)
