"""Every hostile guest: what it attacks, under which policy, and what must come of it.

A guest's source is ``guests/<name>.wat`` or ``guests/<name>.c``, unless the table says what it prints (``stdout``),
what it asks the host for (``call``: operation and payload), or gives its text or bytes.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from typing import Any

# Policies


def policies(data: str, scratch: str, stop_ms: int = 100) -> dict[str, dict[str, Any]]:
    """By name. ``stop_ms`` is the deadline of guests that never end; those that do have time enough."""
    plenty = {"executionTimeoutMs": 20_000, "maxMemoryPages": 64, "maxResponseBytes": 1 << 20}
    stop = plenty | {"executionTimeoutMs": stop_ms}
    read = {"allowedDirs": [{"hostPath": data, "guestPath": "/data"}]}
    write = {"allowedDirs": [{"hostPath": scratch, "guestPath": "/data", "readonly": False}]}
    return {
        "plenty": plenty,
        "stop": stop,
        "large": plenty | {"maxMemoryPages": 2048},
        "read": plenty | read,
        "stop-read": stop | read,
        "write": plenty | write,
        "stop-write": stop | write,
        "net": plenty | {"allowedHosts": ["*"], "maxNetworkRequests": 1000},
        "kv": plenty | {"kvNamespaces": ["mine"], "queues": ["mine"]},
        "stop-kv": stop | {"kvNamespaces": ["mine"]},
    }


# What must come of a guest


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: its status; the ``type`` of the problem, "" where it is none; what title or body must hold."""

    status: int
    type: str = ""
    holds: str = ""


@dataclass(frozen=True)
class Refused:
    """An error at start, by the name of its class; what its text must hold."""

    error: str
    holds: str = ""


def ok(holds: str = "") -> Answer:
    return Answer(200, "", holds)


def trap(reason: str) -> Answer:
    return Answer(500, "wasm-trap", f"wasm trap: {reason}")


TIMEOUT = Answer(504, "execution-timeout", "time limit exceeded")
MEMORY = Answer(500, "memory-limit", "out of memory")
EXIT = Answer(500, "function-exit")
INVALID = Answer(502, "invalid-function-response")
OVERFLOW = trap("call stack exhausted")
OUTSIDE = trap("out of bounds memory access")
UNHEALTHY = Answer(503, "function-overloaded")
"""Of which no instance can be made: its probe takes it out."""


def lacking(holds: str = "") -> Refused:
    return Refused("CompileError", holds)


def broken(holds: str = "") -> Refused:
    return Refused("ModuleLoadError", holds)


@dataclass(frozen=True)
class Guest:
    name: str
    attacks: str
    want: Answer | Refused
    policy: str = "plenty"
    protocol: str = "edge"
    stdout: bytes | None = None
    call: tuple[int, bytes] | None = None
    text: str | None = None
    wasm: bytes | None = None


def _family(attacks: str, policy: str, **wants: Answer | Refused) -> list[Guest]:
    return [Guest(name, attacks, want, policy) for name, want in wants.items()]


def _prints(attacks: str, want: Answer, protocol: str = "edge", **stdouts: bytes | str) -> list[Guest]:
    return [
        Guest(name, attacks, want, stdout=text.encode() if isinstance(text, str) else text, protocol=protocol)
        for name, text in stdouts.items()
    ]


def _texts(attacks: str, want: Answer | Refused, **texts: str) -> list[Guest]:
    return [Guest(name, attacks, want, text=text) for name, text in texts.items()]


def _bytes(attacks: str, want: Answer | Refused, **modules: bytes) -> list[Guest]:
    return [Guest(name, attacks, want, wasm=wasm) for name, wasm in modules.items()]


def frame(header: Any, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A payload of ``edge.call``."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<I", len(text) if length is None else length) + text + body


# Guests that run

