from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import multiprocessing
import os
import shutil
import stat
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from starlette_wasm.functions import aot
from starlette_wasm.functions.aot import AotCache, CacheError

CODE, FACTS = os.urandom(5000), {"host": ["poll_oneoff"], "imports": [], "min_pages": 2}
KEY = "0" * 64


@pytest.fixture
def place(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cache(place):
    cache = AotCache(place)
    cache.store(KEY, CODE, FACTS)
    return cache


def entry(place: Path) -> Path:
    return place / f"{KEY}.cwasm"


def test_what_was_stored_is_loaded_also_by_the_next_process(cache, place):
    assert cache.load(KEY) == (CODE, FACTS)
    assert AotCache(place).load(KEY) == (CODE, FACTS)


def test_large_code_comes_back_whole(cache: AotCache) -> None:
    code = bytes(range(256)) * (5 << 12)
    cache.store(KEY, code, FACTS)
    assert cache.load(KEY) == (code, FACTS)


def test_what_was_not_stored_is_a_miss(cache):
    assert cache.load("1" * 64) is None


def test_storing_again_replaces(cache):
    cache.store(KEY, b"new", FACTS)
    assert cache.load(KEY) == (b"new", FACTS)


def test_the_directory_and_its_key_are_for_their_owner_only(cache, place):
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(entry(place).stat().st_mode) == 0o600
    assert sorted(each.name for each in place.iterdir()) == [f"{KEY}.cwasm", "key"]


# The address


def test_an_address_depends_on_module_engine_and_linker(cache, monkeypatch):
    keys = [cache.key("digest", "engine"), cache.key("other", "engine"), cache.key("digest", "other")]
    monkeypatch.setattr(aot, "LINK_DIGEST", "another linker")
    keys.append(cache.key("digest", "engine"))
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 for key in keys)


# Damage


