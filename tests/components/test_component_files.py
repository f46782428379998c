"""``wasi:filesystem``: equal to wasmtime, within the rules and budgets of preview 1."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
from probe import Probe, ask_wasmtime

from starlette_wasm.engine.outcome import Denial
from starlette_wasm.engine.plan import Limits, Preopen

HEAD = """const [[d, name]] = preopens.getDirectories(), R = {read: true}, W = {write: true}, F = {symlinkFollow: true};
const set = (flags) => Object.entries(flags).filter(([, is]) => is).map(([flag]) => flag).join();
const shown = (given) => given.ok ? [given.ok.getType(), set(given.ok.getFlags())] : given.error; """
PATHS = """["a.txt", "./a.txt", "sub/../a.txt", "sub/b.txt", "link", "abs", "sub/up", "sub/up/x", "loop", "dangling",
"dirlink/b.txt", "dirlink", "sub/rel", "missing", "missing/x", "a.txt/", "a.txt/x", "sub/", "", ".", "..", "/", "/data",
"//a.txt", "sub//b.txt", "sub/..", "sub/../..",
"a\\u0000b", "x".repeat(300), "y/".repeat(2100), "link/", "./", "sub/."]"""
CASES = {
    "stat": "const s = (x) => x.ok ? [x.ok.type, x.ok.type === 'directory' ? 0 : x.ok.size, x.ok.linkCount] : x.error;"
    "return P.map((p) => [s(attempt(() => d.statAt(F, p))), s(attempt(() => d.statAt({}, p)))])",
    "open to read": "return P.map((p) => [F, {}].map((f) => shown(attempt(() => d.openAt(f, p, {}, R)))))",
    "open to write": "return P.map((p) => [F, {}].map((f) => shown(attempt(() => d.openAt(f, p, {}, W)))))",
    "create": "return P.map((p) => shown(attempt(() => d.openAt(F, p, {create: true}, W))))",
    "create new": "return P.map((p) => shown(attempt(() => d.openAt({}, p, {create: true, exclusive: true}, W))))",
    "truncate": "return P.map((p) => shown(attempt(() => d.openAt(F, p, {truncate: true}, R))))",
    "directory": "return P.map((p) => shown(attempt(() => d.openAt(F, p, {directory: true}, R))))",
    "odd flags": "return [[{directory: true, create: true}, R], [{}, {read: true, fileIntegritySync: true}],"
    "[{}, {}], [{}, {mutateDirectory: true}]].map(([how, m]) => shown(attempt(() => d.openAt({}, 'a.txt', how, m))))",
    "readlink": "return P.map((p) => attempt(() => d.readlinkAt(p)))",
    "mkdir": "return P.map((p) => [attempt(() => d.createDirectoryAt(p)), attempt(() => d.createDirectoryAt(p))])",
    "unlink": "return P.map((p) => attempt(() => d.unlinkFileAt(p)))",
    "rmdir": "return P.map((p) => attempt(() => d.removeDirectoryAt(p)))",
    "symlink": "return P.map((p) => [attempt(() => d.symlinkAt('a.txt', p)), attempt(() => d.symlinkAt(p, 'n' + "
    "p.length))])",
    "link": "return P.map((p) => [attempt(() => d.linkAt({}, 'a.txt', d, p)), attempt(() => d.linkAt({}, p, d, "
    "'n' + p.length)),"
    "attempt(() => d.linkAt(F, 'a.txt', d, 'q'))])",
    "rename": "return ['new', 'sub/new', '../x', '/x', '', 'sub', 'link', 'missing/x'].map((p) =>"
    "[attempt(() => d.renameAt('a.txt', d, p)), attempt(() => d.renameAt(p, d, 'a.txt'))])",
    "set times": "const t = {tag: 'timestamp', val: {seconds: 1000, nanoseconds: 5}}, no = {tag: 'no-change'};"
    "return P.map((p) => [attempt(() => d.setTimesAt(F, p, t, t)), attempt(() => d.setTimesAt({}, p, no, t))])",
    "hash": "const h = (p, f) => attempt(() => d.metadataHashAt(f, p)); return P.map((p) => [h(p, F), h(p, {})].map("
    "(x) => x.ok ? 'a hash' : x.error))",
    "list": "const s = d.readDirectory(), all = []; let e; while (e = s.readDirectoryEntry()) all.push([e.name, "
    "e.type]);"
    "return all.sort()",
    "of files": "const f = d.openAt({}, 'a.txt', {}, {read: true, write: true}), x = (w) => attempt(w);"
    "return [x(() => text(f.read(3, 1)[0])), x(() => f.read(3, 5)), x(() => f.write(bytes('XY'), 4)), x(() => "
    "f.setSize(5)),"
    "x(() => text(f.read(99, 0)[0])), x(() => f.sync()), x(() => f.syncData()), x(() => f.readDirectory()),"
    "x(() => f.advise(0, 9, 'random')), x(() => f.statAt({}, 'a')), x(() => f.stat().size), x(() => f.isSameObject(f)),"
    "x(() => f.isSameObject(d)), x(() => f.openAt({}, 'a', {}, R)), x(() => f.unlinkFileAt('a'))]",
    "of directories": "return [d.getType(), set(d.getFlags())].concat([() => d.read(1, 0), () => "
    "d.write(bytes('a'), 0),"
    "() => d.setSize(1), () => d.readViaStream(0), () => d.writeViaStream(0), () => d.appendViaStream(),"
    "() => d.advise(0, 0, 'normal'), () => d.sync(), () => d.stat().type].map((w) => attempt(w)))",
    "of files to read": "const f = d.openAt({}, 'a.txt', {}, R); return [() => f.write(bytes('a'), 0), () => "
    "f.setSize(1),"
    "() => text(f.read(2, 0)[0])].map((w) => attempt(w))",
    "streams": "const f = d.openAt({}, 'new', {create: true}, {read: true, write: true}), w = f.writeViaStream(2);"
    "w.blockingWriteAndFlush(bytes('hello')); drop(w); const a = f.appendViaStream();"
    "a.blockingWriteAndFlush(bytes(' end')); a.blockingWriteAndFlush(bytes('!')); drop(a); const i = "
    "f.readViaStream(1);"
    "const all = read(i); drop(i); return [all, Number(f.stat().size)]",
    "streams outlive the file": "const f = d.openAt({}, 'a.txt', {}, R), i = f.readViaStream(0); drop(f);"
    "const g = d.openAt({}, 'new', {create: true}, W), o = g.writeViaStream(0); drop(g);"
    "const all = read(i); drop(i); o.blockingWriteAndFlush(bytes('kept')); drop(o);"
    "return [all, Number(d.statAt({}, 'new').size)]",
    "splice": "const f = d.openAt({}, 'a.txt', {}, R), g = d.openAt({}, 'new', {create: true}, W), i = "
    "f.readViaStream(0);"
    "const o = g.writeViaStream(0), n = [o.blockingSplice(i, 3), o.blockingSplice(i, 99)]; o.blockingFlush();"
    "return [n, attempt(() => o.blockingSplice(i, 1)).error.tag, g.stat().size]",
    "stream of what is not writable": "const f = d.openAt({}, 'a.txt', {}, R), w = attempt(() => f.writeViaStream(0));"
    "if (w.error) return w; const r = attempt(() => w.ok.blockingWriteAndFlush(bytes('a'))).error;"
    "return [r.tag, fs.filesystemErrorCode(r.val)]",
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make(tmp_path / "granted")


def make(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("hello")
    (root / "sub" / "b.txt").write_text("world" * 100)
    for name, target in (("link", "a.txt"), ("abs", "/etc/passwd"), ("sub/up", "../.."), ("loop", "loop"),
                         ("dangling", "nowhere"), ("dirlink", "sub"), ("sub/rel", "../a.txt")):  # fmt: skip
        (root / name).symlink_to(target)
    return root


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_files_agree_with_wasmtime(tmp_path: Path, name: str, writable: bool) -> None:
    script = HEAD + f"const P = {PATHS}; {CASES[name]}"
    ours, theirs = (Preopen(str(make(tmp_path / each)), "/data", writable) for each in ("ours", "theirs"))
    assert Probe(preopens=(ours,)).ask(script) == ask_wasmtime(script, (theirs,))


def granted(tree: Path, *, writable: bool = True, limits: Limits | None = None) -> Probe:
    probe = Probe(preopens=(Preopen(str(tree), "/data", writable),))
    if limits is not None:
        probe.limits = limits
    return probe


def test_nothing_is_granted_without_directories() -> None:
    assert Probe().value("return preopens.getDirectories().length") == 0


def test_refusals_are_noted(tree: Path) -> None:
    outcome = granted(tree, writable=False).run(
        HEAD
        + """attempt(() => d.openAt({}, "a.txt", {}, W)); attempt(() => d.statAt({}, "../x"));
        attempt(() => d.unlinkFileAt("y".repeat(200))); for (let i = 0; i < 20; i++) attempt(() => d.rmdir);
        for (let i = 0; i < 20; i++) attempt(() => d.readlinkAt("/" + i));"""
    )
    assert outcome.denials[:3] == (Denial("a.txt", True), Denial("../x", False), Denial("y" * 128, True))
    assert len(outcome.denials) == 8


def test_only_files_and_directories_open(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "sock"))
        found = granted(tree).value(
            HEAD + "return ['fifo', 'sock'].map((p) => attempt(() => d.openAt(F, p, {}, R)).error)"
        )
    assert found == ["access", "access"]


def test_open_files_are_bounded(tree: Path) -> None:
    script = (
        HEAD
        + """const open = () => attempt(() => d.openAt({}, "a.txt", {}, R)), first = open();
    const found = [first.error, open().error, open().error, attempt(() => d.readDirectory()).error];
    drop(first.ok); return [...found, open().error]"""
    )
    before = len(os.listdir("/proc/self/fd"))
    found = granted(tree, limits=Limits(memory_pages=250, fds=2)).value(script)
    assert found == [None, None, "io", "io", None]
    assert len(os.listdir("/proc/self/fd")) <= before


def test_growth_of_files_is_bounded(tree: Path) -> None:
    script = (
        HEAD
        + """const f = d.openAt({}, "new", {create: true}, W), x = (w) => attempt(w).error;
    const found = [x(() => f.write(new Uint8Array(60), 0)), x(() => f.write(new Uint8Array(60), 0)),
      x(() => f.setSize(101)), x(() => f.write(new Uint8Array(50), 60)), x(() => f.setSize(100)),
      x(() => f.write(new Uint8Array(1), 100))];
    const o = f.appendViaStream(), e = x(() => o.blockingWriteAndFlush(new Uint8Array(1)));
    return [...found, fs.filesystemErrorCode(e.val)]"""
    )
    found = granted(tree, limits=Limits(memory_pages=250, file_bytes=100)).value(script)
    assert found == [None, None, *["insufficient-space"] * 2, None, *["insufficient-space"] * 2]
    assert (tree / "new").stat().st_size == 100


def test_entries_that_are_created_are_bounded(tree: Path) -> None:
    script = (
        HEAD
        + """const x = (w) => attempt(w).error;
    return [x(() => d.createDirectoryAt("n1")), x(() => d.symlinkAt("a", "n2")), x(() => d.createDirectoryAt("n3")),
      x(() => d.symlinkAt("a", "n3")), x(() => d.linkAt({}, "a.txt", d, "n3")),
      x(() => d.openAt({}, "n3", {create: true}, W)), x(() => d.openAt({}, "a.txt", {create: true}, W))]"""
    )
    found = granted(tree, limits=Limits(memory_pages=250, entries=2)).value(script)
    assert found == [None, None, *["quota"] * 4, None]


def test_paths_are_bounded_in_depth(tree: Path) -> None:
    deep = tree
    for _ in range(110):
        deep = deep / "d"
        deep.mkdir()
    found = granted(tree).value(
        HEAD + "return [100, 101, 102].map((n) => attempt(() => d.statAt({}, 'd/'.repeat(n) + 'd')).error)"
    )
    assert found == [None, "name-too-long", "name-too-long"]


def test_links_that_are_put_in_place_meanwhile_lead_nowhere(tree: Path) -> None:
    """A directory that becomes a link to outside between two steps is not gone through."""
    outside = tree.parent / "outside"
    outside.mkdir()
    (outside / "b.txt").write_text("secret")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (tree / "sub").rename(tree / "aside")
            (tree / "sub").symlink_to(outside)
            (tree / "sub").unlink()
            (tree / "aside").rename(tree / "sub")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        found = granted(tree).value(
            HEAD
            + """let seen = ""; for (let i = 0; i < 300; i++) {
              const f = attempt(() => d.openAt(F, "sub/b.txt", {}, R));
              if (f.ok) { seen += text(f.ok.read(6, 0)[0]); drop(f.ok); }
            } return seen.includes("secret")"""
        )
    finally:
        stop.set()
        thread.join()
    assert found is False
