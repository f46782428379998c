"""``wasi:filesystem`` of WASI 0.3: what is beside 0.2, whose rules test_component_files.py tests."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from starlette_wasm.components.files.descriptor import Descriptor
from starlette_wasm.components.files.granted import Files
from starlette_wasm.components.pipes import Pipe
from starlette_wasm.components.types import PRIMITIVES, async_value
from starlette_wasm.components.values import Err, Ok
from starlette_wasm.components.wasi import file_ends, offers
from starlette_wasm.components.wasi.file_ends import EntrySource, FileSink, FileSource
from starlette_wasm.components.wasi.filesystem3 import failed
from starlette_wasm.components.wasi.wakeup import Wakeup
from starlette_wasm.engine.plan import Limits, Preopen

TYPES = "wasi:filesystem/types@0.3"
ASYNC = ("advise", "sync-data", "get-flags", "get-type", "set-size", "set-times", "sync", "create-directory-at",
         "stat", "stat-at", "set-times-at", "link-at", "open-at", "readlink-at", "remove-directory-at", "rename-at",
         "symlink-at", "unlink-file-at", "metadata-hash", "metadata-hash-at")  # fmt: skip
STREAMS = ("read-via-stream", "write-via-stream", "append-via-stream", "read-directory", "is-same-object")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Descriptor]:
    (tmp_path / "a.txt").write_bytes(b"hello" * 20_000)
    files = Files([Preopen(str(tmp_path), "/", True)], Limits())
    yield files.roots()[0][0]
    files.close()


def call(name: str, *arguments: Any) -> Any:
    host = SimpleNamespace(wakeup=Wakeup())
    return offers._offers[TYPES][f"[method]descriptor.{name}"][0].call(host, *arguments)


def opened(root: Descriptor, name: str, *how: str, modes: tuple[str, ...] = ("read", "write")) -> Descriptor:
    found = call("open-at", root, (), name, how, modes)
    assert isinstance(found, Ok), found
    file = found.value
    assert isinstance(file, Descriptor)
    return file


def source_of(file: Descriptor, offset: int = 0, notify: Callable[[], None] = lambda: None) -> FileSource:
    return FileSource(file, offset, failed, notify)


def test_all_of_the_interface_is_offered() -> None:
    names = offers._offers[TYPES]
    for name in (*ASYNC, *STREAMS):
        [offered] = names[f"[method]descriptor.{name}"]
        assert offered.type_text.startswith("async") == (name in ASYNC or name == "is-same-object")
    assert len(names) == len(ASYNC) + len(STREAMS)


def test_types_and_errors_are_variants(root: Descriptor) -> None:
    os.mkfifo("fifo", dir_fd=root.number)
    assert call("get-type", root) == Ok(("directory", None))
    assert call("stat-at", root, (), "a.txt").value["type"] == ("regular-file", None)
    assert call("stat-at", root, (), "fifo").value["type"] == ("other", None)
    assert call("stat-at", root, (), "none") == Err(("no-entry", None))
    assert call("stat-at", root, (), "../a") == Err(("not-permitted", None))
    file = opened(root, "a.txt")
    assert call("set-size", file, (1 << 64) - 1) == Err(("invalid", None))
    assert failed(BlockingIOError(11, "")) == Err(("other", None))


def test_files_are_read_to_their_end(root: Descriptor) -> None:
    source = source_of(opened(root, "a.txt"), 99_998)
    assert source.ready()
    assert not source.done.ready()
    assert [source.take(1), source.take(5), source.take(5), source.take(5)] == [b"l", b"o", None, None]
    assert source.done.value() == Ok()


@pytest.mark.parametrize(
    ("name", "offset", "modes", "code"),
    [
        ("a.txt", 1 << 63, ("read",), "invalid"),
        ("a.txt", 0, ("write",), "bad-descriptor"),
        (".", 0, ("read",), "is-directory"),
    ],
)
def test_what_cannot_be_read_ends_with_its_error(
    root: Descriptor, name: str, offset: int, modes: tuple[str, ...], code: str
) -> None:
    source = source_of(opened(root, name, modes=modes), offset)
    assert source.take(10) is None
    assert source.done.value() == Err((code, None))


def test_a_dropped_stream_lets_the_file_go(root: Descriptor) -> None:
    file = opened(root, "a.txt")
    source = source_of(file)
    file.dropped()
    assert source.take(5) == b"hello"  # the stream has it open
    source.drop()
    source.drop()
    assert source.done.value() == Ok()
    assert file not in file.budget.opened


def test_the_event_loop_waits_for_no_disk(root: Descriptor) -> None:
    go_on, threads = threading.Event(), []
    pread = os.pread

    def slow(*arguments: Any) -> bytes:
        threads.append(threading.current_thread())
        assert go_on.wait(60)
        return pread(*arguments)

    async def go() -> bytes:
        file, rung = opened(root, "a.txt"), asyncio.Event()
        source = source_of(file, 0, rung.set)
        got = b""
        with patch.object(os, "pread", slow):
            assert not source.ready()
            await asyncio.sleep(0.01)
            assert not source.ready()  # and the loop went on
            go_on.set()
            while not source.done.ready():
                rung.clear()
                if not source.ready():
                    await asyncio.wait_for(rung.wait(), 60)
                got += source.take(30_000) or b""
                await asyncio.sleep(0)
        return got

    assert asyncio.run(go()) == b"hello" * 20_000
    assert threading.main_thread() not in threads


def test_reads_ahead_outlive_the_file(root: Descriptor) -> None:
    async def go() -> None:
        file, rung = opened(root, "a.txt"), asyncio.Event()
        source = source_of(file, 0, rung.set)
        assert not source.ready()
        file.close()
        await asyncio.wait_for(rung.wait(), 60)
        assert source.take(5) is None
        assert source.done.value() == Err(("bad-descriptor", None))

    asyncio.run(go())


@contextmanager
def duplicates() -> Iterator[list[int]]:
    """Give the descriptors that are duplicated meanwhile."""
    given: list[int] = []
    real = os.dup

    def dup(number: int) -> int:
        given.append(real(number))
        return given[-1]

    with patch.object(os, "dup", dup):
        yield given


@pytest.mark.parametrize("lack", [RuntimeError("can't start new thread"), MemoryError()], ids=["thread", "memory"])
def test_a_lack_of_threads_or_memory_ends_the_wait(root: Descriptor, lack: Exception) -> None:
    """Without a thread the event loop reads itself, and no descriptor is left behind."""

    async def go(tenant: object, read: Callable[[], bytes]) -> bytes:
        if isinstance(lack, MemoryError):
            read()
        raise lack

    async def main() -> None:
        ready = asyncio.Event()
        source = source_of(opened(root, "a.txt"), notify=ready.set)
        with patch.object(file_ends._threads, "run", go), duplicates() as given:
            assert not source.ready()
            async with asyncio.timeout(30):
                await ready.wait()
        assert source.ready()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(given[0])
        if isinstance(lack, MemoryError):
            assert source.take(5) is None
            assert source.done.value() == Err(("insufficient-memory", None))
        else:
            assert source.take(5) == b"hello"

    asyncio.run(main())


def test_a_file_that_is_streamed_many_times_has_few_reads_at_once(root: Descriptor) -> None:
    """Each has a thread, and a descriptor that counts among nobody's."""

    async def main() -> None:
        file = opened(root, "a.txt")
        sources = [source_of(file) for _ in range(100)]
        with duplicates() as given:
            assert not any(source.ready() for source in sources)
            await asyncio.sleep(0)
        assert len(given) == 2
        left = set(sources)
        async with asyncio.timeout(60):
            while left:
                left -= {source for source in left if source.ready()}
                await asyncio.sleep(0.001)
        assert [source.take(5) for source in sources] == [b"hello"] * 100
        assert not file.budget.reading

    asyncio.run(main())


