"""A real registry: Debian's package docker-registry."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from ports import free_port


class Registry:
    """An empty registry that needs no login; ``with`` gives its host and port."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._log = folder / "log"
        config = folder / "config.yml"
        config.write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '127.0.0.1:{self._port}'}}\nlog: {{level: warn}}\n"
        )
        self._command = [_binary(), "serve", str(config)]

    def __enter__(self) -> str:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "REGISTRY_"))}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environ)
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return f"127.0.0.1:{self._port}"
            except OSError:
                assert time.monotonic() < until, self._log.read_text()
                time.sleep(0.02)

    def kill(self) -> None:
        """Let it end without a chance to tidy up."""
        self._process.kill()
        self._process.wait(10)

    def __exit__(self, *exc: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(60)


def _binary() -> str:
    found = shutil.which("docker-registry")
    if found is None:
        pytest.fail("docker-registry is not on PATH; apt-get install docker-registry")
    return found
