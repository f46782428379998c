"""CPython for WASI as a function: arguments, its standard library from a granted directory, requests answered."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import Server
from toolchains import BUILT, python_guest

ANSWER = """\
import json, os, sys

request = json.load(sys.stdin)
if request["path"].endswith("/fails"):
    raise RuntimeError("for the log")
print("a line for the log", file=sys.stderr)
body = {"argv": sys.argv, "json": json.__file__, "body": request["body"], "greeting": os.environ["GREETING"],
        "files": sorted(os.listdir("/app")), "version": sys.version_info[:2]}
print(json.dumps({"status_code": 201, "headers": {"x-name": request["params"]["rest"]}, "body": json.dumps(body)}))
"""
UNPACK = """\
import shutil, sys

shutil.copyfile(sys.path[1], "/out/stdlib.zip")
print('{"status_code": 200}')
"""


def put(folder: Path, name: str, **manifest: Any) -> None:
    home = folder / "functions" / name / "v1"
    home.mkdir(parents=True)
    shutil.copy(python_guest(), home / f"{name}.wasm")
    (home / "function.yaml").write_text(yaml.safe_dump(manifest))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., Server]) -> Server:
    folder = tmp_path_factory.mktemp("python")
    for each in ("app", "out", "stdlib", "policies"):
        (folder / each).mkdir()
    (folder / "app/answer.py").write_text(ANSWER)
    (folder / "app/unpack.py").write_text(UNPACK)
    put(folder, "answer", args=["/app/answer.py", "one", "two words"], env={"PYTHONHOME": "/python", "GREETING": "hi"})
    put(folder, "unpack", args=["/app/unpack.py"])
    app = {"hostPath": "../app", "guestPath": "/app"}
    grants = {
        "answer": [app, {"hostPath": "../stdlib", "guestPath": "/python/lib/python3.12"}],
        "unpack": [app, {"hostPath": "../out", "guestPath": "/out", "readonly": False}],
    }
    for name, directories in grants.items():
        policy = {"maxMemoryPages": 1024, "executionTimeoutMs": 60_000, "allowedDirs": directories}
        (folder / "policies" / f"{name}.yaml").write_text(yaml.safe_dump(policy))
    rules = [{"pathPattern": f"/{name}/{{rest:path}}", "functionName": name, "policy": name} for name in grants]
    config = {"functionsDir": "functions", "policiesDir": "policies", "exposeEndpoints": True, "rules": rules}
    (folder / "wasm.yaml").write_text(yaml.safe_dump(config))
    environ = {"STARLETTE_WASM_CACHE_DIR": str(BUILT / "aot"), "STARLETTE_WASM_LOG": "text"}
    server = serve(folder, "plain:app", within=300, **environ)
    assert server.get("/unpack/x").status_code == 200, server.log
    with zipfile.ZipFile(folder / "out/stdlib.zip") as stdlib:  # CPython's own, as it has none for WASI elsewhere
        stdlib.extractall(folder / "stdlib")
    return server


def test_python_answers_a_request(python: Server) -> None:
    for text in ("hello", "hellö again"):
        answer = python.post("/answer/a%20name", content=text.encode())
        assert answer.status_code == 201, python.log
        assert answer.headers["x-name"] == "a name"
        assert answer.json() == {
            "argv": ["/app/answer.py", "one", "two words"],
            "json": "/python/lib/python3.12/json/__init__.pyc",
            "body": text,
            "greeting": "hi",
            "files": ["answer.py", "unpack.py"],
            "version": [3, 12],
        }
    python.wait(lambda: "a line for the log" in python.log, 180)


def test_an_exception_of_python_is_an_exit_and_a_log_line(python: Server) -> None:
    answer = python.get("/answer/fails")
    assert (answer.status_code, answer.json()["type"]) == (500, "function-exit")
    python.wait(lambda: "RuntimeError: for the log" in python.log, 180)
