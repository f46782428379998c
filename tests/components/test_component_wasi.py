"""WASI 0.2 for components: commands, wasi:http, what is offered, what is refused, and how guests end."""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import ask, assembled, compiled, engine
from texts import ALLOCATOR

from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.values import Err, Ok
from starlette_wasm.components.wasi.bodies import OutgoingBody, body_write
from starlette_wasm.components.wasi.config import log
from starlette_wasm.components.wasi.fields import Fields, fields_append, fields_delete, fields_from_list, fields_set
from starlette_wasm.components.wasi.host import Bounds, GuestInput, OutputOverflow, WasiHost, strings_of
from starlette_wasm.components.wasi.http import (
    IncomingRequest,
    OutgoingResponse,
    read_message,
    request_consume,
    request_method,
    request_scheme,
    response_set_status,
)
from starlette_wasm.components.wasi.offers import Offer
from starlette_wasm.components.wasi.upload import UploadBody
from starlette_wasm.engine import capi, layout
from starlette_wasm.engine.compile import UnsupportedModuleError
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / "tests" / "guests" / "components" / "echo_command.wasm"
HTTP = ROOT / "benchmarks" / "guests" / "wasi-http" / "job.component.wasm"


def message(**given: Any) -> str:
    """A request in the edge protocol."""
    asked = {"path": "/x", "method": "GET", "headers": {"host": "h"}, "query": {}, "body": None,
             "is_base64_encoded": False, "params": {}, "url": "http://h/x?q=1", "context": None}  # fmt: skip
    return json.dumps(asked | given)


def host() -> WasiHost:
    return WasiHost({}, GuestInput(b""), Bounds(most_out=100, most_err=10, clock_resolution_ns=1000))


def test_requests_that_came_from_python_have_a_url() -> None:
    given = message(url="", path="/a b", query={"q": "2", "x": "&"}, multi_value_query={"q": ["1", "2"]}, headers={})
    request = IncomingRequest(*read_message(given.encode()))
    assert (request.scheme, request.authority, request.path) == ("http", "localhost", "/a%20b?q=1&q=2&x=%26")
    assert IncomingRequest(*read_message(message(url="").encode())).path == "/x"


def test_fields_that_guests_may_not_set_do_not_come() -> None:
    """As in wasmtime: the host is the authority."""
    given = message(headers={"Host": "h:1", "connection": "close", "te": "trailers", "Upgrade": "x", "a": "b"})
    request = IncomingRequest(*read_message(given.encode()))
    assert request.headers.entries == [("te", b"trailers"), ("a", b"b")]
    assert request.authority == "h:1"


def test_header_fields_are_the_bytes_that_came() -> None:
    request = IncomingRequest(*read_message(message(headers={"a": "\xc3\xa9", "b": "\u20ac"}).encode()))
    assert (request.headers.get("a"), request.headers.get("b")) == ([b"\xc3\xa9"], ["\u20ac".encode()])


def importing(imports: str, lowered: str, params: str, body: str, more: str = "") -> str:
    """A component of the world edge; its core function calls what is lowered as ``$f``."""
    return f"""(component {imports}
     (core module $mem {ALLOCATOR})
     (core instance $l (instantiate $mem))
     {lowered}
     (core module $m (import "" "f" (func $f {params})) {more} (import "l" "mem" (memory 1))
      (func (export "handle") (param i32 i32) (result i32) {body} (i32.const 16)))
     (core instance $i (instantiate $m (with "l" (instance $l))
      (with "" (instance (export "f" (func $f)) {'(export "g" (func $g))' if "$g" in lowered else ""}
       {'(export "h" (func $h))' if "$h" in lowered else ""}))))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") (memory (core memory $l "mem")) (realloc (core func $l "realloc")))))"""


def exiting(code: int, version: str = "0.2.3") -> str:
    return importing(
        f'(import "wasi:cli/exit@{version}" (instance $e (export "exit" (func (param "status" (result))))))',
        '(core func $f (canon lower (func $e "exit")))',
        "(param i32)",
        f"(call $f (i32.const {code}))",
    )


def test_commands_read_stdin_and_write_stdout() -> None:
    outcome = ask(compiled(COMMAND.read_bytes()), message(body="hello"))
    assert outcome.end is End.OK, outcome
    assert json.loads(json.loads(outcome.stdout)["body"])["body"] == "hello"


