"""``wasi:filesystem``: the directories that the policy grants."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

from ..errors import CanonicalTrap
from ..files.descriptor import Descriptor
from ..files.listing import Listing
from ..files.place import error
from ..resources import HostResource, IoError
from ..values import Err, Ok, Value
from .host import WasiHost
from .offers import Call, offer
from .streams import CLOSED, READ_AT_ONCE, InputStream, OutputStream

_TYPES = "wasi:filesystem/types"
_CODES = {
    errno.EACCES: "access", errno.EAGAIN: "would-block", errno.EALREADY: "already", errno.EBADF: "bad-descriptor",
    errno.EBUSY: "busy", errno.EDEADLK: "deadlock", errno.EDQUOT: "quota", errno.EEXIST: "exist",
    errno.EFBIG: "file-too-large", errno.EILSEQ: "illegal-byte-sequence", errno.EINPROGRESS: "in-progress",
    errno.EINTR: "interrupted", errno.EINVAL: "invalid", errno.EISDIR: "is-directory", errno.ELOOP: "loop",
    errno.EMLINK: "too-many-links", errno.ENAMETOOLONG: "name-too-long", errno.ENODEV: "no-device",
    errno.ENOENT: "no-entry", errno.ENOLCK: "no-lock", errno.ENOMEM: "insufficient-memory",
    errno.ENOSPC: "insufficient-space", errno.ENOTDIR: "not-directory", errno.ENOTEMPTY: "not-empty",
    errno.ENOTSUP: "unsupported", errno.ENXIO: "no-such-device", errno.EOVERFLOW: "overflow",
    errno.EPERM: "not-permitted", errno.EPIPE: "pipe", errno.EROFS: "read-only", errno.ESPIPE: "invalid-seek",
    errno.ETXTBSY: "text-file-busy", errno.EXDEV: "cross-device",
}  # fmt: skip
_SELF = "self: borrow<descriptor>"
_DATETIME = "record {seconds: u64, nanoseconds: u32}"
_TYPE = "enum {unknown, block-device, character-device, directory, fifo, symbolic-link, regular-file, socket}"
_STAT = (
    f"record {{type: {_TYPE}, link-count: u64, size: u64, data-access-timestamp: option<{_DATETIME}>, "
    f"data-modification-timestamp: option<{_DATETIME}>, status-change-timestamp: option<{_DATETIME}>}}"
)
_STAMP = f"variant {{no-change, now, timestamp({_DATETIME})}}"
_STAMPS = f"data-access-timestamp: {_STAMP}, data-modification-timestamp: {_STAMP}"
FLAGS = "flags {read, write, file-integrity-sync, data-integrity-sync, requested-write-sync, mutate-directory}"
OPEN = "flags {create, directory, exclusive, truncate}"
AT = "path-flags: flags {symlink-follow}, path: string"
ADVICE = "enum {normal, sequential, random, will-need, dont-need, no-reuse}"
LINK = "old-path-flags: flags {symlink-follow}, old-path: string, new-descriptor: borrow<descriptor>, new-path: string"
HASH = "record {lower: u64, upper: u64}"
_ADVISED = {
    name: getattr(os, f"POSIX_FADV_{name.replace('-', '').upper()}", None)
    for name in ("normal", "sequential", "random", "will-need", "dont-need", "no-reuse")
}


def code_of(failure: OSError) -> str:
    return _CODES.get(failure.errno or 0, "io")


def _method(name: str, params: str, result: str, resource: str = "descriptor") -> Callable[[Call], Call]:
    """Offer a method that gives what it returns as Ok, and an OSError as Err. The function stays as it is, for 0.3."""
    params = f"{params and ', '}{params}"
    kind = f"func(self: borrow<{resource}>{params}) -> result<{result}, enum {{access, ...}}>"

    def keep(call: Call) -> Call:
        @wraps(call)
        def guarded(host: WasiHost, *arguments: Any) -> Value:
            try:
                return Ok(call(host, *arguments))
            except OSError as failure:
                return Err(code_of(failure))
            except OverflowError:
                return Err("overflow")

        offer(_TYPES, f"[method]{resource}.{name}", kind)(guarded)
        return call

    return keep


@offer("wasi:filesystem/preopens", "get-directories", "func() -> list<tuple<descriptor, string>>")
def get_directories(host: WasiHost) -> Value:
    try:
        return list(host.files.roots())
    except OSError as failure:
        raise CanonicalTrap(f"a granted directory cannot be opened: {failure.strerror}") from None


@offer(_TYPES, "filesystem-error-code", "func(err: borrow<error>) -> option<enum {access, ...}>")
def filesystem_error_code(_: WasiHost, given: object) -> Value:
    return given.file if isinstance(given, IoError) else None


class FileInput(InputStream, HostResource):
    """Reads at a position of its own; the file stays open for it."""

    waits_for_disk = True

    def __init__(self, descriptor: Descriptor, offset: int) -> None:
        super().__init__()
        descriptor.hold()
        self._descriptor = descriptor
        self._offset = offset

    def dropped(self) -> None:
        self._descriptor.release()

    def read(self, most: int) -> Value:
        if not most:
            return Ok(b"")
        try:
            data = self._descriptor.read(min(most, READ_AT_ONCE), self._offset)
        except OSError as failure:
            return _broken(failure)
        self._offset += len(data)
        return Ok(data) if data else CLOSED


class FileOutput(OutputStream, HostResource):
    """Writes at a position of its own, or at the end if there is none; the file stays open for it."""

    def __init__(self, descriptor: Descriptor, offset: int | None) -> None:
        super().__init__(lambda _: None)
        descriptor.hold()
        self._descriptor = descriptor
        self._offset = offset

    def dropped(self) -> None:
        self._descriptor.release()

    def write(self, data: bytes) -> Value:
        if self.closed:
            return CLOSED
        if len(data) > self.room():
            raise CanonicalTrap("more is written than check-write permits")
        try:
            self._write(memoryview(data))
        except OSError as failure:
            self.closed = True
            return _broken(failure)
        return Ok()

    def _write(self, left: memoryview) -> None:
        while left:
            data = bytes(left)
            if self._offset is None:
                written = self._descriptor.append(data)
            else:
                written = self._descriptor.write(data, self._offset)
                self._offset += written
            left = left[written:]


def _broken(failure: OSError) -> Value:
    return Err(("last-operation-failed", IoError(str(failure.strerror), file=code_of(failure))))


@_method("read-via-stream", "offset: u64", "input-stream")
def read_via_stream(_: WasiHost, descriptor: Descriptor, offset: int) -> Value:
    if descriptor.is_directory:
        raise error(errno.EISDIR)
    return FileInput(descriptor, offset)


@_method("write-via-stream", "offset: u64", "output-stream")
def write_via_stream(_: WasiHost, descriptor: Descriptor, offset: int) -> Value:
    return FileOutput(_to_write(descriptor), offset)


@_method("append-via-stream", "", "output-stream")
def append_via_stream(_: WasiHost, descriptor: Descriptor) -> Value:
    return FileOutput(_to_write(descriptor), None)


def _to_write(descriptor: Descriptor) -> Descriptor:
    descriptor.as_file().may_write()
    return descriptor


@_method("advise", f"offset: u64, length: u64, advice: {ADVICE}", "_")
def advise(_: WasiHost, descriptor: Descriptor, offset: int, length: int, advice: str) -> None:
    number = _ADVISED[advice]
    file = descriptor.file
    if number is not None:
        os.posix_fadvise(file, offset, length, number)


@_method("sync-data", "", "_")
def sync_data(_: WasiHost, descriptor: Descriptor) -> None:
    os.fsync(descriptor.number)


@_method("sync", "", "_")
def sync(_: WasiHost, descriptor: Descriptor) -> None:
    os.fsync(descriptor.number)


@_method("get-flags", "", FLAGS)
def get_flags(_: WasiHost, descriptor: Descriptor) -> Value:
    if descriptor.is_directory and "write" in descriptor.modes:
        return descriptor.modes - {"write"} | {"mutate-directory"}
    return descriptor.modes


@_method("get-type", "", _TYPE)
def get_type(_: WasiHost, descriptor: Descriptor) -> Value:
    return _type_of(os.fstat(descriptor.number).st_mode)


def _type_of(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "regular-file"
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISLNK(mode):
        return "symbolic-link"
    if stat.S_ISCHR(mode):
        return "character-device"
    return "block-device" if stat.S_ISBLK(mode) else "unknown"


@_method("set-size", "size: u64", "_")
def set_size(_: WasiHost, descriptor: Descriptor, size: int) -> None:
    descriptor.set_size(size)


@_method("set-times", _STAMPS, "_")
def set_times(_: WasiHost, descriptor: Descriptor, access: Value, modification: Value) -> None:
    descriptor.may_write()
    number = descriptor.number
    os.utime(number, ns=_times(os.fstat(number), access, modification))


def _times(before: os.stat_result, access: Value, modification: Value) -> tuple[int, int]:
    return _time(access, before.st_atime_ns), _time(modification, before.st_mtime_ns)


def _time(given: Value, before: int) -> int:
    kind, value = given
    if kind == "timestamp":
        nanoseconds: int = value["seconds"] * 1_000_000_000 + value["nanoseconds"]
        return nanoseconds
    return before if kind == "no-change" else time.time_ns()


@_method("read", "length: u64, offset: u64", "tuple<list<u8>, bool>")
def read(_: WasiHost, descriptor: Descriptor, length: int, offset: int) -> Value:
    data = descriptor.read(length, offset)
    return data, not data


@_method("write", "buffer: list<u8>, offset: u64", "u64")
def write(_: WasiHost, descriptor: Descriptor, data: bytes, offset: int) -> Value:
    descriptor.as_file().may_write()
    return descriptor.write(data, offset)


@_method("read-directory", "", "directory-entry-stream")
def read_directory(_: WasiHost, descriptor: Descriptor) -> Value:
    return Listing(descriptor)


@_method("read-directory-entry", "", f"option<record {{type: {_TYPE}, name: string}}>", "directory-entry-stream")
def read_directory_entry(_: WasiHost, listing: Listing) -> Value:
    entry = listing.next()
    if entry is None:
        return None
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise error(errno.EILSEQ) from None
    return {"type": _type_of_entry(entry), "name": entry.name}


def _type_of_entry(entry: os.DirEntry[str]) -> str:
    """Return its type, as the directory has it: the file may be gone by now."""
    if entry.is_symlink():
        return "symbolic-link"
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    if entry.is_file(follow_symlinks=False):
        return "regular-file"
    try:
        return _type_of(entry.stat(follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return "unknown"


@_method("create-directory-at", "path: string", "_")
def create_directory_at(_: WasiHost, descriptor: Descriptor, path: str) -> None:
    with descriptor.changing(_without_slash(path)) as (name, there), descriptor.budget.creating(name, there):
        os.mkdir(name, 0o777, dir_fd=there)


def _without_slash(path: str) -> str:
    """Drop a slash at the end: a directory may be written with one, though it is not there yet."""
    return path.rstrip("/") or path


@_method("stat", "", _STAT)
def stat_open(_: WasiHost, descriptor: Descriptor) -> Value:
    return _stat(os.fstat(descriptor.number))


@_method("stat-at", AT, _STAT)
def stat_at(_: WasiHost, descriptor: Descriptor, flags: Collection[str], path: str) -> Value:
    return _stat(_look(descriptor, flags, path))


def _look(descriptor: Descriptor, flags: Collection[str], path: str) -> os.stat_result:
    with descriptor.at(path, follow="symlink-follow" in flags) as (name, there):
        return os.stat(name, dir_fd=there, follow_symlinks=False)


def _stat(found: os.stat_result) -> Value:
    return {
        "type": _type_of(found.st_mode),
        "link-count": found.st_nlink,
        "size": found.st_size,
        "data-access-timestamp": _datetime(found.st_atime_ns),
        "data-modification-timestamp": _datetime(found.st_mtime_ns),
        "status-change-timestamp": _datetime(found.st_ctime_ns),
    }


def _datetime(nanoseconds: int) -> Value:
    seconds, rest = divmod(max(nanoseconds, 0), 1_000_000_000)
    return {"seconds": seconds, "nanoseconds": rest}


@_method("set-times-at", f"{AT}, {_STAMPS}", "_")
def set_times_at(
    _: WasiHost, descriptor: Descriptor, flags: Collection[str], path: str, access: Value, modification: Value
) -> None:
    with descriptor.changing(path, follow="symlink-follow" in flags) as (name, there):
        before = os.stat(name, dir_fd=there, follow_symlinks=False)
        os.utime(name, ns=_times(before, access, modification), dir_fd=there, follow_symlinks=False)


@_method("link-at", LINK, "_")
def link_at(_: WasiHost, descriptor: Descriptor, flags: Collection[str], old: str, other: Descriptor, new: str) -> None:
    with descriptor.changing(old) as (name, there), other.changing(new) as (new_name, new_there):
        if "symlink-follow" in flags:
            raise error(errno.EINVAL)
        with other.budget.creating(new_name, new_there):
            os.link(name, new_name, src_dir_fd=there, dst_dir_fd=new_there, follow_symlinks=False)


@_method("open-at", f"{AT}, open-flags: {OPEN}, flags: {FLAGS}", "descriptor")
def open_at(
    _: WasiHost,
    descriptor: Descriptor,
    flags: Collection[str],
    path: str,
    how: Collection[str],
    modes: Collection[str],
) -> Value:
    return descriptor.open(path, how, modes, follow="symlink-follow" in flags)


@_method("readlink-at", "path: string", "string")
def readlink_at(_: WasiHost, descriptor: Descriptor, path: str) -> Value:
    with descriptor.at(path) as (name, there):
        target = os.readlink(name, dir_fd=there)
        if target.startswith("/"):
            raise error(errno.EPERM)
    try:
        target.encode()
    except UnicodeEncodeError:
        raise error(errno.EILSEQ) from None
    return target


@_method("remove-directory-at", "path: string", "_")
def remove_directory_at(_: WasiHost, descriptor: Descriptor, path: str) -> None:
    with descriptor.changing(path) as (name, there):
        os.rmdir(name, dir_fd=there)


@_method("rename-at", "old-path: string, new-descriptor: borrow<descriptor>, new-path: string", "_")
def rename_at(_: WasiHost, descriptor: Descriptor, old: str, other: Descriptor, new: str) -> None:
    slash = old.endswith("/") or new.endswith("/")
    old, new = _without_slash(old), _without_slash(new)
    with descriptor.changing(old) as (name, there), other.changing(new) as (new_name, new_there):
        if slash and not stat.S_ISDIR(os.stat(name, dir_fd=there, follow_symlinks=False).st_mode):
            raise error(errno.ENOTDIR)
        os.rename(name, new_name, src_dir_fd=there, dst_dir_fd=new_there)


@_method("symlink-at", "old-path: string, new-path: string", "_")
def symlink_at(_: WasiHost, descriptor: Descriptor, target: str, path: str) -> None:
    with descriptor.changing(path) as (name, there):
        if target.startswith("/"):
            raise error(errno.EPERM)
        if "\0" in target:
            raise error(errno.EINVAL)
        with descriptor.budget.creating(name, there):
            os.symlink(target, name, dir_fd=there)


@_method("unlink-file-at", "path: string", "_")
def unlink_file_at(_: WasiHost, descriptor: Descriptor, path: str) -> None:
    with descriptor.changing(path) as (name, there):
        os.unlink(name, dir_fd=there)


@offer(_TYPES, "[method]descriptor.is-same-object", f"func({_SELF}, other: borrow<descriptor>) -> bool")
def is_same_object(_: WasiHost, descriptor: Descriptor, other: Descriptor) -> Value:
    return os.path.samestat(os.fstat(descriptor.number), os.fstat(other.number))


@_method("metadata-hash", "", HASH)
def metadata_hash(_: WasiHost, descriptor: Descriptor) -> Value:
    return _hash(os.fstat(descriptor.number))


@_method("metadata-hash-at", AT, HASH)
def metadata_hash_at(_: WasiHost, descriptor: Descriptor, flags: Collection[str], path: str) -> Value:
    return _hash(_look(descriptor, flags, path))


def _hash(found: os.stat_result) -> Value:
    """Hash a file: the same for the same file; what it is made of cannot be seen in it."""
    digest = hashlib.sha256(b"%d %d" % (found.st_dev, found.st_ino)).digest()
    return {"lower": int.from_bytes(digest[:8], "little"), "upper": int.from_bytes(digest[8:16], "little")}