def test_what_is_streamed_to_a_file_is_written(root: Descriptor, tmp_path: Path) -> None:
    file = opened(root, "new", "create")
    sink = FileSink(file, 3, failed)
    sink.put(b"abc")
    sink.put(b"de")
    assert not sink.done.ready()
    sink.end()
    assert sink.done.value() == Ok()
    end = FileSink(file, None, failed)
    end.put(b"!")
    end.end()
    assert (tmp_path / "new").read_bytes() == b"\0\0\0abcde!"


def test_what_cannot_be_written_ends_the_stream(root: Descriptor) -> None:
    assert FileSink(root, 0, failed).done.value() == Err(("bad-descriptor", None))
    sink = FileSink(opened(root, "a.txt", modes=("read",)), 0, failed)
    sink.put(b"abc")
    assert sink.gone()
    assert sink.done.value() == Err(("bad-descriptor", None))
    budget = FileSink(opened(root, "new", "create"), 1 << 40, failed)
    budget.put(b"abc")
    assert budget.done.value() == Err(("insufficient-space", None))


def test_a_file_is_not_read_for_a_full_disk(root: Descriptor) -> None:
    source, sink = source_of(opened(root, "a.txt")), FileSink(opened(root, "new", "create"), 0, failed)
    pipe = Pipe(async_value("stream", PRIMITIVES["u8"]), source)
    pipe.attach(sink)

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with patch.object(os, "pwrite", full):
        assert pipe.forward(1 << 20) == 64 << 10
    assert pipe.forwarded
    assert sink.done.value() == Err(("insufficient-space", None))
    assert source.done.value() == Ok()


def entries(root: Descriptor) -> EntrySource:
    _, done = call("read-directory", root)
    source = _.source
    assert isinstance(source, EntrySource)
    assert done.source is source.done
    return source


def test_entries_come_in_parts(root: Descriptor) -> None:
    for index in range(70):
        os.mkdir(f"d{index}", dir_fd=root.number)
    source, found = entries(root), []
    while (some := source.items(1000)) is not None:
        assert len(some) <= 64
        found += some
    assert len(found) == 71
    assert {"name": "a.txt", "type": ("regular-file", None)} in found
    assert source.done.value() == Ok()
    dropped = entries(root)
    assert len(dropped.items(1) or ()) == 1
    dropped.drop()
    assert dropped.items(5) is None


def test_entries_may_be_gone_by_now(root: Descriptor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo("pipe", dir_fd=root.number)
    source = entries(root)
    assert source._listing is not None
    listed = list(source._listing._entries)
    monkeypatch.setattr(source._listing, "_entries", (each for each in listed))
    (tmp_path / "pipe").unlink()
    (tmp_path / "a.txt").unlink()
    found = source.items(10)
    assert sorted(found or (), key=lambda entry: entry["name"]) == [
        {"name": "a.txt", "type": ("regular-file", None)},
        {"name": "pipe", "type": ("other", None)},
    ]
    assert source.items(10) is None
    assert source.done.value() == Ok()


def test_a_name_that_is_not_text_ends_the_entries(root: Descriptor) -> None:
    os.close(os.open(b"\xff", os.O_CREAT | os.O_WRONLY, dir_fd=root.number))
    source = entries(root)
    while source.items(1) is not None:
        pass
    assert source.done.value() == Err(("illegal-byte-sequence", None))
    assert call("read-directory", opened(root, "a.txt"))[1].source.value() == Err(("not-directory", None))
