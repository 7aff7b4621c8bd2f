"""What a series of times comes to."""

from __future__ import annotations

from array import array

import numpy as np

from bench.peers.rpc.protocol import Figures
from bench.percentiles import PERCENTILES, field


def latencies_of(nanoseconds: array[int]) -> Figures:
    found = np.percentile(np.asarray(nanoseconds), PERCENTILES) / 1e3
    return {"calls": len(nanoseconds)} | {
        field(each): float(value) for each, value in zip(PERCENTILES, found, strict=True)
    }


def rate_of(calls: int, seconds: float, cpu_seconds: float) -> Figures:
    """How many a second, and what one took of this process's CPU."""
    return {"calls": calls, "per_second": calls / seconds, "cpu_us": cpu_seconds / calls * 1e6}


class Streams:
    """Streams of more and more messages, until one has lasted half of `seconds` at least."""

    def __init__(self, seconds: float) -> None:
        self.messages = 100
        """How many the next one has."""
        self._seconds = seconds

    def ended(self, came: int, took: float, cpu_seconds: float) -> Figures | None:
        """Return the figures of a stream that has lasted long enough; else the next is to be tried."""
        assert came == self.messages, f"{came} messages of {self.messages} came"
        if took >= self._seconds / 2:
            return rate_of(came, took, cpu_seconds)
        self.messages = int(came * min(10.0, 1.1 * self._seconds / max(took, 1e-9))) + 1
        return None
