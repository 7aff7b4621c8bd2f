"""What a histogram counted, as arrays: HdrHistogram's layout lives in the primitives, and here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2

import numpy as np
from numpy.typing import NDArray

from tai_grpc.resilience import LatencyHistogram

Int64s = NDArray[np.int64]


def _layout(histogram: LatencyHistogram) -> tuple[int, int]:
    """Return the powers of two that are `unit` and half the number of buckets that are one unit wide."""
    unit = histogram.lowest.bit_length() - 1
    half = (2 * 10**histogram.significant_digits - 1).bit_length() - 1
    return unit, half


def tops(histogram: LatencyHistogram, values: Int64s) -> Int64s:
    """Return the greatest value of the bucket that each of `values` is counted in."""
    unit, half = _layout(histogram)
    bits = np.frexp(values >> unit)[1].astype(np.int64)
    width = np.maximum(0, bits - half - 1) + unit
    result: Int64s = ((values >> width) + 1 << width) - 1
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """The buckets of a histogram that are not empty, in rising order: each from `low` up to `high`."""

    low: Int64s
    high: Int64s
    counts: Int64s

    @classmethod
    def of(cls, histogram: LatencyHistogram) -> Distribution:
        """Read a histogram of any layout.

        The first 2^(h+1) buckets are one unit wide, then every 2^h are twice as wide as the 2^h before. A
        unit is the power of two at or below `lowest`; 2^(h+1) is the one at or above 2 * 10^digits.
        """
        unit, half = _layout(histogram)
        counts = histogram.counts
        indices = np.flatnonzero(counts)
        shift = np.maximum(0, (indices >> half) - 1)
        low = (indices - (shift << half)) << (shift + unit)
        return cls(low, low + (np.int64(1) << (shift + unit)) - 1, counts[indices])

    @property
    def total(self) -> int:
        """How many values there are."""
        return int(self.counts.sum())

    @property
    def middle(self) -> NDArray[np.float64]:
        """What each bucket counts as in a mean."""
        return (self.low + ((self.high - self.low + 1) >> 1)).astype(np.float64)

    @property
    def deviation(self) -> float:
        """The standard deviation, 0 without values."""
        total = self.total
        if not total:
            return 0.0
        mean = float(self.middle @ self.counts) / total
        return float(np.sqrt(((self.middle - mean) ** 2) @ self.counts / total))

    def at_most(self, bounds: Int64s) -> Int64s:
        """How many values are in buckets that do not reach over each bound."""
        cumulative = np.concatenate(([0], np.cumsum(self.counts)))
        result: Int64s = cumulative[np.searchsorted(self.high, bounds, side="right")]
        return result

    def levels(self, ticks: int) -> Iterator[tuple[float, int, int]]:
        """Yield HdrHistogram's percentile table: percentage, value at it, how many values are not above that.

        `ticks` rows lie in each half of the distance to 100 that the half before has left: fine where it
        matters. The last row but one is the first whose value is the greatest; the last is 100 %.
        """
        if not len(self.counts):
            return
        cumulative = np.cumsum(self.counts)
        total = int(cumulative[-1])
        reached = 100.0 * cumulative / total
        level, before = 0.0, -1.0
        # Of more values than a float can tell shares of, the last levels would be one.
        while before < level < 100.0:
            at = int(np.searchsorted(reached, level))
            yield level, int(self.high[at]), int(cumulative[at])
            if at == len(reached) - 1:
                break
            before, level = level, level + 100.0 / (ticks * 2 ** (int(log2(100.0 / (100.0 - level))) + 1))
        yield 100.0, int(self.high[-1]), total
