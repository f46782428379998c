"""What WASI preview 1 gives a guest, files apart."""

from __future__ import annotations

import json
import struct
import time

import pytest
from support import GUESTS, answer, ask, command, numbers, run

from starlette_wasm.engine import capi, layout
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.invocation import Invocation
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits, Preopen

BADF, FAULT, INVAL, NOTSOCK, NOTSUP, SPIPE = 8, 21, 28, 57, 58, 70

# stdin, arguments, environment


def test_stdin_in_pieces_is_whole_and_then_at_its_end(guest):
    stdin = "".join(chr(0x20 + i % 90) for i in range(100))
    got = answer(run(guest("stdin_seek"), stdin.encode()))
    assert got["input"] == stdin
    assert got["bytes"] == 100
    assert got["calls"] == -(-100 // 7)
    assert (got["end"], got["after_end"], got["after_end_again"], got["empty_read"]) == (0, 0, 0, 0)


def test_the_standard_streams_are_neither_files_nor_terminals_and_go_one_way(guest):
    got = answer(run(guest("stdin_seek"), b"x"))
    assert got["lseek"] == got["ftell"] == -1
    assert got["lseek_errno"] == got["ftell_errno"] == SPIPE
    assert got["isatty0"] == 0
    assert got["write_to_stdin"] == got["read_of_stdout"] == -BADF


def test_arguments_and_environment_arrive_as_given(guest):
    environ = ["A=1", "B=two words", "EMPTY=", "Ü=ß=ö"]
    got = answer(run(guest("environ"), args=["name", "", "--x=é"], environ=environ))
    assert got == {"environ": environ, "argv": ["name", "", "--x=é"]}


def test_nothing_of_the_hosts_environment_or_arguments_is_inherited(guest, monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    assert answer(run(guest("environ"))) == {"environ": [], "argv": []}


def test_a_thousand_variables_and_a_large_one_arrive(guest):
    environ = [f"V{i}={i}" for i in range(1000)] + ["LARGE=" + "x" * 100_000]
    assert answer(run(guest("environ"), environ=environ))["environ"] == environ


def test_pointers_out_of_bounds_end_the_guest_alone(wat):
    for call in (
        "(call $args_get (i32.const -4) (i32.const 0))",
        "(call $environ_sizes_get (i32.const -1) (i32.const 0))",
        "(call $clock_time_get (i32.const 0) (i64.const 0) (i32.const -4))",
        "(call $random_get (i32.const 65530) (i32.const 16))",
        "(call $fd_read (i32.const 0) (i32.const -4) (i32.const 1) (i32.const 0))",
        "(call $fd_write (i32.const 1) (i32.const 65532) (i32.const 1) (i32.const 0))",
        "(call $fd_fdstat_get (i32.const 1) (i32.const -16))",
    ):
        name = call[7:].split()[0]
        outcome = run(wat(command(f"(drop {call})", name)), b"x", args=["a"])
        assert (outcome.end, outcome.reason) == (End.TRAP, "out of bounds memory access"), call


def test_a_list_of_empty_vectors_without_end_is_bounded(wat):
    for fd, name in ((0, "fd_read"), (1, "fd_write")):
        body = f"(drop (call ${name} (i32.const {fd}) (i32.const 0) (i32.const -1) (i32.const 0)))"
        assert run(wat(command(body, name)), b"x", limits=Limits(time=1)).end is End.TRAP


def test_what_a_command_does_not_have_is_an_errno(wat):
    for call, errno in (
        ("(call $proc_raise (i32.const 9))", NOTSUP),
        ("(call $sock_accept (i32.const 3) (i32.const 0) (i32.const 0))", BADF),
        ("(call $sock_accept (i32.const 1) (i32.const 0) (i32.const 0))", NOTSOCK),
        ("(call $sock_shutdown (i32.const 0) (i32.const 0))", NOTSOCK),
        ("(call $fd_prestat_get (i32.const 0) (i32.const 0))", BADF),
        ("(call $fd_prestat_get (i32.const 3) (i32.const 0))", BADF),
        ("(call $fd_close (i32.const 3))", BADF),
        ("(call $fd_tell (i32.const 1) (i32.const 0))", SPIPE),
        ("(call $fd_renumber (i32.const 1) (i32.const 4))", BADF),
        ("(call $clock_time_get (i32.const 4) (i64.const 0) (i32.const 0))", INVAL),
        ("(call $clock_res_get (i32.const 4) (i32.const 0))", INVAL),
    ):
        name = call[7:].split()[0]
        assert numbers(run(wat(command(f"(call $print_i32 {call})", name)))) == [errno], call


# Clocks


def test_the_clocks_are_right_coarse_and_run_while_the_guest_works(guest):
    before = time.time()
    got = answer(run(guest("clocks")))
    assert before - 1 < got["realtime_s"] + got["realtime_ns"] / 1e9 < time.time() + 1
    assert abs(got["time_s"] - before) < 5
    assert got["realtime_res_ns"] == got["monotonic_res_ns"] == 1_000_000
    assert got["realtime_ns"] % 1_000_000 == 0
    assert got["monotonic_before_ns"] % 1_000_000 == 0
    assert 20_000_000 <= got["monotonic_after_ns"] - got["monotonic_before_ns"] < 2_000_000_000
    assert got["process_cputime_errno"] == 0


def test_the_resolution_of_the_clocks_is_a_setting():
    engine = Engine(EngineConfig(max_instances=2, clock_resolution_ns=1_000_000_000))
    module = Module.compile(engine, (GUESTS / "clocks.wasm").read_bytes())
    got = answer(run(module))
    assert got["realtime_res_ns"] == 1_000_000_000
    assert got["realtime_ns"] == 0
    module.close()


def test_cpu_time_counts_from_the_start_of_the_invocation(wat):
    body = """
      (drop (call $clock_time_get (i32.const 2) (i64.const 0) (i32.const 0)))
      (call $print (i32.const 0) (i32.const 8))"""
    (elapsed,) = struct.unpack("<Q", run(wat(command(body, "clock_time_get"))).stdout)
    assert elapsed < 30_000_000_000


# Random


def chacha20(key: bytes, length: int) -> bytes:
    """The key stream of RFC 8439, section 2.3, under a nonce of zeros and from block 0."""

    def rotate(value: int, by: int) -> int:
        return (value << by | value >> (32 - by)) & 0xFFFFFFFF

    def quarter(s: list[int], a: int, b: int, c: int, d: int) -> None:
        for x, y, z, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = s[x] + s[y] & 0xFFFFFFFF
            s[z] = rotate(s[z] ^ s[x], by)

    stream = b""
    for counter in range(-(-length // 64)):
        begin = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *struct.unpack("<8I", key), counter, 0, 0, 0]
        state = list(begin)
        for _ in range(10):
            for i in range(4):
                quarter(state, i, 4 + i, 8 + i, 12 + i)
            for i in range(4):
                quarter(state, i, 4 + (1 + i) % 4, 8 + (2 + i) % 4, 12 + (3 + i) % 4)
        stream += struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(state, begin, strict=True)))
    return stream[:length]


def test_the_reference_cipher_gives_the_vectors_of_the_rfc():
    assert chacha20(bytes(32), 64).hex().startswith("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1a")  # A.1, vector 1
    assert chacha20(bytes(31) + b"\1", 128)[64:].hex().startswith("3aeb5224ecf849929b9d828db1ced4dd")  # vector 3


DRAWS = [1, 63, 64, 65, 7, 128, 0, 300]


@pytest.mark.parametrize("key", [bytes(32), bytes(range(32)), b"\xff" * 32])
def test_random_bytes_are_the_key_stream_of_rfc_8439_in_draws_of_any_size(wat, monkeypatch, key):
    body = "".join(
        f"(drop (call $random_get (i32.const 0) (i32.const {size}))) (call $print (i32.const 0) (i32.const {size}))"
        for size in DRAWS
    )
    monkeypatch.setattr("starlette_wasm.engine.instance.os.urandom", lambda size: key[:size])
    assert run(wat(command(body, "random_get"))).stdout == chacha20(key, sum(DRAWS))


def test_two_invocations_draw_different_bytes_and_all_values_come_about_as_often(guest):
    got = [ask(guest("randomness")) for _ in range(5)]
    assert len({each["hex"] for each in got}) == 5
    for each in got:  # 4,096 of each expected, with a standard deviation of 64
        assert 4096 - 8 * 64 < each["min"] <= each["max"] < 4096 + 8 * 64


def test_a_large_draw_ends_at_the_deadline(wat):
    body = "(loop $on (drop (call $random_get (i32.const 0) (i32.const 65011712))) (br $on))"
    begin = time.monotonic()
    outcome = run(wat(command(body, "random_get", pages=1000)), limits=Limits(memory_pages=1000, time=0.1))
    assert outcome.end is End.TIMEOUT
    assert time.monotonic() - begin < 60


# Exit


@pytest.mark.parametrize(("code", "end"), [(0, End.OK), (1, End.EXIT), (3, End.EXIT), (255, End.EXIT), (-1, End.EXIT)])
def test_an_exit_code_other_than_0_is_a_failure(wat, code, end):
    outcome = run(wat(command(f"(call $proc_exit (i32.const {code})) unreachable", "proc_exit")))
    assert (outcome.end, outcome.exit_code) == (end, code & 0xFFFFFFFF)


def test_commands_of_a_real_compiler_exit_as_they_say(guest):
    ended = run(guest("exit0"))
    assert ended.end is End.OK
    assert json.loads(ended.stdout)["status_code"] == 200
    assert (run(guest("exit3")).end, run(guest("exit3")).exit_code) == (End.EXIT, 3)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("unreachable", "unreachable"),
        ("div0", "integer divide by zero"),
        ("oob", "out of bounds memory access"),
        ("null", "indirect call to null"),
    ],
)
def test_a_trap_has_a_reason_and_the_guests_frames_innermost_first(guest, mode, reason):
    request = json.dumps({"query": {"mode": mode}}).encode()
    outcome = run(guest("trap"), request)
    assert outcome.end is End.TRAP
    assert outcome.reason == reason
    names = [frame for frame in outcome.frames if frame in ("innermost", "middle", "outermost")]
    assert names == ["innermost", "middle", "outermost"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("unreachable", "unreachable"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "integer divide by zero"),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", "integer overflow"),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", "invalid conversion to integer"),
        ("(drop (i32.load (i32.const -1)))", "out of bounds memory access"),
        ("(memory.fill (i32.const 65535) (i32.const 0) (i32.const 2))", "out of bounds memory access"),
        ("(call_indirect (i32.const 5))", "out of bounds table access"),
        ("(call_indirect (i32.const 1))", "indirect call to null"),
        ("(call_indirect (i32.const 0))", "indirect call type mismatch"),
    ],
)
def test_each_kind_of_trap_has_its_name(wat, body, reason):
    outcome = run(wat(command(body, more="(table 2 funcref) (elem (i32.const 0) $print)")))
    assert (outcome.end, outcome.reason) == (End.TRAP, reason)


