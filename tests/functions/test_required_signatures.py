"""``requireSignatures``: what nobody has signed is not loaded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from apps import add_function, config, config_file, eventually, run, settings
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from starlette_wasm import ConfigError, EdgeRequest, FunctionUnavailable, UnsignedModule, WasmRuntime
from starlette_wasm.cli.main import main
from starlette_wasm.functions.registry import pack


def key_pair(folder: Path, name: str, key=None) -> Path:
    """Write NAME.pem and NAME.pub; returns the public one."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.pem").write_bytes(private)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)
    return folder / f"{name}.pub"


def sign(folder: Path, key: str, function: str = "hello@1") -> None:
    assert main(["sign", function, "--key", str(folder / f"{key}.pem"), "--config", str(folder / "wasm.yaml")]) == 0


def signed_app(folder: Path, **keys) -> Path:
    """A config that requires ours.pub, over an unsigned function."""
    key_pair(folder, "ours")
    key_pair(folder, "theirs")
    return config_file(folder, {"/hello": "hello"}, requireSignatures=["ours.pub"], **keys)


def refusal(file: Path) -> UnsignedModule:
    with pytest.raises(UnsignedModule) as caught:
        run(start(file))
    return caught.value


async def start(file: Path) -> None:
    async with WasmRuntime(file, settings()) as runtime:
        assert (await runtime.invoke("hello", EdgeRequest(path="/", method="GET"))).status_code == 200


@pytest.mark.parametrize("key", [None, ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)])
def test_a_signed_function_is_loaded(tmp_path: Path, key) -> None:
    file = config_file(tmp_path, {"/hello": "hello"}, requireSignatures=["ours.pub"])
    key_pair(tmp_path, "ours", key)
    sign(tmp_path, "ours")
    run(start(file))


def test_an_unsigned_function_is_refused_by_name(tmp_path: Path) -> None:
    error = refusal(signed_app(tmp_path))
    assert (error.function, error.version, error.keys) == ("hello", "1", "ours.pub")
    module = tmp_path / "functions/hello/v1/hello.wasm"
    for part in (str(module), "hello v1", "signatures.json", "starlette-wasm sign hello@1 --key KEY", "ours.pub"):
        assert part in str(error)
    assert "ours.pub" not in error.public


def test_the_signature_of_another_key_is_refused(tmp_path: Path) -> None:
    file = signed_app(tmp_path)
    sign(tmp_path, "theirs")
    assert "it is not signed by ours.pub" in str(refusal(file))


def test_other_bytes_than_the_signed_ones_are_refused(tmp_path: Path) -> None:
    file = signed_app(tmp_path)
    sign(tmp_path, "ours")
    module = tmp_path / "functions/hello/v1/hello.wasm"
    module.write_bytes((Path(__file__).parents[1] / "guests/echo.wasm").read_bytes())
    assert "its bytes are not those that were signed" in str(refusal(file))


def test_another_manifest_than_the_signed_one_is_refused(tmp_path: Path) -> None:
    file = signed_app(tmp_path)
    sign(tmp_path, "ours")
    (tmp_path / "functions/hello/v1/function.yaml").write_text("args: [--admin]\n")
    assert "its function.yaml is not the one that was signed" in str(refusal(file))
    sign(tmp_path, "ours")
    run(start(file))


@pytest.mark.parametrize(("name", "version"), [("other", "1"), ("hello", "2")])
def test_a_signature_serves_one_name_and_version(tmp_path: Path, name: str, version: str) -> None:
    file = signed_app(tmp_path)
    sign(tmp_path, "ours")
    moved = add_function(tmp_path, name, "hello", version)
    signatures = tmp_path / "functions/hello/v1/signatures.json"
    (moved.parent / "signatures.json").write_bytes(signatures.read_bytes())
    assert "it was signed as hello v1" in str(refusal(file))


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"manifest": 1, "signatures": []}', '{"manifest": "e30=", "signatures": [{}]}', "[" * 100_000],
)
def test_damaged_signatures_are_refused(tmp_path: Path, content: str) -> None:
    file = signed_app(tmp_path)
    (tmp_path / "functions/hello/v1/signatures.json").write_text(content)
    assert "signatures.json" in str(refusal(file))


