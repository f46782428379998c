"""Functions that call the host give the same by the short way of fast_path.c, up to their first call, and without."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import JSON, client, config, run, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware

from starlette_wasm import EdgeRequest, FunctionOverloaded, InvalidFunctionResponse, WasmMiddleware, WasmRuntime
from starlette_wasm.engine import capi, instance
from starlette_wasm.engine.fast_path import NOT_TAKEN, FastPath
from starlette_wasm.engine.loop_time import LoopTime
from starlette_wasm.invocation.fast_path import FastPathRunner

pytestmark = pytest.mark.native
KEYS = ("a", "b", "é", "")
COMMANDS: list[JSON] = [
    *({"op": "kv.get", "namespace": "n", "key": key} for key in KEYS),
    *({"op": "kv.set", "namespace": "n", "key": key, "value": "v" * 3} for key in KEYS),
    *({"op": "kv.delete", "namespace": "n", "key": key} for key in KEYS),
    {"op": "kv.increment", "namespace": "n", "key": "count", "by": 2},
    {"op": "kv.set", "namespace": "n", "key": "a", "value": "x" * 30_000},
    {"op": "kv.list", "namespace": "n", "prefix": ""},
    {"op": "kv.get", "namespace": "theirs", "key": "a"},
    {"op": "http.fetch", "url": "http://denied.example/"},
    {"op": "queue.publish", "queue": "denied", "body": "b"},
    {"op": "trace.start", "name": "s"},
    {"op": "trace.end"},
]


_OPENS_FILES = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")))"""


def lists() -> list[list[JSON]]:
    """Of none to eight commands, the same each time; and one of so many that the host makes it wait in between."""
    chosen = random.Random(14)
    found = [chosen.choices(COMMANDS, k=chosen.randrange(9)) for _ in range(40)]
    return [[], *([command] for command in COMMANDS), *found, [COMMANDS[0]] * 70]


def without_etags(value: Any) -> Any:
    """Which are drawn by chance."""
    if isinstance(value, list):
        return [without_etags(each) for each in value]
    if isinstance(value, dict):
        return {name: without_etags(each) for name, each in value.items() if name != "etag"}
    return value


def served(runtime: WasmRuntime) -> httpx.AsyncClient:
    return client(Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)]))


def asked(folder: Path) -> list[Any]:
    """What a function answers to each list, by one way."""
    rules = {"/ask": {"functionName": "edge_c", "policy": "keeps"}}
    made = config(folder, rules, policies={"keeps": {"kvNamespaces": ["n"], "executionTimeoutMs": 30_000}})
    found: list[Any] = []

    async def main() -> None:
        async with WasmRuntime(made, settings(kv_url="sqlite://")) as runtime, served(runtime) as http:
            for commands in lists():
                response = await http.post("/ask", json=commands, headers={"x-request-id": "r"})
                said = without_etags(response.json()) if commands else response.text  # the guest says "]" then
                found.append((response.status_code, response.headers["content-type"], said))
            assert runtime.stats()["live"] == 0

    run(main())
    return found


def test_calls_of_the_host_give_the_same_by_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    dispatch, answer = FastPath.dispatch, FastPathRunner.answer

    def dispatched(self: FastPath, *given: Any) -> Any:
        result = dispatch(self, *given)
        seen[type(result).__name__] += 1
        return result

    def answered(self: FastPathRunner, *given: Any) -> Any:
        result = answer(self, *given)
        if result is not NOT_TAKEN:  # else dispatch() is asked
            seen["Completed" if type(result) is tuple else type(result).__name__] += 1
        return result

    monkeypatch.setattr(LoopTime, "add", lambda self, seconds: None)  # the machine may be busy elsewhere
    monkeypatch.setattr(FastPath, "dispatch", dispatched)
    monkeypatch.setattr(FastPathRunner, "answer", answered)
    fast = asked(tmp_path / "fast")
    assert seen["Started"]
    assert seen["Completed"]  # with nothing to ask
    assert not seen["NotTaken"]
    monkeypatch.setattr(FastPath, "dispatch", lambda *given: NOT_TAKEN)
    monkeypatch.setattr(FastPathRunner, "answer", lambda *given: NOT_TAKEN)
    slow = asked(tmp_path / "slow")
    monkeypatch.setattr(instance, "native", None)
    assert fast == slow == asked(tmp_path / "python")
    assert Counter(status for status, *_ in fast).most_common(1)[0][0] == 200


def test_a_lack_of_memory_runs_no_guest_with_directories_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have written a file. The answer is that of any call for which the host has too little."""
    (tmp_path / "data").mkdir()
    rules = {"/files": {"functionName": "files", "policy": "files"}}
    policy: JSON = {"allowedDirs": [{"hostPath": str(tmp_path / "data"), "guestPath": "/data"}]}
    made = config(tmp_path, rules, policies={"files": policy})
    (tmp_path / "functions/files/v1/files.wasm").write_bytes(capi.assemble(_OPENS_FILES))

    def lacks(*arguments: object) -> None:
        raise MemoryError

    async def main() -> None:
        async with WasmRuntime(made, settings()) as runtime, served(runtime) as http:
            with pytest.raises(InvalidFunctionResponse):  # it prints nothing, but now it is bound
                await runtime.invoke("files", EdgeRequest(path="/files"), policy="files")
            for step in ("_dispatch", "_call", "_run", "answer"):
                monkeypatch.setattr(FastPath, step, lacks)
            monkeypatch.setattr(instance.Instance, "start", lambda self: pytest.fail("the guest ran again"))
            for _ in range(2):
                response = await http.get("/files", headers={"x-request-id": "r"})
                assert response.status_code == 503
                assert response.json()["title"] == "function overloaded"
            with pytest.raises(FunctionOverloaded, match="out of memory"):
                await runtime.invoke("files", EdgeRequest(path="/files"), policy="files")
            assert runtime.stats()["live"] == 0

    run(main())