def test_a_trap_after_a_whole_answer_is_a_trap_and_keeps_the_answer(guest):
    outcome = run(guest("crash_after"))
    assert outcome.end is End.TRAP
    assert json.loads(outcome.stdout)["status_code"] == 200
    assert run(guest("partial")).end is End.TRAP


@pytest.mark.parametrize("name", ["recurse", "wat"])
def test_recursion_without_end_is_a_trap_with_few_frames(guest, wat, name):
    module = guest(name) if name != "wat" else wat(command("(call $f)", more="(func $f (call $f))"))
    for _ in range(20):
        outcome = run(module)
        assert (outcome.end, outcome.reason) == (End.TRAP, "call stack exhausted")
        assert len(outcome.frames) <= 33


def test_a_name_in_a_trap_is_bounded_and_printable(engine):
    text = command("(call $f)", more="(func $f unreachable)")
    wasm = capi.assemble(text).replace(b"\x01f", b"\x01\n")
    (frame, *_) = run(Module.compile(engine, wasm)).frames
    assert frame == "\\n"
    long = capi.assemble(text.replace("$f", "$" + "f" * 100_000))
    assert len(run(Module.compile(engine, long)).frames[0]) <= 256


# poll_oneoff: events of 32 bytes, at most four, at 512; how many at 1024