def test_a_signature_of_other_manifests_is_refused(tmp_path: Path) -> None:
    """The payload's digest counts: a good signature beside a manifest that it is not about."""
    file = signed_app(tmp_path)
    sign(tmp_path, "ours")
    signatures = tmp_path / "functions/hello/v1/signatures.json"
    document = json.loads(signatures.read_text())
    (tmp_path / "functions/hello/v1/function.yaml").write_text("args: [--admin]\n")
    forged = pack.pack(tmp_path / "functions", "hello", "1")
    forged.keep([])
    document["manifest"] = json.loads(signatures.read_text())["manifest"]
    signatures.write_text(json.dumps(document))
    assert "it is not signed by ours.pub" in str(refusal(file))


def test_one_of_several_keys_is_enough(tmp_path: Path) -> None:
    signed_app(tmp_path)
    sign(tmp_path, "theirs")
    file = config_file(tmp_path, {"/hello": "hello"}, requireSignatures=["ours.pub", "theirs.pub"])
    run(start(file))


def test_an_unsigned_function_may_be_left_out(tmp_path: Path) -> None:
    file = signed_app(tmp_path, functions=["echo"], badFunctions="leave-out")
    sign(tmp_path, "ours")

    async def main() -> None:
        async with WasmRuntime(file, settings()) as runtime:
            assert (await runtime.invoke("hello", EdgeRequest(path="/", method="GET"))).status_code == 200
            with pytest.raises(FunctionUnavailable, match="echo v1 is refused by requireSignatures"):
                await runtime.invoke("echo", EdgeRequest(path="/", method="GET"))

    run(main())


def test_a_reload_refuses_what_is_unsigned(tmp_path: Path) -> None:
    file = signed_app(tmp_path)
    sign(tmp_path, "ours")

    async def changes() -> None:
        async with WasmRuntime(file, settings(reload_interval_ms=20)) as runtime:
            before = runtime.deployment
            add_function(tmp_path, "hello", "echo", "2")
            await eventually(lambda: runtime.reloader.last and runtime.reloader.last.refused, 30)
            assert runtime.deployment is before
            await asyncio.to_thread(sign, tmp_path, "ours", "hello@2")
            await eventually(lambda: ("hello", "2") in runtime.deployment.functions, 30)

    run(changes())


def test_a_new_key_is_taken_by_a_reload(tmp_path: Path) -> None:
    file = signed_app(tmp_path)
    sign(tmp_path, "ours")

    async def changes() -> None:
        async with WasmRuntime(file, settings(reload_interval_ms=20)) as runtime:
            (tmp_path / "theirs.pub").replace(tmp_path / "ours.pub")
            await eventually(lambda: runtime.reloader.last and runtime.reloader.last.refused, 30)

    run(changes())


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (["absent.pub"], "requireSignatures[0]: {folder}/absent.pub cannot be read: No such file or directory"),
        (["ours.pem"], "requireSignatures[0]: {folder}/ours.pem is not a public key"),
        ([], "requireSignatures: [] names no key"),
        ([1], "requireSignatures[0]: 1 is not a path"),
    ],
)
def test_keys_that_cannot_be_used_are_named(tmp_path: Path, keys: list, problem: str) -> None:
    key_pair(tmp_path, "ours")
    file = config_file(tmp_path, {"/hello": "hello"}, requireSignatures=keys)
    with pytest.raises(ConfigError) as caught:
        run(start(file))
    assert problem.format(folder=tmp_path) in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_mapping_may_require_signatures(tmp_path: Path) -> None:
    given = config(tmp_path, {"/hello": "hello"}, requireSignatures=[str(key_pair(tmp_path, "ours"))])
    with pytest.raises(UnsignedModule):
        run(start(given))
