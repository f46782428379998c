"""Push, pull, lock, sync and verify, against a real registry."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from starlette_wasm.cli.main import main
from starlette_wasm.functions.registry import artifact, lockfile, signatures, signatures_file, transfer
from starlette_wasm.functions.registry.client import Client, digest_of
from starlette_wasm.functions.registry.errors import RegistryError, SignatureRefused
from starlette_wasm.functions.registry.keys import payload_of, sign_payload, signer_of
from starlette_wasm.functions.registry.place import digest_of_file, installed, module_file
from starlette_wasm.functions.registry.reference import Reference, parse

GUESTS = Path(__file__).parents[2] / "guests"
HELLO = (GUESTS / "hello.wasm").read_bytes()
T = TypeVar("T")


def run(work: Callable[[Client], Awaitable[T]]) -> T:
    async def inside() -> T:
        async with Client() as client:
            return await work(client)

    return asyncio.run(inside())


def put(directory: Path, name: str, version: str, module: bytes = HELLO, manifest: str = "") -> Path:
    file = module_file(directory, name, version)
    file.parent.mkdir(parents=True)
    file.write_bytes(module)
    if manifest:
        (file.parent / "function.yaml").write_text(manifest)
    return file


def keys(folder: Path, kind: str = "EC") -> tuple[Path, Path]:
    private, public = folder / f"{kind}.pem", folder / f"{kind}.pub"
    options = ["-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "EC" else []
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", kind, *options, "-out", private], check=True, capture_output=True
    )
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


@pytest.fixture
def repository(registry: str, request: pytest.FixtureRequest) -> Reference:
    name = "".join(char if char.isalnum() else "-" for char in request.node.name.lower()).strip("-")
    return Reference(registry, f"tests/{'-'.join(filter(None, name.split('-')))}")


def test_pull_gives_what_was_pushed(repository: Reference, tmp_path: Path) -> None:
    put(tmp_path / "one", "hello", "1.2", manifest="protocol: edge\n")
    pushed = run(lambda client: transfer.push(client, tmp_path / "one", "hello", "1.2", repository, revision="abc"))
    pulled = run(lambda client: transfer.pull(client, tmp_path / "two", repository.tagged("1.2")))
    assert pulled == pushed
    assert module_file(tmp_path / "two", "hello", "1.2").read_bytes() == HELLO
    assert (tmp_path / "two/hello/v1.2/function.yaml").read_text() == "protocol: edge\n"
    assert pushed.module == digest_of(HELLO)


def test_two_pushes_of_one_module_have_one_digest(repository: Reference, tmp_path: Path) -> None:
    put(tmp_path, "hello", "1")
    first, second = (run(lambda c: transfer.push(c, tmp_path, "hello", "1", repository)) for _ in range(2))
    assert first == second


def test_artifacts_of_other_tools_are_pulled(repository: Reference, tmp_path: Path) -> None:
    async def others(client: Client) -> None:
        layer = await client.push_blob(repository, HELLO)
        config = await client.push_blob(repository, b"{}")
        for tag, kind, title in (
            ("spin", "application/vnd.wasm.content.layer.v1+wasm", ""),
            ("wash", "application/vnd.module.wasm.content.layer.v1+wasm", ""),
            ("oras", "application/vnd.oci.image.layer.v1.tar", "hello.wasm"),
        ):
            annotations = {"org.opencontainers.image.title": title} if title else {}
            manifest = {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
                "layers": [{"mediaType": kind, "digest": layer, "size": len(HELLO), "annotations": annotations}],
            }
            await client.push_manifest(repository.tagged(tag), json.dumps(manifest).encode())
            entry = await transfer.pull(client, tmp_path, repository.tagged(tag), name=tag, version="1")
            assert entry.module == layer

    run(others)
    assert list(installed(tmp_path)) == [("oras", "1"), ("spin", "1"), ("wash", "1")]


def test_sync_brings_a_node_to_the_lock_file(repository: Reference, tmp_path: Path) -> None:
    node, source = tmp_path / "node", tmp_path / "source"
    put(source, "hello", "1")
    put(node, "old", "1")
    entry = run(lambda client: transfer.push(client, source, "hello", "1", repository))
    changes = run(lambda client: transfer.sync(client, node, [entry], prune=True))
    assert [(each.name, each.action) for each in changes] == [("hello", "pulled"), ("old", "removed")]
    assert list(installed(node)) == [("hello", "1")]
    again = run(lambda client: transfer.sync(client, node, [entry], prune=True))
    assert [each.action for each in again] == ["unchanged"]


def test_sync_repairs_other_bytes(repository: Reference, tmp_path: Path) -> None:
    file = put(tmp_path, "hello", "1")
    entry = run(lambda client: transfer.push(client, tmp_path, "hello", "1", repository))
    file.write_bytes(HELLO + b"\0\1\0")
    (found,) = run(lambda client: transfer.verify(client, tmp_path, [entry]))
    assert found.action == "other bytes"
    run(lambda client: transfer.sync(client, tmp_path, [entry]))
    assert file.read_bytes() == HELLO


def test_a_module_that_is_not_the_locked_one_is_refused(repository: Reference, tmp_path: Path) -> None:
    put(tmp_path / "one", "hello", "1")
    entry = run(lambda client: transfer.push(client, tmp_path / "one", "hello", "1", repository))
    forged = replace(entry, module=digest_of(b"other"))
    with pytest.raises(RegistryError, match="as locked"):
        run(lambda client: transfer.sync(client, tmp_path / "two", [forged]))
    assert list(installed(tmp_path / "two")) == []


def test_an_interrupted_download_goes_on(repository: Reference, tmp_path: Path) -> None:
    put(tmp_path / "one", "hello", "1")
    entry = run(lambda client: transfer.push(client, tmp_path / "one", "hello", "1", repository))
    part = tmp_path / "two/.parts" / entry.module.removeprefix("sha256:")
    part.parent.mkdir(parents=True)
    part.write_bytes(HELLO[:100])
    seen: list[int] = []

    async def pull() -> None:
        async with Client(progress=lambda name, done, size: seen.append(done)) as client:
            await transfer.sync(client, tmp_path / "two", [entry])

    asyncio.run(pull())
    assert seen[-1] == len(HELLO)
    assert digest_of_file(module_file(tmp_path / "two", "hello", "1")) == entry.module


def test_damaged_leftovers_of_a_download_are_dropped(repository: Reference, tmp_path: Path) -> None:
    put(tmp_path / "one", "hello", "1")
    entry = run(lambda client: transfer.push(client, tmp_path / "one", "hello", "1", repository))
    part = tmp_path / "two/.parts" / entry.module.removeprefix("sha256:")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 100)
    with pytest.raises(RegistryError, match="other bytes"):
        run(lambda client: transfer.sync(client, tmp_path / "two", [entry]))
    run(lambda client: transfer.sync(client, tmp_path / "two", [entry]))
    assert digest_of_file(module_file(tmp_path / "two", "hello", "1")) == entry.module


@pytest.mark.parametrize("kind", ["EC", "ED25519", "RSA"])
def test_only_signed_artifacts_are_placed(repository: Reference, tmp_path: Path, kind: str) -> None:
    private, public = keys(tmp_path, kind)
    _, other = keys(tmp_path / "..", "EC") if kind != "EC" else (None, _key_of(tmp_path, "other"))
    put(tmp_path / "one", "hello", "1")
    key = signatures.load_private_key(private)
    entry = run(lambda client: transfer.push(client, tmp_path / "one", "hello", "1", repository, key=key))
    trusted, stranger = signatures.load_public_key(public), signatures.load_public_key(other)
    assert entry.signed_by == trusted.fingerprint
    with pytest.raises(SignatureRefused):
        run(lambda client: transfer.sync(client, tmp_path / "two", [entry], keys=[stranger]))
    assert list(installed(tmp_path / "two")) == []
    run(lambda client: transfer.sync(client, tmp_path / "two", [entry], keys=[stranger, trusted]))
    assert list(installed(tmp_path / "two")) == [("hello", "1")]


def _key_of(folder: Path, name: str) -> Path:
    inside = folder / name
    inside.mkdir()
    return keys(inside)[1]


def test_a_signature_copied_to_another_module_is_refused(repository: Reference, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    put(tmp_path / "one", "hello", "1")
    put(tmp_path / "one", "hello", "2", HELLO + b"\0\2\1x")
    key, trusted = signatures.load_private_key(private), signatures.load_public_key(public)

    async def copy(client: Client) -> None:
        signed = await transfer.push(client, tmp_path / "one", "hello", "1", repository, key=key)
        unsigned = await transfer.push(client, tmp_path / "one", "hello", "2", repository)
        manifest, _ = await client.manifest(repository.tagged(signatures.signature_tag(signed.manifest)))
        await client.push_manifest(repository.tagged(signatures.signature_tag(unsigned.manifest)), manifest)
        with pytest.raises(SignatureRefused):
            await transfer.pull(client, tmp_path / "two", repository.at(unsigned.manifest), keys=[trusted])

    run(copy)


def test_a_signature_copied_to_another_repository_is_refused(repository: Reference, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    put(tmp_path / "one", "hello", "1")
    key, trusted = signatures.load_private_key(private), signatures.load_public_key(public)
    elsewhere = replace(repository, repository=f"{repository.repository}/elsewhere")

    async def copy(client: Client) -> None:
        signed = await transfer.push(client, tmp_path / "one", "hello", "1", repository, key=key)
        await transfer.push(client, tmp_path / "one", "hello", "1", elsewhere)
        found = await signatures.fetch(client, repository, signed.manifest)
        assert signatures.require(found, repository, signed.manifest, [trusted]) is trusted
        mirror = replace(repository, host="mirror.example.com")
        assert signatures.require(found, mirror, signed.manifest, [trusted]) is trusted
        with pytest.raises(SignatureRefused, match=f"for {elsewhere.repository}"):
            signatures.require(found, elsewhere, signed.manifest, [trusted])

    run(copy)


@pytest.mark.parametrize(
    ("reference", "refused"),
    [
        ("registry.example.com/shop/hello", False),
        ("localhost:5000/shop/hello:1.2", False),
        ("shop/hello@sha256:00", False),
        ("", False),
        (None, False),
        ("registry.example.com/evil/hello", True),
        ("shop.evil/hello", True),
        ("registry.example.com/x/shop/hello", True),
    ],
)
def test_the_repository_that_a_signature_names_is_compared(
    tmp_path: Path, reference: str | None, refused: bool
) -> None:
    private, public = keys(tmp_path)
    key, trusted = signatures.load_private_key(private), signatures.load_public_key(public)
    payload = json.loads(payload_of("sha256:aa", "x"))
    payload["critical"]["identity"] = {} if reference is None else {"docker-reference": reference}
    signed = sign_payload(key, json.dumps(payload).encode())
    assert (signer_of([signed], "sha256:aa", [trusted], "shop/hello") is None) is refused
    assert signer_of([signed], "sha256:aa", [trusted]) is trusted


def test_no_file_brings_more_signatures_than_are_worth_a_look(tmp_path: Path) -> None:
    private, _ = keys(tmp_path)
    signed = sign_payload(signatures.load_private_key(private), payload_of("sha256:aa", "shop/hello"))
    assert len(signatures_file.load(signatures_file.SignaturesFile(b"{}", (signed,) * 32).dump(), "x").signatures) == 32
    with pytest.raises(RegistryError, match="more than 32 signatures"):
        signatures_file.load(signatures_file.SignaturesFile(b"{}", (signed,) * 33).dump(), "x")


def test_openssl_agrees_with_our_signature(repository: Reference, tmp_path: Path) -> None:
    import base64

    private, public = keys(tmp_path)
    put(tmp_path / "one", "hello", "1")

    async def parts(client: Client) -> tuple[bytes, bytes]:
        key = signatures.load_private_key(private)
        entry = await transfer.push(client, tmp_path / "one", "hello", "1", repository, key=key)
        place = repository.tagged(signatures.signature_tag(entry.manifest))
        manifest, _ = await client.manifest(place)
        (layer,) = json.loads(manifest)["layers"]
        signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
        return await client.small_blob(place, layer["digest"], 1 << 16), signature

    payload, signature = run(parts)
    (tmp_path / "payload").write_bytes(payload)
    (tmp_path / "signature").write_bytes(signature)
    command = ["openssl", "dgst", "-sha256", "-verify", public, "-signature", "signature", "payload"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_a_missing_artifact_is_an_error_with_a_hint(repository: Reference, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"not found.*check name and tag"):
        run(lambda client: transfer.pull(client, tmp_path, repository.tagged("none")))


def test_a_helm_chart_is_refused_by_name() -> None:
    manifest = json.dumps({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json"}, "layers": []})
    with pytest.raises(RegistryError, match="Helm chart"):
        artifact.read(manifest.encode(), "oci://h/r")


def test_the_commands_carry_a_function_to_a_node(
    registry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    author, node = tmp_path / "author", tmp_path / "node"
    put(author / "functions", "hello", "1")
    node.mkdir()
    for folder in (author, node):
        (folder / "wasm.yaml").write_text("functionsDir: functions\nrules: []\n")
    private, public = keys(tmp_path)
    config = ["--config", str(author / "wasm.yaml")]
    assert main(["push", "hello", f"oci://{registry}/cli/hello", "--sign", str(private), *config]) == 0
    (node / "functions.lock").write_text((author / "functions.lock").read_text())
    config = ["--config", str(node / "wasm.yaml")]
    assert main(["sync", "--prune", "--key", str(public), *config]) == 0
    assert main(["verify", "--key", str(public), *config]) == 0
    assert main(["lock", "--check", *config]) == 0
    module_file(node / "functions", "hello", "1").write_bytes(b"\0asm\1\0\0\0")
    capsys.readouterr()
    assert main(["verify", *config]) == 1
    assert "hello v1: other bytes" in capsys.readouterr().err
    assert main(["lock", "--check", *config]) == 1
    entries = lockfile.read(node / "functions.lock")
    assert [str(entry) for entry in entries] == ["hello v1"]
    assert parse(entries[0].source).host == registry


def test_what_was_pushed_signed_is_loaded_where_it_is_synced(repository: Reference, tmp_path: Path) -> None:
    """From the machine that builds to a node that requires signatures, without a key on the command line."""
    private, public = keys(tmp_path)
    for node in ("builder", "node"):
        (tmp_path / node).mkdir()
        (tmp_path / node / "wasm.yaml").write_text(f"requireSignatures: [{public}]\nrules: []\n")
    put(tmp_path / "builder/functions", "hello", "1", manifest="args: [one]\n")
    at = ["--config", str(tmp_path / "builder/wasm.yaml")]
    assert main(["push", "hello", str(repository), *at]) == 0
    (tmp_path / "node/functions.lock").write_text((tmp_path / "builder/functions.lock").read_text())
    to = ["--config", str(tmp_path / "node/wasm.yaml")]
    assert main(["sync", *to]) == 1
    assert not (tmp_path / "node/functions/hello").exists()
    assert main(["push", "hello", str(repository), "--sign", str(private), *at]) == 0
    (tmp_path / "node/functions.lock").write_text((tmp_path / "builder/functions.lock").read_text())
    assert main(["sync", *to]) == 0
    assert main(["check", str(tmp_path / "node/wasm.yaml")]) == 0
    assert main(["check", str(tmp_path / "builder/wasm.yaml")]) == 0


def test_sync_restores_what_lies_beside_a_module(repository: Reference, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    put(tmp_path / "one", "hello", "1", manifest="args: [one]\n")
    key = signatures.load_private_key(private)
    entry = run(lambda c: transfer.push(c, tmp_path / "one", "hello", "1", repository, key=key))
    trusted = [signatures.load_public_key(public)]
    run(lambda c: transfer.sync(c, tmp_path / "two", [entry], keys=trusted))
    beside = tmp_path / "two/hello/v1"
    sealed = (beside / "signatures.json").read_bytes()
    (beside / "signatures.json").unlink()
    (beside / "function.yaml").write_text("args: [--admin]\n")
    assert [each.action for each in run(lambda c: transfer.sync(c, tmp_path / "two", [entry], keys=trusted))] == [
        "pulled"
    ]
    assert (beside / "signatures.json").read_bytes() == sealed
    assert (beside / "function.yaml").read_text() == "args: [one]\n"
    assert [each.action for each in run(lambda c: transfer.sync(c, tmp_path / "two", [entry], keys=trusted))] == [
        "unchanged"
    ]


def test_a_long_lock_file_is_read_in_a_moment() -> None:
    """Anybody's registry may send one of 4 MiB, and a node reads it while it serves."""
    block = '[[function]]\nname = "a"\nversion = "{}"\nmodule = "sha256:' + "0" * 64 + '"\nsource = "local"\n'
    text = "version = 1\n" + "".join(block.format(number) for number in range(20_000))
    begin = time.monotonic()
    assert len(lockfile.parse(text.encode(), "functions.lock")) == 20_000
    assert time.monotonic() - begin < 30
    with pytest.raises(RegistryError, match="a v7 stands there twice"):
        lockfile.parse((text + block.format(7)).encode(), "functions.lock")
