"""What a series of times comes to."""

from __future__ import annotations

from array import array
from typing import Final

import numpy as np

from bench.peers.rpc.protocol import Figures

PERCENTILES: Final = (50, 90, 99, 99.9)


def latencies_of(nanoseconds: array[int]) -> Figures:
    found = np.percentile(np.asarray(nanoseconds), PERCENTILES) / 1e3
    return {"calls": len(nanoseconds)} | {
        f"p{name:g}_us": float(value) for name, value in zip(PERCENTILES, found, strict=True)
    }


def rate_of(calls: int, seconds: float, cpu_seconds: float) -> Figures:
    """How many a second, and what one took of this process's CPU."""
    return {"calls": calls, "per_second": calls / seconds, "cpu_us": cpu_seconds / calls * 1e6}


def next_length(messages: int, took: float, seconds: float) -> int:
    """How many messages to try next so that a stream lasts about `seconds`, growing tenfold at most."""
    return int(messages * min(10.0, 1.1 * seconds / max(took, 1e-9))) + 1
