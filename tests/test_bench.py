"""The benchmark harness: what it prints, writes and checks. What it measures is shown by scripts/bench."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import measure, plot, report, wrk
from benchmarks.layout import lay_out
from benchmarks.measure import Row
from benchmarks.processes import Failed, Process, Worker

RATIO = Row("http/a/b/64", "a / b", 0.8, "higher", goal=1.0, ours=8_000, theirs=10_000, measure="req/s", against="b")
MEMORY = Row("scale/x/memory", "memory", 30.0, "lower", "KB", goal=300)
TIME = Row("cold/x/time", "first answer", 0.5, "lower", "ms", goal=1, checked=False)
ROWS = [RATIO, MEMORY, TIME]


def baseline(rows: list[Row]) -> dict[str, object]:
    document: dict[str, object] = json.loads(report.to_json(rows, {"machine": "a test"}, "full"))
    return document


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


def test_json_holds_rows_machine_and_verdicts() -> None:
    document = baseline(ROWS)
    assert document["machine"] == {"machine": "a test"}
    assert [row["met"] for row in document["rows"]] == [False, True, True]  # type: ignore[attr-defined]


def test_the_same_figures_pass_the_check() -> None:
    assert report.check(ROWS, baseline(ROWS)) == ([], 2)


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
    worse, _ = report.check([replace(row, value=value)], baseline(ROWS), margin=0.25)
    assert bool(worse) == is_worse


def test_a_figure_without_a_baseline_is_not_compared() -> None:
    assert report.check([replace(RATIO, id="http/new/b/64")], baseline(ROWS)) == ([], 0)


def test_the_page_gets_its_figures_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report._BEGIN}\nfigures of before\n{report._END}\nafter\n")
    for _ in range(2):
        report.write_docs(page, ROWS, {"Python": "3"}, {"http": "Over HTTP"})
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "figures of before" not in text
    assert text.count("### Over HTTP") == 1


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


def test_percentiles_are_by_nearest_rank() -> None:
    assert measure.percentile(range(1, 101), 99) == 99
    assert measure.percentile([5.0], 99) == 5.0


def test_what_wrk_prints_is_read() -> None:
    text = (
        "  Latency Distribution\n     50%    1.50ms\n     99%  250.00us\n  12 requests in 1s\nRequests/sec:    123.45\n"
    )
    assert wrk.parse(text, "http://x/") == wrk.Load(123.45, 0.0015, 0.00025)
    with pytest.raises(Failed, match="Non-2xx"):
        wrk.parse(text + "  Non-2xx or 3xx responses: 12\n", "http://x/")


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
