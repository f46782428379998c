"""Files in the AOT cache: nothing is given back but the very bytes that were stored, whatever lies there."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from pathlib import Path

from starlette_wasm.functions.aot import AotCache, CacheError

from .source import Source

KEY, CODE, FACTS = "0" * 64, bytes(range(200)), {"host": ["poll_oneoff"], "imports": [], "min_pages": 2}
TOKENS = (b"swasm\0\0\1", b"swasm\0\0\0", b'{"host":[]}', bytes(32))

_folder = Path(tempfile.mkdtemp(prefix="fuzz-aot-"))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
_cache = AotCache(_folder)
_cache.store(KEY, CODE, FACTS)
_file = _folder / f"{KEY}.cwasm"
_whole = _file.read_bytes()
_key = (_folder / "key").read_bytes()


def check(data: bytes) -> None:
    source = Source(data)
    kind = source.integer(0, 3)
    if kind == 0:
        content = source.rest()
    elif kind == 1:
        content = _damaged(source)
    elif kind == 2:  # a checksum that is right for the bytes, under a key that is not ours
        content = _whole[:40] + source.rest()
    else:
        _other_key(source.rest())
        return
    _file.write_bytes(content)
    found = _cache.load(KEY)
    assert found == ((CODE, FACTS) if content == _whole else None)


def _damaged(source: Source) -> bytes:
    content = bytearray(_whole)
    while source.more() and content:
        at = source.integer(0, len(content) - 1)
        match source.integer(0, 3):
            case 0:
                content[at] ^= 1 << source.integer(0, 7)
            case 1:
                del content[at:]
            case 2:
                content[at:at] = source.bytes()
            case _:
                del content[at : at + source.integer(0, 255)]
    return bytes(content)


def _other_key(key: bytes) -> None:
    _file.write_bytes(_whole)
    (_folder / "key").write_bytes(key)
    try:
        with contextlib.suppress(CacheError):
            assert AotCache(_folder).load(KEY) == ((CODE, FACTS) if key == _key else None)
            assert len(key) == 32
    finally:
        (_folder / "key").write_bytes(_key)