LOOPS = _family(
    "the deadline",
    "stop",
    **dict.fromkeys(
        [
            "spin",
            "spin_calls",
            "spin_indirect",
            "spin_br_table",
            "spin_nested",
            "spin_floats",
            "spin_division",
            "spin_simd",
            "spin_globals",
            "spin_counter",
            "spin_after_answer",
            "spin_after_exit_text",
            "start_spins",
            "start_sleeps",
            "recurse_fibonacci",
            "grow_nothing_for_ever",
            "grow_refused_for_ever",
            "fill_for_ever",
            "copy_for_ever",
            "table_fill_for_ever",
            "sleep_a_minute",
            "sleep_for_ever",
            "sleep_until_the_end_of_time",
            "sleep_nothing_for_ever",
            "sleep_shortly_for_ever",
            "yield_for_ever",
            "clock_for_ever",
            "random_for_ever",
            "random_nothing_for_ever",
            "stderr_flood",
            "stdin_for_ever",
            "edge_flood",
            "edge_flood_bad",
            "edge_flood_take",
            "spin_and_poll",
            "fill_and_poll",
        ],
        TIMEOUT,
    ),
)
LOOPS += _family("the deadline, in a granted directory", "stop-read", open_and_close_for_ever=TIMEOUT,
                 open_for_ever=TIMEOUT, directory_for_ever=TIMEOUT, directory_large=TIMEOUT)  # fmt: skip
LOOPS += _family("the deadline, with large payloads", "stop-kv", edge_flood_large=TIMEOUT)

STACK = _family(
    "the native stack", "plenty", recurse=OVERFLOW, recurse_mutual=OVERFLOW, recurse_indirect=OVERFLOW,
    recurse_wide=OVERFLOW, recurse_writing=OVERFLOW, recurse_polling=OVERFLOW, start_recurses=OVERFLOW,
    edge_recursive=OVERFLOW,
)  # fmt: skip
STACK += _family("the native stack below wasmtime's own functions", "read", recurse_opening=OVERFLOW)
STACK += [
    Guest("recurse_many_locals", "the native stack, with frames of 80 kB", OVERFLOW,
          text="(func $main " + "(local v128) " * 5000 + "(call $main) " + "".join(
              f"(local.set {i} (v128.not (local.get {i})))" for i in range(0, 5000, 50)) + ")"),
]  # fmt: skip