def test_http_handlers_answer() -> None:
    outcome = ask(compiled(HTTP.read_bytes()), message())
    assert outcome.end is End.OK, outcome
    answer = json.loads(outcome.stdout)
    assert (answer["status_code"], answer["headers"]) == (200, {"content-type": "application/json"})
    assert b64decode(answer["body"]) == b'{"message":"hello"}'


HANDLER = """(component
 (import "wasi:http/types@0.2.0" (instance $t
  (export "incoming-request" (type (sub resource))) (export "response-outparam" (type (sub resource)))))
 (alias export $t "incoming-request" (type $request))
 (alias export $t "response-outparam" (type $out))
 (core module $m (func (export "handle") (param i32 i32)))
 (core instance $i (instantiate $m))
 (func $h (param "request" (own $request)) (param "response-out" (own $out)) (canon lift (core func $i "handle")))
 (instance $e (export "handle" (func $h)))
 (export "wasi:http/incoming-handler@0.2.0" (instance $e)))"""


def test_handlers_without_an_answer_are_traps() -> None:
    outcome = ask(assembled(HANDLER), message())
    assert (outcome.end, outcome.reason) == (End.TRAP, "its handler returned without a response")


@pytest.mark.parametrize(("code", "end"), [(0, End.OK), (1, End.EXIT)])
def test_exits_end_the_guest(code: int, end: End) -> None:
    outcome = ask(assembled(exiting(code)))
    assert (outcome.end, outcome.exit_code) == (end, code)


@pytest.mark.parametrize("version", ["0.2.0", "0.2.12", "0.2.99", "0.2.1-rc.1"])
def test_every_patch_version_is_offered(version: str) -> None:
    assert ask(assembled(exiting(0, version))).end is End.OK


def refused(text: str) -> str:
    with pytest.raises(UnsupportedModuleError) as caught:
        compile_component(engine().ptr, capi.assemble(text))
    return str(caught.value)


def test_missing_interfaces_are_named() -> None:
    problem = refused(exiting(0).replace("wasi:cli/exit@0.2.3", "wasi:blobstore/container@0.2.0-draft"))
    assert problem.startswith(
        "it imports wasi:blobstore/container@0.2.0-draft exit, which is not offered; offered are, of "
    )
    assert "wasi:cli/stdin" in problem
    assert "wasi:cli/exit@0.4.0 exit, which is not offered" in refused(exiting(0, "0.4.0"))


def test_missing_functions_are_named_with_those_of_their_interface() -> None:
    text = exiting(0).replace('"exit"', '"leave"')
    assert refused(text).endswith("leave, which is not offered; offered of wasi:cli/exit are: exit, exit-with-code")


def test_imports_of_another_type_are_refused() -> None:
    text = exiting(0).replace('(param "status" (result))', '(param "status" u8)')
    assert refused(text) == (
        "it imports wasi:cli/exit@0.2.3 exit as func(status: u8); the type of WASI 0.2 is func(status: result)"
    )


@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=4), st.text("ab", max_size=8))
def test_dots_in_the_type_of_an_offer_stand_for_any_text(pieces: list[str], given_type: str) -> None:
    fits = Offer("...".join(pieces), lambda: None).fits(given_type)
    assert fits == bool(re.fullmatch(".*".join(map(re.escape, pieces)), given_type))


def test_unused_imports_may_be_missing() -> None:
    text = exiting(0).replace(
        "(component ", '(component (import "a:b/c@1.0.0" (instance (export "x" (func (param "y" u8))))) ', 1
    )
    assert ask(assembled(text)).end is End.OK


RANDOM = importing(
    '(import "wasi:random/random@0.2.0" (instance $r (export "get-random-bytes" (func (param "len" u64)'
    " (result (list u8))))))",
    '(core func $f (canon lower (func $r "get-random-bytes") (memory (core memory $l "mem"))'
    ' (realloc (core func $l "realloc"))))',
    "(param i64 i32)",
    "(call $f (i64.const COUNT) (i32.const 64))"
    "(i32.store8 (i32.const 80) (i32.ne (i32.const 0) (i32.load (i32.load (i32.const 64)))))"
    "(i32.store (i32.const 16) (i32.const 80)) (i32.store (i32.const 20) (i32.const 1))",
)