def subscription(
    kind: int, *, userdata: int = 0, clock: int = 1, timeout: int = 0, flags: int = 0, fd: int = 0
) -> bytes:
    if kind == 0:
        return struct.pack("<QBxxxxxxxIxxxxQQHxxxxxx", userdata, kind, clock, timeout, 0, flags)
    return struct.pack("<QBxxxxxxxI", userdata, kind, fd).ljust(48, b"\0")


POLL = """
  (local $errno i32) (local $count i32)
  (local.set $count (call $len))
  (local.set $errno (call $poll_oneoff (i32.const 0) (i32.const 512) (local.get $count) (i32.const 1024)))
  (call $print_i32 (local.get $errno))
  (call $print (i32.const 1024) (i32.const 4))
  (call $print (i32.const 512) (i32.const 128))"""


def poll(wat, *subscriptions: bytes, stdin: bytes = b"", **options):
    """errno, the events as (userdata, errno, type, nbytes), and how long it took."""
    data = "".join(f"\\{byte:02x}" for byte in b"".join(subscriptions))
    more = f'(data (i32.const 0) "{data}") (func $len (result i32) (i32.const {len(subscriptions)}))'
    module = wat(command(POLL, "poll_oneoff", more=more))
    begin = time.monotonic()
    outcome = run(module, stdin, **options)
    took = time.monotonic() - begin
    errno, count = struct.unpack_from("<2I", outcome.stdout)
    events = [struct.unpack_from("<QHBxxxxxQ", outcome.stdout, 8 + 32 * i) for i in range(count if not errno else 0)]
    return errno, events, took