MEMORY_GUESTS = _family(
    "the memory bound", "plenty", grow_by_one=MEMORY, grow_and_touch=MEMORY, grow_at_once=MEMORY,
    grow_then_out_of_bounds=MEMORY, grow_then_exit=MEMORY, start_grows=MEMORY, grow_negative=ok("-1 -1 -1 1"),
    grow_doubling=ok("64"), memory_maximum_declared=ok("-1 1"), memory_none=OUTSIDE,
    memory_minimum_too_large=Refused("MemoryLimitExceeded", "out of memory"),
    memory_minimum_all=Refused("MemoryLimitExceeded", "out of memory"),
)  # fmt: skip
MEMORY_GUESTS += _family("the memory bound, with a real allocator", "plenty", heap_bomb=MEMORY)
MEMORY_GUESTS += _family(
    "what an earlier guest left", "plenty", memory_is_fresh=ok("0 0 1"), memory_grown_is_zero=ok("0")
)
BOUNDS = _family(
    "memory outside its own", "plenty", fill_out_of_bounds=OUTSIDE, copy_out_of_bounds=OUTSIDE,
    init_out_of_bounds=OUTSIDE, init_dropped=OUTSIDE, load_out_of_bounds=OUTSIDE, load_across_the_end=OUTSIDE,
    load_with_offset=OUTSIDE, load_negative=OUTSIDE, store_out_of_bounds=OUTSIDE, store_everywhere=OUTSIDE,
    data_out_of_bounds=UNHEALTHY, random_out_of_bounds=OUTSIDE, clock_out_of_bounds=OUTSIDE,
    stdout_out_of_bounds=OUTSIDE, stdout_vectors_out_of_bounds=OUTSIDE, stdin_out_of_bounds=OUTSIDE,
    environment_out_of_bounds=OUTSIDE, arguments_out_of_bounds=OUTSIDE, stack_smash=OUTSIDE,
)  # fmt: skip
TABLES = _family(
    "tables", "plenty", elements_out_of_bounds=UNHEALTHY, table_get_out_of_bounds=trap("out of bounds table access"),
    table_set_out_of_bounds=trap("out of bounds table access"),
    table_copy_out_of_bounds=trap("out of bounds table access"),
    table_init_out_of_bounds=trap("out of bounds table access"), table_grow=ok("-1 -1 0 -1"),
    tables_grow_all=ok("0 0 0 0 0 0 0"), tables_too_many=lacking("tables"), table_too_large=lacking("table"),
    call_null=trap("indirect call to null"), call_wrong_type=trap("indirect call type mismatch"),
    call_out_of_bounds=trap("out of bounds table access"),
)  # fmt: skip
TRAPS = _family(
    "the process, with a fault of the processor", "plenty", unreachable=trap("unreachable"),
    divide_by_zero=trap("integer divide by zero"), divide_overflow=trap("integer overflow"),
    truncate_nan=trap("invalid conversion to integer"), truncate_infinity=trap("integer overflow"),
    start_traps=trap("unreachable"), start_exits=EXIT,
)  # fmt: skip
TIME = _family(
    "clocks and polling", "plenty", sleep_in_the_past=ok("0 1"), poll_nothing=ok("28 28 28 28"),
    poll_out_of_bounds=ok("21 21 21 21"), poll_overlapping=ok("0 1"), poll_bad_kinds=ok("28 0 28 0"),
    clock_fine=ok('0 '), clock_unknown=ok("28 28 28"),
)  # fmt: skip
STREAMS = _family(
    "the streams", "plenty", stdout_flood=INVALID, stdout_bytes=INVALID, stdout_length_wraps=INVALID,
    stdout_silent=INVALID, stdout_partial=INVALID, stdout_then_trap=trap("unreachable"), stdout_twice=INVALID,
    stdout_as_a_file=ok("70 70 70 8 8 8 8"), stderr_large=ok(""), stderr_escapes=ok(""), stdin_written=ok("8 8 8"),
    stdio_closed=ok("0 0 8 8 8"), sockets=ok("8 8 8 8"), raise_signal=ok("58"), exit_zero_silent=INVALID,
    exit_zero_answered=ok("5"), exit_one=EXIT, exit_answered=EXIT, exit_negative=EXIT, exit_like_a_crash=EXIT,
)  # fmt: skip
PROBES = _family(
    "what it was not given", "plenty", descriptors_of_the_host=ok("4093 1 1"), environment=ok("0"),
    arguments=ok("1 10"),
    exports_of_the_host=ok("1"),
)  # fmt: skip
FILES = _family(
    "a read-only directory", "read", descriptors_of_the_host_with_grant=ok("4092 8 8"), open_many=ok("64 33"),
    open_and_renumber=ok("1"), open_a_fifo=ok("2 2 2"), open_a_socket=ok("2"), open_outside=ok("1 1 1 1 1 1 1 1 1 1"),
    open_odd_paths=ok("1 1 1 1 1 1"), open_through_a_file=ok("1 1 1"), open_result_over_the_path=ok("0 1"),
    preopen_closed=ok(""), write_read_only=ok("1 1 1 1 1 1 1 1 1 1 1"),
)  # fmt: skip
FILES += [
    Guest(name, "memory outside its own, through wasmtime's file functions", OUTSIDE, "read",
          text=f'(data (i32.const 0) "a.txt") (data (i32.const 64) "\\f0\\ff\\00\\00\\00\\01\\00\\00") (func $main '
          f"(drop (call $open (i32.const 0) (i32.const 5) (i32.const 0) (i64.const 2))) (drop (call {call})))")
    for name, call in {
        "path_out_of_bounds": "$open (i32.const 65530) (i32.const 100) (i32.const 0) (i64.const 2)",
        "stat_out_of_bounds": "$fd_filestat_get (i32.load (i32.const 60000)) (i32.const 65530)",
        "read_out_of_bounds": "$fd_read (i32.load (i32.const 60000)) (i32.const 64) (i32.const 1) (i32.const 80)",
        "tell_out_of_bounds": "$fd_tell (i32.load (i32.const 60000)) (i32.const 65535)",
        "prestat_out_of_bounds": "$fd_prestat_dir_name (i32.const 3) (i32.const 65535) (i32.const 5)",
        "readlink_out_of_bounds": "$path_readlink (i32.const 3) (i32.const 65530) (i32.const 8) (i32.const 80)"
        " (i32.const 5) (i32.const 80)",
        "rename_out_of_bounds": "$path_rename (i32.const 3) (i32.const -5) (i32.const 5) (i32.const 3) (i32.const -9)"
        " (i32.const 9)",
    }.items()
]  # fmt: skip
FILES += _family(
    "a writable directory", "write", disk_sparse=ok("0 51 1 0 0 51 28 0"), disk_filled=ok("1 51"),
    disk_entries=ok("256 19 19 19 19"), links_planted=ok("1 1 1"),
)  # fmt: skip

# Forged answers

