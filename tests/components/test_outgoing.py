"""``wasi:http/outgoing-handler``: equal to wasmtime if it is granted, refused and noted if it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from capability_servers import Received, Upstream, ok
from probe import NOTHING, Probe, ask_wasmtime

from starlette_wasm.capabilities import CapabilitySettings
from starlette_wasm.components.wasi.download import DownloadStream
from starlette_wasm.components.wasi.ends import DownloadSource
from starlette_wasm.components.wasi.wakeup import Wakeup
from starlette_wasm.config.policy import SandboxPolicy
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Preopen

OPEN = SandboxPolicy(allowed_hosts=["*"], max_network_requests=10, allow_private_networks=True)
FETCH = "return fetch(request('get', '{host}', '{path}'), undefined, undefined)"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


async def cut_off(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 300\r\n\r\nabc")
    await writer.drain()
    writer.close()


async def answer_nonsense(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"what\r\n\r\n")
    await writer.drain()
    writer.close()


async def never(*_: object) -> None:
    await asyncio.sleep(3600)


async def half(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na")
    await asyncio.sleep(3600)


async def echo(request: Received, writer: asyncio.StreamWriter) -> None:
    """The size and the end of a body, in chunks or not, and the trailers."""
    body, trailers = bytearray(request.body), b""
    if request.header("transfer-encoding"):
        while size := int(await request.reader.readline() or b"0", 16):
            body += (await request.reader.readexactly(size + 2))[:size]
        while (line := await request.reader.readline()) not in (b"\r\n", b""):
            trailers += line
    writer.write(ok(b"%d %s %s" % (len(body), body[-5:], trailers)))


def script(upstream: Upstream, text: str) -> str:
    return text.replace("{host}", f"127.0.0.1:{upstream.port}")


BIG = b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\nx-a: b\r\n\r\n" + b"x" * 300000
TRAILERS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: yes\r\n\r\n"
IN_TIME = "const o = new http.RequestOptions(); o.set{which}Timeout({ns}); "
SCRIPTS = {
    "get": FETCH.format(host="{host}", path="/x?y=1"),
    "big": FETCH.format(host="{host}", path="/big"),
    "trailers": FETCH.format(host="{host}", path="/trailers"),
    "cut off": FETCH.format(host="{host}", path="/cut"),
    "nonsense": FETCH.format(host="{host}", path="/nonsense"),
    "refused": FETCH.format(host="127.0.0.1:1", path="/"),
    "own method": "return fetch(request({tag: 'other', val: 'PROPFIND'}, '{host}', '/'), undefined, undefined)",
    "post": "return fetch(request('post', '{host}', '/echo'), 'hello', undefined)",
    "long post": "return fetch(request('post', '{host}', '/echo'), 'x'.repeat(200000) + 'end', undefined)",
    "length": "return fetch(request('post', '{host}', '/echo', {headers: [['content-length', '5']]}), 'hello')"
    .replace("'hello')", "'hello', undefined)"),
    "short": "return attempt(() => send(request('post', '{host}', '/echo', {headers: [['content-length', '6']]}),"
    " 'hello', undefined))",
    "bad length": "return attempt(() => request('post', '{host}', '/echo', {headers: [['content-length', 'x']]}))",
    "no answer in time": IN_TIME.format(which="FirstByte", ns=50_000_000)
    + "return attempt(() => fetch(request('get', '{host}', '/never'), undefined, o))",
    "no rest in time": IN_TIME.format(which="BetweenBytes", ns=50_000_000)
    + "return attempt(() => fetch(request('get', '{host}', '/half'), undefined, o))",
    "other scheme": "const r = request('get', '{host}', '/'); r.setScheme({tag: 'other', val: 'ftp'});"
    "return attempt(() => outgoing.handle(r, undefined))",
    "no authority": "const r = request('get', '{host}', '/'); r.setAuthority(undefined);"
    "return attempt(() => outgoing.handle(r, undefined))",
    "body dropped": "const r = request('post', '{host}', '/drop'), b = r.body(), f = outgoing.handle(r, undefined);"
    "const s = b.write(); s.write(bytes('abc')); drop(s); drop(b); return attempt(() => wait(f))",
    "two at once": "const f = outgoing.handle(request('get', '{host}', '/never'), undefined);"
    "const g = outgoing.handle(request('get', '{host}', '/'), undefined);"
    "const p = f.subscribe(), q = g.subscribe(); const r = Array.from(poll.poll([p, q])); drop(p); drop(q);"
    "const none = f.get() == null; drop(f); return [r, none, wait(g).status()]",
    "taken twice": "const f = outgoing.handle(request('get', '{host}', '/'), undefined), p = f.subscribe();"
    "p.block(); drop(p); f.get(); return f.get().tag",
    "body twice": "const r = request('get', '{host}', '/'), b = r.body(), s = b.write();"
    "const again = [attempt(() => r.body()), attempt(() => b.write())].map(x => 'error' in x);"
    "drop(s); drop(b); drop(r); return again",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_outbound_requests_agree_with_wasmtime(upstream: Upstream, name: str) -> None:
    upstream.answers.update({"/big": BIG, "/trailers": TRAILERS, "/cut": cut_off, "/nonsense": answer_nonsense,
                             "/echo": echo, "/never": never, "/half": half, "/drop": echo_or_end})  # fmt: skip
    text = script(upstream, SCRIPTS[name])
    assert Probe(OPEN).ask(text) == ask_wasmtime(text)


async def echo_or_end(request: Received, writer: asyncio.StreamWriter) -> None:
    """Wait for the rest of a body that never comes: the client goes."""
    await request.reader.read()
    writer.close()


PARTS = """["", "a b", "a", "/a", "?x", "/a#b", "/%zz", "http://x/", ":", "a:80", "a:x", "a:99999", "u@h", "[::1]:80",
"[::1", "a/b", "é", "a_b", "1", "+a"]"""


def test_parts_of_requests_are_checked_as_by_wasmtime() -> None:
    text = f"""const r = request("get", "a", "/"); const fits = (work) => "ok" in attempt(work) || undefined;
    return {PARTS}.map((x) => [x, fits(() => r.setPathWithQuery(x)), fits(() => r.setAuthority(x)),
      fits(() => r.setScheme({{tag: "other", val: x}})), fits(() => r.setMethod({{tag: "other", val: x}}))])"""
    assert Probe().value(text) == ask_wasmtime(text)["ok"]


def test_lengths_of_answers_are_checked_as_by_wasmtime() -> None:
    text = """return ["0", "5"].map((length) => { const of = http.Fields.fromList([["content-length", bytes(length)]]);
      const body = new http.OutgoingResponse(of).body(); return attempt(() => http.OutgoingBody.finish(body)) })"""
    assert Probe().value(text) == ask_wasmtime(text)["ok"]


NAMES = """["connection", "host", "Host", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authorization",
"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "date", "server", "X-a", "",
"a b", "é"]"""


def test_names_of_fields_are_those_of_wasmtime() -> None:
    text = f"""return {NAMES}.map((n) => {{ const f = new http.Fields(); return [n, () => f.append(n, bytes("1")),
      () => f.set(n, [bytes("1")]), () => pairs(f), () => f.delete(n), () => http.Fields.fromList([[n, bytes("1")]]) &&
      1].map((w) => typeof w == "string" ? w : attempt(w)) }})"""
    assert Probe().value(text) == ask_wasmtime(text)["ok"]


def test_fields_agree_with_wasmtime() -> None:
    text = """const f = http.Fields.fromList([["a", bytes("1")], ["A", bytes("2")]]);
    return [f.get("A").map(text), pairs(f), attempt(() => f.set("host", [])),
      attempt(() => f.append("x y", bytes("1"))), f.get("a b"), f.has("a b"),
      attempt(() => f.append("x", bytes("\\n"))), f.has("a"), attempt(() => f.delete("a b")),
      attempt(() => f.set("b", [bytes("3")])), attempt(() => f.delete("a")), pairs(f)]"""
    assert Probe().value(text) == ask_wasmtime(text)["ok"]


def test_requests_without_a_grant_are_denied(upstream: Upstream) -> None:
    text = script(upstream, "return attempt(() => outgoing.handle(request('get', '{host}', '/'), undefined))")
    for policy in (NOTHING, SandboxPolicy(allowed_hosts=["example.com"], max_network_requests=1)):
        probe = Probe(policy)
        assert probe.value(text) == {"error": {"tag": "HTTP-request-denied"}}
        assert [(each.operation, each.code) for each in probe.violations] == [("http.fetch", "host-not-allowed")]
    assert upstream.connections == 0


def test_private_addresses_are_denied(upstream: Upstream) -> None:
    probe = Probe(SandboxPolicy(allowed_hosts=["*"], max_network_requests=1))
    text = script(upstream, "return attempt(() => wait(outgoing.handle(request('get', '{host}', '/'), undefined)))")
    assert probe.value(text) == {"error": {"tag": "HTTP-request-denied"}}
    assert [each.code for each in probe.violations] == ["host-not-allowed"]
    assert upstream.connections == 0


def test_requests_are_counted(upstream: Upstream) -> None:
    probe = Probe(OPEN.model_copy(update={"max_network_requests": 2}))
    text = script(upstream, """const asked = () => request('get', '{host}', '/');
    const one = () => attempt(() => outgoing.handle(asked(), undefined));
    return [one(), one(), one()].map((each) => each.error ? each.error.tag : "sent")""")  # fmt: skip
    assert probe.value(text) == ["sent", "sent", "HTTP-request-denied"]
    assert [each.code for each in probe.violations] == ["network-requests-exceeded"]


def test_bodies_are_bounded_in_both_directions(upstream: Upstream) -> None:
    upstream.answers.update({"/big": BIG, "/echo": echo})
    probe = Probe(OPEN, CapabilitySettings(max_fetch_response_bytes=1000))
    read_big = script(upstream, "return fetch(request('get', '{host}', '/big'), undefined, undefined).content")
    assert probe.value(read_big).endswith("!last-operation-failed")
    probe = Probe(OPEN, CapabilitySettings(max_bytes=100_000))
    assert probe.value(read_big).endswith("!last-operation-failed")
    assert [each.code for each in probe.violations] == ["bytes-exceeded"]
    write_big = script(
        upstream, "return attempt(() => fetch(request('post', '{host}', '/echo'), 'x'.repeat(200000), undefined))"
    )
    assert probe.value(write_big) == {"error": {"tag": "closed"}}
    assert [each.code for each in probe.violations] == ["bytes-exceeded"]


def test_small_bodies_have_a_length(upstream: Upstream) -> None:
    upstream.answers["/echo"] = echo
    Probe(OPEN).value(script(upstream, "return fetch(request('post', '{host}', '/echo'), 'hello', undefined)"))
    assert upstream.received[0].header("content-length") == "5"
    assert upstream.received[0].body == b"hello"


def test_trailers_are_sent(upstream: Upstream) -> None:
    upstream.answers["/echo"] = echo
    text = """const r = request('post', '{host}', '/echo'), b = r.body(), f = outgoing.handle(r, undefined);
    const s = b.write(); s.blockingWriteAndFlush(bytes("hello")); drop(s);
    http.OutgoingBody.finish(b, http.Fields.fromList([["x-sum", bytes("7")]]));
    const x = wait(f), i = x.consume(), t = i.stream(); return read(t)"""
    assert Probe(OPEN).value(script(upstream, text)) == "5 hello x-sum: 7\r\n"


def test_answers_that_nobody_reads_wait(upstream: Upstream) -> None:
    """No more is taken from the connection than fits into the buffers."""
    taken = 0

    async def endless(_: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            taken += 65536

    upstream.answers["/endless"] = endless
    text = """const x = wait(outgoing.handle(request('get', '{host}', '/endless'), undefined));
    const b = x.consume(), s = b.stream(), first = s.blockingRead(10).length;
    const p = monotonic.subscribeDuration(300000000); p.block(); return first"""
    assert Probe(OPEN).value(script(upstream, text)) == 10
    assert taken < 64 << 20


def test_guests_that_wait_end_at_the_deadline(upstream: Upstream) -> None:
    upstream.answers["/never"] = never
    outcome = Probe(OPEN, seconds=1).run(script(upstream, FETCH.format(host="{host}", path="/never")))
    assert outcome.end is End.TIMEOUT


def test_guests_that_ask_without_waiting_get_an_answer(upstream: Upstream) -> None:
    upstream.answers["/echo"] = echo
    text = """const r = request('post', '{host}', '/echo'), b = r.body(), f = outgoing.handle(r, undefined);
    for (let i = 0; i < 5; i++) f.get();
    http.OutgoingBody.finish(b, undefined);
    while (true) { const given = f.get(); if (given != null) return given.val.val.status(); }"""
    assert Probe(OPEN).value(script(upstream, text)) == 200


def test_writing_more_than_permitted_is_a_trap(upstream: Upstream) -> None:
    text = """const r = request('post', '{host}', '/'), b = r.body(), s = b.write();
    s.write(new Uint8Array(Number(s.checkWrite()) + 1))"""
    outcome = Probe(OPEN).run(script(upstream, text))
    assert (outcome.end, outcome.reason) == (End.TRAP, "more is written than check-write permits")


def test_parts_of_requests_have_one_bound() -> None:
    outcome = Probe().run(
        "const kept = []; while (true) { const made = new http.OutgoingRequest(new http.Fields()); kept.push(made); "
        "made.setPathWithQuery('/' + 'x'.repeat(1000000)); }"
    )
    assert (outcome.end, outcome.reason) == (End.TRAP, "header fields of more than 256000 bytes in all")


def test_files_are_spliced_into_requests(upstream: Upstream, tmp_path: Path) -> None:
    """More than there is room for, so that the guest waits."""
    upstream.answers["/echo"] = echo
    (tmp_path / "large").write_bytes(b"x" * 299_997 + b"end")
    probe = Probe(OPEN, preopens=(Preopen(str(tmp_path), "/data", False),))
    text = """const [[d]] = preopens.getDirectories(), i = d.openAt({}, "large", {}, {read: true}).readViaStream(0);
    const r = request('post', '{host}', '/echo'), b = r.body(), f = outgoing.handle(r, undefined), s = b.write();
    let sent = 0, n; while (n = attempt(() => s.blockingSplice(i, 1 << 20)), !n.error) sent += n.ok;
    drop(s); http.OutgoingBody.finish(b, undefined); const t = wait(f).consume().stream(); return [sent, read(t)]"""
    assert probe.value(script(upstream, text)) == [300_000, "300000 xxend "]


def test_answers_are_bytes_to_tasks() -> None:
    """Whatever the client gives, which copies nothing if it can do without."""

    async def go() -> list[bytes | None]:
        stream = DownloadStream(Wakeup())
        await stream.put(memoryview(b"abc"))  # type: ignore[arg-type]
        source = DownloadSource(stream)
        taken = [source.take(2), source.take(9)]
        stream.end()
        return [*taken, source.take(9)]

    assert asyncio.run(go()) == [b"ab", b"c", None]
    assert all(isinstance(each, bytes) for each in asyncio.run(go())[:2])
