"""A run's report in each form: complete, and nothing in it taken for the form's own signs."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from bench.harness.results import Figure, Promise, Row
from bench.harness.run import FULL
from bench.reports import as_html, as_json, as_markdown, as_text
from bench.reports.report import Report, better_of, number

ODD = 'a|b <script>*x*</script> `c` [d](e) & "f"\nsecond line'
CALLS = Promise("unary <p50>", "5-10 ms", "<= 2 x TCP")
MEMORY = Promise("memory", "64 KB", "<= {connection:g} KB", {"connection": 16})
MADE = {"commit": "0123456789ab", "changed": True, "compiled": "GNU C17 12.2.0 -O3"}


def rows() -> list[Row]:
    unary = Row(
        "unary",
        "calls, one after the other",
        CALLS,
        [
            Figure("raw TCP", "us", [40.0, 44.0, 40.0]),
            Figure("ours", "us", [50.0, 55.0, 49.0], {"p99 us": 1234.5}),
            Figure("grpcio", "us", [300.0, 330.0, 310.0]),
            Figure("grpc-go", "us", absent="not built: no go here", not_built=True),
            Figure("grpclib", "us", absent="failed: grpclib server ended"),
            Figure(ODD, "us", [100.0, 100.0, 100.0]),
        ],
        beside="raw TCP",
        ours="ours",
    )
    unary.at_most("ours", 2, "raw TCP")
    unary.at_most("ours", 0.5, "grpc-go")
    unary.at_most("ours", 0.5, "grpclib")
    idle = Row("idle", "memory", MEMORY, [Figure("ours", "B", [20_000.0])], ours="ours", note=ODD)
    idle.judge("ours <= 16,384 B", 16_384, 20_000.0, "B")
    return [unary, idle]


def report(*, others: float = 0.0, whole: bool = True) -> Report:
    return Report(
        rows=rows(),
        plan=FULL,
        machine={"cpu": "a CPU", "cpu_count": 2, "system": "Linux", "python": "3.11", **MADE},
        cpus={"servers": 0, "clients": 1},
        versions={"tai-grpc": "0.1.0", "grpcio": "1.85"},
        taken_by_others=others,
        datetime="2026-01-02 03:04 UTC",
        seconds=321.0,
        command="tai-grpc bench --results 'a`b'",
        whole=whole,
    )


def test_targets_are_counted_and_one_that_is_missed_is_known() -> None:
    found = report()
    assert found.summary() == "4 targets: 1 PASS, 1 MISS, 1 FAILED, 1 NOT BUILT"
    unary, idle = rows()
    passed, not_built, failed = unary.targets[0], unary.targets[1], unary.targets[2]
    for targets, missed in (([passed, not_built], False), ([passed, failed], True), (idle.targets, True)):
        unary.targets = targets
        assert Report(**{**vars(found), "rows": [unary]}).missed is missed


def test_a_report_says_when_it_is_not_to_be_relied_on() -> None:
    assert "not to be quoted" in as_text.end(report(whole=False))
    assert "other processes took 25% of the CPUs" in as_text.end(report(others=0.25))
    alone = as_text.end(report())
    assert "quoted" not in alone
    assert "other processes" not in alone
    assert "interrupted" not in alone
    interrupted = Report(**{**vars(report(whole=False)), "interrupted": "ten-clients"})
    assert "interrupted in ten-clients, which has what was measured by then" in as_text.end(interrupted)


def test_a_report_names_who_has_no_figure_at_all() -> None:
    found = report()
    assert found.absent == {"grpc-go": "not built: no go here", "grpclib": "failed: grpclib server ended"}
    line = "without a figure: grpc-go (not built: no go here); grpclib (failed: grpclib server ended)"
    assert line in as_text.end(found).splitlines()
    found.rows[1].figures.append(Figure("grpclib", "B", [1.0]))
    assert list(found.absent) == ["grpc-go"]
    assert "without a figure" not in as_text.end(Report(**{**vars(found), "rows": found.rows[1:]}))


def test_a_report_says_of_which_code_it_is() -> None:
    said = as_text.end(report())
    assert "tai-grpc 0.1.0, commit 0123456789ab, changed since\n" in said
    assert "compiled parts: GNU C17 12.2.0 -O3\n" in said
    unchanged = Report(**{**vars(report()), "machine": {**report().machine, "changed": False}})
    assert "commit 0123456789ab\n" in as_text.end(unchanged)


def test_a_ratio_that_differs_from_round_to_round_is_marked() -> None:
    found = Row("unary", "calls", CALLS, [Figure("ours", "us", [10.0, 10.0, 10.0])], ours="ours")
    for theirs, shown in (([20.0, 24.0, 20.0], "2.00 x"), ([20.0, 24.2, 20.0], "2.00 x (?)")):
        figure = Figure("grpcio", "us", theirs)
        found.figures[1:] = [figure]
        assert better_of(found, figure) == shown
    measured_too = Figure("grpcio", "us", [20.0] * 3, better=[3.0, 2.0, 9.0])
    assert better_of(found, measured_too) == "3.00 x (?)"


def test_how_figures_came_about_is_said_once() -> None:
    found = rows()
    for each in found:
        each.method = "the median of *5* rounds"
    whole = Report(**{**vars(report()), "rows": found})
    assert as_text.end(whole).count("unary, idle: the median of *5* rounds\n") == 1
    assert as_markdown.whole(whole).count("- unary, idle: the median of \\*5\\* rounds.\n") == 1
    assert as_html.whole(whole).count("<li>unary, idle: the median of *5* rounds</li>") == 1
    assert json.loads(as_json.whole(whole))["rows"][0]["method"] == "the median of *5* rounds"


def test_text_has_a_contender_a_line_and_a_target_a_line() -> None:
    lines = list(as_text.row(rows()[0]))
    assert lines[0] == "unary: calls, one after the other"
    assert lines[1] == "  the mission: 5-10 ms; ours: <= 2 x TCP"
    ours = next(line for line in lines if line.strip().startswith("ours"))
    assert ours.split() == ["ours", "50", "us", "+-10", "%", "1.25", "x", "raw", "TCP", "p99", "us:", "1,234"]
    grpcio = next(line for line in lines if line.strip().startswith("grpcio"))
    assert "7.50 x raw TCP" in grpcio
    assert grpcio.endswith("ours is better by    6.00 x")
    assert any(line.endswith("not built: no go here") for line in lines)
    assert "  PASS       ours <= 2 x raw TCP: 1.25 x, 0.62 of the limit" in lines
    assert "  NOT BUILT  ours <= 0.5 x grpc-go" in lines


def test_markdown_names_the_command_and_every_promise_figure_and_verdict() -> None:
    text = as_markdown.whole(report())
    assert "Made by `tai-grpc bench --results 'a'b'`; do not edit." in text
    assert "| unary \\<p50\\> | 5-10 ms | unary | ours \\<= 2 x raw TCP | 1.25 x | 0.62 | PASS |" in text
    assert "| memory | 64 KB | idle | ours \\<= 16,384 B | 20,000 B | 1.22 | MISS |" in text
    assert "| grpc-go | not built: no go here |" in text
    assert "- **NOT BUILT** ours \\<= 0.5 x grpc-go" in text


def test_markdown_shows_any_text_as_it_is() -> None:
    text = as_markdown.whole(report())
    line = next(line for line in text.splitlines() if line.startswith("| a\\|b"))
    assert "\\<script\\>\\*x\\*\\</script\\> \\`c\\` \\[d\\](e)" in line
    assert "second line" in line
    columns = len([cell for cell in line.replace("\\|", "").split("|") if cell])
    title = next(line for line in text.splitlines() if line.startswith("| who"))
    assert columns == len([cell for cell in title.split("|") if cell])


class Page(HTMLParser):
    """Counts what is open, and keeps what is shown and what is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.shown: list[str] = []
        self.asked: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.asked += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