_HEADERS = {f"x-{i}": "1" for i in range(101)}
FORGED = _prints(
    "the answer's status",
    INVALID,
    status_zero='{"status_code":0}',
    status_negative='{"status_code":-200}',
    status_continue='{"status_code":100}',
    status_switching='{"status_code":101}',
    status_too_high='{"status_code":999}',
    status_huge='{"status_code":' + "9" * 5000 + "}",
    status_float='{"status_code":200.0}',
    status_exponent='{"status_code":2e2}',
    status_true='{"status_code":true}',
    status_string='{"status_code":"200"}',
    status_nan='{"status_code":NaN}',
    status_infinity='{"status_code":Infinity}',
    status_missing='{"body":"x"}',
    status_twice='{"status_code":200,"status_code":500}',
)
FORGED += _prints(
    "the answer's headers",
    INVALID,
    header_crlf='{"status_code":200,"headers":{"x":"a\\r\\nset-cookie: admin=1"}}',
    header_lf='{"status_code":200,"headers":{"x":"a\\nb"}}',
    header_nul='{"status_code":200,"headers":{"x":"a\\u0000b"}}',
    header_name_crlf='{"status_code":200,"headers":{"x\\r\\ny":"a"}}',
    header_name_empty='{"status_code":200,"headers":{"":"a"}}',
    header_name_space='{"status_code":200,"headers":{"x y":"a"}}',
    header_name_colon='{"status_code":200,"headers":{"x:":"a"}}',
    header_name_pseudo='{"status_code":200,"headers":{":status":"500"}}',
    header_unicode='{"status_code":200,"headers":{"x":"\\u010d\\u0a0d"}}',
    header_number='{"status_code":200,"headers":{"x":1}}',
    header_null='{"status_code":200,"headers":{"x":null}}',
    header_nested='{"status_code":200,"headers":{"x":[["a"]]}}',
    header_case_twice='{"status_code":200,"headers":{"X-A":"1","x-a":"2"}}',
    header_key_twice='{"status_code":200,"headers":{"x":"1","x":"2"}}',
    headers_too_many=json.dumps({"status_code": 200, "headers": _HEADERS}),
    headers_too_many_in_a_list=json.dumps({"status_code": 200, "headers": {"set-cookie": ["a=1"] * 101}}),
    headers_too_long=json.dumps({"status_code": 200, "headers": {"x": "a" * 40_000}}),
    headers_list='{"status_code":200,"headers":["x"]}',
    headers_string='{"status_code":200,"headers":"x: y"}',
)
FORGED += _prints(
    "what the host sets or passes over",
    ok("body"),
    header_hop_by_hop=json.dumps(
        {
            "status_code": 200,
            "headers": {
                "Content-Length": "99999", "transfer-encoding": "chunked", "Connection": "close, x-secret",
                "keep-alive": "1", "upgrade": "h2c", "x-secret": "dropped", "Trailer": "x", "TE": "trailers",
            },
            "body": "body",
        }
    ),
    json_huge_number='{"status_code":200,"body":"body","x":' + "1" * 500_000 + "e999999999}",
    header_length_negative='{"status_code":200,"headers":{"content-length":"-1"},"body":"body"}',
    header_request_id='{"status_code":200,"headers":{"x-request-id":"forged"},"body":"body"}',
)  # fmt: skip
FORGED += _prints(
    "the reader of answers",
    INVALID,
    json_deep="[" * 500_000,
    json_deep_objects='{"status_code":200,"x":' + '{"a":' * 100_000,
    json_deep_in_an_unknown_key='{"status_code":200,"x":' + "[" * 1000 + "]" * 1000 + "}",
    json_wide='{"status_code":200,"x":[' + "[]," * 300_000 + "[]]}",
    json_nan_in_an_unknown_key='{"status_code":200,"x":NaN}',
    json_array="[200]",
    json_null="null",
    json_string='"200"',
    json_trailing='{"status_code":200} {"status_code":500}',
    json_trailing_comma='{"status_code":200,}',
    json_comment='{"status_code":200/* */}',
    json_single_quotes="{'status_code':200}",
    json_bom=b'\xef\xbb\xbf{"status_code":200}',
    json_utf16='{"status_code":200}'.encode("utf-16"),
    json_utf16_be='{"status_code":200}'.encode("utf-16-be"),
    json_utf32='{"status_code":200}'.encode("utf-32-le"),
    json_latin1=b'{"status_code":200,"body":"\xe9"}',
    json_surrogate_bytes=b'{"status_code":200,"body":"\xed\xa0\x80"}',
    json_overlong=b'{"status_code":200,"body":"\xc0\xaf"}',
    json_nul=b'{"status_code":200}\0',
    json_control=b'{"status_code":200,"body":"a\x01b"}',
    json_surrogate='{"status_code":200,"body":"\\ud800"}',
    json_surrogate_in_a_header='{"status_code":200,"headers":{"x":"\\udfff"}}',
    json_escape='{"status_code":200,"body":"\\x41"}',
    json_body_number='{"status_code":200,"body":12}',
    json_body_object='{"status_code":200,"body":{"a":1}}',
    json_flag_string='{"status_code":200,"body":"aGk=","is_base64_encoded":"yes"}',
    base64_garbage='{"status_code":200,"body":"!!!!","is_base64_encoded":true}',
    base64_cut='{"status_code":200,"body":"YWJ","is_base64_encoded":true}',
    base64_newline='{"status_code":200,"body":"aGk=\\n","is_base64_encoded":true}',
    base64_trailing='{"status_code":200,"body":"aGk=aGk=","is_base64_encoded":true}',
    only_spaces=" " * 100_000,
)
FORGED += _prints("the reader of CGI answers", INVALID, protocol="cgi",
    cgi_no_blank_line="content-type: text/plain\n",
    cgi_empty="",
    cgi_status_low="status: 99\n\nx",
    cgi_status_continue="status: 100 Continue\n\nx",
    cgi_status_words="status: okay\n\nx",
    cgi_nul=b"content-type: text/plain\nx: a\0b\n\nx",
    cgi_carriage_return=b"content-type: text/plain\nx: a\rset-cookie: b\n\nx",
    cgi_folded="content-type: text/plain\n folded: yes\n\nx",
    cgi_no_colon="content-type text/plain\n\nx",
    cgi_space_before_colon="content-type : text/plain\n\nx",
    cgi_header_flood="".join(f"x-{i}: 1\n" for i in range(5000)) + "\nx",
    cgi_endless_header="x: " + "a" * 200_000 + "\n\nx",
    cgi_two_types="content-type: a/b\ncontent-type: c/d\n\nx",
    cgi_http_response="HTTP/1.1 200 OK\r\ncontent-type: a/b\r\n\r\nx",
)  # fmt: skip
FORGED += _prints("the reader of wws answers", INVALID, protocol="wws",
    wws_status_zero='{"data":"x","status":0,"headers":{},"kv":{}}',
    wws_header_crlf='{"data":"x","status":200,"headers":{"x":"a\\r\\nb: c"},"kv":{}}',
    wws_array="[]",
)  # fmt: skip