def test_random_bytes_come_within_a_bound() -> None:
    assert ask(assembled(RANDOM.replace("COUNT", "32"))).stdout == b"\1"
    outcome = ask(assembled(RANDOM.replace("COUNT", "1048577")))
    assert (outcome.end, outcome.reason) == (
        End.TRAP, "1048577 random bytes are asked for, the most is 1048576"
    )  # fmt: skip


SLEEP = importing(
    """(import "wasi:io/poll@0.2.0" (instance $p (export "pollable" (type $r (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $r))))))
       (alias export $p "pollable" (type $pollable))
       (import "wasi:clocks/monotonic-clock@0.2.0" (instance $c
        (alias outer 1 $pollable (type $q)) (export "pollable" (type $qq (eq $q)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $qq))))))""",
    """(core func $f (canon lower (func $c "subscribe-duration")))
       (core func $g (canon lower (func $p "[method]pollable.block")))
       (core func $h (canon resource.drop $pollable))""",
    "(param i64) (result i32)",
    "(local i32) (local.set 2 (call $f (i64.const NANOSECONDS))) (call $g (local.get 2)) (call $h (local.get 2))",
    '(import "" "g" (func $g (param i32))) (import "" "h" (func $h (param i32)))',
)


def test_sleeping_guests_wait_and_wake_up() -> None:
    begin = time.monotonic()
    outcome = ask(assembled(SLEEP.replace("NANOSECONDS", "50000000")))
    assert outcome.end is End.OK, outcome
    assert time.monotonic() - begin >= 0.05


def test_sleeping_guests_end_at_the_deadline() -> None:
    begin = time.monotonic()
    assert ask(assembled(SLEEP.replace("NANOSECONDS", "60000000000")), seconds=0.2).end is End.TIMEOUT
    assert time.monotonic() - begin < 30


def test_handles_of_another_type_are_traps() -> None:
    text = importing(
        """(import "wasi:io/streams@0.2.0" (instance $s (export "output-stream" (type $r (sub resource)))
            (export "input-stream" (type (sub resource)))))
           (alias export $s "output-stream" (type $out)) (alias export $s "input-stream" (type $in))
           (import "wasi:cli/stdin@0.2.0" (instance $c
            (alias outer 1 $in (type $q)) (export "input-stream" (type $qq (eq $q)))
            (export "get-stdin" (func (result (own $qq))))))""",
        '(core func $f (canon lower (func $c "get-stdin"))) (core func $g (canon resource.drop $out))',
        "(result i32)",
        "(call $g (call $f))",
        '(import "" "g" (func $g (param i32)))',
    )
    outcome = ask(assembled(text))
    assert (outcome.end, outcome.reason) == (
        End.TRAP, "handle index 1 is used with the wrong type: input-stream"
    )  # fmt: skip
    outcome = ask(assembled(text.replace("(call $g (call $f))", "(call $g (i32.const 7))")))
    assert outcome.reason == "unknown handle index 7"


def test_handles_are_bounded() -> None:
    text = importing(
        """(import "wasi:cli/stdin@0.2.0" (instance $c (export "input-stream" (type $q (sub resource)))
            (export "get-stdin" (func (result (own $q))))))""",
        '(core func $f (canon lower (func $c "get-stdin")))',
        "(result i32)",
        "(loop $l (drop (call $f)) (br $l))",
    )
    outcome = ask(assembled(text))
    assert (outcome.end, outcome.reason) == (End.TRAP, "more than 10000 handles")


def test_output_is_bounded() -> None:
    module = compiled(COMMAND.read_bytes())
    assert ask(module, message(body="x" * 500), Limits(stdout=400)).end is End.OUTPUT


def test_errors_beyond_their_bound_are_counted() -> None:
    given = host()
    given.write_err(b"x" * 8)
    given.write_err(b"y" * 8)
    assert (bytes(given.stderr), given.stderr_dropped) == (b"x" * 8 + b"yy", 6)


def test_logs_are_no_larger_than_their_bound() -> None:
    given = host()
    with patch.object(given, "write_err", wraps=given.write_err) as write:
        log(given, "info", "c" * 128, "\n" * 100_000)
    assert sum(len(call.args[0]) for call in write.mock_calls) < 1000
    assert (bytes(given.stderr), given.stderr_dropped) == (b"[info] ccc", 128 + 99_999)


