"""A function in Python, begun by ``new`` and made a component by ``build``, through the whole product."""

from __future__ import annotations

import shutil
from pathlib import Path

from apps import app, client, config, run
from toolchains import aot_cache, python_component


def test_a_python_function_answers_and_keeps_nothing(tmp_path: Path) -> None:
    home = tmp_path / "functions" / "py" / "v1"
    home.mkdir(parents=True)
    shutil.copy(python_component(), home / "py.wasm")
    rule = {"functionName": "py", "policy": "py"}
    policies = {"py": {"executionTimeoutMs": 20_000, "maxMemoryPages": 1024}}
    wasm = config(tmp_path, {"/{rest:path}": rule}, policies=policies)

    async def go() -> None:
        async with client(app(wasm, cache_dir=aot_cache(), compile_cpu_s=300)) as http:
            for body in ("hello", "again"):
                answer = await http.post("/py/x", content=body)
                assert answer.status_code == 201, answer.text
                said = answer.json()
                assert (said["path"], said["body"], said["count"]) == ("/py/x", body, 1)
            assert (await http.get("/greet?name=Zoe")).text == "Hello, Zoe!\n"

    run(go(), 300)