# The import module "edge"

_GET, _SET, _LIST, _PUBLISH = 2, 3, 5, 8


def _calls(attacks: str, holds: str, policy: str = "plenty", **calls: tuple[int, bytes]) -> list[Guest]:
    return [Guest(name, attacks, ok(holds), policy, "cgi", call=call) for name, call in calls.items()]


EDGE = _family(
    "the host's side of a call", "plenty", edge_bad_pointers=ok("-21 -21 -21 -21 -21"),
    edge_take_nothing=ok("28 21 28"), edge_take_twice=ok("0 28"), edge_take_out_of_bounds=ok("21"),
    edge_refused_take=ok("28"), start_calls_host=ok("0"),
)  # fmt: skip
EDGE += _family("the bound of payloads", "large", edge_too_large=ok("-1"))
EDGE += _calls("operations that are none", "unknown-operation", edge_operation_zero=(0, b""),
               edge_operation_negative=(-1, b""), edge_operation_unknown=(99, b""),
               edge_operation_huge=(0x7FFFFFFF, b""))  # fmt: skip
EDGE += _calls(
    "the reader of payloads",
    "bad-request",
    "kv",
    payload_empty=(_GET, b""),
    payload_short=(_GET, b"\1\0"),
    payload_length_lies=(_GET, frame({}, length=1000)),
    payload_length_wraps=(_GET, frame({}, length=0xFFFFFFFF)),
    payload_no_json=(_GET, frame(b"{")),
    payload_array=(_GET, frame(b"[]")),
    payload_nan=(_GET, frame(b'{"namespace":NaN}')),
    payload_deep=(_GET, frame(b'{"namespace":' + b"[" * 60_000)),
    payload_utf16=(_GET, frame('{"namespace":"mine"}'.encode("utf-16-le"))),
    payload_surrogate=(_GET, frame(b'{"namespace":"mine","key":"\\ud800"}')),
    payload_wrong_kind=(_GET, frame({"namespace": ["mine"], "key": 1})),
    payload_unknown_field=(_GET, frame({"namespace": "mine", "key": "a", "admin": True})),
    payload_huge_number=(_SET, frame(b'{"namespace":"mine","key":"a","ttlMs":1' + b"0" * 4000 + b"}")),
    payload_true_as_number=(_SET, frame({"namespace": "mine", "key": "a", "ttlMs": True})),
    kv_key_empty=(_GET, frame({"namespace": "mine", "key": ""})),
    kv_limit_huge=(_LIST, frame({"namespace": "mine", "limit": 1 << 62})),
)
EDGE += _calls("the bound of values", "too-large", "kv",
               kv_value_huge=(_SET, frame({"namespace": "mine", "key": "a"}, bytes(3 << 20))))  # fmt: skip
