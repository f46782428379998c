"""Granted directories: what a guest can do there, and that it gets nowhere else."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from support import ask, command, numbers, run

from starlette_wasm.engine import instance
from starlette_wasm.engine.instance import Instance
from starlette_wasm.engine.outcome import Denial, End
from starlette_wasm.engine.plan import Limits, Preopen

ACCES, BADF, EXIST, INVAL, ISDIR, LOOP, MFILE, NAMETOOLONG, NOENT, NOTDIR, PERM, ROFS, NOTCAPABLE = (
    2, 8, 20, 28, 31, 32, 33, 37, 44, 54, 63, 69, 76,
)  # fmt: skip
REFUSED = {ACCES, BADF, EXIST, INVAL, ISDIR, LOOP, NAMETOOLONG, NOENT, NOTDIR, PERM, ROFS, NOTCAPABLE}


@pytest.fixture
def tree(tmp_path):
    """A granted directory with a secret beside it."""
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "a.txt").write_text("hello")
    (data / "sub" / "b.txt").write_text("below")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "database").mkdir()
    (tmp_path / "database" / "secret.txt").write_text("secret")
    return data


@pytest.fixture
def files(guest, tree):
    """``files(op, path, ...)`` in a fresh guest; ``/data`` is granted."""

    def files(op, path="", *, writable=True, guest_path="/data", **more):
        grant = Preopen(str(tree), guest_path, writable)
        return ask(guest("files"), body={"op": op, "path": path, **more}, preopens=(grant,))

    return files


@pytest.fixture
def outcome_of(guest, tree):
    """As ``files``, but the whole outcome."""

    def outcome_of(op, path="", *, writable=False, **more):
        request = json.dumps({"body": json.dumps({"op": op, "path": path, **more})}).encode()
        return run(guest("files"), request, preopens=(Preopen(str(tree), "/data", writable),))

    return outcome_of


# What is granted


@pytest.mark.parametrize("writable", [False, True])
def test_a_granted_file_can_be_read_listed_and_described(files, writable):
    assert files("read", "/data/a.txt", writable=writable)["data"] == "hello"
    assert files("read", "/data/sub/../a.txt", writable=writable)["data"] == "hello"
    assert set(files("list", "/data", writable=writable)["data"]) - {".", ".."} == {"a.txt", "sub"}
    found = files("stat", "/data/a.txt", writable=writable)["data"]
    assert (found["type"], found["size"]) == ("file", 5)
    assert files("stat", "/data/sub", writable=writable)["data"]["type"] == "dir"
    assert files("read", "/data/none", writable=writable)["errno"] == NOENT


def test_a_writable_grant_allows_all_that_changes_a_directory(files, tree):
    assert files("write", "/data/new.txt", data="one")["ok"]
    assert files("append", "/data/new.txt", data=" two")["ok"]
    assert (tree / "new.txt").read_text() == "one two"
    assert files("truncate", "/data/new.txt", data="3")["ok"]
    assert (tree / "new.txt").read_text() == "one"
    assert files("mkdir", "/data/dir")["ok"]
    assert files("rename", "/data/new.txt", to="/data/dir/moved.txt")["ok"]
    assert (tree / "dir" / "moved.txt").read_text() == "one"
    assert files("symlink", "/data/dir/link", to="moved.txt")["ok"]
    assert files("readlink", "/data/dir/link")["data"] == "moved.txt"
    assert files("read", "/data/dir/link")["data"] == "one"
    assert files("link", "/data/dir/moved.txt", to="/data/hard")["ok"]
    assert files("unlink", "/data/dir/link")["ok"]
    assert files("unlink", "/data/dir/moved.txt")["ok"]
    assert files("rmdir", "/data/dir")["ok"]
    assert not (tree / "dir").exists()
    assert files("write", "/data/a.txt", data="")["ok"]
    assert (tree / "a.txt").read_text() == ""


def test_two_grants_are_two_directories(guest, tree, tmp_path):
    grants = (Preopen(str(tree), "/data", False), Preopen(str(tmp_path / "database"), "/db", True))
    assert ask(guest("files"), body={"op": "read", "path": "/db/secret.txt"}, preopens=grants)["data"] == "secret"
    assert ask(guest("files"), body={"op": "read", "path": "/data/a.txt"}, preopens=grants)["data"] == "hello"
    assert ask(guest("files"), body={"op": "write", "path": "/db/n", "data": "x"}, preopens=grants)["ok"]
    assert not ask(guest("files"), body={"op": "write", "path": "/data/n", "data": "x"}, preopens=grants)["ok"]
    across = ask(guest("files"), body={"op": "rename", "path": "/db/n", "to": "/data/n"}, preopens=grants)
    assert not across["ok"]


def test_the_root_can_be_granted_as_the_guests_own_root(files, tree):
    assert files("read", "/a.txt", guest_path="/")["data"] == "hello"
    assert files("read", "/../../secret.txt", guest_path="/")["data"] == ""


def test_a_directory_that_is_gone_is_an_error_of_the_host(guest, tree):
    with pytest.raises(OSError, match="cannot open the granted directory"):
        run(guest("files"), preopens=(Preopen(str(tree / "none"), "/data", False),))
    assert guest("files").engine.state.live == 0


# What is refused


CHANGES = [
    ("write", "/data/a.txt", {"data": "x"}),
    ("write", "/data/new.txt", {"data": "x"}),
    ("append", "/data/a.txt", {"data": "x"}),
    ("truncate", "/data/a.txt", {"data": "0"}),
    ("mkdir", "/data/dir", {}),
    ("rmdir", "/data/sub", {}),
    ("unlink", "/data/a.txt", {}),
    ("rename", "/data/a.txt", {"to": "/data/c.txt"}),
    ("symlink", "/data/link", {"to": "a.txt"}),
    ("link", "/data/a.txt", {"to": "/data/hard"}),
]


@pytest.mark.parametrize(("op", "path", "more"), CHANGES, ids=[f"{op}-{path[6:]}" for op, path, _ in CHANGES])
def test_a_read_only_grant_refuses_every_change_and_says_so(outcome_of, tree, op, path, more):
    before = sorted((str(file), file.stat().st_mtime_ns) for file in tree.rglob("*"))
    outcome = outcome_of(op, path, **more)
    assert b'\\"ok\\":false' in outcome.stdout
    assert sorted((str(file), file.stat().st_mtime_ns) for file in tree.rglob("*")) == before
    assert outcome.denials, outcome
    assert all(denial.write for denial in outcome.denials)
    assert outcome.denials[0].path in (path.removeprefix("/data/"), more.get("to", "").removeprefix("/data/"))


def test_reading_what_is_there_or_not_is_no_denial(outcome_of):
    assert outcome_of("read", "/data/a.txt").denials == ()
    assert outcome_of("read", "/data/none.txt").denials == ()


def test_an_escape_is_a_denial_with_its_path(outcome_of):
    assert outcome_of("read", "/data/../secret.txt").denials[0] == Denial("../secret.txt", False)


def test_denials_are_bounded_in_number_and_length(wat, tree):
    path = "../" + "x" * 300
    body = """(local $i i32)
      (loop $on
        (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 303) (i32.const 0)
          (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))
        (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000))))"""
    module = wat(command(body, "path_open", more=f'(data (i32.const 128) "{path}")'))
    outcome = run(module, preopens=(Preopen(str(tree), "/data", False),))
    assert outcome.end is End.OK
    assert len(outcome.denials) == 8
    assert outcome.denials[0].path == path[:128]


def escapes() -> list[str]:
    up = ["/".join([".."] * n) for n in (1, 2, 3, 8, 40)]
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
        "out/",
        "abs/",
        "loop/",
    ]
    targets = ["secret.txt", "database/secret.txt", "", "etc/passwd", "proc/self/environ", "data/../secret.txt"]
    paths = {f"{prefix}{climb}/{target}" for prefix in prefixes for climb in up for target in targets}
    paths |= {
        "/secret.txt", "/etc/passwd", "//etc/passwd", "/proc/self/root/etc/passwd", "/dev/fd/0", "..", "../",
        "../data/../secret.txt", "../database/secret.txt", "out", "abs", "out/..", "parent/secret.txt", "abs/../shadow",
        "loop", "loop/x", ".../../secret.txt", "..\\secret.txt", "..%2fsecret.txt", "sub/up/../secret.txt",
        "sub/up/secret.txt", "root/etc/passwd", "proc/environ", "proc/root/etc/passwd", "proc/cwd", "proc/fd/0",
        "\u002e\u002e/secret.txt", "..\u2215secret.txt", "~/secret.txt", "x" * 5000, "sub/" * 2000 + "b.txt",
    }  # fmt: skip
    return sorted(paths)


def plant_symlinks(tree):
    for name, target in {
        "out": "../secret.txt",
        "abs": str(tree.parent / "secret.txt"),
        "parent": "..",
        "sub/up": "../..",
        "root": "/",
        "proc": "/proc/self",
        "loop": "loop",
    }.items():
        (tree / name).symlink_to(target)


@pytest.mark.parametrize("writable", [False, True])
def test_hundreds_of_paths_out_of_a_grant_lead_nowhere(guest, tree, writable):
    plant_symlinks(tree)
    grant = (Preopen(str(tree), "/data", writable),)
    secrets = ("secret", "root:", "PATH=")
    before = sorted(path.relative_to(tree.parent) for path in tree.parent.rglob("*") if tree not in path.parents)
    paths = escapes()
    assert len(paths) > 300
    module = guest("files")
    for path in paths:
        for op in ("read", "stat", "list") if not writable else ("read", "write", "unlink", "mkdir"):
            where = path if path.startswith("/") else f"/data/{path}"
            got = ask(module, body={"op": op, "path": where, "data": "pwned"}, preopens=grant)
            text = str(got["data"])
            assert not any(secret in text for secret in secrets), (op, path, got)
            if got["ok"]:  # then it is within: a climb below sub, or the symlink itself
                assert op != "list" or "database" not in text, (path, got)
            else:
                assert got["errno"] in REFUSED, (op, path, got)
        if writable:
            shutil.rmtree(tree)
            (tree / "sub").mkdir(parents=True)
            (tree / "a.txt").write_text("hello")
            plant_symlinks(tree)
    assert (tree.parent / "secret.txt").read_text() == "secret"
    assert (tree.parent / "database" / "secret.txt").read_text() == "secret"
    after = sorted(path.relative_to(tree.parent) for path in tree.parent.rglob("*") if tree not in path.parents)
    assert after == before


def test_symlinks_that_a_guest_makes_lead_nowhere_either(files, tree):
    made = 0
    for number, target in enumerate(
        ["..", "../secret.txt", "/etc/passwd", "/", "../database", "sub/../..", "/proc/self/environ"]
    ):
        planted = files("symlink", f"/data/l{number}", to=target)["ok"]
        made += planted
        for path in (f"/data/l{number}", f"/data/l{number}/secret.txt", f"/data/l{number}/etc/passwd"):
            got = files("read", path)
            assert not got["ok"], (target, path, got)
            assert not planted or not files("write", path, data="pwned")["ok"]
    assert (tree.parent / "secret.txt").read_text() == "secret"
    assert made >= 2  # the relative ones at least, so the test tests something


def test_what_is_hard_linked_renamed_or_linked_out_stays_in(files, tree):
    assert not files("rename", "/data/a.txt", to="/data/../a.txt")["ok"]
    assert not files("link", "/data/../secret.txt", to="/data/mine")["ok"]
    assert not files("link", "/data/a.txt", to="/data/../mine")["ok"]
    assert not files("symlink", "/data/../link", to="data/a.txt")["ok"]
    assert sorted(each.name for each in tree.parent.iterdir()) == ["data", "database", "secret.txt"]


def test_fifos_sockets_and_devices_are_refused_at_once(outcome_of, files, tree):
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(tree)
        try:
            listener.bind("socket")
        finally:
            os.chdir(before)
        (tree / "to-fifo").symlink_to("fifo")
        names = ["fifo", "socket", "to-fifo"]
        if os.geteuid() == 0:
            try:
                os.mknod(tree / "null", 0o666 | 0o020000, os.makedev(1, 3))
                names.append("null")
            except PermissionError:
                pass
        for name in names:
            for op in ("read", "write", "append"):
                begin = time.monotonic()
                got = files(op, f"/data/{name}", data="x")
                assert not got["ok"], (op, name)
                assert time.monotonic() - begin < 60
    denial = outcome_of("read", "/data/fifo").denials[0]
    assert denial == Denial("fifo", False)


def test_without_a_grant_nothing_is_there(guest):
    for op in ("read", "write", "list", "stat", "mkdir", "unlink", "symlink", "readlink", "rmdir", "rename"):
        for path in ("/data/a.txt", "/etc/passwd", "a.txt", "."):
            got = ask(guest("files"), body={"op": op, "path": path, "to": "/x", "data": "x"})
            assert not got["ok"]
            assert got["errno"] in (BADF, NOENT, NOTCAPABLE, PERM, ACCES)


def test_without_a_grant_every_descriptor_is_bad(wat):
    calls = """
      (call $print_i32 (call $fd_prestat_get (local.get $fd) (i32.const 0)))
      (call $print_i32 (call $path_open (local.get $fd) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
        (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 64)))
      (call $print_i32
        (call $path_filestat_get (local.get $fd) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)))
      (call $print_i32 (call $fd_read (local.get $fd) (i32.const 0) (i32.const 0) (i32.const 64)))
      (call $print_i32 (call $fd_readdir (local.get $fd) (i32.const 0) (i32.const 64) (i64.const 0) (i32.const 64)))
      (call $print_i32 (call $fd_close (local.get $fd)))"""
    body = f"""(local $fd i32) (local.set $fd (i32.const 3))
      (loop $on {calls}
        (br_if $on (i32.lt_u (local.tee $fd (i32.add (local.get $fd) (i32.const 1))) (i32.const 20))))"""
    names = ["fd_prestat_get", "path_open", "path_filestat_get", "fd_read", "fd_readdir", "fd_close"]
    assert set(numbers(run(wat(command(body, *names))))) == {BADF}


# Bounds


def open_fds() -> int:
    return psutil.Process().num_fds()


@pytest.mark.parametrize("writable", [False, True])
def test_files_open_at_once_are_bounded_and_closed_with_the_guest(guest, tree, writable):
    module = guest("manyfds")
    run(module, b"{}")  # its memory image takes a descriptor, once
    before = open_fds()
    for limit in (1, 5, 64):
        grant = (Preopen(str(tree), "/data", writable),)
        got = ask(module, query={"path": "/data/a.txt"}, preopens=grant, limits=Limits(fds=limit))
        assert (got["count"], got["errno"]) == (limit, MFILE)
    assert open_fds() == before


def test_directories_count_as_open_files_and_closing_makes_room(wat, tree):
    body = """(local $i i32)
      (loop $on
        (call $print_i32 (call $path_open (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 2)
          (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 64)))
        (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))
      (call $print_i32 (call $fd_close (i32.load (i32.const 64))))
      (call $print_i32 (call $path_open (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 2)
        (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 64)))"""
    module = wat(command(body, "path_open", "fd_close", more='(data (i32.const 128) ".")'))
    outcome = run(module, preopens=(Preopen(str(tree), "/data", False),), limits=Limits(fds=3))
    assert numbers(outcome) == [0, 0, 0, MFILE, 0, 0]


def test_opening_leaves_the_guests_memory_as_it_was(wat, tree):
    pattern = "".join(f"\\{i + 1:02x}" for i in range(64))
    body = """
      (call $print_i32 (call $path_open (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 5) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 256)))
      (call $print (i32.const 0) (i32.const 64))"""
    more = f'(data (i32.const 0) "{pattern}") (data (i32.const 128) "a.txt")'
    outcome = run(wat(command(body, "path_open", more=more)), preopens=(Preopen(str(tree), "/", False),))
    assert outcome.stdout == bytes(4) + bytes(range(1, 65))


def test_the_path_to_open_may_lie_in_the_first_bytes_of_memory(wat, tree):
    body = """
      (call $print_i32 (call $path_open (i32.const 3) (i32.const 0) (i32.const 14) (i32.const 5) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
      (i32.store (i32.const 128) (i32.const 256)) (i32.store (i32.const 132) (i32.const 5))
      (call $print_i32 (call $fd_read (i32.load (i32.const 16)) (i32.const 128) (i32.const 1) (i32.const 140)))
      (call $print (i32.const 256) (i32.const 5))"""
    module = wat(command(body, "path_open", "fd_read", more='(data (i32.const 14) "a.txt")'))
    outcome = run(module, preopens=(Preopen(str(tree), "/", False),))
    assert outcome.stdout == struct.pack("<2I", 0, 0) + b"hello"


def test_a_sparse_file_of_any_length_costs_nothing_and_is_the_guests_own(files, tree):
    got = files("truncate", "/data/a.txt", data=str(1 << 20))
    assert got["ok"]
    assert (tree / "a.txt").stat().st_blocks * 512 < 1 << 20


# What a grant to write may cost


def test_what_is_written_is_bounded_in_bytes(guest, tmp_path):
    grant = (Preopen(str(tmp_path), "/data", True),)
    limits = Limits(file_bytes=1000)
    body = {"op": "write", "path": "/data/x", "data": "a" * 1000}
    assert ask(guest("files"), body=body, preopens=grant, limits=limits)["ok"]
    answer = ask(guest("files"), body={**body, "data": "a" * 1001}, preopens=grant, limits=limits)
    assert (answer["ok"], answer["errno"]) == (False, 51)
    answer = ask(
        guest("files"), body={"op": "truncate", "path": "/data/x", "data": "1001"}, preopens=grant, limits=limits
    )
    assert (answer["ok"], answer["errno"]) == (False, 51)
    assert (tmp_path / "x").stat().st_size <= 1000


def test_what_is_created_is_bounded_in_number(guest, tmp_path):
    grant = (Preopen(str(tmp_path), "/data", True),)
    for op, path in (("mkdir", "d"), ("write", "f"), ("symlink", "s")):
        body = {"op": op, "path": f"/data/{path}", "to": "x", "data": "x"}
        answer = ask(guest("files"), body=body, preopens=grant, limits=Limits(entries=0))
        assert (answer["ok"], answer["errno"]) == (False, 19)
    assert list(tmp_path.iterdir()) == []


OPENED = """(drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 1) (i32.const {flags})
  (i64.const 0x20003fe) (i64.const 0) (i32.const {append}) (i32.const 80)))"""
"""A file named f, under descriptor 4; a vector of 4 bytes is at 96."""
FILE = """(data (i32.const 64) "f") (data (i32.const 96) "\\80\\00\\00\\00\\04\\00\\00\\00")"""
WRITE = "(call $fd_write (i32.const 4) (i32.const 96) (i32.const 1) (i32.const 80))"
PWRITE = "(call $fd_pwrite (i32.const 4) (i32.const 96) (i32.const 1) (i64.const {at}) (i32.const 80))"
SEEK = "(call $fd_seek (i32.const 4) (i64.const {to}) (i32.const {whence}) (i32.const 80))"
SIZE = "(call $fd_filestat_set_size (i32.const 4) (i64.const {size}))"
FAR = 0x40000000000


def write_to_file(wat, folder, *calls, flags=1, append=0, writable=True, **limits):
    """The errnos of ``calls`` on the file f."""
    names = sorted({name for each in calls for name in re.findall(r"call \$(\w+)", each)} | {"path_open"})
    body = OPENED.format(flags=flags, append=append) + "".join(f"(call $print_i32 {each})" for each in calls)
    grant = (Preopen(str(folder), "/data", writable),)
    return numbers(run(wat(command(body, *names, more=FILE)), limits=Limits(**limits), preopens=grant))


@pytest.mark.parametrize(
    ("call", "errno"),
    [
        (PWRITE.format(at=FAR), 51),
        (PWRITE.format(at=-8), 28),
        (SIZE.format(size=FAR), 51),
        (SIZE.format(size=(64 << 20) + 1), 51),
        (SIZE.format(size=64 << 20), 0),
        (f"(call $fd_allocate (i32.const 4) (i64.const {FAR}) (i64.const 1))", 51),
        (f"(call $fd_allocate (i32.const 4) (i64.const 0) (i64.const {FAR}))", 51),
    ],
)
def test_no_file_gets_huge_by_a_hole(wat, tmp_path, call, errno):
    got = write_to_file(wat, tmp_path, call)
    assert got == [errno]
    assert (tmp_path / "f").stat().st_size <= 64 << 20


@pytest.mark.parametrize("whence", [0, 1, 2])
def test_seeking_is_free_and_writing_there_is_not(wat, tmp_path, whence):
    assert write_to_file(wat, tmp_path, SEEK.format(to=FAR, whence=whence), WRITE) == [0, 51]
    assert (tmp_path / "f").stat().st_size == 0


def test_rewriting_a_file_costs_nothing(wat, tmp_path):
    (tmp_path / "f").write_bytes(bytes(100))
    again = [SEEK.format(to=0, whence=0), WRITE, PWRITE.format(at=96), SIZE.format(size=100)] * 20
    assert set(write_to_file(wat, tmp_path, *again, file_bytes=0)) == {0}
    assert write_to_file(wat, tmp_path, PWRITE.format(at=97), file_bytes=0) == [51]
    assert write_to_file(wat, tmp_path, WRITE, append=1, file_bytes=3) == [51]
    assert write_to_file(wat, tmp_path, WRITE, WRITE, append=1, file_bytes=104) == [0, 51]


def test_growth_is_charged_once(wat, tmp_path):
    calls = [WRITE, WRITE, SIZE.format(size=2), SIZE.format(size=6), WRITE]
    assert write_to_file(wat, tmp_path, *calls, file_bytes=12) == [0, 0, 0, 0, 51]
    assert write_to_file(wat, tmp_path, PWRITE.format(at=4), PWRITE.format(at=8), file_bytes=9) == [0, 51]


def test_writing_what_is_not_open_for_it_says_so(wat, tmp_path):
    (tmp_path / "f").write_bytes(b"")
    assert write_to_file(wat, tmp_path, WRITE, PWRITE.format(at=FAR), flags=0, writable=False) == [8, 8]


CREATED = {
    "path_create_directory": "(call $path_create_directory (i32.const 3) (i32.const {at}) (i32.const 1))",
    "path_symlink": "(call $path_symlink (i32.const 64) (i32.const 1) (i32.const 3) (i32.const {at}) (i32.const 1))",
    "path_link": """(call $path_link (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 3)
      (i32.const {at}) (i32.const 1))""",
    "path_open": """(call $path_open (i32.const 3) (i32.const 0) (i32.const {at}) (i32.const 1) (i32.const 1)
      (i64.const 0x42) (i64.const 0) (i32.const 0) (i32.const 80))""",
}


@pytest.mark.parametrize(("name", "call"), CREATED.items())
def test_an_entry_is_charged_when_it_is_made(wat, tmp_path, name, call):
    """Neither one that is there already nor one that cannot be made."""
    (tmp_path / "f").write_bytes(b"")
    calls = [call.format(at=64)] * 3 + [call.format(at=at) for at in (70, 71, 71, 72)]
    body = "".join(f"(call $print_i32 {each})" for each in calls)
    text = command(body, name, "path_open", more='(data (i32.const 64) "f") (data (i32.const 70) "xyz")')
    got = numbers(run(wat(text), limits=Limits(entries=2), preopens=(Preopen(str(tmp_path), "/data", True),)))
    exists = 0 if name == "path_open" else 20
    assert got == [exists, exists, exists, 0, 0, exists, 19]


def test_a_pointer_outside_is_named_as_such_whatever_the_guest_calls_its_functions(wat, tree):
    """wasmtime's file functions end the guest with an error, whose message names the guest's functions first."""
    name = "Caused by:\\n\\1b[31m" + "n" * 10_000
    more = f'(func $odd (@name "{name}") (drop (call $fd_filestat_get (i32.const 3) (i32.const -8))))'
    outcome = run(
        wat(command("(call $odd)", "fd_filestat_get", "path_open", more=more)),
        preopens=(Preopen(str(tree), "/data", False),),
    )
    assert (outcome.end, outcome.reason) == (End.TRAP, "out of bounds memory access")


def test_a_pointer_outside_after_a_refused_growth_is_want_of_memory(wat, tree):
    body = """(drop (memory.grow (i32.const 9)))
      (drop (call $fd_filestat_get (i32.const 3) (i32.const 65536)))"""
    outcome = run(
        wat(command(body, "fd_filestat_get", "path_open")),
        limits=Limits(memory_pages=9),
        preopens=(Preopen(str(tree), "/data", False),),
    )
    assert outcome.end is End.MEMORY


@pytest.mark.parametrize(("slow", "elsewhere"), [("fd_readdir", True), ("fd_sync", True), ("fd_tell", False)])
def test_a_guest_that_may_wait_for_a_disk_never_runs_on_the_event_loop(wat, tree, monkeypatch, slow, elsewhere):
    """wasmtime lists a directory whole at each call: with many entries, one call takes longer than any deadline."""
    threads = set()
    poll = Instance.poll

    def polled(self):
        threads.add(threading.get_ident())
        return poll(self)

    monkeypatch.setattr(Instance, "poll", polled)
    monkeypatch.setattr(instance, "native", None)  # its polls are not seen from Python
    calls = {
        "fd_readdir": "(i32.const 3) (i32.const 1024) (i32.const 512) (i64.const 0) (i32.const 80)",
        "fd_sync": "(i32.const 3)",
        "fd_tell": "(i32.const 3) (i32.const 80)",
    }
    pause = "(drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))"
    module = wat(command(f"{pause} (drop (call ${slow} {calls[slow]})) {pause}", slow, "poll_oneoff", "path_open"))

    def runs_elsewhere(**keywords):
        """Whether another thread than the event loop's polls. A loop in the main thread would leave that to others."""
        threads.clear()
        with ThreadPoolExecutor(1) as loop:
            here = loop.submit(threading.get_ident).result()
            assert loop.submit(lambda: run(module, **keywords)).result().end is End.OK
        return here not in threads

    assert runs_elsewhere(preopens=(Preopen(str(tree), "/data", False),)) is elsewhere
    assert not runs_elsewhere()  # without a directory there is nothing to wait for
