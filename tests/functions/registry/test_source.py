"""``functionsSource``: an app that follows a place in a registry. Against a real one."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
import yaml
from apps import add_constant, add_function, eventually, run, settings
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from starlette_wasm import ConfigError, EdgeRequest, WasmRuntime
from starlette_wasm.cli.main import main
from starlette_wasm.functions.registry import client
from starlette_wasm.functions.registry.errors import RegistryError, SignatureRefused

SOON = 60.0


@pytest.fixture
def repository(registry: str, request: pytest.FixtureRequest) -> str:
    return f"oci://{registry}/source/{request.node.name.lower().replace('_', '-').partition('[')[0]}"


class Builder:
    """Where functions are made and pushed from."""

    def __init__(self, folder: Path, repository: str) -> None:
        self.folder, self.repository = folder, repository
        folder.mkdir()
        (folder / "wasm.yaml").write_text("rules: []\n")
        self.at = ["--config", str(folder / "wasm.yaml")]
        key = ec.generate_private_key(ec.SECP256R1())
        self.key, self.public = folder / "key.pem", folder / "key.pub"
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def push(self, *versions: str, sign: bool = False) -> None:
        for version in versions:
            add_constant(self.folder, "hello", b'{"status_code": 200, "body": "%s"}' % version.encode(), version)
            self.run("push", f"hello@{version}", f"{self.repository}/hello", sign=sign)

    def publish(self, *, sign: bool = False) -> None:
        self.run("lock", "--push", f"{self.repository}/fleet:live", sign=sign)

    def run(self, *command: str, sign: bool = False) -> None:
        assert main([*command, *(["--sign", str(self.key)] if sign else []), *self.at]) == 0


def node(folder: Path, source: str | list[str], **keys) -> Path:
    folder.mkdir(exist_ok=True)
    rules = keys.pop("rules", [{"pathPattern": "/hello", "functionName": "hello"}])
    config = {"functionsSource": source, "functionsPollSeconds": 1, "rules": rules, **keys}
    (folder / "wasm.yaml").write_text(yaml.safe_dump(config))
    return folder / "wasm.yaml"


async def body(runtime: WasmRuntime, version: str | None = None) -> str | None:
    return (await runtime.invoke("hello", EdgeRequest(path="/", method="GET"), version=version)).body


def installed(folder: Path) -> list[str]:
    return sorted(each.name for each in (folder / "functions/hello").glob("v*"))


def test_an_app_follows_the_lock_file_of_a_tag(repository: str, tmp_path: Path) -> None:
    builder = Builder(tmp_path / "builder", repository)
    builder.push("1")
    builder.publish()

    async def follow() -> None:
        async with WasmRuntime(node(tmp_path / "node", f"{repository}/fleet:live"), settings()) as runtime:
            assert await body(runtime) == "1"
            await asyncio.to_thread(builder.push, "2")
            await asyncio.to_thread(builder.publish)
            await eventually(lambda: ("hello", "2") in runtime.deployment.functions, SOON)
            assert runtime.deployment.functions["hello", "2"].cached, "compiled before it was put in place"
            assert await body(runtime) == "2"
            # Back to the version before, which others may still have: what the lock file does not name goes.
            shutil.rmtree(builder.folder / "functions/hello/v2")
            await asyncio.to_thread(builder.publish)
            await eventually(lambda: installed(tmp_path / "node") == ["v1"], SOON)
            await eventually(lambda: ("hello", "2") not in runtime.deployment.functions, SOON)
            assert await body(runtime) == "1"

    run(follow(), 180)


def test_a_repository_means_its_highest_and_its_named_versions(repository: str, tmp_path: Path) -> None:
    builder = Builder(tmp_path / "builder", repository)
    builder.push("1", "2", "9", "10")
    rules = [{"pathPattern": "/hello", "functionName": "hello", "version": "1"}]
    file = node(tmp_path / "node", f"{repository}/hello", keepVersions=2, rules=rules)

    async def follow() -> None:
        async with WasmRuntime(file, settings()) as runtime:
            assert installed(tmp_path / "node") == ["v1", "v10", "v9"]
            await asyncio.to_thread(builder.push, "11")
            await eventually(lambda: installed(tmp_path / "node") == ["v1", "v10", "v11"], SOON)
            await eventually(lambda: ("hello", "11") in runtime.deployment.functions, SOON)
            assert await body(runtime) == "11"
            # A rule that names what is not here yet waits for it.
            node(tmp_path / "node", f"{repository}/hello", keepVersions=2, rules=[{**rules[0], "version": "2"}])
            await eventually(lambda: installed(tmp_path / "node") == ["v10", "v11", "v2"], SOON)

    run(follow(), 180)


def test_what_the_app_did_not_place_is_never_removed(repository: str, tmp_path: Path) -> None:
    builder = Builder(tmp_path / "builder", repository)
    builder.push("1")
    file = node(tmp_path / "node", f"{repository}/hello", keepVersions=1)
    add_function(tmp_path / "node", "own", "echo")

    async def follow() -> None:
        async with WasmRuntime(file, settings()) as runtime:
            await asyncio.to_thread(builder.push, "2")
            await eventually(lambda: installed(tmp_path / "node") == ["v2"], SOON)
            assert ("own", "1") in runtime.deployment.functions

    run(follow(), 120)


def test_the_versions_of_a_canary_are_kept(repository: str, tmp_path: Path) -> None:
    builder = Builder(tmp_path / "builder", repository)
    builder.push("1", "2")
    canary = {"functionName": "hello", "stableVersion": "1", "canaryVersion": "2"}
    file = node(tmp_path / "node", f"{repository}/hello", keepVersions=1, canaries=[canary])

    async def follow() -> None:
        async with WasmRuntime(file, settings()) as runtime:
            await asyncio.to_thread(builder.push, "3")
            await eventually(lambda: ("hello", "3") in runtime.deployment.functions, SOON)
            assert installed(tmp_path / "node") == ["v1", "v2", "v3"]

    run(follow(), 120)


def test_a_module_that_does_not_compile_is_not_put_in_place(repository: str, tmp_path: Path) -> None:
    builder = Builder(tmp_path / "builder", repository)
    builder.push("1")

    def push_bad() -> None:
        bad = builder.folder / "functions/hello/v2/hello.wasm"
        bad.parent.mkdir()
        bad.write_bytes(b"\0asm\x01\0\0\0\x63")
        builder.run("push", "hello@2", f"{repository}/hello")

    async def follow() -> None:
        async with WasmRuntime(node(tmp_path / "node", f"{repository}/hello"), settings()) as runtime:
            await asyncio.to_thread(push_bad)
            await eventually(lambda: "functionsSource" in runtime.notes, SOON)
            assert installed(tmp_path / "node") == ["v1"]
            assert await body(runtime) == "1"
            await asyncio.to_thread(builder.push, "3")
            assert "module-load" in runtime.notes["functionsSource"]

    run(follow(), 120)


def test_a_registry_that_is_away_stops_no_start(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "pause", lambda *_: asyncio.sleep(0))
    builder = Builder(tmp_path / "builder", repository)
    builder.push("1")
    run(_started(node(tmp_path / "node", f"{repository}/hello")))
    with pytest.raises(RegistryError):
        run(_started(node(tmp_path / "fresh", "oci://127.0.0.1:9/source/hello")), 120)

    async def away() -> None:
        file = node(tmp_path / "node", "oci://127.0.0.1:9/source/hello")
        async with WasmRuntime(file, settings()) as runtime:
            assert await body(runtime) == "1"
            assert runtime.notes["functionsSource"] == "the last look failed (registry)"

    run(away(), 120)


async def _started(file: Path) -> None:
    async with WasmRuntime(file, settings()) as runtime:
        assert await body(runtime) == "1"


def test_an_unsigned_lock_file_is_refused(repository: str, tmp_path: Path) -> None:
    builder = Builder(tmp_path / "builder", repository)
    builder.push("1", sign=True)
    builder.publish()
    file = node(tmp_path / "node", f"{repository}/fleet:live", requireSignatures=[str(builder.public)])
    with pytest.raises(SignatureRefused, match=r"has no signature of key\.pub"):
        run(_started(file))
    builder.publish(sign=True)
    run(_started(file))


@pytest.mark.parametrize("source", ["registry.example.com/hello", "oci://registry.example.com", [], 7])
def test_a_source_that_is_no_place_is_named(tmp_path: Path, source) -> None:
    with pytest.raises(ConfigError, match="functionsSource"):
        run(_started(node(tmp_path / "node", source)))


def test_gc_removes_what_nothing_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("STARLETTE_WASM_CANARY_URL", f"sqlite:///{tmp_path / 'canary.db'}")
    for version in ("1", "2", "3", "4", "10"):
        add_function(tmp_path, "hello", "hello", version)
    config = {
        "rules": [{"pathPattern": "/hello", "functionName": "hello"}],
        "canaries": [{"functionName": "hello", "stableVersion": "2", "canaryVersion": "10"}],
        "pipelines": [{"path": "/both", "steps": [{"function": "hello", "version": "1"}]}],
    }
    (tmp_path / "wasm.yaml").write_text(yaml.safe_dump(config))
    at = ["--config", str(tmp_path / "wasm.yaml")]
    assert main(["lock", *at]) == 0
    assert main(["gc", "--keep", "1", "--dry-run", *at]) == 0
    assert installed(tmp_path) == ["v1", "v10", "v2", "v3", "v4"]
    assert main(["gc", "--keep", "1", *at]) == 0
    assert installed(tmp_path) == ["v1", "v10", "v2"]
    assert main(["lock", "--check", *at]) == 0
    assert "would be removed" in capsys.readouterr().out