EDGE += _calls(
    "stores that were not granted",
    "kv-namespace-not-allowed",
    kv_without_grant=(_GET, frame({"namespace": "mine", "key": "a"})),
    kv_namespace_traversal=(_GET, frame({"namespace": "../mine", "key": "a"})),
    kv_namespace_wildcard=(_LIST, frame({"namespace": "*"})),
)
EDGE += _calls("stores of others", "kv-namespace-not-allowed", "kv",
               kv_namespace_of_others=(_GET, frame({"namespace": "theirs", "key": "a"})),
               kv_namespace_with_nul=(_GET, frame({"namespace": "mine\0theirs", "key": "a"})),
               kv_namespace_in_other_letters=(_GET, frame({"namespace": "MINE", "key": "a"})))  # fmt: skip
EDGE += _calls("queues that were not granted", "queue-not-allowed",
               queue_without_grant=(_PUBLISH, frame({"queue": "mine"}, b"x")))  # fmt: skip
EDGE += _calls("hosts that were not granted", "host-not-allowed",
               fetch_without_grant=(1, frame({"url": "http://example.com/"})))  # fmt: skip
EDGE += _calls("the host's inner network", "host-not-allowed", "net",
               fetch_loopback=(1, frame({"url": "http://127.0.0.1:@PORT@/"})),
               fetch_loopback_v6_mapped=(1, frame({"url": "http://[::ffff:127.0.0.1]:@PORT@/"})),
               fetch_metadata=(1, frame({"url": "http://169.254.169.254/latest/meta-data/"})),
               fetch_localhost=(1, frame({"url": "http://localhost:@PORT@/"})))  # fmt: skip
EDGE += _calls("the reader of URLs", "invalid-url", "net",
               fetch_decimal=(1, frame({"url": "http://2130706433:@PORT@/"})),
               fetch_userinfo=(1, frame({"url": "http://example.com@127.0.0.1:@PORT@/"})),
               fetch_backslash=(1, frame({"url": "http://127.0.0.1\\@example.com:@PORT@/"})),
               fetch_crlf=(1, frame({"url": "http://example.com/\r\nHost: 127.0.0.1"})),
               fetch_file=(1, frame({"url": "file:///etc/passwd"})))  # fmt: skip

# Modules that are refused at load

