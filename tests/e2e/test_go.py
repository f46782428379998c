"""A module of Go's own compiler, with the types of net/http, through the whole product under uvicorn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import yaml
from processes import Server
from toolchains import BUILT, go_guest


def test_a_go_handler_answers_under_uvicorn(tmp_path: Path, serve: Callable[..., Server]) -> None:
    home = tmp_path / "functions" / "shop" / "v1"
    home.mkdir(parents=True)
    shutil.copy(go_guest(), home / "shop.wasm")
    (home / "function.yaml").write_text("protocol: cgi\n")
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/go.yaml").write_text("executionTimeoutMs: 20000\n")
    rule = {"pathPattern": "/shop/{rest:path}", "functionName": "shop", "policy": "go"}
    (tmp_path / "wasm.yaml").write_text(
        yaml.safe_dump({"policiesDir": "policies", "exposeEndpoints": True, "rules": [rule]})
    )
    server = serve(tmp_path, "plain:app", within=300, STARLETTE_WASM_CACHE_DIR=str(BUILT / "aot"))
    for body in ("hello", "again"):
        headers = {"x-name": "Jürgen €".encode()}
        answer = server.post("/shop/x%2Fy?q=1", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.text == f"/shop/x/y 1 Jürgen € {body.upper()}"
        assert answer.headers["x-method"] == "POST"
