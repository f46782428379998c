"""Servers of Debian's packages, for tests that talk to real ones."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ports import free_port


@contextmanager
def server(name: str, *options: str, folder: Path, port: int = 0) -> Iterator[int]:
    """Runs a server of Debian's; gives its port."""
    if not (binary := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")):
        pytest.fail(f"{name} is not on PATH; apt-get install {name}")
    port = port or free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, "--port", str(port), *options], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(30)
