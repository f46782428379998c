"""Arguments and variables of a function: fixed ones, secrets, and what the host tells it of the request."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from apps import app, client, run

from starlette_wasm import ConfigError, EdgeRequest, WasmRuntime
from starlette_wasm.engine import capi

WASI = "wasi_snapshot_preview1"
SECRET = "hush-4711"


def printing(kind: str) -> bytes:
    """Prints its environment, or its arguments, each with a NUL behind, in the protocol cgi."""
    return capi.assemble(
        f"""(module (import "{WASI}" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
        (import "{WASI}" "{kind}_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "{WASI}" "{kind}_get" (func $get (param i32 i32) (result i32)))
        (memory (export "memory") 2) (data (i32.const 64) "Content-Type: text/plain\\0a\\0a")
        (func (export "_start") (drop (call $sizes (i32.const 0) (i32.const 4)))
          (drop (call $get (i32.const 1024) (i32.const 65536)))
          (i32.store (i32.const 8) (i32.const 64)) (i32.store (i32.const 12) (i32.const 26))
          (i32.store (i32.const 16) (i32.const 65536)) (i32.store (i32.const 20) (i32.load (i32.const 4)))
          (drop (call $w (i32.const 1) (i32.const 8) (i32.const 2) (i32.const 24)))))"""
    )


def config(folder: Path, kind: str, manifest: dict[str, Any], policy: dict[str, Any] | None = None) -> dict[str, Any]:
    home = folder / "functions" / "f" / "v1"
    home.mkdir(parents=True)
    (home / "f.wasm").write_bytes(printing(kind))
    (home / "function.yaml").write_text(yaml.safe_dump({"protocol": "cgi", **manifest}))
    (folder / "policies").mkdir()
    (folder / "policies" / "p.yaml").write_text(yaml.safe_dump(policy or {}))
    rule = {"pathPattern": "/f", "functionName": "f", "policy": "p"}
    return {"functionsDir": str(folder / "functions"), "policiesDir": str(folder / "policies"), "rules": [rule]}


def printed(wasm: dict[str, Any], path: str, headers: dict[str, str] | None = None) -> list[str]:
    found: list[str] = []

    async def go() -> None:
        async with client(app(wasm)) as dispatcher:
            answer = await dispatcher.get(path, headers=headers)
            assert answer.status_code == 200, answer.text
            found.extend(answer.content.decode().split("\0")[:-1])

    run(go())
    return found


@pytest.mark.parametrize(
    ("path", "args", "wanted"),
    [
        ("/f?greet=matt&foo=bar", [], ["/f", "greet=matt", "foo=bar"]),
        ("/f", [], ["/f"]),
        ("/f/a%20b?&x", [], ["/f/a%20b", "x"]),
        ("/f?a=%26&b", ["-v", "${ARGS}", "end"], ["/f", "-v", "a=%26", "b", "end"]),
        ("/f/x?a&b", ["${SCRIPT_NAME}:${ARGS}", "${PATH_INFO}"], ["/f/x", "/f/x:a b", "/x"]),
        ("/f", ["${REQUEST_METHOD}", "${NO_SUCH}", "$HOME"], ["/f", "GET", "${NO_SUCH}", "$HOME"]),
    ],
)
def test_arguments_of_cgi_are_those_of_wagi(tmp_path: Path, path: str, args: list[str], wanted: list[str]) -> None:
    assert printed(config(tmp_path, "args", {"args": args} if args else {}), path) == wanted


def test_a_variable_is_there_once_and_the_host_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["EDGE_REGION", "EDGE_REQUEST_ID", "EDGE_FUNCTION", "SERVER_NAME", "TRACEPARENT", "HTTP_X_TOKEN", "PLAIN"]
    for name in names:
        monkeypatch.setenv(name, "granted")
    env = {"PLAIN": "fixed", "SERVER_NAME": "fixed", "MODE": "a=b"}
    trace = {"x-token": "client", "traceparent": "00-11111111111111111111111111111111-2222222222222222-01"}
    lines = printed(config(tmp_path, "environ", {"env": env}, {"allowedEnvVars": names}), "/f", trace)
    counts = Counter(line.partition("=")[0] for line in lines)
    assert set(counts.values()) == {1}
    found = dict(line.split("=", 1) for line in lines)
    assert (found["PLAIN"], found["MODE"], found["HTTP_X_TOKEN"]) == ("fixed", "a=b", "client")
    assert "granted" not in found.values()


def test_the_edge_variables_can_be_left_out(tmp_path: Path) -> None:
    lines = printed(config(tmp_path, "environ", {"edgeEnvironment": False, "env": {"A": "b"}}), "/f")
    assert "A=b" in lines
    assert not [line for line in lines if line.startswith("EDGE_")]


@pytest.mark.parametrize("place", ["fromEnv", "fromFile"])
def test_a_secret_reaches_the_guest_and_is_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "key").write_text(SECRET + "\n")
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    where = "SHOP_TOKEN" if place == "fromEnv" else str(tmp_path / "key")
    wasm = config(tmp_path, "environ", {"env": {"TOKEN": {place: where}}}, {"allowedSecrets": [where]})
    assert f"TOKEN={SECRET}" in printed(wasm | {"exposeEndpoints": True}, "/f")

    async def go() -> None:
        async with client(app(wasm | {"exposeEndpoints": True})) as dispatcher:
            await dispatcher.get("/f")
            for path in ("/ready", "/metrics"):
                assert SECRET not in (await dispatcher.get(path)).text

    run(go())
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("value", "granted", "message"),
    [
        ({"fromEnv": "SHOP_TOKEN"}, [], "SHOP_TOKEN is not granted by the policy p; add it to allowedSecrets"),
        ({"fromFile": "/etc/hostname"}, ["/etc"], "/etc/hostname is not granted by the policy p"),
        ({"fromEnv": "NOT_SET_HERE"}, ["NOT_SET_HERE"], "NOT_SET_HERE is not set"),
        ({"fromFile": "/no/such"}, ["/no/such"], "/no/such cannot be read: No such file"),
        ({"fromFile": "relative"}, [], "is not an absolute path"),
        ({}, [], "names no place, or two"),
        ({"fromEnv": "A", "fromFile": "/b"}, ["A", "/b"], "names no place, or two"),
    ],
)
def test_a_secret_that_cannot_be_had_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: dict[str, str], granted: list[str], message: str
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", SECRET)

    async def go() -> None:
        with pytest.raises(ConfigError, match=message) as error:
            async with WasmRuntime(config(tmp_path, "environ", {"env": {"TOKEN": value}}, {"allowedSecrets": granted})):
                pass
        assert SECRET not in str(error.value)
        assert "function.yaml" in str(error.value)

    run(go())


def test_a_target_does_not_show_its_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    wasm = config(
        tmp_path, "environ", {"env": {"TOKEN": {"fromEnv": "SHOP_TOKEN"}}}, {"allowedSecrets": ["SHOP_TOKEN"]}
    )

    async def go() -> None:
        async with WasmRuntime(wasm) as runtime:
            response = await runtime.invoke("f", EdgeRequest(), policy="p")
            assert f"TOKEN={SECRET}" in response.body.split("\0")
            assert SECRET not in repr(runtime.__dict__)

    run(go())