_START = '(memory (export "memory") 1) (func (export "_start") '
_INDEX = "(func $main "
REFUSED = _texts(
    "the host's memory: the guest names the second one",
    broken("unknown memory"),
    io_memory_size=_INDEX + "(drop (memory.size 1)))",
    io_memory_grow=_INDEX + "(drop (memory.grow 1 (i32.const 1))))",
    io_memory_load=_INDEX + "(drop (i32.load 1 (i32.const 0))))",
    io_memory_store=_INDEX + "(i32.store 1 (i32.const 16) (i32.const -1)))",
    io_memory_copy=_INDEX + "(memory.copy 0 1 (i32.const 0) (i32.const 0) (i32.const 100)))",
    io_memory_fill=_INDEX + "(memory.fill 1 (i32.const 0) (i32.const 255) (i32.const 1520)))",
    io_memory_data='(data (memory 1) (i32.const 0) "x") (func $main)',
    io_memory_export=_INDEX + ') (export "io" (memory 1))',
)
REFUSED += _texts(
    "the host's table: the guest names the last one",
    broken("unknown table"),
    host_table_get=_INDEX + "(drop (table.get 0 (i32.const 0))) (drop (call $path_open "
    + "(i32.const 0) " * 5 + "(i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0))))",
    host_table_call='(table 1 funcref) (func $main (call_indirect 1 (i32.const 0)) '
    "(drop (call $path_unlink_file (i32.const 0) (i32.const 0) (i32.const 0))))",
    host_table_set=_INDEX + "(table.set 0 (i32.const 0) (ref.null func)) (drop (call $fd_read "
    + "(i32.const 0) " * 4 + ")))",
    host_table_elements="(elem (table 0) (i32.const 0) func $main) (func $main (drop (call $fd_read "
    + "(i32.const 0) " * 4 + ")))",
)  # fmt: skip
REFUSED += _texts(
    "the host's functions: the guest names what is put behind its own",
    broken("unknown"),
    helper_called=_INDEX + "(call 40))",
    helper_referenced=_INDEX + "(drop (ref.func 40)))",
    helper_exported=_INDEX + ') (export "helper" (func 40))',
    helper_started=_INDEX + ") (start 40)",
)
REFUSED += _texts(
    "features that are off",
    lacking(),
    feature_two_memories=f"(memory 1) {_START})",
    feature_memory64='(memory (export "memory") i64 1) (func (export "_start"))',
    feature_shared_memory='(memory (export "memory") 1 1 shared) (func (export "_start"))',
    feature_atomics=f"{_START} (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))",
    feature_atomic_wait=f"{_START} (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))",
    feature_gc=f"(type $s (struct (field i32))) {_START} (drop (struct.new_default $s)))",
    feature_gc_array=f"(type $a (array (mut i8))) {_START} (drop (array.new_default $a (i32.const 1000000000))))",
    feature_exceptions=f"(tag $e) {_START} (throw $e))",
    feature_typed_references=f"(type $f (func)) {_START} (call_ref $f (ref.null $f)))",
    feature_relaxed_simd=f"{_START} (drop (i32x4.relaxed_trunc_f32x4_s (v128.const i32x4 0 0 0 0))))",
)
REFUSED += _texts(
    "imports that are none of a guest's",
    lacking("import"),
    import_unknown=f'(import "wasi_snapshot_preview1" "fd_unknown" (func)) {_START})',
    import_helper=f'(import "wasi_snapshot_preview1" "memory_grow" (func (param i32) (result i32))) {_START})',
    import_host_function=f'(import "wasi_snapshot_preview1" "edge_take" (func (param i32) (result i32))) {_START})',
    import_wrong_type=f'(import "wasi_snapshot_preview1" "fd_write" (func (param i64) (result i32))) {_START})',
    import_wrong_result=f'(import "wasi_snapshot_preview1" "proc_exit" (func (param i32) (result i32))) {_START})',
    import_edge_unknown=f'(import "edge" "exec" (func)) {_START})',
    import_edge_wrong_type=f'(import "edge" "call" (func (param i64 i64 i64) (result i64))) {_START})',
    import_env=f'(import "env" "system" (func (param i32) (result i32))) {_START})',
    import_threads=f'(import "wasi" "thread-spawn" (func (param i32) (result i32))) {_START})',
    import_memory='(import "env" "memory" (memory 1)) (func (export "_start"))',
    import_table=f'(import "env" "table" (table 1 funcref)) {_START})',
    import_global=f'(import "env" "global" (global i32)) {_START})',
    import_http=f'(import "wasi_http" "send" (func (param i32) (result i32))) {_START})',
)
REFUSED += _texts(
    "the shape of a command",
    lacking(),
    no_start='(memory (export "memory") 1)',
    no_memory='(module (func (export "_start")))',
    memory_not_exported='(memory 1) (func (export "_start"))',
    start_with_parameters='(memory (export "memory") 1) (func (export "_start") (param i32))',
    start_with_result='(memory (export "memory") 1) (func (export "_start") (result i32) (i32.const 0))',
)

