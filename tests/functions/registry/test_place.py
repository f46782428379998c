"""Functions put into a directory that several containers share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from starlette_wasm.functions.registry import place


def test_containers_with_one_process_id_use_other_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = set()
    for host in ("pod-a", "pod-b"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        names.add(place.mine())
    assert names == {f"pod-a.{os.getpid()}", f"pod-b.{os.getpid()}"}


def test_a_file_is_written_beside_another_containers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "functions.lock"
    other = tmp_path / f".functions.lock.pod-a.{os.getpid()}"
    other.write_text("half of it")
    monkeypatch.setattr("socket.gethostname", lambda: "pod-b")
    place.write(file, b"whole")
    assert (file.read_text(), other.read_text()) == ("whole", "half of it")
