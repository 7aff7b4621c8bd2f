"""Which percentiles are told, and from how many samples on."""

from __future__ import annotations

import pytest

from bench.percentiles import LABELS, supported


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (199, []),
        (200, [50]),
        (1_000, [50, 90]),
        (10_000, [50, 90, 99]),
        (99_999, [50, 90, 99]),
        (100_000, [50, 90, 99, 99.9]),
    ],
)
def test_a_hundred_samples_are_to_lie_beyond_a_percentile(samples: int, told: list[float]) -> None:
    assert supported(samples) == told


def test_the_five_rounds_of_whole_calls_have_no_percentiles() -> None:
    """Else the 99.9th of the rounds would stand beside that of the calls in what pytest-benchmark saves."""
    assert supported(5, 5) == []
    assert supported(500, 5) == [50, 90, 99]


def test_they_are_called_by_their_number() -> None:
    assert LABELS["p99.9 us"] == "p99.9_us"