def test_a_clock_runs_out_after_its_time(wat):
    errno, events, took = poll(wat, subscription(0, userdata=7, timeout=50_000_000))
    assert (errno, events) == (0, [(7, 0, 0, 0)])
    assert 0.045 < took < 30


def test_the_first_of_several_clocks_is_told(wat):
    errno, events, took = poll(
        wat,
        subscription(0, userdata=1, timeout=10**18),
        subscription(0, userdata=2, timeout=20_000_000),
        subscription(0, userdata=3, timeout=20_000_000),
        subscription(0, userdata=4, timeout=2**64 - 1),
    )
    assert (errno, [event[0] for event in events]) == (0, [2, 3])
    assert took < 30


@pytest.mark.parametrize("clock", [0, 1])
def test_an_absolute_time_that_has_passed_is_now_and_a_later_one_is_waited_for(wat, clock):
    errno, events, took = poll(wat, subscription(0, clock=clock, timeout=1, flags=1))
    assert (errno, len(events)) == (0, 1)
    assert took < 30
    now = time.time_ns if clock == 0 else time.monotonic_ns
    end = now() + 200_000_000
    errno, events, took = poll(wat, subscription(0, clock=clock, timeout=end, flags=1))
    assert (errno, len(events)) == (0, 1)
    assert now() > end - 2_000_000  # a guest sees milliseconds
    assert took < 30


def test_streams_are_ready_at_once_before_any_clock(wat):
    errno, events, took = poll(
        wat,
        subscription(0, userdata=1, timeout=10**12),
        subscription(1, userdata=2, fd=0),
        subscription(2, userdata=3, fd=1),
        subscription(2, userdata=4, fd=2),
        stdin=b"12345",
    )
    assert errno == 0
    assert [event[:3] for event in events] == [(2, 0, 1), (3, 0, 2), (4, 0, 2)]
    assert events[0][3] == 5
    assert took < 30


def test_a_stream_that_goes_the_other_way_is_an_event_with_an_errno(wat):
    errno, events, _ = poll(wat, subscription(1, userdata=1, fd=1), subscription(2, userdata=2, fd=0))
    assert (errno, [event[:3] for event in events]) == (0, [(1, BADF, 1), (2, BADF, 2)])