def test_a_bit_flipped_anywhere_is_a_miss(cache, place):
    file = entry(place)
    whole = file.read_bytes()
    step = max(1, len(whole) // 400)
    for at in [*range(200), *range(200, len(whole), step), len(whole) - 1]:
        for bit in (0, 7):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            file.write_bytes(damaged)
            assert cache.load(KEY) is None, at
    file.write_bytes(whole)
    assert cache.load(KEY) == (CODE, FACTS)


def test_a_file_cut_or_lengthened_is_a_miss(cache, place):
    file = entry(place)
    whole = file.read_bytes()
    for size in [*range(100), *range(100, len(whole), 97), len(whole) - 1]:
        file.write_bytes(whole[:size])
        assert cache.load(KEY) is None, size
    file.write_bytes(whole + b"\0")
    assert cache.load(KEY) is None


def test_a_damaged_file_is_told_in_the_log(cache, place, caplog):
    entry(place).write_bytes(b"native code")
    assert cache.load(KEY) is None
    assert "is damaged or was not written here; compiling again" in caplog.text


def test_code_under_the_address_of_another_module_is_a_miss(cache, place):
    shutil.copy(entry(place), place / f"{'1' * 64}.cwasm")
    assert cache.load("1" * 64) is None


def test_code_from_a_directory_with_another_key_is_a_miss(cache, place, tmp_path):
    other = AotCache(tmp_path / "other")
    shutil.copy(entry(place), tmp_path / "other")
    assert other.load(KEY) is None


def test_a_checksum_without_the_key_is_a_miss(cache, place):
    whole = entry(place).read_bytes()
    body = whole[40:]
    for mac in (hashlib.sha256(body).digest(), hmac.new(b"", KEY.encode() + body, hashlib.sha256).digest(), bytes(32)):
        entry(place).write_bytes(whole[:8] + mac + body)
        assert cache.load(KEY) is None


# What cannot be trusted


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(cache, place, mode):
    place.chmod(mode)
    with pytest.raises(CacheError, match=r"others may write to .*; chmod 700 it"):
        AotCache(place)


def test_a_directory_in_one_that_others_may_write_to_is_refused(tmp_path):
    parent = tmp_path / "open"
    parent.mkdir()
    parent.chmod(0o777)
    with pytest.raises(CacheError, match="others may replace"):
        AotCache(parent / "below" / "cache")
    parent.chmod(0o1777)
    AotCache(parent / "below" / "cache")


def test_a_symlink_to_a_directory_is_refused(cache, place, tmp_path):
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(CacheError, match="is a symlink; give the directory itself"):
        AotCache(tmp_path / "link")
    with pytest.raises(CacheError, match="is a symlink"):
        AotCache(Path(f"{tmp_path}/link/"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_directory_or_file_of_another_user_is_refused(cache, place):
    os.chown(entry(place), 65534, 65534)
    assert cache.load(KEY) is None
    os.chown(place, 65534, 65534)
    with pytest.raises(CacheError, match="belongs to another user"):
        AotCache(place)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_code_that_others_may_write_is_a_miss(cache, place, mode, caplog):
    entry(place).chmod(mode)
    assert cache.load(KEY) is None
    assert "open to others" in caplog.text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(cache, place, mode):
    (place / "key").chmod(mode)
    with pytest.raises(CacheError, match="open to others"):
        AotCache(place)


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_damaged_key_is_refused(cache, place, content):
    (place / "key").write_bytes(content)
    with pytest.raises(CacheError, match="is damaged; remove it"):
        AotCache(place)


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_what_is_no_regular_file_is_a_miss_and_blocks_nothing(cache, place, tmp_path, kind):
    file = entry(place)
    file.rename(tmp_path / "elsewhere")
    if kind == "symlink":
        file.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(file, 0o600)
    else:
        file.mkdir()
    assert cache.load(KEY) is None


# What cannot be written


@contextmanager
def ordinary_user():
    """Root may write everywhere: be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def anyones():
    """A directory that an ordinary user may own something in."""
    with tempfile.TemporaryDirectory(prefix="starlette-wasm-") as name:
        place = Path(name)
        place.chmod(0o755)
        if os.geteuid() == 0:
            (place / "own").mkdir()
            os.chown(place / "own", 65534, 65534)
        else:
            (place / "own").mkdir()
        yield place / "own"


def test_a_directory_that_cannot_be_made_is_a_cache_error(anyones):
    anyones.chmod(0o500)
    with ordinary_user(), pytest.raises(CacheError, match=r"Permission denied: .*cache"):
        AotCache(anyones / "cache")


def test_a_file_in_the_place_of_the_directory_is_a_cache_error(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CacheError, match=r"File exists|Not a directory"):
            AotCache(place)


def test_a_cache_that_became_read_only_is_read_and_warns_on_writing(anyones, caplog):
    with ordinary_user():
        cache = AotCache(anyones / "cache")
        cache.store(KEY, CODE, FACTS)
        (anyones / "cache").chmod(0o500)
        cache.store("1" * 64, CODE, FACTS)
        assert "cannot write to" in caplog.text
        again = AotCache(anyones / "cache")
        assert again.load(KEY) == (CODE, FACTS)
        (anyones / "cache").chmod(0o700)


# Many writers


def _write_often(place: Path, seed: int) -> None:
    cache = AotCache(place)
    for number in range(30):
        cache.store(KEY, bytes([seed]) * (100_000 + number), {"seed": seed})
        found = cache.load(KEY)
        assert found is not None
        code, facts = found
        assert code == bytes([facts["seed"]]) * len(code)


def test_several_processes_may_make_and_fill_the_cache_at_once(place):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(place, seed)) for seed in range(1, 6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 5
    assert sorted(each.name for each in place.iterdir()) == [f"{KEY}.cwasm", "key"]


def test_what_a_killed_writer_left_is_cleared_away_later(cache, place):
    old, new = place / ".new-old", place / ".new-new"
    for file in (old, new):
        file.write_bytes(CODE)
    os.utime(old, (time.time() - 7200,) * 2)
    AotCache(place)
    assert not old.exists()
    assert new.exists()


def test_facts_that_are_stored_come_back_as_json_gives_them(cache):
    facts = {"host": ["a", "ü"], "imports": [], "min_pages": 65536}
    cache.store(KEY, b"", facts)
    assert cache.load(KEY) == (b"", json.loads(json.dumps(facts)))


# Its size


def fill(cache: AotCache, *keys: str, size: int = 1000) -> None:
    """Entries of about ``size`` bytes; the first was used longest ago."""
    for age, key in enumerate(reversed(keys)):
        cache.store(key * 64, bytes(size), {})
        os.utime(cache.directory / f"{key * 64}.cwasm", (time.time() - 10_000 * (age + 1),) * 2)


def kept(place: Path) -> str:
    return "".join(sorted(file.stem[0] for file in place.glob("*.cwasm")))


def test_what_was_not_used_for_longest_goes_when_the_cache_is_too_large(place):
    cache = AotCache(place, 4000)
    fill(cache, "a", "b", "c", "d", "e")
    assert cache.load("a" * 64) is not None
    cache.prune()
    assert kept(place) == "ade"
    assert (place / "key").exists()


def test_code_that_nobody_used_for_a_month_goes(place):
    cache = AotCache(place)
    fill(cache, "a", "b")
    os.utime(place / f"{'a' * 64}.cwasm", (time.time() - 31 * 86400,) * 2)
    cache.prune()
    assert kept(place) == "b"


def test_code_larger_than_the_cache_is_not_kept(place):
    cache = AotCache(place, 4000)
    fill(cache, "a", size=5000)
    fill(cache, "b")
    cache.prune()
    assert kept(place) == "b"


def test_nothing_but_entries_is_pruned_and_no_link_is_followed(place, tmp_path):
    cache = AotCache(place, 1)
    (tmp_path / "other").write_bytes(CODE)
    (place / f"{'a' * 64}.cwasm").symlink_to(tmp_path / "other")
    (place / "README").write_text("mine")
    cache.prune()
    assert (tmp_path / "other").read_bytes() == CODE
    assert sorted(each.name for each in place.iterdir()) == ["README", "key"]


def _store_load_prune(place: Path, seed: int) -> None:
    cache = AotCache(place, 500_000)
    for number in range(40):
        key = f"{(seed * 7 + number) % 8}" * 64
        cache.store(key, bytes([number]) * 100_000, {"number": number})
        found = AotCache(place, 500_000).load(key)
        assert found is None or found[0] == bytes([found[1]["number"]]) * 100_000
        cache.prune()


def test_several_processes_may_prune_while_others_read_and_write(place):
    context = multiprocessing.get_context("spawn")
    several = [context.Process(target=_store_load_prune, args=(place, seed)) for seed in range(3)]
    for each in several:
        each.start()
    for each in several:
        each.join(60)
    assert [each.exitcode for each in several] == [0] * 3
    assert sum(file.stat().st_size for file in place.glob("*.cwasm")) <= 500_000


def test_a_living_writers_file_is_not_cleared_away(cache, place):
    file = place / ".new-alive"
    with file.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        os.utime(file, (time.time() - 7200,) * 2)
        AotCache(place)
        assert file.exists()
    AotCache(place)
    assert not file.exists()


@pytest.mark.parametrize("mode", [0o777, 0o2777], ids=["emptyDir", "emptyDir with fsGroup"])
def test_a_volume_of_the_pod_is_used_by_a_folder_of_ones_own(tmp_path, mode):
    """As Kubernetes makes them: the root belongs to root, and others may write to it."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(mode)
    with pytest.raises(CacheError):
        AotCache(volume)
    cache = AotCache(volume, volume=True)
    cache.store("a", b"code", {"n": 1})
    assert AotCache(volume, volume=True).load("a") == (b"code", {"n": 1})
    assert stat.S_IMODE(cache.directory.stat().st_mode) & 0o777 == 0o700
    assert cache.directory.parent == volume


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["folder", "key", "code"])
def test_what_others_put_into_a_volume_is_not_trusted(tmp_path, what):
    cache = AotCache(tmp_path, volume=True)
    cache.store("a", b"code", {})
    os.chown({"folder": cache.directory, "key": cache.directory / "key", "code": cache._file("a")}[what], 12345, 12345)
    if what == "code":
        assert AotCache(tmp_path, volume=True).load("a") is None
    else:
        with pytest.raises(CacheError):
            AotCache(tmp_path, volume=True)


def test_a_symlink_in_a_volume_is_refused(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / f"uid-{os.geteuid()}").symlink_to(elsewhere)
    with pytest.raises(CacheError, match="symlink"):
        AotCache(tmp_path, volume=True)
