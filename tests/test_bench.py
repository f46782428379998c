"""The benchmark harness: what it prints, writes and checks. What it measures is shown by scripts/bench."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import account, goals, measure, plot, report, runs, wrk
from benchmarks.__main__ import BASELINE, GROUPS, HEADINGS
from benchmarks.groups import compute, production
from benchmarks.layout import lay_out
from benchmarks.measure import Row
from benchmarks.processes import Failed, Process, Worker, cpu_ns

RATIO = Row("http/a/b/64", "a / b", 0.8, "higher", goal=1.0, ours=8_000, theirs=10_000, measure="req/s", against="b")
MEMORY = Row("scale/x/memory", "memory", 30.0, "lower", "KB", goal=300)
TIME = Row("cold/x/time", "first answer", 0.5, "lower", "ms", goal=1, checked=False)
BROKEN = Row("http/a/c/64", "a / c", None, "higher", goal=1.0, note="12 connection resets at 64 connections")
ROWS = [RATIO, MEMORY, TIME]


def group(name: str, *rows: Row, date: str = "2026-01-02") -> runs.GroupRun:
    return runs.GroupRun(name, rows, "full", date, {"machine": "a test"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (31_270.3, "31,270"),
        (9_820, "9,820"),
        (2_345, "2,340"),
        (104.7, "105"),
        (31.24, "31.2"),
        (0.317, "0.32"),
        (0.0052, "0.0052"),
        (0, "0.00"),
    ],
)
def test_numbers_show_the_digits_that_count(value: float, text: str) -> None:
    assert report.number(value) == text


def test_a_missed_goal_is_said_in_the_table() -> None:
    text = report.text_table(ROWS)
    assert "at least 1: MISSED" in text
    assert "at most 300: met" in text
    assert "8,000 req/s" in text
    assert "30.0 KB" in text


def test_the_markdown_table_has_a_line_for_each_row() -> None:
    lines = report.markdown_table(ROWS).splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert {line.count("|") for line in lines} == {6}


def test_groups_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    assert runs.read(file) == {}
    written = [group("http", RATIO, BROKEN), group("scale", MEMORY)]
    runs.write(file, written)
    assert list(runs.read(file).values()) == written
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_the_committed_baseline_is_of_known_groups() -> None:
    known = runs.read(BASELINE)
    assert known.keys() <= GROUPS.keys()
    assert {row.group for run in known.values() for row in run.rows} == known.keys()
    assert GROUPS.keys() == HEADINGS.keys()


def test_the_same_figures_pass_the_check() -> None:
    assert report.check(ROWS, ROWS) == ([], 2)


def test_a_broken_peer_is_said_and_compared_with_nothing() -> None:
    assert BROKEN.met is None
    assert "none: 12 connection resets at 64 connections" in report.text_table([BROKEN])
    assert report.check([BROKEN], [replace(BROKEN, value=2.0)]) == ([], 0)
    assert report.check([replace(BROKEN, value=2.0)], [BROKEN]) == ([], 0)
    assert plot.throughput([BROKEN], 64) is None


def test_each_goal_has_its_figures_and_a_verdict() -> None:
    native = replace(RATIO, id="http/middleware/native/64")
    met = replace(native, id="http/middleware/native/8", value=1.2)
    workerd = replace(BROKEN, id="http/middleware/workerd/64")
    lines = {line[0]: line[2:] for line in goals.verdicts([native, met, workerd])}
    assert lines["HTTP: middleware-mapped function / native Starlette route"] == ("0.80 at 64; 1.20 at 8", "MISSED")
    at_64 = "none: 12 connection resets at 64 connections at 64"
    assert lines["HTTP: function / workerd with a fresh isolate"] == (at_64, "not measured")
    assert lines["lookup among 10,000 rules / among 10"] == ("", "not measured")


@pytest.mark.parametrize(
    ("row", "value", "is_worse"),
    [
        (RATIO, 0.61, False),
        (RATIO, 0.59, True),
        (RATIO, 2.0, False),
        (MEMORY, 47.0, False),
        (MEMORY, 48.0, True),
        (MEMORY, 1.0, False),
        (TIME, 99.0, False),
        (replace(RATIO, margin=0.05), 0.75, True),
    ],
)
def test_only_what_is_worse_by_more_than_the_margin_fails(row: Row, value: float, is_worse: bool) -> None:
    worse, _ = report.check([replace(row, value=value)], ROWS, margin=0.25)
    assert bool(worse) == is_worse


def test_a_figure_without_a_baseline_is_not_compared() -> None:
    assert report.check([replace(RATIO, id="http/new/b/64")], ROWS) == ([], 0)


def test_the_page_gets_its_figures_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report._BEGIN}\nfigures of before\n{report._END}\nafter\n")
    for _ in range(2):
        measured = {"http": group("http", RATIO), "scale": group("scale", MEMORY, date="2026-03-04")}
        report.write_docs(page, measured, {"http": "Over HTTP", "scale": "Scale"}, goals.verdicts(ROWS), goals.HEAD)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "figures of before" not in text
    assert text.count("### Over HTTP") == text.count("### Machine") == 1
    assert "2026-01-02, a full run, machine 1" in text
    assert "2026-03-04, a full run, machine 1" in text


def test_the_page_of_the_docs_has_the_marks() -> None:
    text = (Path(__file__).parent.parent / "docs" / "benchmarks.md").read_text()
    assert text.count(report._BEGIN) == text.count(report._END) == 1


def test_the_plot_is_svg_with_a_bar_for_each_contender() -> None:
    rows = [RATIO, replace(RATIO, id="http/a/c/64", against="c <&>", theirs=100)]
    drawing = plot.throughput(rows, 64)
    assert drawing is not None
    rectangles = ElementTree.fromstring(drawing).findall("{*}rect")
    assert len(rectangles) == 1 + 3
    assert plot.throughput([MEMORY], 64) is None


def test_the_plot_of_production_has_a_bar_for_each_kind() -> None:
    row = Row("production/plain/mapped/cpu", "plain <&>: CPU of a request", 0.9, "higher")
    rows = [row, replace(row, id="production/a/mapped/cpu", value=4.0), replace(row, id="production/a/route/cpu")]
    drawing = plot.production(rows)
    assert drawing is not None
    assert len(ElementTree.fromstring(drawing).findall("{*}rect")) == 1 + 2
    assert "plain &lt;&amp;&gt;" in drawing
    assert plot.production([MEMORY]) is None


def test_contenders_take_turns_and_ratios_are_of_one_round() -> None:
    order: list[str] = []

    def contender(name: str, figure: float) -> float:
        order.append(name)
        return figure * len(order)

    said: list[str] = []
    figures = measure.interleave(
        {"a": lambda: contender("a", 2.0), "b": lambda: contender("b", 1.0)}, 3, said.append, "test"
    )
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert len(said) == 6
    assert measure.ratio([2, 4, 6], [1, 2, 6]) == 2
    assert [len(each) for each in figures.values()] == [3, 3]


def test_a_peer_that_fails_takes_no_further_part() -> None:
    calls: list[str] = []

    def breaks() -> float:
        calls.append("peer")
        raise Failed("wrk: Socket errors", "12 connection resets at 64 connections")

    broken: dict[str, str] = {}
    contenders = {"peer": breaks, "ours": lambda: 1.0}
    figures = measure.interleave(contenders, 3, lambda text: None, "test", peers=["peer"], broken=broken)
    assert figures == {"ours": [1.0, 1.0, 1.0]}
    assert broken == {"peer": "12 connection resets at 64 connections"}
    assert calls == ["peer"]
    with pytest.raises(Failed):
        measure.interleave(contenders, 1, lambda text: None, "test", broken=broken)


def test_a_run_ends_when_its_time_is_over() -> None:
    measure.Progress(most=60)("goes on")
    with pytest.raises(measure.OutOfTime, match="at: the next"):
        measure.Progress(most=-1)("the next")


def test_percentiles_are_by_nearest_rank() -> None:
    assert measure.percentile(range(1, 101), 99) == 99
    assert measure.percentile([5.0], 99) == 5.0


def test_what_wrk_prints_is_read() -> None:
    text = (
        "  Latency Distribution\n     50%    1.50ms\n     99%  250.00us\n  12 requests in 1s\nRequests/sec:    123.45\n"
    )
    assert wrk.parse(text, "http://x/", 8) == wrk.Load(123.45, 0.0015, 0.00025, 12)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("  Non-2xx or 3xx responses: 12\n", "12 answers with an error status at 64 connections"),
        ("  Socket errors: connect 0, read 3, write 0, timeout 0\n", "3 connection resets at 64 connections"),
        (
            "  Socket errors: connect 2, read 0, write 0, timeout 5\n",
            "2 refused connections, 5 answers later than 20 s at 64 connections",
        ),
        ("Requests/sec:      0.00\n", "no answers at 64 connections"),
    ],
)
def test_what_a_broken_peer_did_is_said_in_words(text: str, reason: str) -> None:
    with pytest.raises(Failed) as failed:
        wrk.parse(text, "http://x/", 64)
    assert failed.value.reason == reason


def test_instructions_are_counted_where_they_are_executed() -> None:
    dump = """\
