"""``wasi:filesystem`` of WASI 0.3: the calls of 0.2, with streams, futures and errors as 0.3 has them.

A guest with directories runs in threads, and so do its calls. What is streamed from a file to something else of the
host is moved on the event loop, and read by a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..files.descriptor import Descriptor
from ..files.listing import Listing
from ..pipes import Pipe
from ..values import Err, Ok, Value
from . import filesystem as f
from .file_ends import EntrySource, FileSink, FileSource
from .host import WasiHost
from .offers import offer

_TYPES = "wasi:filesystem/types@0.3"
_INSTANT = "record {seconds: s64, nanoseconds: u32}"
_TYPE = (
    "variant {block-device, character-device, directory, fifo, symbolic-link, regular-file, socket, "
    "other(option<string>)}"
)
_STAT = (
    f"record {{type: {_TYPE}, link-count: u64, size: u64, data-access-timestamp: option<{_INSTANT}>, "
    f"data-modification-timestamp: option<{_INSTANT}>, status-change-timestamp: option<{_INSTANT}>}}"
)
_STAMP = f"variant {{no-change, now, timestamp({_INSTANT})}}"
_STAMPS = f"data-access-timestamp: {_STAMP}, data-modification-timestamp: {_STAMP}"
_CODE = "variant {access, ...}"
_DONE = f"future<result<_, {_CODE}>>"
_SELF = "self: borrow<descriptor>"


def failed(failure: OSError) -> Err:
    """Return the error of 0.3 for one of the system."""
    code = f.code_of(failure)
    return Err(("other", None) if code == "would-block" else (code, None))


def _kind(name: str) -> Value:
    return ("other" if name == "unknown" else name), None


def _typed(found: Any) -> Value:
    """Return a record with the type of a file as 0.3 has it."""
    return found | {"type": _kind(found["type"])}


def _async(
    name: str, params: str, result: str, call: Callable[..., Any], give: Callable[[Any], Value] = lambda x: x
) -> None:
    """Offer an async method that gives what ``call`` returns as Ok, and an OSError as Err."""

    def guarded(host: WasiHost, *arguments: Any) -> Value:
        try:
            return Ok(give(call(host, *arguments)))
        except OSError as failure:
            return failed(failure)
        except OverflowError:
            return Err(("overflow", None))

    params = f"{params and ', '}{params}"
    offer(_TYPES, f"[method]descriptor.{name}", f"async func({_SELF}{params}) -> result<{result}, {_CODE}>")(guarded)


@offer(_TYPES, "[method]descriptor.read-via-stream", f"func({_SELF}, offset: u64) -> tuple<stream<u8>, {_DONE}>")
def read_via_stream(host: WasiHost, descriptor: Descriptor, offset: int) -> Value:
    source = FileSource(descriptor, offset, failed, host.wakeup.notify)
    return Pipe(source=source), Pipe(source=source.done)


@offer(_TYPES, "[method]descriptor.write-via-stream", f"func({_SELF}, data: stream<u8>, offset: u64) -> {_DONE}")
def write_via_stream(host: WasiHost, descriptor: Descriptor, data: Pipe, offset: int) -> Value:
    return _written(host, data, FileSink(descriptor, offset, failed))


@offer(_TYPES, "[method]descriptor.append-via-stream", f"func({_SELF}, data: stream<u8>) -> {_DONE}")
def append_via_stream(host: WasiHost, descriptor: Descriptor, data: Pipe) -> Value:
    return _written(host, data, FileSink(descriptor, None, failed))


def _written(host: WasiHost, data: Pipe, sink: FileSink) -> Value:
    host.attach(data, sink)
    return Pipe(source=sink.done)


@offer(
    _TYPES,
    "[method]descriptor.read-directory",
    f"func({_SELF}) -> tuple<stream<record {{type: {_TYPE}, name: string}}>, {_DONE}>",
)
def read_directory(host: WasiHost, descriptor: Descriptor) -> Value:
    def entry_of(listing: Listing) -> Value:
        entry = f.read_directory_entry(host, listing)
        return entry and _typed(entry)

    source = EntrySource(descriptor, entry_of, failed)
    return Pipe(source=source), Pipe(source=source.done)


offer("wasi:filesystem/preopens@0.3", "get-directories", "func() -> list<tuple<descriptor, string>>")(f.get_directories)
offer(_TYPES, "[method]descriptor.is-same-object", f"async func({_SELF}, other: borrow<descriptor>) -> bool")(
    f.is_same_object
)
_async("advise", f"offset: u64, length: u64, advice: {f.ADVICE}", "_", f.advise)
_async("sync-data", "", "_", f.sync_data)
_async("sync", "", "_", f.sync)
_async("get-flags", "", f.FLAGS, f.get_flags)
_async("get-type", "", _TYPE, f.get_type, _kind)
_async("set-size", "size: u64", "_", f.set_size)
_async("set-times", _STAMPS, "_", f.set_times)
_async("set-times-at", f"{f.AT}, {_STAMPS}", "_", f.set_times_at)
_async("stat", "", _STAT, f.stat_open, _typed)
_async("stat-at", f.AT, _STAT, f.stat_at, _typed)
_async("create-directory-at", "path: string", "_", f.create_directory_at)
_async("link-at", f.LINK, "_", f.link_at)
_async("open-at", f"{f.AT}, open-flags: {f.OPEN}, flags: {f.FLAGS}", "descriptor", f.open_at)
_async("readlink-at", "path: string", "string", f.readlink_at)
_async("remove-directory-at", "path: string", "_", f.remove_directory_at)
_async("rename-at", "old-path: string, new-descriptor: borrow<descriptor>, new-path: string", "_", f.rename_at)
_async("symlink-at", "old-path: string, new-path: string", "_", f.symlink_at)
_async("unlink-file-at", "path: string", "_", f.unlink_file_at)
_async("metadata-hash", "", f.HASH, f.metadata_hash)
_async("metadata-hash-at", f.AT, f.HASH, f.metadata_hash_at)
