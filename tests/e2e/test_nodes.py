"""``starlette-wasm nodes``, against real servers."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from unittest.mock import patch

import pytest
from apps import config_file
from ports import free_port
from processes import Server

from starlette_wasm.cli.main import main
from starlette_wasm.cli.nodes import verdict
from starlette_wasm.runtime import nodes
from starlette_wasm.runtime.nodes import Away, compare, compare_nodes

APP = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette_wasm import WasmMiddleware

app = Starlette(middleware=[Middleware(WasmMiddleware, config="wasm.yaml")])
"""


def node(folder: Path, extra: bytes = b"", prefix: str = "", **environ: str) -> Server:
    folder.mkdir()
    config_file(folder, {"/hello": "hello"}, exposeEndpoints=True, endpointsPrefix=prefix)
    module = folder / "functions" / "hello" / "v1" / "hello.wasm"
    data = module.read_bytes() + extra
    module.unlink()
    module.write_bytes(data)
    (folder / "app.py").write_text(APP)
    return Server(folder, folder / "log", "app:app", **environ)


def test_a_node_with_other_bytes_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    servers = [node(tmp_path / "a"), node(tmp_path / "b"), node(tmp_path / "c", b"\0\2\1x")]
    try:
        for server in servers:
            server.wait_until_ready()
        urls = [server.url for server in servers]
        assert main(["nodes", "--json", *urls[:2]]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [(row["status"], row["functions"], row["differs"]) for row in rows] == [("ready", 1, "")] * 2
        assert main(["nodes", *urls]) == 1
        err = capsys.readouterr().err
        assert f"{urls[2]}: hello v1 is " in err
        assert urls[0] not in err
    finally:
        for server in servers:
            server.close()


def test_a_node_may_require_a_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, token = "STARLETTE_WASM_ENDPOINTS_TOKEN", "s3cret"
    server = node(tmp_path / "a", prefix="/internal", **{name: token})
    url = f"{server.url}/internal"
    try:
        server.wait(lambda: server.answers("/internal/health", 401), 180)
        assert main(["nodes", url]) == 2
        assert f"{url}: requires a token: give it with --token" in capsys.readouterr().err
        assert main(["nodes", url, "--token", token]) == 0
        monkeypatch.setenv(name, token)
        assert main(["nodes", url]) == 0
    finally:
        server.close()


def test_a_node_that_is_away_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert main(["nodes", "--json", url]) == 2
    shown = capsys.readouterr()
    assert f"these nodes cannot be compared\n{url}: cannot be reached" in shown.err
    assert "differ" not in shown.err
    [row] = json.loads(shown.out)
    assert (row["status"], row["differs"]) == ("unreachable", "")


def test_what_is_not_an_address_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes", "localhost"]) == 1
    assert "'localhost' is not the address of a node" in capsys.readouterr().err


def test_versions_that_only_some_nodes_have_are_named() -> None:
    one = {"functions": {"f": {"1": {"digest": "sha256:a"}}}}
    two = {"functions": {"f": {"1": {"digest": "sha256:a"}, "2": {"digest": "sha256:b"}}}}
    rows = compare({"x": one, "y": one, "z": two})
    assert [row["differs"] for row in rows] == ["", "", "f v2 is only here"]
    assert compare({"x": {}, "y": one, "z": one})[0]["differs"] == "f v1 is missing"


def test_policies_config_and_settings_are_compared() -> None:
    same = {"functions": {}, "policies": {"p": "aaaa"}, "config": "cccc", "settings": "eeee"}
    rows = compare({"x": same, "y": same, "z": same | {"policies": {"p": "bbbb", "q": "1"}, "settings": "ffff"}})
    parts = [row["differs"].split("; ") for row in rows]
    assert parts[:2] == [[""], [""]]
    assert sorted(parts[2]) == [
        "the digest of the settings is ffff, elsewhere eeee",
        "the policy p is bbbb, elsewhere aaaa",
        "the policy q is only here",
    ]
    assert compare({"x": same | {"config": "dddd"}, "y": same, "z": same})[0]["differs"] == (
        "wasm.yaml is dddd, elsewhere cccc"
    )
    assert compare({"x": same, "y": {"functions": []}})[1]["functions"] == 0


def test_one_that_differs_outranks_one_that_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = {"config": "a"}, {"config": "b"}
    rows = compare({"x": one, "y": one, "z": other, "gone": Away("cannot be reached: refused")})
    assert verdict(rows) == 1
    err = capsys.readouterr().err
    assert err.index("z: wasm.yaml is b") < err.index("gone: cannot be reached")
    assert verdict([row for row in rows if row["node"] != "z"]) == 2
    assert verdict([row for row in rows if row["node"] in "xy"]) == 0


def test_nodes_that_never_end_hold_few_threads() -> None:
    end, asked = threading.Event(), []

    def read(url: str, token: str | None) -> str:
        asked.append(url)
        end.wait(180)
        return "is late"

    async def look() -> list[str]:
        return [(await compare_nodes(["http://10.0.0.7:8000"], None))[0]["problem"] for _ in range(6)]

    with patch.object(nodes, "_read", read), patch.object(nodes, "_SECONDS", 0.01):
        try:
            problems = asyncio.run(look())
        finally:
            end.set()
    assert problems[4:] == ["has not answered when it was asked before"] * 2
    assert len(asked) <= 4


def test_what_nodes_make_up_is_cut_and_without_control_characters() -> None:
    made_up = {"functions": {"\x1b[2J" + "n" * 5000: {"1": {"digest": "d"}}}}
    rows = compare({"http://a": made_up, "http://b": {}, "http://c": {}})
    assert rows[0]["differs"].startswith("?[2Jnnn")
    assert len(rows[0]["differs"]) < 2100
