"""``starlette-wasm canary``, beside an app that runs."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from apps import add_constant, config_file, eventually, run, settings

from starlette_wasm import WasmRuntime
from starlette_wasm.capabilities.backends import without_secrets
from starlette_wasm.cli.admin_api import AdminApi
from starlette_wasm.cli.main import main
from starlette_wasm.config.router import load_config

CANARY = {"functionName": "f", "stableVersion": "1", "canaryVersion": "2", "stepSeconds": 1.0}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for version in ("1", "2"):
        add_constant(tmp_path, "f", b'{"status_code": 200}', version)
    monkeypatch.setenv("STARLETTE_WASM_CANARY_URL", f"sqlite:///{tmp_path / 'canary.db'}")
    return config_file(tmp_path, {"/f": "f"}, canaries=[CANARY])


def canary(capsys: pytest.CaptureFixture[str], file: Path, *arguments: str) -> dict[str, Any]:
    assert main(["canary", *arguments, "--config", str(file), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    return dict(row)


def test_the_app_follows_the_hand(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert canary(capsys, file)["status"] == "not begun"

    async def beside() -> None:
        async with WasmRuntime(file, settings(canary_url=os.environ["STARLETTE_WASM_CANARY_URL"])) as runtime:

            async def by_hand(*arguments: str) -> dict[str, Any]:
                row: dict[str, Any] = await asyncio.to_thread(canary, capsys, file, *arguments)
                live = runtime.canaries.all["f"]
                await eventually(lambda: live.record and live.record.percent == row["weight"])
                return row

            assert (await by_hand("status"))["weight"] == 10
            assert (await by_hand("pause"))["status"] == "paused"
            assert (await by_hand("resume"))["status"] == "running"
            assert (await by_hand("promote", "--function", "f"))["weight"] == 30
            assert (await by_hand("abort"))["weight"] == 0
            assert (await by_hand("start"))["weight"] == 10
            assert (await by_hand("promote", "--full"))["status"] == "promoted"

    run(beside())


@pytest.mark.parametrize("command", ["check", "compile"])
def test_who_only_looks_at_a_config_begins_nothing(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(file.parent / "aot"))
    assert main([command, str(file), "--json"]) == 0
    capsys.readouterr()
    assert not (file.parent / "canary.db").exists()
    assert canary(capsys, file)["status"] == "not begun"


@pytest.mark.parametrize("arguments", [["f", "--function", "g"], ["--function", "f", "--function", "g"]])
def test_two_functions_at_a_time_are_refused(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["canary", "status", *arguments, "--config", str(file)]) == 2
    assert "one function at a time: f or g" in capsys.readouterr().err


def test_what_cannot_be_done_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = f"sqlite:///{file.parent}/canary.db"
    for arguments, message in (
        (["pause"], "canary of f: it has not begun; start the app"),
        (["pause"], f"by {store}, STARLETTE_WASM_CANARY_URL names another"),
        (["pause", "--function", "g"], "canaries: has none of 'g'; name one of f"),
        (["status", "g"], "canaries: has none of 'g'; name one of f"),
    ):
        assert main(["canary", *arguments, "--config", str(file)]) == 1
        assert message in capsys.readouterr().err


def test_what_is_not_there_says_where_it_was_looked_for(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = f"sqlite:///{file.parent}/canary.db"
    told = canary(capsys, file)["reason"]
    assert told == f"nothing of it is in {where}; STARLETTE_WASM_CANARY_URL names another store"
    assert without_secrets("redis://me:p%2F@w@host:1/0?password=x") == "redis://host:1/0"


@pytest.mark.parametrize("action", ["status", "pause", "promote"])
def test_who_only_reads_makes_no_store(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.delenv("STARLETTE_WASM_CANARY_URL")
    monkeypatch.chdir(file.parent)
    before = sorted(file.parent.iterdir())
    main(["canary", action, "--config", str(file)])
    told = capsys.readouterr()
    assert "STARLETTE_WASM_CANARY_URL names another store" in told.out + told.err
    assert sorted(file.parent.iterdir()) == before


def test_the_function_may_stand_behind_the_action(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert canary(capsys, file, "start", "f")["status"] == "running"
    assert canary(capsys, file, "pause", "--function", "f")["status"] == "paused"
    assert main(["canary", "pause", "g", "--config", str(file)]) == 1
    assert "canaries: has none of 'g'; name one of f" in capsys.readouterr().err


def test_a_store_of_an_unknown_kind_names_the_variable(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARLETTE_WASM_CANARY_URL", "foo://bar")
    assert main(["canary", "--config", str(file)]) == 1
    assert "has the unknown scheme 'foo'; set STARLETTE_WASM_CANARY_URL, or canary_url=, to " in capsys.readouterr().err


def test_a_table_for_humans(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["canary", "start", "--config", str(file)]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["function", "stable_version", "canary_version", "status", "weight"]
    assert row.split()[:5] == ["f", "1", "2", "running", "10"]
    assert "Stable: 0/0 (-) | Canary: 0/0 (-)" in row


def test_a_store_that_cannot_be_reached_names_the_setting(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARLETTE_WASM_CANARY_URL", "redis://127.0.0.1:1/0")
    assert main(["canary", "--config", str(file)]) == 1
    assert "canary_url: canary store is not available" in capsys.readouterr().err


def test_what_was_promoted_is_written_into_the_config(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"# the shop\n{file.read_text()}# the end\n"
    file.write_text(text)

    async def app() -> None:
        async with WasmRuntime(file, settings(canary_url=os.environ["STARLETTE_WASM_CANARY_URL"])) as runtime:
            await runtime.canaries.promote("f")

    run(app())
    assert main(["canary", "promoted", "--config", str(file)]) == 0
    assert f"no canary of {file} is promoted" in capsys.readouterr().out
    assert main(["canary", "promoted", "f", "--config", str(file)]) == 1
    assert "it is running, and not promoted" in capsys.readouterr().err
    canary(capsys, file, "promote", "--full")
    assert canary(capsys, file, "promoted")["written"] is False
    assert file.read_text() == text
    assert main(["canary", "promoted", "--write", str(file), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["function"], row["version"], row["written"]) == ("f", "2", True)
    written = file.read_text()
    assert written.startswith("# the shop\n")
    assert written.endswith("# the end\n")
    assert load_config(file).canaries == []


def test_a_promotion_is_written_once_every_region_has_it(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waves = CANARY | {"waves": ["ap", "eu"], "stepSeconds": 3600.0}
    config_file(file.parent, {"/f": "f"}, canaries=[waves])

    async def promoted_in(region: str) -> None:
        async with WasmRuntime(
            file, settings(region=region, canary_url=os.environ["STARLETTE_WASM_CANARY_URL"])
        ) as one:
            live = one.canaries.all["f"]

            async def looked(status: str) -> None:
                async with asyncio.timeout(60):
                    while live.board is None or live.board.regions[region].status != status:
                        await one.canaries.look(10)
                        await asyncio.sleep(0.01)

            await looked("running")
            await asyncio.to_thread(canary, capsys, file, "promote", "--full")
            await looked("promoted")

    monkeypatch.setenv("STARLETTE_WASM_REGION", "ap")
    run(promoted_in("ap"))
    row = canary(capsys, file)
    assert [each["status"] for each in row["waves"]] == ["promoted", None]
    assert main(["canary", "promoted", "f", "--write", "--config", str(file)]) == 1
    assert "it is promoted here, and not yet in eu" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("STARLETTE_WASM_REGION", "jp")
    assert canary(capsys, file)["status"] == "none in this region"
    assert main(["canary", "abort", "f", "--config", str(file)]) == 1
    assert "no canary in the region 'jp'" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("STARLETTE_WASM_REGION", "eu")
    run(promoted_in("eu"))
    assert main(["canary", "promoted", "f", "--write", "--config", str(file)]) == 0
    assert not load_config(file).canaries


def test_another_module_than_the_promoted_one_is_not_written(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def app() -> None:
        async with WasmRuntime(file, settings(canary_url=os.environ["STARLETTE_WASM_CANARY_URL"])) as runtime:
            await runtime.canaries.promote("f", full=True)

    run(app())
    module = file.parent / "functions/f/v2/f.wasm"
    module.write_bytes(module.read_bytes() + b"\0\1\0")
    assert main(["canary", "promoted", "--write", "--config", str(file)]) == 1
    assert "has another module as f v2" in capsys.readouterr().err
    assert load_config(file).canaries


def test_the_config_is_written_only_if_it_may_be(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def app() -> None:
        async with WasmRuntime(file, settings(canary_url=os.environ["STARLETTE_WASM_CANARY_URL"])) as runtime:
            await runtime.canaries.promote("f", full=True)

    def refuse(*given: Any, **more: Any) -> None:
        raise OSError(30, "Read-only file system")

    run(app())
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert main(["canary", "promoted", "--write", "--config", str(file)]) == 1
    assert "cannot be written: Read-only file system" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"detail": "g has no canary"}, "g has no canary; canary status lists those that have one"),
        ({}, "answered 404; look at the path of --url"),
    ],
)
def test_a_404_names_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: dict[str, str], told: str
) -> None:
    monkeypatch.setenv("WASM_ADMIN_TOKEN", "a-token-of-32-random-characters-")
    monkeypatch.setattr(AdminApi, "_send", lambda *_: (404, answer))
    assert main(["canary", "promote", "g", "--url", "http://127.0.0.1:1/admin"]) == 1
    assert told in capsys.readouterr().err


def test_a_misspelt_function_is_answered_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for version in ("1", "2"):
        add_constant(tmp_path, "greeter", b'{"status_code": 200}', version)
    file = config_file(tmp_path, {"/g": "greeter"}, canaries=[CANARY | {"functionName": "greeter"}])
    for action in ("status", "pause", "start", "promoted"):
        assert main(["canary", action, "greter", "--config", str(file)]) == 1
        assert "canaries: has none of 'greter'; did you mean greeter?" in capsys.readouterr().err
