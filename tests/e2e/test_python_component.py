"""A function in Python, made a component by componentize-py, through the whole product."""

from __future__ import annotations

import shutil
from pathlib import Path

from apps import app, client, config, run
from toolchains import BUILT, python_component


def test_a_python_function_answers_and_keeps_nothing(tmp_path: Path) -> None:
    home = tmp_path / "functions" / "py" / "v1"
    home.mkdir(parents=True)
    shutil.copy(python_component(), home / "py.wasm")
    rule = {"functionName": "py", "policy": "py"}
    policies = {"py": {"executionTimeoutMs": 20_000, "maxMemoryPages": 1024}}
    wasm = config(tmp_path, {"/py/{rest:path}": rule}, policies=policies)
    cache = BUILT / "aot"  # compiling 18 MB takes 15 s
    cache.mkdir(mode=0o700, exist_ok=True)

    async def go() -> None:
        async with client(app(wasm, cache_dir=cache, compile_cpu_s=300)) as http:
            for body in ("hello", "again"):
                answer = await http.post("/py/x", content=body)
                assert answer.status_code == 201, answer.text
                said = answer.json()
                assert (said["path"], said["body"], said["count"]) == ("/py/x", body, 1)

    run(go(), 300)
