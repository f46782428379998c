"""What a runtime tells to webhooks of health, reloads and signatures, and what a canary that is out does to /ready."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import add_constant, add_flaky, add_function, client, config_file, eventually, run, settings
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from webhooks import Receiver, receiving

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.canary.record import Status
from starlette_wasm.exceptions import ConfigError, ModuleLoadError


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as given:
        yield given


def runtime(file: Path) -> WasmRuntime:
    return WasmRuntime(file, settings(reload_interval_ms=0, canary_url="sqlite://"))


def unsigned(folder: Path, receiver: Receiver, **keys: Any) -> Path:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "key.pub").write_bytes(pem)
    return config_file(folder, {"/": "hello"}, events=[{"url": receiver.url}], **keys)


def test_a_version_that_fails_and_comes_back_is_told(tmp_path: Path, receiver: Receiver) -> None:
    file = config_file(tmp_path, {"/": "hello"}, events=[{"url": receiver.url}])

    async def main() -> None:
        async with runtime(file) as served:
            [subject] = served.health._subjects.values()
            for healthy in (False, True, True):
                subject.healthy, subject.reason = healthy, "answered 500"
                served.health._publish()
            await eventually(lambda: len(receiver.got) == 2, within=30)

    run(main())
    assert receiver.types == ["function.unhealthy", "function.healthy"]
    unhealthy = receiver.documents[0]
    assert unhealthy["subject"] == "hello"
    assert unhealthy["data"]["text"] == "hello v1 is unhealthy: answered 500"


def test_a_refused_reload_is_told_without_values(tmp_path: Path, receiver: Receiver) -> None:
    file = config_file(tmp_path, {"/": "hello"}, events=[{"url": receiver.url}])

    async def main() -> None:
        async with runtime(file) as served:
            file.write_text("rules: s3cret\n")
            with pytest.raises(ConfigError):
                await served.reload()
            await eventually(lambda: receiver.got, within=30)

    run(main())
    [document] = receiver.documents
    assert document["type"] == "starlette-wasm.reload.refused"
    assert "wasm.yaml: rules" in document["data"]["reason"]
    assert "s3cret" not in str(document)


def test_a_start_that_is_refused_for_its_signature_is_told(tmp_path: Path, receiver: Receiver) -> None:
    file = unsigned(tmp_path, receiver, requireSignatures=[str(tmp_path / "key.pub")])

    async def main() -> None:
        with pytest.raises(ModuleLoadError):
            await runtime(file).start()

    run(main())
    assert receiver.types == ["signature.refused"]
    assert receiver.documents[0]["subject"] == "hello"


@pytest.mark.parametrize("at_start", [True, False])
def test_what_is_left_out_for_its_signature_is_told_once(tmp_path: Path, receiver: Receiver, at_start: bool) -> None:
    keys = {"requireSignatures": [str(tmp_path / "key.pub")], "badFunctions": "leave-out"}
    file = unsigned(tmp_path, receiver, **(keys if at_start else {}))

    async def main() -> None:
        async with runtime(file) as served:
            unsigned(tmp_path, receiver, **keys)
            for _ in range(2):
                await served.reload()
            await eventually(lambda: receiver.got, within=30)

    run(main())
    assert receiver.types == ["signature.refused"]


def test_a_reload_that_brings_no_signature_is_told(tmp_path: Path, receiver: Receiver) -> None:
    file = unsigned(tmp_path, receiver)

    async def main() -> None:
        async with runtime(file) as served:
            unsigned(tmp_path, receiver, requireSignatures=[str(tmp_path / "key.pub")])
            with pytest.raises(ModuleLoadError):
                await served.reload()
            await eventually(lambda: len(receiver.got) == 2, within=30)

    run(main())
    assert sorted(receiver.types) == ["reload.refused", "signature.refused"]


def test_a_secret_of_a_webhook_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    file = config_file(tmp_path, {"/": "hello"}, events=[{"url": {"fromEnv": "NO_SUCH_THING"}}])

    async def main() -> None:
        with pytest.raises(ConfigError, match=r"events\[0\].url: NO_SUCH_THING is not set"):
            await runtime(file).start()

    run(main())


def test_events_that_are_lost_are_in_the_notes(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [410]
    canary = {"functionName": "f", "stableVersion": "1", "canaryVersion": "2"}
    for version in ("1", "2"):
        add_function(tmp_path, "f", "hello", version=version)
    keys = {"canaries": [canary], "events": [{"url": receiver.url}], "exposeEndpoints": True}
    file = config_file(tmp_path, {"/f": "f"}, **keys)

    async def main() -> None:
        async with runtime(file) as served, client(WasmMiddleware(Starlette(), runtime=served)) as http:
            await eventually(lambda: served.events.notes, within=30)
            assert (
                "events[0] (127.0.0.1): answered 410; 1 events were lost" in (await http.get("/ready")).json()["notes"]
            )

    run(main())


def test_a_canary_that_was_rolled_back_leaves_the_node_ready(tmp_path: Path) -> None:
    """Through /ready: its probes fail, and as it gets nothing that is a note."""
    add_constant(tmp_path, "f", b'{"status_code": 200}')
    add_flaky(tmp_path, "f", b'{"status_code": 200}', 256, version="2")
    for version in ("1", "2"):
        manifest = tmp_path / f"functions/f/v{version}/function.yaml"
        manifest.write_text("healthCheck: {path: /healthz}\n")
    canary = {"functionName": "f", "stableVersion": "1", "canaryVersion": "2", "steps": [50, 100]}
    keys = {"canaries": [canary], "exposeEndpoints": True, "healthCheckIntervalMs": 20}
    file = config_file(tmp_path, {"/f": "f"}, **keys)

    async def main() -> None:
        async with runtime(file) as served, client(WasmMiddleware(Starlette(), runtime=served)) as http:
            await served.canaries.promote("f", full=True)
            await served.canaries._look_at_all(10)
            await eventually(lambda: served.health.verdicts()["f", "2"] is False, within=30)
            assert (await http.get("/ready")).status_code == 503
            await served.canaries.abort("f")
            await served.canaries._look_at_all(10)
            record = served.canaries.all["f"].record
            assert record is not None
            assert record.status is Status.ABORTED
            ready = await http.get("/ready")
            assert (ready.status_code, ready.json()["reasons"]) == (200, [])
            assert ready.json()["notes"][0].startswith("f v2 is unhealthy, and the node can do without: ")
            assert (await http.get("/f")).status_code == 200

    run(main())
