from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest
from capability_servers import Upstream
from servers import server


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server of this test alone: a late request of an earlier test does not reach it."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def canary() -> Iterator[Upstream]:
    """A server of the inner network, which nobody may reach."""
    with Upstream(host="127.0.0.1") as canary:
        yield canary
    assert canary.connections == 0


@pytest.fixture(scope="session")
def _nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("nats")
    (folder / "config").write_text("max_payload: 8MB")
    options = ["--addr", "127.0.0.1", "--jetstream", "--store_dir", str(folder), "--config", str(folder / "config")]
    with server("nats-server", *options, folder=folder) as port:
        yield f"nats://127.0.0.1:{port}"


@pytest.fixture
def nats_url(_nats_url: str) -> str:
    """A server without streams: one that an earlier test made with other bounds would be refused."""
    asyncio.run(_delete_streams(_nats_url))
    return _nats_url


async def _delete_streams(url: str) -> None:
    client = await nats.connect(url)
    stream = client.jetstream()
    for found in await stream.streams_info():
        await stream.delete_stream(found.config.name or "")
    await client.close()


@pytest.fixture(params=["sqlite", "redis"])
def kv_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return backend_url(request, tmp_path / "kv.db")


@pytest.fixture(params=["sqlite", "redis", "nats"])
def queue_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return backend_url(request, tmp_path / "queue.db")


def backend_url(request: pytest.FixtureRequest, file: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{file}"
    url: str = request.getfixturevalue("flushed_redis" if request.param == "redis" else "nats_url")
    return url


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Makes a self-signed certificate for a name; its file and that of its key."""
    if not shutil.which("openssl"):
        pytest.fail("openssl is not on PATH; apt-get install openssl")

    def make(name: str) -> tuple[Path, Path]:
        cert, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        kind = "IP" if name[0].isdigit() else "DNS"
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-subj",
                f"/CN={name}",
                "-addext",
                f"subjectAltName={kind}:{name}",
                "-out",
                str(cert),
                "-keyout",
                str(key),
            ],
            check=True,
            capture_output=True,
        )
        return cert, key

    return make
