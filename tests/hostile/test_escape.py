"""Paths out of a granted directory, thousands of them, and a race with renames. Nothing may get out, or change."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
import time
from pathlib import Path

import pytest
import yaml
from hostile_range import add, compile_c, plant, settings

from starlette_wasm import EdgeRequest, WasmRuntime

SECRETS = ("TOP SECRET", "root:", "PATH=", "marked")
"""What is in files outside, and the name of one."""
_BATCH = 400


def paths() -> list[str]:
    """Climbs, absolute paths, planted links, odd separators and encodings, combined at random."""
    prefixes = [
        "",
        "./",
        "sub/",
        "sub/../",
        "./sub/./../",
        "a.txt/",
        "none/",
        "//",
        "sub//..//",
        "link-out/",
        "link-abs/",
    ]
    prefixes += ["link-up/", "link-root/", "link-proc/", "loop/", "sub/.//", "to-fifo/", "fifo/", "socket/"]
    climbs = ["../" * n for n in (1, 2, 3, 5, 8, 40)] + ["..//" * 3, ".././" * 4, "../sub/../" * 3, "link-up/" * 4, ""]
    targets = ["secret.txt", "beside/secret.txt", "", ".", "etc/passwd", "proc/self/environ", "data/../secret.txt"]
    targets += ["../secret.txt", "dev/fd/0", "proc/1/root/etc/passwd", "link-out", "link-abs", "a.txt/../../secret.txt"]
    made = {a + b + c for a, b, c in itertools.product(prefixes, climbs, targets)}
    made |= {f"/{each}" for each in random.Random(1).sample(sorted(made), 500)}
    pieces = ["..", ".", "sub", "link-up", "link-root", "link-proc", "a.txt", "secret.txt", "", "cwd", "root", "fd"]
    pieces += ["0", "..\\", "..%2f", "%2e%2e", "\u2024\u2024", "..\u2215", "~", "...", ".. ", "..\t", "\x01", "x" * 300]
    draw = random.Random(2)
    made |= {"/".join(draw.choices(pieces, k=draw.randint(1, 12))) for _ in range(3000)}
    return sorted(each for each in made if each)


class World:
    """A runtime with the escape guest, ``data`` to read and ``scratch`` to write to, and what is around them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.scratch = plant(folder)
        (folder / "beside").mkdir()
        (folder / "beside" / "secret.txt").write_text("TOP SECRET")
        (folder / "marked").write_bytes(bytes(31337))
        add(folder, "escape", compile_c("escape").read_bytes(), "cgi")
        (folder / "policies").mkdir()
        base = {"executionTimeoutMs": 60_000}
        read = {"allowedDirs": [{"hostPath": str(self.data), "guestPath": "/data"}]}
        write = {"allowedDirs": [{"hostPath": str(self.scratch), "guestPath": "/data", "readonly": False}]}
        (folder / "policies" / "read.yaml").write_text(yaml.safe_dump(base | read))
        (folder / "policies" / "write.yaml").write_text(yaml.safe_dump(base | write))
        self.config = {"functionsDir": str(folder / "functions"), "policiesDir": str(folder / "policies")}

    def around(self, *but: Path) -> dict[str, object]:
        """Everything in the folder that is not below ``but``: kind, size and content."""
        found: dict[str, object] = {}
        for at, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if Path(at, name) not in but]
            for name in folders + files:
                file = Path(at, name)
                info = file.lstat()
                content = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
                found[str(file)] = (info.st_mode, info.st_size, content)
        return found

    async def escape(self, runtime: WasmRuntime, lines: list[str], policy: str) -> str:
        request = EdgeRequest(method="POST", body="\n".join(lines))
        response = await runtime.invoke("escape", request, policy=policy)
        assert response.body is not None
        return response.body


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("policy", ["read", "write"])
def test_thousands_of_paths_lead_nowhere(world: World, policy: str) -> None:
    every = paths()
    assert len(every) > 4000
    # what is written lands in the directory that may be written to, and only there
    granted = [] if policy == "read" else [world.scratch]
    before = world.around(*granted)

    async def main() -> int:
        tried = 0
        async with WasmRuntime(world.config, settings(world.folder)) as runtime:
            for at in range(0, len(every), _BATCH):
                answer = await world.escape(runtime, every[at : at + _BATCH], policy)
                head, _, rest = answer.partition("\n")
                tried += int(head.split()[1].rstrip(","))
                for line in rest.splitlines():
                    shown = line.partition(": ")[2]
                    assert not any(secret in shown for secret in SECRETS), line
                    assert not line.startswith("stat"), line  # of the file that is marked by its size
        return tried

    assert asyncio.run(main()) > 4 * len(every) * 0.95
    assert world.around(*granted) == before


@pytest.mark.parametrize("policy", ["read", "write"])
def test_a_race_with_renames_lets_nothing_out(world: World, policy: str) -> None:
    """A directory and a symlink out of the grant change places all the time, while guests open what is below."""
    tree = world.data if policy == "read" else world.scratch
    (tree / "inner").mkdir()
    (tree / "inner" / "secret.txt").write_text("inner")
    (tree / "outer").symlink_to(world.folder / "beside")
    (tree / "up").symlink_to("..")
    over = threading.Event()
    turns = 0

    def swap() -> None:
        nonlocal turns
        swapped = tree / "swap"
        while not over.is_set():
            for name in ("inner", "outer", "inner", "up"):
                os.rename(tree / name, swapped)
                os.rename(swapped, tree / name)
                turns += 1

    before = world.around(tree)

    async def main() -> int:
        opened = 0
        async with WasmRuntime(world.config, settings(world.folder)) as runtime:
            until = time.monotonic() + 1
            while time.monotonic() < until or not opened or turns <= 100:
                answers = await asyncio.gather(*(world.escape(runtime, ["!race 500"], policy) for _ in range(2)))
                for answer in answers:
                    opened += int(answer.split()[3])
                    contents = {line.partition(": ")[2] for line in answer.splitlines()[1:]}
                    assert contents <= {"inner"}, contents
                assert time.monotonic() < until + 60
        return opened

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        assert asyncio.run(main()) > 0
    finally:
        over.set()
        swapper.join()
    assert turns > 100
    assert world.around(tree) == before
