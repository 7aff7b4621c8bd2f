"""What a series of times comes to."""

from __future__ import annotations

from array import array

import numpy as np

from bench.peers.rpc.protocol import Figures


def latencies_of(nanoseconds: array[int]) -> Figures:
    p50, p99 = np.percentile(np.asarray(nanoseconds), (50, 99)) / 1e3
    return {"calls": len(nanoseconds), "p50_us": float(p50), "p99_us": float(p99)}


def rate_of(calls: int, seconds: float, cpu_seconds: float) -> Figures:
    """How many a second, and what one took of this process's CPU."""
    return {"calls": calls, "per_second": calls / seconds, "cpu_us": cpu_seconds / calls * 1e6}


def next_length(messages: int, took: float, seconds: float) -> int:
    """How many messages to try next so that a stream lasts about `seconds`, growing tenfold at most."""
    return int(messages * min(10.0, 1.1 * seconds / max(took, 1e-9))) + 1
