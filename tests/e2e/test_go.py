"""A module of Go's own compiler, with the types of net/http, through the whole product."""

from __future__ import annotations

import shutil
from pathlib import Path

from apps import app, client, config, run
from toolchains import go_guest


def test_a_go_handler_answers_under_a_policy(tmp_path: Path) -> None:
    home = tmp_path / "functions" / "shop" / "v1"
    home.mkdir(parents=True)
    shutil.copy(go_guest(), home / "shop.wasm")
    (home / "function.yaml").write_text("protocol: cgi\n")
    rule = {"functionName": "shop", "policy": "go"}
    wasm = config(tmp_path, {"/shop/{rest:path}": rule}, policies={"go": {"executionTimeoutMs": 20_000}})

    async def go() -> None:
        async with client(app(wasm)) as dispatcher:
            for body in ("hello", "again"):
                headers = {"x-name": "Jürgen €".encode()}
                answer = await dispatcher.post("/shop/x%2Fy?q=1", content=body, headers=headers)
                assert answer.status_code == 200, answer.text
                assert answer.text == f"/shop/x/y 1 Jürgen € {body.upper()}"
                assert answer.headers["x-method"] == "POST"

    run(go(), 300)
