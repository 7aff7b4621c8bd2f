"""Rows of the benchmarks: what is compared with what, and what counts as reached."""

from __future__ import annotations

import pytest

from bench.harness.results import FAILED, MISS, NOT_BUILT, PASS, Figure, Promise, Row, Target

PROMISE = Promise("calls", "10 ms", "<= 2 x TCP")


def row(**values: list[float]) -> Row:
    figures = [
        Figure(who, "us", each)
        if each
        else Figure(who, "us", absent="not built: no go here", not_built=who == "go")
        for who, each in values.items()
    ]
    return Row("unary", "calls", PROMISE, figures, beside="tcp", ours="ours")


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [(1.9, True, PASS), (2.0, True, PASS), (2.1, True, MISS), (2.0, False, PASS), (1.9, False, MISS)],
)
def test_a_target_is_reached_up_to_its_limit(value: float, at_most: bool, verdict: str) -> None:
    target = Target("calls", value, 2.0, at_most)
    assert target.verdict == verdict
    assert target.of_limit == value / 2


def test_a_target_without_our_figure_is_failed() -> None:
    """Else a run in which nothing of ours works would end well."""
    found = row(ours=[], tcp=[10.0])
    found.at_most("ours", 2, "tcp")
    found.at_least("ours", 100)
    found.judge("ours", 1, None, "us")
    assert [target.verdict for target in found.targets] == [FAILED, FAILED, FAILED]


def test_a_peer_that_is_not_built_is_no_failure_and_one_that_failed_is() -> None:
    found = row(ours=[10.0], go=[], grpclib=[])
    found.at_most("ours", 1, "go")
    found.at_most("ours", 1, "grpclib")
    assert [target.verdict for target in found.targets] == [NOT_BUILT, FAILED]
    assert [target.of_limit for target in found.targets] == [None, None]


def test_a_peer_that_is_not_built_does_not_excuse_ours() -> None:
    found = row(ours=[], go=[])
    found.at_most("ours", 1, "go")
    assert [target.verdict for target in found.targets] == [FAILED]


def test_a_target_of_nothing_has_no_part_of_its_limit() -> None:
    target = Target("lost", 0.0, 0.0, True)
    assert (target.verdict, target.of_limit) == (PASS, None)


def test_ratios_are_of_the_same_round() -> None:
    """A machine that was slow for a round was slow for both."""
    found = row(ours=[10.0, 100.0, 12.0], tcp=[5.0, 50.0, 6.0])
    assert found.ratio("ours", "tcp") == 2.0
    found.at_most("ours", 2, "tcp")
    assert (found.targets[0].verdict, found.targets[0].value) == (PASS, 2.0)


def test_how_much_better_ours_is_depends_on_whether_more_is_better() -> None:
    found = row(ours=[10.0], peer=[40.0], tcp=[5.0])
    peer, limit, ours = found.figures[1], found.figures[2], found.figures[0]
    assert found.better(peer) == 4.0
    found.more_is_better = True
    assert found.better(peer) == 0.25
    # None of these is a contender.
    found.uncompared = ("peer",)
    assert found.better(peer) is None
    assert found.better(limit) is None
    assert found.better(ours) is None


def test_a_contender_that_measured_ours_too_knows_better() -> None:
    found = row(ours=[10.0], peer=[40.0])
    found.figures[1].better = [6.0, 7.0, 9.0]
    assert found.better(found.figures[1]) == 7.0


def test_what_one_has_more_is_the_median_of_the_rounds() -> None:
    found = row(ours=[12.0, 103.0, 14.0], tcp=[10.0, 100.0, 10.0])
    assert found.more("ours", "tcp") == 3.0
    assert found.more("ours", "go") is None


def test_the_spread_is_that_of_the_round_farthest_from_the_median() -> None:
    assert Figure("ours", "us", [10.0, 9.0, 13.0]).spread == pytest.approx(30.0)
    assert Figure("ours", "connections", [0.0, 0.0]).spread == 0.0