events: Ir
ob=(1) /usr/lib/libpython3.11.so.1.0
fn=(1) eval
10 70
cob=(2) /site-packages/wasmtime/linux-x86_64/_libwasmtime.so
cfn=(2) store_new
calls=1 0
12 500
+2 30
ob=(2)
fn=(2)
0 400
ob=(3) ???
* 100
"""
    counts = account.instructions_by_object(dump)
    assert counts == {"interpreter": 100, "wasmtime": 400, "the guest's code": 100}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "libc"),
        ("[kernel.kallsyms]", "kernel"),
        ("loop.cpython-311-x86_64-linux-gnu.so", "uvloop, httptools"),
        ("_ctypes.cpython-311-x86_64-linux-gnu.so", "ctypes, libffi"),
        ("_json.cpython-311-x86_64-linux-gnu.so", "other extension modules"),
    ],
)
def test_an_object_file_has_its_bucket(name: str, label: str) -> None:
    assert account.bucket(name) == label


def test_a_program_that_is_not_there_does_not_start() -> None:
    with pytest.raises(Failed) as failed, Process(["no-such-program-of-the-bench"]):
        pass
    assert failed.value.reason.startswith("does not start")


def test_a_contender_that_ends_is_said_with_what_it_printed() -> None:
    with (
        Worker("ours:NoSuchClass") as worker,
        pytest.raises(Failed, match="NoSuchClass"),
    ):
        worker.call("round")


def test_what_is_left_of_a_process_is_ended() -> None:
    with Process([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"]) as p:
        p._child.wait = lambda timeout: type(p._child).wait(p._child, min(timeout, 0.2))  # type: ignore[method-assign]
    assert p._child.poll() is not None


def test_the_small_guest_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    work = lay_out(tmp_path)
    env = {"BENCH_WORK": str(work), "XDG_CACHE_HOME": str(tmp_path)}
    with Worker("ours:InProcess", env=env) as worker:
        assert worker.call("answer") == '{"message":"hello"}'
        figures = worker.call("round", calls=50)
    assert 0 < figures["p50"] <= figures["p99"]


@pytest.mark.parametrize("quick", [True, False])
def test_guests_that_compute_have_rows_for_each_load(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*given: object) -> tuple[float, float]:
        if given[3:5] == ((1000,), 8):
            raise Failed("no answers at 8 connections")
        return 2.0, 10.0

    monkeypatch.setattr(compute, "native_library", lambda *_: tmp_path)
    monkeypatch.setattr(compute, "uvicorn", lambda *_, **__: nullcontext())
    monkeypatch.setattr(compute, "_measure", measured)
    plan = measure.Plan(quick, "wrk", frozenset(), None)
    rows = {row.id: row for row in compute.run(plan, lambda _: None, tmp_path)}
    for guest in ("5-ms", "50-ms", "5-and-50-ms"):
        for connections in (1, 8, 64):
            key = f"compute/{guest}/{connections}"
            if (guest, connections) == ("50-ms", 8):
                assert rows[f"{key}/ours/p99"].value is None
                continue
            for figure in ("p99", "rate"):
                assert rows[f"{key}/ours/{figure}"].value == rows[f"{key}/trusted/{figure}"].value == 1.0


def test_a_case_of_production_is_a_script_of_wrk() -> None:
    script = production.CASES["post"].script()
    assert 'wrk.headers["content-type"] = "application/json"' in script
    assert 'string.rep("{\\"a\\":1}", 250)' in script
    assert production.CASES["plain"].script() == ""
    own = cpu_ns(os.getpid())
    sum(range(2_000_000))
    assert cpu_ns(os.getpid()) > own