def test_an_unknown_clock_is_an_event_with_an_errno(wat):
    errno, events, _ = poll(wat, subscription(0, userdata=9, clock=4, timeout=10**12))
    assert (errno, events) == (0, [(9, INVAL, 0, 0)])


def test_an_unknown_kind_and_no_subscription_are_invalid(wat):
    assert poll(wat, subscription(3))[0] == INVAL
    assert poll(wat)[0] == INVAL


@pytest.mark.parametrize(
    ("arguments", "errno"),
    [
        ((0, 0, 65, 0), INVAL),
        ((0, 0, -1, 0), INVAL),
        ((-48, 0, 1, 0), FAULT),
        ((0, -1, 1, 0), FAULT),
        ((0, 0, 1, -4), FAULT),
        ((65489, 0, 1, 0), FAULT),
        ((0, 65505, 1, 0), FAULT),
        ((0, 0, 1, 65533), FAULT),
        ((0, 16384, 64, 65532), 0),
    ],
)
def test_what_lies_out_of_bounds_is_an_errno_at_its_edge(wat, arguments, errno):
    given = " ".join(f"(i32.const {each})" for each in arguments)
    assert numbers(run(wat(command(f"(call $print_i32 (call $poll_oneoff {given}))", "poll_oneoff")))) == [errno]


def test_a_real_compilers_poll_and_sleep_work(guest):
    got = answer(run(guest("poll")))
    assert [event["userdata"] for event in got["all"]["events"]] == [1]
    assert [event["userdata"] for event in got["clocks"]["events"]] == [20]
    assert got["clocks"]["us"] > 15_000
    assert got["none"]["errno"] == INVAL
    begin = time.monotonic()
    assert ask(guest("sleep_ms"), query={"ms": "80"}) == {"slept": 80}
    assert 0.07 < time.monotonic() - begin < 30


def test_yielding_is_nothing_to_fear(guest):
    assert answer(run(guest("yield"))) == {"yielded": 1000}


def test_an_exception_in_a_host_function_ends_the_guest(wat, monkeypatch):
    def broken(self, call):
        raise RuntimeError("secret of the host")

    monkeypatch.setattr(Invocation, "wait_for", broken)
    sleep = subscription(0, timeout=10**7)
    with pytest.raises(capi.EngineError, match="a host function failed") as caught:
        poll(wat, sleep)
    assert isinstance(caught.value.__cause__, RuntimeError)


# One function per invocation


def test_nothing_of_a_guests_memory_or_globals_reaches_the_next(wat):
    body = """
      (call $print_i32 (global.get $g)) (call $print_i32 (i32.load (i32.const 4096)))
      (call $print_i32 (i32.load8_u (i32.const 60000))) (call $print_i32 (memory.size))
      (global.set $g (i32.const 9)) (memory.fill (i32.const 0) (i32.const 255) (i32.const 64000))
      (drop (memory.grow (i32.const 5)))"""
    module = wat(command(body, more="(global $g (mut i32) (i32.const 1))"))
    for _ in range(50):
        assert numbers(run(module)) == [1, 0, 0, 1]


def test_the_io_memory_of_a_guest_is_clean_for_the_next(wat, guest):
    secret = b"s3cret" * 20_000
    for _ in range(10):
        run(guest("echo"), secret)
        # Writes one byte where stdout begins, and says how much memory there was behind it: nothing of it shows.
        outcome = run(wat(command("(call $print (i32.const 0) (i32.const 8))")))
        assert outcome.stdout == bytes(8)
        assert outcome.stderr == b""


def test_layout_blocks_hold_what_the_guest_counts():
    assert layout.strings([]) == struct.pack("<2I", 0, 0)
    assert layout.strings([b"a", b""]) == struct.pack("<4I", 2, 3, 0, 2) + b"a\0\0"


def test_outcomes_count_the_memory_at_the_end(wat, tmp_path):
    module = wat(command("(drop (memory.grow (i32.const 2)))", pages=3))
    assert run(module).memory_bytes == 5 * layout.PAGE
    assert run(module, preopens=(Preopen(str(tmp_path), "/", False),)).memory_bytes == 5 * layout.PAGE
