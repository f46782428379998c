"""Keeps the compiler of AssemblyScript loaded between builds: to start it takes ten times as long as to run it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .build_commands import SECONDS, Commands, Ended, Stopped, end_group

_SCRIPT = Path(__file__).with_name("warm_asc.mjs")
_MOST_BUILDS = 50
"""Builds after which the process is started anew, whatever it has kept."""


class WarmCommands(Commands):
    """Runs ``asc`` in a process that stays, and every other command in one of its own; keeps a compile process, too."""

    def __init__(self) -> None:
        super().__init__()
        self.compilers = []
        self._compiler: _Asc | None = None

    def run(self, words: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Ended:
        """Raise what ``Commands`` does."""
        given = asc_arguments(words, folder)
        if given is None:
            return super().run(words, folder, environ)
        prefix, arguments = given
        if self._stopped:
            raise Stopped
        if self._compiler is not None and not self._compiler.serves(prefix):
            self._compiler.close()
            self._compiler = None
        if self._compiler is None:
            self._compiler = _Asc(words[0], prefix, environ)
            if self._stopped:  # meanwhile
                self._compiler.close()
        ended = self._compiler.run(folder, arguments)
        if self._stopped:
            raise Stopped
        # A compiler that died has said nothing: the command itself shows why.
        return ended if ended is not None else super().run(words, folder, environ)

    def stop(self) -> None:
        """End what runs, and what is kept."""
        super().stop()
        self.close()
        for compiler in self.compilers or ():
            compiler.close()

    def close(self) -> None:
        """End the compiler; the next build starts another."""
        if self._compiler is not None:
            self._compiler.close()


def asc_arguments(words: Sequence[str], folder: Path) -> tuple[Path, list[str]] | None:
    """Return where the compiler is installed, and its arguments, if the command is ``npx --prefix FOLDER asc ...``."""
    if not words or Path(words[0]).name != "npx" or "asc" not in words:
        return None
    at = list(words).index("asc")
    options = list(words[1:at])
    prefix = folder
    if "--prefix" in options:
        place = options.index("--prefix")
        prefix = folder / options[place + 1]
        del options[place : place + 2]
    here = (prefix / "node_modules/assemblyscript/dist/asc.js").is_file()
    return (prefix.resolve(), list(words[at + 1 :])) if here and set(options) <= {"--no-install", "--no"} else None


class _Asc:
    """A process of Node.js with the compiler. A line of JSON asks for a build, and a line of JSON answers."""

    def __init__(self, npx: str, prefix: Path, environ: Mapping[str, str]) -> None:
        self._prefix = prefix
        self._left = _MOST_BUILDS
        node = Path(npx).with_name("node")
        self._process = subprocess.Popen(
            [str(node) if node.is_file() else "node", str(_SCRIPT), str(prefix)],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="starlette-wasm-asc", daemon=True)
        self._reader.start()

    def serves(self, prefix: Path) -> bool:
        """Return whether it can build once more for a project."""
        return self._left > 0 and self._prefix == prefix and self._process.poll() is None

    def run(self, folder: Path, arguments: Sequence[str]) -> Ended | None:
        """Return how a build ended; None if the process has ended instead."""
        self._left -= 1
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"folder": os.path.abspath(folder), "arguments": arguments}) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._answers.get(timeout=SECONDS))
        except (OSError, ValueError, queue.Empty):
            self.close()
            return None
        return Ended(answer["code"], answer["output"])

    def close(self) -> None:
        """End the process. Closing it again changes nothing."""
        end_group(self._process)
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what could not be written is of no interest
                    stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")  # whoever waits learns that it has ended
