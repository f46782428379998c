"""Measures how long ``dev`` takes from a save to the new answer: ``python tools/save_to_answer.py FOLDER``.

FOLDER is what ``starlette-wasm new FOLDER --app`` made. The source is as before at the end. Each save is of a text that
there was never before, so that no cache has its module.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

SAVES, SECONDS = 4, 300


def main(folder: Path) -> None:
    [source] = [file for file in (folder / "functions/hello/v1/src").iterdir() if file.is_file() and _greets(file)]
    text = source.read_text()
    command = [sys.executable, "-m", "starlette_wasm", "dev", "--port", "0"]
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            url = _url(process, Path(log.name))
            print(
                ", ".join(f"{_save(source, text, url):.2f} s" for _ in range(SAVES)), f"(load {os.getloadavg()[0]:.1f})"
            )
        finally:
            source.write_text(text)
            process.terminate()
            process.wait(60)


def _greets(file: Path) -> bool:
    return "Hello, " in file.read_text()


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until it serves, and return where."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"serving (http://\S+)", log.read_text())
        if found:
            return f"{found[1]}/hello"
        time.sleep(0.1)
    sys.exit(f"dev does not serve:\n{log.read_text()}")


def _save(source: Path, text: str, url: str) -> float:
    """Save another greeting, and return the seconds until it is answered."""
    greeting = f"Hello {secrets.token_hex(4)}, "
    source.write_text(text.replace("Hello, ", greeting))
    begin = time.perf_counter()
    while not urllib.request.urlopen(url, timeout=60).read().decode().startswith(greeting):
        if time.perf_counter() - begin > SECONDS:
            sys.exit(f"{source} was saved, and is not answered with")
        time.sleep(0.02)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main(Path(sys.argv[1]))