_MODULE = b"\0asm\1\0\0\0"
REFUSED += _bytes(
    "the reader of modules",
    broken(),
    bytes_none=b"",
    bytes_text=b"(module)",
    bytes_elf=b"\x7fELF\2\1\1" + bytes(100),
    bytes_magic_only=b"\0asm",
    bytes_version=b"\0asm\2\0\0\0",
    bytes_section_longer_than_file=_MODULE + b"\1\xff\xff\xff\xff\x0f",
    bytes_section_unknown=_MODULE + b"\x63\0",
    bytes_section_twice=_MODULE + b"\1\1\0\1\1\0",
    bytes_section_order=_MODULE + b"\3\1\0\1\1\0",
    bytes_length_overlong=_MODULE + b"\1\x80\x80\x80\x80\x80\x80\x01\0",
    bytes_types_without_end=_MODULE + b"\1\5\xff\xff\xff\xff\x0f",
    bytes_functions_without_code=_MODULE + b"\1\4\1\x60\0\0\3\2\1\0",
    bytes_functions_beyond_bounds=_MODULE + b"\1\4\1\x60\0\0\3\6\xff\xff\xff\xff\x0f\0",
    bytes_name_not_utf8=_MODULE + b"\0\4\3\xff\xfe\xfd",
    bytes_type_index=_MODULE + b"\3\2\1\7\x0a\4\1\2\0\x0b",
    bytes_code_cut=_MODULE + b"\1\4\1\x60\0\0\3\2\1\0\x0a\x04\1\2\0",
    bytes_memory_too_large=_MODULE + b"\5\6\1\0\x81\x80\x04\0",
    bytes_native_code=b"\x7fELF" + b"\2\1\1\xc8" + bytes(4096),
)
REFUSED += _bytes("the reader of modules", lacking("component"), component=b"\0asm\x0d\0\1\0")

# Modules of unusual size


def _big() -> list[Guest]:
    functions = "".join(f"(func $f{i} (result i32) (i32.const {i}))" for i in range(5000))
    exports = "".join(f'(func (export "e{i}"))' for i in range(10_000))
    long_name = "long_" + "n" * 500_000
    odd_name = "\\n\\r\\1b[2J\\00\\u{202e}"
    nested = "(block " * 2000 + "(br 1999)" + ")" * 2000
    targets = "$on " * 20_000
    guests = _texts(
        "the tables of the host, with very many things",
        ok("7"),
        many_functions=f"{functions} (func $main (call $say (call $f7)))",
        many_exports=f"{exports} (func $main (call $say (i32.const 7)))",
        many_globals="".join("(global i32 (i32.const 0))" for _ in range(9_000))
        + "(func $main (call $say (i32.const 7)))",
        many_types="".join(
            f"(type (func (param {'i32 ' * (i % 30)}) (result {'i64 ' * (i // 30 % 9)})))" for i in range(2000)
        )
        + "(func $main (call $say (i32.const 7)))",
        many_segments="".join(f'(data "{i}")' for i in range(5000)) + "(func $main (call $say (i32.const 7)))",
        many_blocks=f"(func $main {nested} (call $say (i32.const 7)))",
        many_sections="(func $main (call $say (i32.const 7)))" + "".join(f'(@custom "c{i}" "x")' for i in range(2000)),
    )
    guests += _texts("the deadline, with a table of 20,000 targets", TIMEOUT,
                     many_targets=f"(func $main (loop $on (br_table {targets} $on (i32.const 9))))")  # fmt: skip
    guests = [replace(guest, policy="stop") if guest.name == "many_targets" else guest for guest in guests]
    guests += _texts(
        "the compiler, past the bounds before it",
        lacking("the most is"),
        past_globals="".join("(global i32 (i32.const 0))" for _ in range(10_001)) + "(func $main)",
        past_locals="(func $main (local " + "i64 " * 10_001 + "))",
        past_exports="".join(f'(func (export "e{i}"))' for i in range(50_001)) + "(func $main)",
        past_elements="(table 1 funcref)" + "(elem func)" * 10_001 + "(func $main)",
    )
    guests += _texts("bounds of the engine", broken(), many_locals="(func $main (local " + "i64 " * 60_000 + "))",
                     many_parameters="(func (param " + "i32 " * 1001 + ")) (func $main)")  # fmt: skip
    guests += _texts(
        "the log, with names of functions",
        trap("unreachable"),
        name_long=f'(func $main (call $n)) (func $n (@name "{long_name}") unreachable)',
        name_odd=f'(func $main (call $n)) (func $n (@name "{odd_name}") unreachable)',
    )
    return guests


GUESTS: tuple[Guest, ...] = (
    *LOOPS, *STACK, *MEMORY_GUESTS, *BOUNDS, *TABLES, *TRAPS, *TIME, *STREAMS, *PROBES, *FILES, *FORGED, *EDGE,
    *REFUSED, *_big(),
)  # fmt: skip
BY_NAME = {guest.name: guest for guest in GUESTS}
assert len(BY_NAME) == len(GUESTS), "a name is there twice"