def test_html_is_whole_asks_for_nothing_and_shows_any_text_as_it_is() -> None:
    page = Page()
    page.feed(as_html.whole(report()))
    page.close()
    assert page.open == []
    assert page.asked == []
    assert "script" not in page.tags
    assert ODD in page.shown
    for shown in (
        "not built: no go here",
        "PASS",
        "MISS",
        "FAILED",
        "NOT BUILT",
        "20,000 B",
        "7.50 x",
        "6.00 x",
    ):
        assert shown in page.shown
    assert "tai-grpc bench --results 'a`b'" in page.shown


def test_json_has_every_value() -> None:
    found = json.loads(as_json.whole(report()))
    assert found["missed"] is True
    assert found["interrupted"] is None
    unary = found["rows"][0]
    assert (unary["mission"], unary["beside"], unary["ours_is"]) == ("5-10 ms", "raw TCP", "ours")
    by_who = {figure["who"]: figure for figure in unary["figures"]}
    assert by_who["grpcio"]["values"] == [300.0, 330.0, 310.0]
    assert by_who["grpcio"]["ours_is_better_by"] == 6.0
    assert by_who["grpcio"]["ratio"] == 7.5
    assert by_who["ours"]["also"] == {"p99 us": 1234.5}
    assert by_who["grpc-go"] == {"who": "grpc-go", "absent": "not built: no go here"}
    assert [target["verdict"] for target in unary["targets"]] == ["PASS", "NOT BUILT", "FAILED"]
    assert unary["targets"][0]["of_limit"] == 0.625


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0312, "0.031"),
        (1.234, "1.23"),
        (48.61, "48.6"),
        (64.0, "64"),
        (1234.5, "1,234"),
        (1e6, "1,000,000"),
    ],
)
def test_numbers_have_no_more_digits_than_mean_something(value: float, shown: str) -> None:
    assert number(value) == shown
