"""How sure the figures of one run are, judged by how much its parts differ among themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tai_grpc.load.report.figures import PERCENTAGES
from tai_grpc.load.report.saved import SavedRun, Slice

MIN_SLICES: Final = 5
"""A run of fewer parts says nothing about its noise."""
MIN_BEYOND: Final = 10
"""Calls that must lie on either side of a percentile for it to be judged."""
CONFIDENCE: Final = 0.99
"""Each figure's: with ten of them about one comparison in twenty would err at worst."""
FLOOR: Final = 0.001
"""The relative error that histograms, clocks and rounding leave at the least."""
MOST_REACH: Final = math.log(10)
"""A figure that may be ten times as much, or a tenth of it, is not known."""

_RESAMPLES: Final = 500
_SEED: Final = 20_240_102
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, its standard error and the degrees of freedom that the error is known with.

    The error is relative, of the logarithm; of a share it is that of the share itself.
    """

    value: float
    error: float
    freedom: float


@dataclass(frozen=True, slots=True)
class Range:
    """Where a difference lies, as far as the noise of both runs lets tell."""

    low: float
    high: float


def difference(a: Estimate, b: Estimate, *, relative: bool) -> Range | None:
    """Return the range of b's figure relative to a's, less 1, or of the difference of two shares.

    None when it would be so wide, with 0 in it, that it says nothing.
    """
    error = math.hypot(a.error, b.error)
    # Welch's degrees of freedom.
    parts = a.error**4 / a.freedom + b.error**4 / b.freedom
    reach = error * student(CONFIDENCE, error**4 / parts) if parts else 0.0
    if not relative:
        return Range(max(b.value - a.value - reach, -1.0), min(b.value - a.value + reach, 1.0))
    middle = math.log(b.value / a.value)
    if reach > max(abs(middle), MOST_REACH):
        return None
    return Range(math.expm1(middle - reach), math.expm1(middle + reach))


def student(confidence: float, freedom: float) -> float:
    """How many standard errors Student's distribution has on either side; within 1 % from 3 degrees on.

    The expansion of Fisher and Cornish in powers of 1 / freedom.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def estimates(run: SavedRun) -> Mapping[str, Estimate]:
    """Return what can be judged of a run's "rps", "average", percentiles ("99.9") and "errors".

    Parts of the run, in blocks as long as one part still tells something of the next, are drawn anew with
    replacement (the moving block bootstrap): how much a figure differs from draw to draw is its error. A
    percentile's is not below what so many calls can tell of it.
    """
    slices = run.slices
    if len(slices) < MIN_SLICES:
        return {}
    table = _Table(slices)
    block = _block_length(table)
    blocks = len(slices) / block
    drawn = _draw(len(slices), block)
    spread = math.sqrt(blocks / (blocks - 1))

    def judged(value: float, resampled: _Floats, floor: float) -> Estimate:
        return Estimate(value, max(float(resampled.std()) * spread, floor), blocks - 1)

    found: dict[str, Estimate] = {}
    rates = (drawn @ table.count) / (drawn @ table.length)
    if run.rps > 0 and rates.all():
        found["rps"] = judged(run.rps, np.log(rates), FLOOR)
    shares = (drawn @ table.failed) / np.maximum(drawn @ table.count, 1)
    # One failed call more, and one good: no share is known to be 0.
    share = (run.failed + 1) / (run.count + 2)
    found["errors"] = judged(
        run.failed / max(run.count, 1), shares, math.sqrt(share * (1 - share) / (run.count + 2))
    )
    counts = drawn @ table.counts
    cumulative = counts.cumsum(axis=1)
    totals = cumulative[:, -1] if cumulative.shape[1] else np.zeros(len(counts))
    if not run.average_ns or not totals.all():
        return found
    found["average"] = judged(run.average_ns, np.log(counts @ table.middle / totals), FLOOR)
    whole = table.counts.sum(axis=0).cumsum()
    for percentage in PERCENTAGES:
        part = percentage / 100
        if min(part, 1 - part) * whole[-1] < MIN_BEYOND:
            continue
        if not (value := run.percentiles.get(percentage)):
            continue
        ranks = np.maximum(np.floor(part * totals + 0.5), 1)
        places = (cumulative >= ranks[:, None]).argmax(axis=1)
        floor = max(_rank_error(table, whole, part), FLOOR)
        found[f"{percentage:g}"] = judged(value, np.log(np.maximum(table.high[places], 1)), floor)
    return found


class _Table:
    """The parts of a run as arrays; `counts` has a row for each, and a column for each latency in any."""

    def __init__(self, slices: tuple[Slice, ...]) -> None:
        # Equal tops mean equal buckets, as all slices of a run are of one layout.
        tops, first = np.unique(np.concatenate([each.latencies.high for each in slices]), return_index=True)
        self.high: _Floats = tops.astype(np.float64)
        self.middle: _Floats = np.concatenate([each.latencies.middle for each in slices])[first]
        self.counts = np.zeros((len(slices), len(tops)))
        for row, each in zip(self.counts, slices, strict=True):
            row[np.searchsorted(tops, each.latencies.high)] = each.latencies.counts
        self.length: _Floats = np.array([each.length_ns for each in slices]) / 1e9
        self.count: _Floats = np.array([float(each.count) for each in slices])
        self.failed: _Floats = np.array([float(each.failed) for each in slices])


def _block_length(table: _Table) -> int:
    """Long enough that blocks hardly depend on each other, by the likeness of neighbours."""
    number = int(table.length.size)
    ok = table.counts.sum(axis=1)
    means = np.divide(table.counts @ table.middle, ok, out=np.zeros(number), where=ok > 0)
    likeness = max(_likeness(table.count / table.length), _likeness(means))
    wanted = max(2 * (1 + likeness) / (1 - likeness), math.cbrt(number))
    most = number // (MIN_SLICES - 1)
    return max(min(math.ceil(wanted), most), 1)


def _likeness(series: _Floats) -> float:
    """The correlation of neighbours, 0 to 0.9; so few of them show it too small, by about (1 + 4r) / n."""
    off = series - series.mean()
    whole = float(off @ off)
    if not whole:
        return 0.0
    shown = float(off[1:] @ off[:-1]) / whole
    return min(max(shown + (1 + 4 * shown) / len(series), 0.0), 0.9)


def _draw(number: int, block: int) -> _Floats:
    """How often each part is in each resample: blocks of neighbours, the last part's being the first."""
    random = np.random.default_rng(_SEED)
    starts = random.integers(0, number, size=(_RESAMPLES, -(-number // block)))
    places = ((starts[:, :, None] + np.arange(block)) % number).reshape(_RESAMPLES, -1)[:, :number]
    drawn = np.zeros((_RESAMPLES, number))
    np.add.at(drawn, (np.arange(_RESAMPLES)[:, None], places), 1.0)
    return drawn


def _at(table: _Table, cumulative: _Floats, rank: float) -> float:
    place = min(int(np.searchsorted(cumulative, max(rank, 1))), len(cumulative) - 1)
    return float(table.high[place])


def _rank_error(table: _Table, cumulative: _Floats, part: float) -> float:
    """The relative error of a percentile of so many calls, were they independent: by the ranks around it."""
    total = cumulative[-1]
    reach = math.sqrt(total * part * (1 - part))
    low, high = (_at(table, cumulative, part * total + off) for off in (-reach, reach))
    return (math.log(max(high, 1)) - math.log(max(low, 1))) / 2
