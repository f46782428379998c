"""A wasi:http handler in Python through the whole product: outbound requests and files, granted and not."""

from __future__ import annotations

import shutil
from pathlib import Path

from apps import app, client, config, run
from capability_servers import Upstream
from toolchains import aot_cache, python_handler


def test_a_python_handler_uses_what_is_granted(tmp_path: Path) -> None:
    home = tmp_path / "functions" / "py" / "v1"
    home.mkdir(parents=True)
    shutil.copy(python_handler(), home / "py.wasm")
    (tmp_path / "data").mkdir()
    bounds = {"executionTimeoutMs": 20_000, "maxMemoryPages": 1024}
    with Upstream() as upstream:
        host = f"127.0.0.1:{upstream.port}"
        directory = {"hostPath": str(tmp_path / "data"), "guestPath": "/data", "readonly": False}
        granted = {"allowedHosts": [f"http://{host}"], "maxNetworkRequests": 5, "allowPrivateNetworks": True}
        granted["allowedDirs"] = [directory]
        rules = {f"/{name}/{{host}}": {"functionName": "py", "policy": name} for name in ("open", "shut")}
        wasm = config(tmp_path, rules, policies={"open": bounds | granted, "shut": bounds})

        async def go() -> None:
            async with client(app(wasm, cache_dir=aot_cache(), compile_cpu_s=300)) as http:
                for _ in range(2):
                    answer = await http.get(f"/open/{host}")
                    assert answer.status_code == 200, answer.text
                    assert answer.json() == {"found": [200, "hello"], "seen": ['[200, "hello"]', ["seen.json"]]}
                answer = await http.get(f"/shut/{host}")
                assert answer.json() == {"found": "ErrorCode_HttpRequestDenied", "seen": None}

        run(go(), 300)
        assert len(upstream.received) == 2
    assert (tmp_path / "data" / "seen.json").read_text() == '[200, "hello"]'
