"""Which percentiles of latencies are told, under which names, and from how many samples on."""

from __future__ import annotations

from typing import Final

PERCENTILES: Final = (50, 90, 99, 99.9)
BEYOND: Final = 100
"""How many samples are to lie beyond a percentile: of fewer it is a matter of chance."""


def field(percentile: float) -> str:
    """Return the name of a percentile among the figures of a measurement."""
    return f"p{percentile:g}_us"


LABELS: Final = {f"p{each:g} us": field(each) for each in PERCENTILES}
"""The names of those fields, by what they are called in a report."""


def supported(samples: float, beyond: int = BEYOND) -> list[float]:
    """Return those that so many samples tell something of."""
    return [each for each in PERCENTILES if samples * round(1000 - 10 * each) >= 1000 * beyond]
