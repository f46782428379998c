from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import PLAIN, SERVED, Server


@pytest.fixture(scope="session")
def aot_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aot")
    folder.chmod(0o700)
    return folder


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory, aot_cache: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers, which end with the module."""
    servers: list[Server] = []

    def start(
        folder: Path,
        app: str = "served:app",
        *arguments: str,
        kind: type[Server] = Server,
        within: float = 180,
        **environ: str,
    ) -> Server:
        for name, source in (("served", SERVED), ("plain", PLAIN)):
            if app == f"{name}:app":
                (folder / f"{name}.py").write_text(source)
        log = tmp_path_factory.mktemp("log") / "uvicorn.log"
        server = kind(folder, log, app, *arguments, **{"STARLETTE_WASM_CACHE_DIR": str(aot_cache), **environ})
        servers.append(server)
        server.wait_until_ready(within)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")
