"""Two runs side by side: what differs, and what noise explains."""

import json
from typing import Any

import pytest

from load.courses import course, of_ghz, saved
from load.report.results import CONSTANT_RATE, interval, plan, result
from tai_grpc.load.compare import NOTE, TOO_FEW_NOTE, Comparison, Verdict, compare, to_json, to_text
from tai_grpc.load.report.saved import parse_report
from tai_grpc.load.result import LoadResult


@pytest.fixture(autouse=True)
def transport() -> None:
    """Figures are the same on each transport: here no test runs twice."""


def _compare(a: LoadResult, b: LoadResult) -> Comparison:
    return compare(saved(a, "a.json"), saved(b, "b.json"))


def _verdicts(comparison: Comparison) -> dict[str, Verdict]:
    return {figure.name: figure.verdict for figure in comparison.figures}


@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_is_a_third_slower_is_judged_so(seed: int) -> None:
    found = _compare(course(seed), course(seed + 100, slowness=4 / 3))
    assert found.verdict is Verdict.SLOWER
    verdicts = _verdicts(found)
    assert {verdicts[name] for name in ("rps", "average", "50", "90")} == {Verdict.SLOWER}
    assert found.errors is Verdict.SAME


def test_the_other_way_round_it_is_faster() -> None:
    found = _compare(course(100, slowness=4 / 3), course(1))
    assert found.verdict is Verdict.FASTER
    assert _verdicts(found)["rps"] is Verdict.FASTER


def test_runs_of_one_kind_seldom_differ_by_more_than_their_noise() -> None:
    """Eleven figures are judged at 99 % each: in all, few of these pairs may be told apart in any of them."""
    wrong = sum(
        _compare(course(2 * seed + 1000), course(2 * seed + 1001)).verdict is not Verdict.SAME
        for seed in range(25)
    )
    assert wrong <= 2


def test_the_difference_lies_within_what_is_likely() -> None:
    found = _compare(course(1), course(101, slowness=1.5))
    rps = found.figures[0]
    assert rps.likely is not None
    assert rps.difference is not None
    assert rps.likely.low < rps.difference < rps.likely.high < 0
    assert rps.likely.low < 1 / 1.5 - 1 < rps.likely.high


def test_a_run_beside_itself_does_not_differ() -> None:
    made = course(1, failing=0.01)
    assert set(_verdicts(_compare(made, made)).values()) == {Verdict.SAME, Verdict.TOO_FEW}


def test_short_runs_are_not_judged() -> None:
    found = _compare(course(1, seconds=2), course(2, seconds=2, slowness=9))
    assert set(_verdicts(found).values()) == {Verdict.TOO_FEW}
    assert found.verdict is Verdict.TOO_FEW
    text = to_text(found)
    assert "Too few data to judge B beside A." in text
    assert TOO_FEW_NOTE in text
    assert NOTE not in text


def test_a_percentile_that_few_calls_reach_is_not_judged_where_others_are() -> None:
    """4,000 calls leave four beyond 99.9 %."""
    verdicts = _verdicts(_compare(course(1), course(101, slowness=3, calls=600)))
    assert verdicts["99.9"] is Verdict.TOO_FEW
    assert verdicts["99"] is Verdict.SLOWER


def test_more_errors_are_told_apart_from_speed() -> None:
    found = _compare(course(1), course(1, failing=0.05))
    assert found.errors is Verdict.MORE_ERRORS
    assert _compare(course(1, failing=0.05), course(1)).errors is Verdict.FEWER_ERRORS
    assert "; B has more errors." in to_text(found)


def test_a_single_error_is_noise() -> None:
    one = result([interval(float(i), [2_000_000] * 100, failed=int(i == 3)) for i in range(20)])
    none = result([interval(float(i), [2_000_000] * 100) for i in range(20)])
    assert _compare(none, one).errors is Verdict.SAME


def test_faster_in_part_and_slower_in_part() -> None:
    """A better median and a worse tail."""
    a = result([interval(float(i), [2_000_000] * 900 + [4_000_000] * 100) for i in range(10)])
    b = result([interval(float(i), [1_000_000] * 900 + [9_000_000] * 100) for i in range(10)])
    verdicts = _verdicts(found := _compare(a, b))
    assert (verdicts["50"], verdicts["99"]) == (Verdict.FASTER, Verdict.SLOWER)
    assert found.verdict is Verdict.MIXED
    assert "B is faster in part, slower in part." in to_text(found)


def test_the_reports_of_ghz_are_compared_too() -> None:
    a, b = (
        parse_report(json.dumps(of_ghz(made)).encode(), "ghz.json")
        for made in (course(1), course(101, slowness=1.5))
    )
    assert compare(a, b).verdict is Verdict.SLOWER
    assert compare(a, saved(course(101, slowness=1.5))).verdict is Verdict.SLOWER
    assert compare(a, saved(course(7))).verdict is Verdict.SAME


