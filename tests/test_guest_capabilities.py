"""What guests do through the import module ``edge``, from their code to real stores and servers."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import sqlite3
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import JSON, add_function, client, config, eventually, run, settings
from starlette.applications import Starlette

from starlette_wasm import EdgeRequest, ExecutionTimeout, WasmMiddleware, WasmRuntime
from starlette_wasm.capabilities import CapabilitySettings, frame
from starlette_wasm.capabilities.queue import SqliteOutbox
from starlette_wasm.engine import capi

C = "edge_c"
GUESTS = [C, "edge_zig", "edge_rust", "edge_assemblyscript"]
POLICIES: dict[str, JSON] = {
    "a": {"kvNamespaces": ["a", "both"], "queues": ["orders"]},
    "b": {"kvNamespaces": ["b", "both"]},
}
in_each_language = pytest.mark.parametrize("guest", GUESTS)


class Client:
    """Asks guests that take commands as JSON."""

    def __init__(self, runtime: WasmRuntime) -> None:
        self.runtime = runtime

    async def __call__(self, guest: str, op: str, *, policy: str = "a", **command: Any) -> JSON:
        answer: JSON = await self.send(guest, {"op": op, **command}, policy)
        return answer

    async def send(self, guest: str, body: Any, policy: str) -> Any:
        response = await self.runtime.invoke(guest, EdgeRequest(method="POST", body=json.dumps(body)), policy=policy)
        return json.loads(response.body)


@asynccontextmanager
async def serving(folder: Path, policies: JSON | None = None, **given: Any) -> AsyncIterator[Client]:
    urls = {"kv_url": f"sqlite:///{folder}/kv.db", "queue_url": f"sqlite:///{folder}/queue.db"}
    made = config(folder, functions=[*GUESTS, "hello"], policies=POLICIES | (policies or {}))
    async with WasmRuntime(made, settings(**urls, **given)) as runtime:
        yield Client(runtime)


def failure(answer: JSON) -> tuple[str, str]:
    assert answer["ok"] is False, answer
    return answer["code"], answer["message"]


@dataclass
class Upstream:
    """A server on loopback, in the loop of the test. ``answer`` gives the bytes of a response, None for none."""

    answer: Callable[[str], Awaitable[bytes | None]]
    requests: list[str] = field(default_factory=list)
    open: int = 0
    most: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def policy(self, **more: Any) -> JSON:
        hosts = [f"127.0.0.1:{self.port}"]
        return {"allowedHosts": hosts, "allowPrivateNetworks": True, "maxNetworkRequests": 1, **more}

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = re.search(r"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                self.requests.append(head + body.decode())
                answer = await self.answer(head)
                if answer is None:
                    await reader.read()  # until the other side goes away
                    return
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


def ok(body: str, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body.encode())}", *headers]
    return "\r\n".join([*lines, "", body]).encode()


@asynccontextmanager
async def upstream(answer: Callable[[str], Awaitable[bytes | None]] | bytes | None = b"") -> AsyncIterator[Upstream]:
    async def constant(head: str) -> bytes | None:
        assert not callable(answer)
        return answer

    there = Upstream(answer if callable(answer) else constant)
    server = await asyncio.start_server(there.connected, "127.0.0.1", 0)
    there.port = server.sockets[0].getsockname()[1]
    try:
        yield there
    finally:
        server.close()
        await eventually(lambda: there.open == 0)


@in_each_language
def test_what_is_set_is_got_and_deleted(tmp_path: Path, guest: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as ask:
            assert await ask(guest, "kv.get", namespace="a", key="k") == {"ok": True, "found": False}
            stored = await ask(guest, "kv.set", namespace="a", key="k", value='é "\n😀')
            assert stored == {"ok": True, "done": True, "etag": stored["etag"]}
            got = await ask(guest, "kv.get", namespace="a", key="k")
            assert got == {"ok": True, "found": True, "value": 'é "\n😀', "etag": stored["etag"]}
            for deleted in (True, False):
                assert (await ask(guest, "kv.delete", namespace="a", key="k"))["deleted"] is deleted

    run(main())


@in_each_language
def test_a_value_goes_when_its_time_to_live_is_over(tmp_path: Path, guest: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as ask:
            for milliseconds in (60_000, 1):
                await ask(guest, "kv.set", namespace="a", key=f"{milliseconds}", value="v", ttlMs=milliseconds)
            await asyncio.sleep(0.01)
            assert (await ask(guest, "kv.get", namespace="a", key="60000"))["found"] is True
            assert (await ask(guest, "kv.get", namespace="a", key="1"))["found"] is False

    run(main())


@in_each_language
def test_increments_at_once_are_all_counted(tmp_path: Path, guest: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as ask:
            sums = await asyncio.gather(*(ask(guest, "kv.increment", namespace="a", key="n", by=2) for _ in range(20)))
            assert sorted(each["value"] for each in sums) == list(range(2, 42, 2))
            least = -(1 << 63)
            assert (await ask(guest, "kv.increment", namespace="a", key="m", by=least))["value"] == least
            code, message = failure(await ask(guest, "kv.increment", namespace="a", key="m", by=-1))
            assert (code, message) == ("not-a-number", "the sum is not an integer of 64 bits")

    run(main())


@in_each_language
def test_compare_and_set_lets_one_win(tmp_path: Path, guest: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as ask:
            first, second = [await ask(guest, "kv.cas", namespace="a", key="k", value=value) for value in "12"]
            assert (first["swapped"], second["swapped"]) == (True, False)
            tries = [
                ask(guest, "kv.cas", namespace="a", key="k", value=f"w{i}", etag=first["etag"], ttlMs=60_000)
                for i in range(10)
            ]
            won = [each for each in await asyncio.gather(*tries) if each["swapped"]]
            got = await ask(guest, "kv.get", namespace="a", key="k")
            assert [each["etag"] for each in won] == [got["etag"]]

    run(main())


@in_each_language
def test_keys_are_listed_page_by_page(tmp_path: Path, guest: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as ask:
            for key in ("p/1", "p/é", "p/2", "q"):
                await ask(guest, "kv.set", namespace="a", key=key, value="")
            first = await ask(guest, "kv.list", namespace="a", prefix="p/", limit=2)
            assert (first["keys"], first["cursor"]) == (["p/1", "p/2"], "p/2")
            second = await ask(guest, "kv.list", namespace="a", prefix="p/", cursor="p/2", limit=2)
            assert (second["keys"], second.get("cursor")) == (["p/é"], None)
            assert (await ask(guest, "kv.list", namespace="both"))["keys"] == []

    run(main())


@in_each_language
def test_a_namespace_that_is_not_granted_is_an_error_value(
    tmp_path: Path, guest: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(tmp_path) as ask:
            answer = await ask(guest, "kv.get", namespace="b", key="k")
            assert failure(answer) == ("kv-namespace-not-allowed", "kv namespace not allowed: b")

    with caplog.at_level(logging.WARNING, "starlette_wasm.guest"):
        run(main())
    assert f"{guest} v1: kv.get: kv namespace not allowed: b" in caplog.text


def test_tenants_share_the_namespaces_that_both_are_granted_and_no_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as ask:
            for policy in "ab":
                await ask(C, "kv.set", policy=policy, namespace=policy, key="k", value=f"of {policy}")
            for policy, other in ("ab", "ba"):
                got = await ask(C, "kv.get", policy=policy, namespace=policy, key="k")
                assert got["value"] == f"of {policy}"
                for op in ("kv.get", "kv.set", "kv.delete", "kv.increment", "kv.cas", "kv.list"):
                    answer = await ask(C, op, policy=policy, namespace=other, key="k", value="x", by=1)
                    assert failure(answer)[1] == f"kv namespace not allowed: {other}"
            await ask(C, "kv.set", policy="a", namespace="both", key="k", value="shared")
            assert (await ask(C, "kv.get", policy="b", namespace="both", key="k"))["value"] == "shared"

    run(main())


def test_values_are_there_after_the_runtime_was_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as ask:
            await ask(C, "kv.set", namespace="a", key="k", value="v")
            made = ask.runtime
            await made.close()
            await made.start()
            assert (await ask(C, "kv.get", namespace="a", key="k"))["value"] == "v"

    run(main())


@in_each_language
def test_fetch_brings_the_answer_of_an_allowed_host(tmp_path: Path, guest: str) -> None:
    async def main() -> None:
        answer = ok("héllo", "X-Test: 1", "x-test: 2", status="418 Teapot")
        async with (
            upstream(answer) as server,
            serving(tmp_path, {"web": server.policy()}) as ask,
        ):
            got = await ask(
                guest,
                "http.fetch",
                policy="web",
                url=f"{server.url}/x?y",
                method="POST",
                headers={"x-from": "guest"},
                body="ä",
            )
            assert (got["ok"], got["status"], got["url"], got["body"]) == (True, 418, f"{server.url}/x?y", "héllo")
            assert got["headers"]["x-test"] == ["1", "2"]
            [request] = server.requests
            assert request.startswith("POST /x?y HTTP/1.1\r\n")
            assert "x-from: guest\r\n" in request
            assert request.endswith("\r\n\r\nä")

    run(main())


@in_each_language
def test_a_host_off_the_list_is_an_error_value(tmp_path: Path, guest: str) -> None:
    async def main() -> None:
        async with (
            upstream(ok("")) as server,
            upstream(ok("secret")) as other,
            serving(tmp_path, {"web": server.policy()}) as ask,
        ):
            for url, name in (
                ("https://evil.example/", "evil.example"),
                (f"{other.url}/", "127.0.0.1"),
                ("http://169.254.169.254/latest/meta-data", "169.254.169.254"),
            ):
                answer = await ask(guest, "http.fetch", policy="web", url=url)
                assert failure(answer) == ("host-not-allowed", f"host not allowed: {name}")
            assert (server.requests, other.requests) == ([], [])

    run(main())


def test_a_private_address_needs_its_own_grant(tmp_path: Path) -> None:
    async def main() -> None:
        async with upstream(ok("")) as server:
            policies = {"web": server.policy(allowPrivateNetworks=False), "all": {"allowedHosts": ["*"]}}
            policies["all"]["maxNetworkRequests"] = 1
            async with serving(tmp_path, policies) as ask:
                for policy in policies:
                    answer = await ask(C, "http.fetch", policy=policy, url=f"{server.url}/")
                    assert failure(answer) == ("host-not-allowed", "host not allowed: 127.0.0.1")
            assert server.requests == []

    run(main())


def test_requests_beyond_the_policys_number_are_error_values(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            upstream(ok("x")) as server,
            serving(tmp_path, {"web": server.policy(maxNetworkRequests=2)}) as ask,
        ):
            answers = await ask.send(C, [{"op": "http.fetch", "url": server.url}] * 4, "web")
            assert [each["ok"] for each in answers] == [True, True, False, False]
            assert {failure(each) for each in answers[2:]} == {
                ("network-requests-exceeded", "too many network requests: at most 2 in an invocation")
            }
            assert len(server.requests) == 2
            assert (await ask(C, "http.fetch", policy="web", url=server.url))["ok"]  # counted by the invocation

    run(main())


@in_each_language
def test_redirects_are_followed_checked_and_counted(tmp_path: Path, guest: str) -> None:
    async def main() -> None:
        async def answer(head: str) -> bytes:
            to = {"/elsewhere": "http://evil.example/", "/here": "/there"}.get(head.split(" ")[1])
            return ok("", f"location: {to}", status="302 Found") if to else ok("there")

        async with (
            upstream(answer) as server,
            serving(tmp_path, {"one": server.policy(), "two": server.policy(maxNetworkRequests=2)}) as ask,
        ):
            got = await ask(guest, "http.fetch", policy="two", url=f"{server.url}/here")
            assert (got["body"], got["url"]) == ("there", f"{server.url}/there")
            got = await ask(guest, "http.fetch", policy="one", url=f"{server.url}/here", manualRedirects=True)
            assert (got["status"], got["headers"]["location"]) == (302, ["/there"])
            assert failure(await ask(guest, "http.fetch", policy="one", url=f"{server.url}/here"))[0] == (
                "network-requests-exceeded"
            )
            assert failure(await ask(guest, "http.fetch", policy="two", url=f"{server.url}/elsewhere")) == (
                "host-not-allowed",
                "host not allowed: evil.example",
            )

    run(main())


@in_each_language
def test_a_timeout_of_the_guest_is_an_error_value(tmp_path: Path, guest: str) -> None:
    async def main() -> None:
        async with upstream(None) as server, serving(tmp_path, {"web": server.policy()}) as ask:
            answer = await ask(guest, "http.fetch", policy="web", url=server.url, timeoutMs=50)
            assert failure(answer) == ("timeout", "timed out")
            await eventually(lambda: server.open == 0)

    run(main())


def test_a_slow_server_ends_with_the_guests_time_and_its_connection_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            upstream(None) as server,
            serving(tmp_path, {"web": server.policy(executionTimeoutMs=200)}) as ask,
        ):
            begin = time.monotonic()
            with pytest.raises(ExecutionTimeout, match="time limit exceeded") as raised:
                await ask(C, "http.fetch", policy="web", url=server.url)
            assert 0.19 < time.monotonic() - begin < 30
            assert raised.value.status == 504
            assert len(server.requests) == 1
            await eventually(lambda: server.open == 0)
            assert ask.runtime.stats()["live"] == 0

    run(main())


def test_a_call_that_is_cancelled_closes_its_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with upstream(None) as server, serving(tmp_path, {"web": server.policy()}) as ask:
            task = asyncio.create_task(ask(C, "http.fetch", policy="web", url=server.url))
            await eventually(lambda: server.requests)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: server.open == ask.runtime.stats()["live"] == 0)

    run(main())


def test_a_server_that_is_not_there_or_talks_nonsense_is_an_error_value(tmp_path: Path) -> None:
    async def main() -> None:
        async with upstream() as on_disconnect:
            pass
        async with (
            upstream(b"nonsense\r\n\r\n") as server,
            serving(tmp_path, {"web": server.policy(), "gone": on_disconnect.policy()}) as ask,
        ):
            answer = await ask(C, "http.fetch", policy="gone", url=on_disconnect.url)
            assert failure(answer) == ("connect-failed", "cannot connect to 127.0.0.1")
            answer = await ask(C, "http.fetch", policy="web", url=server.url)
            assert failure(answer) == ("upstream-failed", "no valid response from 127.0.0.1")

    run(main())


def test_fifty_guests_wait_for_a_server_on_one_thread(tmp_path: Path) -> None:
    async def main() -> None:
        everybody_is_here = asyncio.Event()

        async def slow(head: str) -> bytes:
            if server.open == 50:
                everybody_is_here.set()
            if len(server.requests) > 1:
                await everybody_is_here.wait()
            return ok("slow")

        async with (
            upstream(slow) as server,
            serving(tmp_path, {"web": server.policy(executionTimeoutMs=60_000)}, workers=1) as ask,
        ):
            await ask(C, "http.fetch", policy="web", url=server.url)
            calls = [ask(C, "http.fetch", policy="web", url=server.url) for _ in range(50)]
            answers = await asyncio.gather(*calls)
            assert {each["body"] for each in answers} == {"slow"}
            assert server.most == 50

    run(main())


@in_each_language
def test_what_is_published_lands_in_the_outbox(tmp_path: Path, guest: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as ask:
            sent = [
                await ask(guest, "queue.publish", queue="orders", body="é1", attributes={"kind": "new", "n": "é"}),
                await ask(guest, "queue.publish", queue="orders", body=""),
            ]
            answer = await ask(guest, "queue.publish", queue="other", body="x")
            assert failure(answer) == ("queue-not-allowed", "queue not allowed: other")
        outbox = SqliteOutbox(tmp_path / "queue.db")
        messages = await outbox.claim("orders")
        assert [str(each.id) for each in messages] == [each["id"] for each in sent]
        assert [each.body.decode() for each in messages] == ["é1", ""]
        assert [each.attributes for each in messages] == [{"kind": "new", "n": "é"}, {}]
        assert await outbox.claim("orders") == await outbox.claim("other") == []
        assert await outbox.ack(messages) == 2
        await outbox.close()

    run(main())


@in_each_language
def test_a_guest_that_is_granted_nothing_gets_errors(tmp_path: Path, guest: str) -> None:
    async def main() -> None:
        async with serving(tmp_path, {"none": {}}) as ask:
            for policy in ("none", "edge-none"):
                for op, command, message in (
                    ("http.fetch", {"url": "http://127.0.0.1:1/"}, "host not allowed: 127.0.0.1"),
                    ("kv.get", {"namespace": "a", "key": "k"}, "kv namespace not allowed: a"),
                    ("kv.increment", {"namespace": "a", "key": "k"}, "kv namespace not allowed: a"),
                    ("queue.publish", {"queue": "orders"}, "queue not allowed: orders"),
                ):
                    assert failure(await ask(guest, op, policy=policy, **command))[1] == message

    run(main())


def test_where_nobody_is_granted_anything_no_store_is_made(tmp_path: Path) -> None:
    async def main() -> None:
        made = config(tmp_path, functions=[C])
        urls = {"kv_url": f"sqlite:///{tmp_path}/kv.db", "queue_url": f"sqlite:///{tmp_path}/queue.db"}
        async with WasmRuntime(made, settings(**urls)) as runtime:
            for command in ({"op": "kv.get", "namespace": "a", "key": "k"}, {"op": "queue.publish", "queue": "orders"}):
                response = await runtime.invoke(C, EdgeRequest(body=json.dumps(command)))
                assert "not allowed" in json.loads(response.body)["message"]

    run(main())
    assert not list(tmp_path.glob("*.db"))


def test_the_calls_of_an_invocation_are_counted(tmp_path: Path) -> None:
    async def main() -> None:
        most = CapabilitySettings().max_calls
        async with serving(tmp_path, {"a": POLICIES["a"] | {"executionTimeoutMs": 60_000}}) as ask:
            command = {"op": "kv.get", "namespace": "b", "key": "k"}
            answers = await ask.send(C, [command] * (most + 2), "a")
            codes = [failure(each)[0] for each in answers]
            assert codes == ["kv-namespace-not-allowed"] * most + ["calls-exceeded"] * 2

    run(main())


def by_hand(body: str, pages: int = 1) -> bytes:
    """A guest whose answer is a list: ``$say`` adds a number to it, ``$show`` so many bytes of the result, in hex."""
    return capi.assemble(
        f"""(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "edge" "call" (func $call (param i32 i32 i32) (result i32)))
          (import "edge" "take" (func $take (param i32) (result i32)))
          (memory (export "memory") {pages})
          (data (i32.const 0) "{{\\"status_code\\":200,\\"body\\":\\"")
          (global $end (mut i32) (i32.const 27))
          (func $put (param $byte i32)
            (i32.store8 (global.get $end) (local.get $byte))
            (global.set $end (i32.add (global.get $end) (i32.const 1))))
          (func $digits (param $n i32)
            (if (i32.ge_u (local.get $n) (i32.const 10))
              (then (call $digits (i32.div_u (local.get $n) (i32.const 10)))))
            (call $put (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10)))))
          (func $say (param $n i32)
            (if (i32.lt_s (local.get $n) (i32.const 0))
              (then (call $put (i32.const 45)) (local.set $n (i32.sub (i32.const 0) (local.get $n)))))
            (call $digits (local.get $n))
            (call $put (i32.const 32)))
          (func $nibble (param $n i32)
            (call $put (i32.add (local.get $n)
              (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $n) (i32.const 10))))))
          (func $show (param $length i32)
            (local $at i32)
            (call $say (call $take (i32.const 32768)))
            (block $done (loop $next
              (br_if $done (i32.ge_s (local.get $at) (local.get $length)))
              (call $nibble (i32.shr_u (i32.load8_u offset=32768 (local.get $at)) (i32.const 4)))
              (call $nibble (i32.and (i32.load8_u offset=32768 (local.get $at)) (i32.const 15)))
              (local.set $at (i32.add (local.get $at) (i32.const 1)))
              (br $next)))
            (call $put (i32.const 32)))
          (func (export "_start")
            {body}
            (call $put (i32.const 34)) (call $put (i32.const 125))
            (i32.store (i32.const 65500) (i32.const 0))
            (i32.store (i32.const 65504) (global.get $end))
            (drop (call $write (i32.const 1) (i32.const 65500) (i32.const 1) (i32.const 65508)))))"""
    )


def listed(tmp_path: Path, body: str, pages: int = 1) -> list[str]:
    """What a guest written by hand said; the runtime must serve another one after it."""
    made = config(tmp_path, functions=["hello"], policies={"roomy": {**POLICIES["a"], "maxMemoryPages": 4096}})
    add_function(tmp_path, "by_hand", "hello").write_bytes(by_hand(body, pages))
    answers = []

    async def main() -> None:
        urls = {"kv_url": "sqlite://", "queue_url": "sqlite://"}
        async with WasmRuntime(made, settings(**urls)) as runtime:
            answers.append((await runtime.invoke("by_hand", EdgeRequest(), policy="roomy")).body)
            assert (await runtime.invoke("hello", EdgeRequest())).body == "hello"

    run(main())
    return answers[0].split()


def call(operation: int, payload: int, length: int) -> str:
    return f"(call $call (i32.const {operation}) (i32.const {payload}) (i32.const {length}))"


def stored(payload: bytes) -> str:
    """Instructions that put the payload at 16384."""
    return "".join(f"(i32.store8 (i32.const {16384 + i}) (i32.const {byte}))" for i, byte in enumerate(payload))


def test_a_payload_out_of_bounds_is_efault(tmp_path: Path) -> None:
    outside = [(65536, 1), (65535, 2), (0, 65537), (-1, 1), (0, -1), (-1, -1), (1, -2), (0x7FFFFFFF, 0x7FFFFFFF)]
    body = "".join(f"(call $say {call(2, *each)})" for each in outside)
    assert listed(tmp_path, body) == ["-21"] * len(outside)


def test_a_payload_of_more_than_64_mib_is_e2big(tmp_path: Path) -> None:
    body = f"(call $say {call(2, 0, (64 << 20) + 1)}) (call $say (call $take (i32.const 0)))"
    assert listed(tmp_path, body, pages=1025) == ["-1", "28"]


def test_a_result_is_taken_once(tmp_path: Path) -> None:
    take = "(call $say (call $take (i32.const {})))"
    payload = frame.encode({"namespace": "a", "key": "k"})
    get = call(2, 16384, len(payload))
    body = "".join(
        [
            *(take.format(0), stored(payload)),
            *(f"(drop {get})", take.format(32768), take.format(32768)),
            *(f"(drop {get})", take.format(65535), take.format(32768)),
            *(f"(drop {get})", take.format(-1)),
        ]
    )
    assert listed(tmp_path, body) == ["28", "0", "28", "21", "28", "21"]


def test_a_call_that_fails_at_once_leaves_no_result_of_the_one_before(tmp_path: Path) -> None:
    payload = frame.encode({"namespace": "a", "key": "k"})
    body = f"{stored(payload)} (drop {call(2, 16384, len(payload))}) (call $say {call(2, -1, 1)})"
    assert listed(tmp_path, f"{body} (call $say (call $take (i32.const 32768)))") == ["-21", "28"]


def results(said: list[str]) -> list[tuple[str, str]]:
    """The errors in what ``$show`` showed."""
    assert said[::2] == ["0"] * (len(said) // 2)
    errors = []
    for each in said[1::2]:
        header, body = frame.decode(bytes.fromhex(each))
        assert (header["ok"], body) == (False, b"")
        error: Any = header["error"]
        errors.append((error["code"], error["message"]))
    return errors


def test_an_unknown_operation_is_an_error_value(tmp_path: Path) -> None:
    numbers = [0, 13, -1, 0x7FFFFFFF, -0x80000000]
    said = listed(tmp_path, "".join(f"(call $show {call(number, 0, 0)})" for number in numbers))
    assert results(said) == [("unknown-operation", f"unknown operation: {number}") for number in numbers]


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"", "shorter than the length of its header"),
        (b"\0\0\0", "shorter than the length of its header"),
        (b"\0\0\0\0", "the header is not JSON"),
        (struct.pack("<I", 3) + b"{}", "shorter than its header"),
        (struct.pack("<I", 0xFFFFFFFF) + b"{}", "a header of more than 65536 bytes"),
        (struct.pack("<I", 2) + b"[]", "the header is not a JSON object"),
        (struct.pack("<I", 4) + b"\xff\xff\xff\xff", "the header is not JSON"),
        (struct.pack("<I", 9) + b'{"a":NaN}', "the header is not JSON"),
        (struct.pack("<I", 6000) + b"[" * 6000, "the header is nested more than 32 deep"),
        (struct.pack("<I", 2) + b"{}", "namespace is missing"),
        (frame.encode({"namespace": 1}), "namespace is not a string"),
        (frame.encode({"namespace": "a", "key": ""}), "key is not from 1 to 512 bytes"),
        (frame.encode({"namespace": "a", "key": "k", "kay": ""}), "kay is not known here"),
        (frame.encode({"namespace": "a", "key": "k"}, b"x"), "no body belongs here"),
    ],
)
def test_a_malformed_frame_is_an_error_value(tmp_path: Path, payload: bytes, problem: str) -> None:
    said = listed(tmp_path, f"{stored(payload)} (call $show {call(2, 16384, len(payload))})")
    assert results(said) == [("bad-request", f"bad request: {problem}")]


def test_a_payload_beyond_the_bytes_of_an_invocation_is_an_error_value(tmp_path: Path) -> None:
    most = CapabilitySettings().max_bytes
    said = listed(tmp_path, f"(call $show {call(2, 0, most)})(call $show {call(2, 0, 64)})", pages=1024)
    [(first, _), second] = results(said)
    assert first == "bad-request"
    assert second == ("bytes-exceeded", f"too many bytes: at most {most} in an invocation")


SAMPLE = Path(__file__).parents[1] / "sample_app"


def test_the_samples_cache_prefers_what_was_put(tmp_path: Path) -> None:
    async def main() -> None:
        async with sample(SAMPLE, f"sqlite:///{tmp_path}/kv.db") as http:
            path = "/api/v1/cache/welcome.txt"
            file = (SAMPLE / "data/welcome.txt").read_bytes()
            assert (await http.get(path)).content == file
            for body in (b"stored", "é".encode(), bytes(range(256)), bytes(range(255, 0, -1)), b"\xff", b""):
                put = await http.put(path, content=body)
                assert (put.status_code, put.content) == (204, b"")
                got = await http.get(path)
                assert (got.status_code, got.content) == (200, body)
            assert (await http.delete(path)).status_code == 204
            assert (await http.get(path)).content == file
            assert (await http.get("/api/v1/cache/nothing")).status_code == 404
            assert (await http.put("/api/v1/cache/.hidden", content=b"x")).status_code == 400
            assert (await http.post(path)).headers["allow"] == "GET, HEAD, PUT, DELETE"

    run(main())


def test_the_samples_cache_serves_its_files_where_the_store_fails(tmp_path: Path) -> None:
    async def main() -> None:
        db = tmp_path / "kv.db"
        async with sample(SAMPLE, f"sqlite:///{db}") as http:
            with closing(sqlite3.connect(db)) as store, store:
                store.execute("DROP TABLE kv")
            store.close()
            file = (SAMPLE / "data/welcome.txt").read_text()
            assert (await http.get("/api/v1/cache/welcome.txt")).text == file
            put = await http.put("/api/v1/cache/welcome.txt", content=b"x")
            assert (put.status_code, put.json()["error"]["code"]) == (502, "capability-unavailable")

    run(main())


def test_the_samples_quote_passes_on_what_the_api_says(tmp_path: Path) -> None:
    answers = [ok('{"quote":"é"}'), ok("{}", status="500 Oops"), ok("no JSON"), ok("{}", "connection: close")]

    async def main() -> None:
        async def answer(head: str) -> bytes:
            assert head.startswith("GET /quote HTTP/1.1\r\n")
            return answers.pop(0)

        there = Upstream(answer)
        server, port = await listening(there)
        async with sample(at_port(tmp_path, port), "sqlite://") as http:
            got = await http.get("/api/v1/quote")
            assert (got.status_code, got.json()) == (200, {"quote": "é"})
            for _ in range(2):
                got = await http.get("/api/v1/quote")
                error = {"code": "bad-answer", "message": "the API answered with no quote"}
                assert (got.status_code, got.json()) == (502, {"error": error})
            assert (await http.post("/api/v1/quote")).status_code == 405
            server.close()
            assert (await http.get("/api/v1/quote")).json() == {}  # on the connection that is kept
            got = await http.get("/api/v1/quote")
            error = {"code": "connect-failed", "message": "cannot connect to 127.0.0.1"}
            assert (got.status_code, got.json()) == (502, {"error": error})
        await eventually(lambda: there.open == 0)

    run(main())


@asynccontextmanager
async def sample(folder: Path, kv_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        WasmRuntime(folder / "wasm.yaml", settings(kv_url=kv_url)) as runtime,
        client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
    ):
        yield http


async def listening(there: Upstream) -> tuple[asyncio.Server, int]:
    """At a port of four digits."""
    for port in range(8901, 10_000):
        try:
            return await asyncio.start_server(there.connected, "127.0.0.1", port), port
        except OSError:
            continue
    raise AssertionError("no port is free")


def at_port(folder: Path, port: int) -> Path:
    """The sample app, its API at another port."""
    shutil.copytree(SAMPLE, folder / "sample", ignore=shutil.ignore_patterns("src", "__pycache__"))
    for file in ("functions/quote/v1/quote.wasm", "policies/sample-quote.yaml"):
        path = folder / "sample" / file
        assert b"127.0.0.1:8900" in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(b"127.0.0.1:8900", b"127.0.0.1:%d" % port))
    return folder / "sample"
