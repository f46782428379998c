"""The test kit, on real functions."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from apps import add_constant, add_function, app, config, config_file, settings
from starlette.applications import Starlette
from starlette.routing import Route

from starlette_wasm import ExecutionTimeout, FunctionTrapped, WasmMiddleware, WasmRoute, WasmRules, WasmRuntime
from starlette_wasm.capabilities import CapabilityError
from starlette_wasm.exceptions import ConfigError, FunctionNotFound
from starlette_wasm.testing import Message, WasmKit
from starlette_wasm.testing.stores import KvSpace, MemoryKv

SAMPLE = Path(__file__).parents[2] / "sample_app" / "wasm.yaml"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WasmKit]:
    folder = tmp_path_factory.mktemp("kit")
    add_constant(folder, "constant", b'{"status_code": 201, "body": "made"}')
    names = ("echo", "log", "trap", "clocks", "randomness", "stage", "sleep_ms", "alloc")
    stage = {"functionName": "stage", "policy": "counting"}
    policies = {"counting": {"kvNamespaces": ["calls"]}}
    given = config(folder, {"/stage": stage}, functions=names, policies=policies)
    with WasmKit(given, settings=settings()) as kit:
        yield kit


@pytest.fixture
def kit(shared: WasmKit) -> WasmKit:
    shared.calls.clear()
    shared.kv.clear()
    shared.clock = shared.seed = None
    return shared


def test_a_function_answers_in_one_line(kit: WasmKit) -> None:
    answer = kit.call("constant")
    assert (answer.status, answer.text, answer.error) == (201, "made", None)
    assert answer.calls[0].response is not None
    assert answer.calls[0].response.status_code == 201
    assert (answer.calls[0].end, answer.calls[0].function, answer.calls[0].policy) == ("ok", "constant", "edge-none")
    assert answer.memory_bytes >= 65536


def test_the_guest_gets_what_the_test_sent(kit: WasmKit) -> None:
    answer = kit.call("echo", "/a?x=1", json={"n": 1}, headers={"X-A": "b"}, params={"id": "7"})
    request = answer.calls[0].request
    assert (request.method, request.path, request.query, request.params) == ("POST", "/a", {"x": "1"}, {"id": "7"})
    assert (request.body, request.headers["x-a"]) == ('{"n": 1}', "b")
    assert kit.call("echo", form={"a": "b c"}).calls[0].request.body == "a=b+c"


def test_logs_are_lines_with_their_levels(kit: WasmKit) -> None:
    answer = kit.call("log", body="hello\nERROR: bad\n")
    assert [(line.level, line.text) for line in answer.logs] == [(logging.INFO, "hello"), (logging.ERROR, "ERROR: bad")]


def test_a_failure_is_an_answer_with_an_error(kit: WasmKit) -> None:
    answer = kit.call("trap", "/?mode=div0")
    assert answer.status == 500
    assert isinstance(answer.error, FunctionTrapped)
    assert answer.calls[0].end == "trap"


def test_what_does_not_exist_raises(kit: WasmKit) -> None:
    with pytest.raises(FunctionNotFound, match="nope"):
        kit.call("nope")
    with pytest.raises(ConfigError, match="nope"):
        kit.call("echo", policy="nope")


def test_the_clock_stands_where_it_is_set(kit: WasmKit) -> None:
    kit.clock = datetime(2001, 2, 3, 4, 5, 6, 500_000, tzinfo=UTC)
    seen = kit.call("clocks").json()
    assert (seen["realtime_s"], seen["realtime_ns"]) == (981173106, 500_000_000)
    kit.clock = None
    assert kit.call("clocks").json()["realtime_s"] > 1_700_000_000


def test_random_numbers_follow_the_seed(kit: WasmKit) -> None:
    def drawn(seed: int | None) -> str:
        kit.seed = seed
        return str(kit.call("randomness").json()["hex"])

    assert drawn(1) == drawn(1)
    assert len({drawn(1), drawn(2), drawn(None), drawn(None)}) == 4


def test_stores_can_be_set_and_looked_at(kit: WasmKit) -> None:
    kit.kv["calls"]["stage"] = "41"
    answer = kit.request("/stage", body="x")
    assert answer.text == "stage(x)"
    assert dict(kit.kv["calls"]) == {"stage": b"42"}
    assert answer.calls[0].host_calls == 1


def test_what_a_policy_refuses_is_data(kit: WasmKit) -> None:
    answer = kit.call("stage", body="x")  # under edge-none
    assert [violation.code for violation in answer.violations] == ["kv-namespace-not-allowed"]
    assert dict(kit.kv["calls"]) == {}


def test_a_policy_is_tightened_for_a_test(tmp_path: Path) -> None:
    with WasmKit(config(tmp_path, functions=["sleep_ms"]), settings=settings()) as kit:
        assert kit.call("sleep_ms", "/?ms=1").error is None
        kit.policy(execution_timeout_ms=50)
        answer = kit.call("sleep_ms", "/?ms=60000")
        assert answer.status == 504
        assert isinstance(answer.error, ExecutionTimeout)
        with pytest.raises(ConfigError, match="max_memory_pages"):
            kit.policy(max_memry_pages=1)


def test_each_request_of_an_app_is_recorded(tmp_path: Path) -> None:
    """The first call of a function goes the long way anyhow; those behind it must, too."""
    given = config_file(tmp_path, {"/log": "log"}, functions=("log",))
    rules = WasmRules(given, settings=settings())
    behind = Starlette(routes=[rules], lifespan=rules.lifespan)
    around = Starlette(routes=[WasmRoute("/own", function="log")])
    around.add_middleware(WasmMiddleware, config=given, settings=settings())
    with WasmKit({}) as kit:
        for served, path in ((behind, "/log"), (around, "/log"), (around, "/own")):
            kit.calls.clear()
            with kit.client(served) as client:
                assert [client.get(path).status_code for _ in range(4)] == [200] * 4
                assert [client.post(path, content=b"WARN x").status_code for _ in range(4)] == [200] * 4
            assert len(kit.calls) == 8
            assert all(call.memory_bytes for call in kit.calls)


def test_an_app_is_tested_with_its_test_client(tmp_path: Path) -> None:
    add_function(tmp_path, "log")
    with WasmKit({}) as kit:
        wasm = app(config(tmp_path, {"/log": "log"}))
        before = dict(wasm.user_middleware[0].kwargs)
        with kit.client(wasm) as client:
            assert client.post("/log", content=b"WARN x").status_code == 200
        assert [line.text for call in kit.calls for line in call.logs] == ["WARN x"]
        assert wasm.user_middleware[0].kwargs == before


def test_rules_and_runtimes_of_an_app_are_recorded(tmp_path: Path) -> None:
    rules = WasmRules(config(tmp_path, {"/log": "log"}), settings=settings())
    with WasmKit({}) as kit:
        with kit.client(Starlette(routes=[rules], lifespan=rules.lifespan)) as client:
            assert client.post("/log", content=b"x").status_code == 200
        assert [call.function for call in kit.calls] == ["log"]
        assert type(rules.runtime) is WasmRuntime


def test_an_app_without_functions_is_refused() -> None:
    with (
        WasmKit({}) as kit,
        pytest.raises(ConfigError, match="no WasmMiddleware"),
        kit.client(Starlette(routes=[Route("/", lambda request: None)])),
    ):
        pass


def test_a_pipeline_is_a_call_for_each_step(tmp_path: Path) -> None:
    steps = [{"function": "stage"}, {"function": "again"}]
    add_function(tmp_path, "again", "stage")
    given = config(tmp_path, functions=["stage"], pipelines=[{"path": "/p", "steps": steps}])
    with WasmKit(given, settings=settings()) as kit:
        answer = kit.request("/p", body="x")
        assert answer.text == "again(stage(x))"
        assert [call.function for call in answer.calls] == ["stage", "again"]


@pytest.fixture(scope="module")
def sample() -> Iterator[WasmKit]:
    with WasmKit(SAMPLE, settings=settings()) as kit:
        yield kit


class TestSampleFunctions:
    """The functions of the sample app, as a project would test its own."""

    def test_quote_passes_the_answer_on(self, sample: WasmKit) -> None:
        sample.hosts.answer("http://127.0.0.1:8900/quote", json={"quote": "q"})
        answer = sample.request("/api/v1/quote")
        assert (answer.status, answer.json()) == (200, {"quote": "q"})
        asked = sample.hosts.requests[-1]
        assert (asked.method, asked.headers["accept"], asked.status) == ("GET", "application/json", 200)
        names = [span.name for _, span in answer.calls[0].span.walk()]
        assert names == ["quote v1", "execute", "GET http://127.0.0.1:8900/quote"]

    def test_quote_says_that_its_host_fails(self, sample: WasmKit) -> None:
        sample.hosts.fail("http://127.0.0.1:8900/*", "dns-failed")
        answer = sample.request("/api/v1/quote")
        assert answer.status == 502
        assert answer.json()["error"]["code"] == "dns-failed"

    def test_quote_gives_up_on_a_slow_host(self, sample: WasmKit) -> None:
        sample.hosts.answer("http://127.0.0.1:8900/quote*", delay=60)
        assert sample.request("/api/v1/quote").json()["error"]["code"] == "timeout"

    def test_the_cache_keeps_what_is_put(self, sample: WasmKit) -> None:
        assert sample.request("/api/v1/cache/motd", method="PUT", body="hi").status == 204
        assert dict(sample.kv["cache"]) == {"motd": b"hi"}
        assert sample.request("/api/v1/cache/motd").text == "hi"
        assert sample.request("/api/v1/cache/motd", method="DELETE").status == 204
        assert "motd" not in sample.kv["cache"]

    def test_the_greeter_knows_french_in_its_second_version(self, sample: WasmKit) -> None:
        answer = sample.call("greeter", "/?lang=fr", version="2", params={"name": "Ada"})
        assert answer.json() == {"greeting": "Bonjour, Ada!"}


def test_stores_in_memory_do_what_the_others_do() -> None:
    async def main() -> None:
        spaces = {"a": KvSpace()}
        kv = MemoryKv(spaces)
        assert await kv.increment("a", b"n", 2) == 2
        assert await kv.increment("a", b"n", -3) == -1
        await kv.set("a", b"text", b"x", None)
        with pytest.raises(CapabilityError, match="integer"):
            await kv.increment("a", b"text", 1)
        assert not await kv.compare_and_set("a", b"text", None, b"y", None)
        assert await kv.compare_and_set("a", b"new", None, b"y", 1)
        await asyncio.sleep(0.01)
        assert await kv.get("a", b"new") is None
        assert await kv.keys("a", b"", b"n", 10) == [b"text"]
        assert await kv.delete("a", b"text")
        assert not await kv.delete("a", b"text")

    asyncio.run(main())


def test_a_message_reads_as_json() -> None:
    assert Message(b'{"a": 1}', {}).json() == {"a": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://x: {status: 200}", "is not a URL"),
        ("http://x/: {stauts: 200}", "unknown keys: stauts"),
        ("http://x/: {error: nope}", "is not a failure"),
        ("http://x/: 1", "is not a mapping"),
    ],
)
def test_a_wrong_file_of_stubs_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "stubs.yaml"
    file.write_text(text)
    with WasmKit({}) as kit, pytest.raises(ConfigError, match=message):
        kit.hosts.load(file)


def test_the_plugin_gives_a_kit(tmp_path: Path) -> None:
    add_constant(tmp_path, "hello", b'{"status_code": 200, "body": "hi"}')
    config_file(tmp_path, {"/hello": "hello"})
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["starlette_wasm.testing.plugin"]\n')
    (tmp_path / "test_hello.py").write_text(
        "def test_hello(wasm):\n"
        '    assert wasm.request("/hello").text == "hi"\n'
        '    assert wasm.call("hello").calls[0].policy == "edge-none"\n'
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