def test_names_too_long_for_a_field_are_not_looked_for() -> None:
    class Name(str):
        def lower(self) -> str:
            raise AssertionError("it may be as large as the guest, and there are a thousand fields")

    assert Fields([("a", b"x")]).get(Name("n" * 5000)) == []


def test_bodies_are_bounded_without_a_request_too() -> None:
    given = host()
    given.returns = True  # as in a call of a function with types
    stream = body_write(given, OutgoingBody()).value
    assert stream.write(b"x" * 100) == Ok()
    with pytest.raises(OutputOverflow):
        stream.write(b"x")


def test_unsent_bodies_share_one_bound() -> None:
    given = host()
    bodies = [UploadBody(given, None) for _ in range(100)]
    streams = [body.open().value for body in bodies]
    for stream in streams[:-1]:
        stream.write(b"x" * stream.room())
    assert sum(body.unsent for body in bodies) == 1 << 20
    bodies[0].abandon()
    assert stream.room() == 64 << 10
    stream.write(b"x" * (64 << 10))
    assert streams[-1].room() == 0
    del bodies[1], streams[1]
    assert streams[-1].room() == 64 << 10


def test_blocks_of_strings_are_read() -> None:
    assert strings_of(layout.strings([b"a", b"", "ü".encode()])) == ["a", "", "ü"]


def test_fields_of_a_request_are_fixed() -> None:
    fields = IncomingRequest(*read_message(message().encode())).headers
    for change in (
        fields_append(host(), fields, "a", b"b"),
        fields_set(host(), fields, "a", [b"b"]),
        fields_delete(host(), fields, "host"),
    ):
        assert change == Err(("immutable", None))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("", b"x", "invalid-syntax"),
        ("a b", b"x", "invalid-syntax"),
        ("a", b"x\ny", "invalid-syntax"),
        ("a", b"x\0", "invalid-syntax"),
        ("Connection", b"close", "forbidden"),
        ("host", b"h", "forbidden"),
    ],
)
def test_wrong_fields_are_refused(name: str, value: bytes, error: str) -> None:
    refusal = Err((error, None))
    assert fields_from_list(host(), [(name, value)]) == refusal
    fields = Fields([("a", b"1")])
    assert fields_append(host(), fields, name, value) == refusal
    assert fields_set(host(), fields, name, [value]) == refusal
    assert fields.entries == [("a", b"1")]


def test_fields_are_compared_without_case() -> None:
    fields = Fields()
    assert fields_set(host(), fields, "X-A", [b"1", b"2"]) == Ok()
    assert fields.get("x-a") == [b"1", b"2"]
    assert fields_delete(host(), fields, "x-A") == Ok()
    assert not fields.entries


def test_requests_are_told_as_they_came() -> None:
    given = message(method="PURGE", url="https://h:1/a%20b?q=%41", multi_value_headers={"x": ["1", "2"]},
                    headers={"host": "h:1", "x": "2"}, body="YWI=", is_base64_encoded=True)  # fmt: skip
    request = IncomingRequest(*read_message(given.encode()))
    assert (request.path, request.authority) == ("/a%20b?q=%41", "h:1")
    assert request_method(host(), request) == ("other", "PURGE")
    assert request_scheme(host(), request) == ("HTTPS", None)
    assert request.headers.get("X") == [b"1", b"2"]
    body = request_consume(host(), request)
    assert body.value.stream.read(10) == Ok(b"ab")
    assert body.value.stream.read(10) == Err(("closed", None))
    assert request_consume(host(), request) == Err()


def test_statuses_outside_of_http_are_refused() -> None:
    response = OutgoingResponse(Fields())
    assert response_set_status(host(), response, 99) == response_set_status(host(), response, 1000) == Err()
    assert response_set_status(host(), response, 404) == Ok()
    assert response.status == 404


def test_output_of_the_world_edge_is_its_log() -> None:
    """What a function prints must not come before the answer that it returns."""
    there = host()
    there.returns = True
    there.write_out(b"printed")
    there.answer(b"{}")
    assert (bytes(there.stdout), bytes(there.stderr)) == (b"{}", b"printed")
    with pytest.raises(OutputOverflow, match="more than 100 bytes of output"):
        there.answer(b"x" * 99)
