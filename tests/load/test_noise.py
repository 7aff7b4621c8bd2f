"""How sure the figures of a run are."""

import math
import random

import numpy as np
import pytest

from load.courses import course, saved
from load.report.results import interval, result
from tai_grpc.load.noise import MIN_BEYOND, MIN_SLICES, Estimate, difference, estimates, student


@pytest.fixture(autouse=True)
def transport() -> None:
    """Figures are the same on each transport: here no test runs twice."""


@pytest.mark.parametrize(
    ("freedom", "expected"),
    # Of the tables: 99 %, both sides.
    [(3, 5.841), (4, 4.604), (5, 4.032), (7, 3.499), (10, 3.169), (20, 2.845), (60, 2.660), (1e9, 2.576)],
)
def test_the_distribution_is_that_of_student(freedom: float, expected: float) -> None:
    assert student(0.99, freedom) == pytest.approx(expected, rel=0.01)


def test_of_two_equally_sure_figures_the_freedoms_add_up() -> None:
    a, b = Estimate(100.0, 0.01, 5.0), Estimate(110.0, 0.01, 5.0)
    likely = difference(a, b, relative=True)
    assert likely is not None
    reach = student(0.99, 10) * 0.01 * math.sqrt(2)
    assert likely.low == pytest.approx(1.1 * math.exp(-reach) - 1)
    assert likely.high == pytest.approx(1.1 * math.exp(reach) - 1)


def test_a_difference_of_shares_is_in_points() -> None:
    likely = difference(Estimate(0.1, 0.01, 1e9), Estimate(0.3, 1e-9, 1e9), relative=False)
    assert likely is not None
    assert likely.low == pytest.approx(0.2 - 0.02576, rel=0.001)
    assert likely.high == pytest.approx(0.2 + 0.02576, rel=0.001)


def test_no_share_differs_by_more_than_100_points() -> None:
    for a, b in ((0.0, 1.0), (1.0, 0.0), (0.5, 0.5)):
        likely = difference(Estimate(a, 0.5, 3), Estimate(b, 0.5, 3), relative=False)
        assert likely is not None
        assert -1 <= likely.low <= b - a <= likely.high <= 1


def test_a_run_of_few_parts_tells_no_noise() -> None:
    assert estimates(saved(course(1, seconds=MIN_SLICES - 1))) == {}
    assert estimates(saved(course(1, seconds=MIN_SLICES)))


def test_a_percentile_with_few_calls_beyond_it_is_not_judged() -> None:
    """99 % of 1,000 calls leave MIN_BEYOND, of 900 fewer."""
    assert MIN_BEYOND == 10
    enough, few = (
        result([interval(float(i), list(range(1_000_000, 1_000_000 + each))) for i in range(5)])
        for each in (200, 180)
    )
    assert "99" in estimates(saved(enough))
    assert "99" not in estimates(saved(few))
    assert "99.9" not in estimates(saved(enough))


def test_a_percentile_of_independent_calls_is_as_sure_as_their_number_says() -> None:
    """The error of the median of n values of a density f is 1 / (2 f sqrt(n)); relative, of a log-normal."""
    chance = np.random.default_rng(3)
    rounds = [
        interval(float(i), (chance.lognormal(0, 0.5, 500) * 2e6).astype(int).tolist()) for i in range(40)
    ]
    expected = 0.5 * math.sqrt(math.pi / 2) / math.sqrt(40 * 500)
    assert estimates(saved(result(rounds)))["50"].error == pytest.approx(expected, rel=0.4)


def test_parts_that_differ_make_figures_unsure() -> None:
    steady = result([interval(float(i), [2_000_000] * 100) for i in range(12)])
    chance = random.Random(4)
    uneven = result([interval(float(i), [2_000_000] * chance.choice((100, 200))) for i in range(12)])
    assert estimates(saved(uneven))["rps"].error > 10 * estimates(saved(steady))["rps"].error


def test_neighbours_that_are_alike_are_not_taken_for_independent() -> None:
    """The same seconds tell less about the rate in halves, one fast and one slow, than in turn."""
    counts = [100] * 10 + [140] * 10
    halves = result([interval(float(i), [2_000_000] * count) for i, count in enumerate(counts)])
    in_turn = result([interval(float(i), [2_000_000] * count) for i, count in enumerate(counts[::10] * 10)])
    assert estimates(saved(halves))["rps"].error > 1.5 * estimates(saved(in_turn))["rps"].error


def test_no_share_is_known_to_be_zero() -> None:
    assert estimates(saved(course(1)))["errors"].error > 0
