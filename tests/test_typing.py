"""What a typed user sees: a file of theirs passes mypy and pyright in strict mode."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

USER = Path(__file__).parent / "typing" / "api.py"


def test_mypy_accepts_a_users_file(tmp_path: Path) -> None:
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = true\n")
    command = [sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", tmp_path / "cache", USER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout


def test_pyright_accepts_a_users_file(tmp_path: Path) -> None:
    config = tmp_path / "pyrightconfig.json"
    config.write_text(json.dumps({"include": [str(USER)], "typeCheckingMode": "strict"}))
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "--project",
        config,
        "--pythonpath",
        sys.executable,
        "--outputjson",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    found = [item["message"] for item in json.loads(done.stdout)["generalDiagnostics"]]
    assert found == []
