"""The short form of ``scripts/stops``."""

from __future__ import annotations

from pathlib import Path

from stops import prepare, stop_under_load


def test_a_server_under_load_stops_in_time_and_without_a_crash(tmp_path: Path, aot_cache: Path) -> None:
    prepare(tmp_path)
    assert stop_under_load(tmp_path, tmp_path / "log", aot_cache, seed=1) < 60
