"""Modules are downloaded into files that nobody else writes to, and that do not pile up."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from starlette_wasm.functions.registry import part
from starlette_wasm.functions.registry.errors import RegistryError
from starlette_wasm.functions.registry.part import part_of


def digest(number: int) -> str:
    return f"sha256:{hashlib.sha256(b'%d' % number).hexdigest()}"


def test_one_writes_at_a_time_and_none_to_what_was_moved(tmp_path: Path) -> None:
    writers = 0

    async def download(number: int) -> None:
        nonlocal writers
        async with part_of(tmp_path, digest(1)) as file:
            writers += 1
            assert writers == 1
            with file.open("ab") as out:
                for _ in range(4):
                    out.write(b"x")
                    out.flush()
                    await asyncio.sleep(0.001)
            assert file.read_bytes() == b"xxxx"
            file.replace(tmp_path / str(number))
            writers -= 1

    async def main() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*map(download, range(16)))

    asyncio.run(main())
    assert {(tmp_path / str(number)).read_bytes() for number in range(16)} == {b"xxxx"}
    assert list((tmp_path / ".parts").iterdir()) == []


async def leave(directory: Path, number: int, content: bytes) -> None:
    async with part_of(directory, digest(number)) as file:
        file.write_bytes(content)
        os.utime(file, (number, number))


def test_what_broke_off_stays_but_not_without_end(tmp_path: Path) -> None:
    async def main() -> None:
        for number in range(1, part._MOST + 5):
            await leave(tmp_path, number, b"begun")
        await leave(tmp_path, 0, b"")

    asyncio.run(main())
    kept = {file.name for file in (tmp_path / ".parts").iterdir()}
    assert kept == {digest(number)[7:] for number in range(5, part._MOST + 5)}


@pytest.mark.parametrize("linked", ["the file", "the folder"])
def test_links_are_not_followed(tmp_path: Path, linked: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("as it was")
    directory = tmp_path / "functions"
    directory.mkdir()
    if linked == "the folder":
        (directory / ".parts").symlink_to(victim)
    else:
        (directory / ".parts").mkdir()
        (directory / ".parts" / digest(1)[7:]).symlink_to(victim / "file")

    async def main() -> None:
        async with part_of(directory, digest(1)) as file:
            file.write_text("other")

    with pytest.raises(RegistryError):
        asyncio.run(main())
    assert [file.read_text() for file in victim.iterdir()] == ["as it was"]


@pytest.mark.parametrize("removed", [True, False])
def test_a_lock_ends_whatever_happens_to_the_folder(
    tmp_path: Path, removed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "refused")

    async def main() -> None:
        if removed:
            async with part_of(tmp_path, digest(1)) as file:
                shutil.rmtree(file.parent)
        else:
            with monkeypatch.context() as patch:
                patch.setattr(part, "_remove_old", refuse)
                with pytest.raises(PermissionError):
                    await leave(tmp_path, 1, b"begun")
        async with asyncio.timeout(60), part_of(tmp_path, digest(1)):
            pass

    asyncio.run(main())