def test_a_report_of_figures_only_is_shown_and_not_judged() -> None:
    bare = parse_report(json.dumps(of_ghz(course(1), details=False)).encode(), "ghz.json")
    found = compare(bare, saved(course(2)))
    assert found.verdict is Verdict.TOO_FEW
    lines = to_text(found).splitlines()
    (row,) = [line for line in lines if line.startswith("  99.9 %")]
    assert row.split()[2] == "-"
    (rps,) = [line for line in lines if line.startswith("  Requests/sec")]
    assert float(rps.split()[1]) == pytest.approx(bare.rps, abs=0.01)


def test_runs_that_were_asked_for_different_things_are_told() -> None:
    a = course(1, of=plan(concurrency=50))
    b = course(2, of=plan(concurrency=100, schedule=CONSTANT_RATE, hosts=("other:1",)))
    found = _compare(a, b)
    assert found.options == (("loop", "closed", "open"), ("concurrency", 50, 100))
    text = to_text(found)
    assert "They were asked for different things:" in text
    assert "  concurrency   A 50       B 100\n" in text
    assert "different things" not in to_text(_compare(a, course(2)))


def test_the_text_has_a_row_for_each_figure() -> None:
    found = _compare(course(1, of=plan(name="before\x1b[2J")), course(2, of=plan(name="after")))
    lines = to_text(found).splitlines()
    assert lines[1].split(maxsplit=2)[:2] == ["A", "a.json"]
    assert "before\\x1b[2J, tai.v1.Governor/HealthCheck" in lines[1]
    head = next(i for i, line in enumerate(lines) if "judgement" in line)
    names = [line[2:16].strip() for line in lines[head + 1 : head + 13]]
    assert names == [
        *(
            "Requests/sec",
            "Average",
            "10 %",
            "25 %",
            "50 %",
            "75 %",
            "90 %",
            "95 %",
            "99 %",
            "99.9 %",
            "99.99 %",
        ),
        "Errors",
    ]
    assert lines[head + 1].endswith(Verdict.SAME.value)
    assert NOTE in lines


def test_the_json_says_the_same() -> None:
    found = _compare(course(1), course(101, slowness=1.5))
    document: dict[str, Any] = json.loads(to_json(found))
    assert document["verdict"] == "slower"
    assert document["errors"] == "no difference that the noise would not explain"
    assert (document["a"]["file"], document["b"]["file"]) == ("a.json", "b.json")
    rps = document["figures"][0]
    assert rps["figure"] == "rps"
    assert rps["difference"] == pytest.approx(rps["b"] / rps["a"] - 1)
    assert rps["low"] < rps["difference"] < rps["high"]
    assert [figure["figure"] for figure in document["figures"]][-1] == "errors"


def test_a_run_in_which_nothing_succeeded_has_no_latencies_to_be_judged() -> None:
    none = result([interval(float(i), [], failed=900) for i in range(9)])
    found = _compare(course(1), none)
    assert (found.verdict, found.errors) == (Verdict.NO_LATENCIES, Verdict.MORE_ERRORS)
    text = to_text(found)
    assert "No call of B succeeded, so how fast B is beside A cannot be judged; B has more errors." in text
    (average,) = [line.split() for line in text.splitlines() if line.startswith("  Average")]
    assert average[3:] == ["-", "cannot", "be", "judged"]
    assert _compare(none, course(1)).errors is Verdict.FEWER_ERRORS
    assert "No call of A or B succeeded, " in to_text(_compare(none, none))
    assert _compare(result(), result()).verdict is Verdict.NO_LATENCIES


def test_what_may_lie_anywhere_is_not_judged() -> None:
    """Parts without a call leave the rate open; those with one in a hundred leave it to chance."""
    sparse, other = ([2, 0, 1, 0, 0], [1, 0, 0, 1, 3]), ([20, 1, 1, 1, 1], [1, 30, 1, 1, 1])
    for counts in (sparse, other):
        a, b = (result([interval(float(i), [2_000_000] * n) for i, n in enumerate(each)]) for each in counts)
        rps = _compare(a, b).figures[0]
        assert (rps.verdict, rps.likely) == (Verdict.TOO_FEW, None)


def test_a_difference_that_is_greater_than_a_wide_range_is_told() -> None:
    a = result([interval(float(i), [2_000_000] * n) for i, n in enumerate((5, 1, 3, 1, 2))])
    b = result([interval(float(i), [2_000_000] * 1000 * n) for i, n in enumerate((5, 1, 3, 1, 2))])
    assert _compare(a, b).figures[0].verdict is Verdict.FASTER
