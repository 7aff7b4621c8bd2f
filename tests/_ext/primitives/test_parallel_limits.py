"""What the GIL serialises, these run truly at once: 8 threads, a million operations each, without it."""

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest

from tai_grpc._ext.primitives.concurrency import AdaptiveLimiter, Bulkhead
from tai_grpc._ext.primitives.keyed import KeyedTokenBucket
from tai_grpc._ext.primitives.limiter import TokenBucket
from tai_grpc.config import AdaptiveLimiterConfig

Hammer = Callable[[Callable[[], Any]], list[Any]]

TIMES = 1_000_000
THREADS = 8


@pytest.fixture(scope="module")
def limits(compiled: Callable[[str], Any]) -> Any:
    """parallel_limits.pyx, compiled."""
    return compiled("parallel_limits")


def test_a_bucket_admits_its_burst_and_its_rate_and_no_more(limits: Any, hammer: Hammer) -> None:
    """Time moves with the takes: 8 * 10^6 takes of 100 ns each are 0.8 s."""
    bucket = TokenBucket(rate=1_000_000.0, burst=1000)
    clock = np.ones(1, dtype=np.int64)
    taken = sum(hammer(lambda: limits.take(bucket, clock, 100, TIMES)))
    assert clock[0] == 1 + THREADS * TIMES * 100
    # What is there at the end counts as well; a take with a time that is late by now finds less.
    assert 800_000 <= taken <= 801_000


def test_keys_that_all_threads_bring_at_once_get_one_bucket_each(limits: Any, hammer: Hammer) -> None:
    table = KeyedTokenBucket(rate=1.0, burst=3, max_keys=TIMES)
    hashes = np.random.default_rng(1).integers(0, 2**64, TIMES, dtype=np.uint64)
    taken = np.zeros(TIMES, dtype=np.int64)
    hammer(lambda: limits.take_each(table, hashes, taken))
    assert (taken.min(), taken.max()) == (3, 3), "the burst, and never more"


def test_a_key_that_loses_its_slot_and_comes_back_is_not_over_admitted(limits: Any, hammer: Hammer) -> None:
    """48 keys for 16 slots: as soon as a slot is free, all threads are after it.

    A take happened between the times logged before and after it, so two of one key that both lie within less
    than one interval are one too many.
    """
    interval = 20_000
    table = KeyedTokenBucket(rate=1e9 / interval, burst=1, max_keys=1)
    hashes = np.random.default_rng(2).integers(0, 2**64, 48, dtype=np.uint64)
    clock = np.full(1, interval, dtype=np.int64)
    logs = [np.zeros((TIMES, 3), dtype=np.int64) for _ in range(THREADS)]
    random = Random(3)
    jobs = [(log, random.getrandbits(63) | 1) for log in logs]

    def work() -> int:
        log, seed = jobs.pop()
        return int(limits.take_any(table, hashes, clock, 10, seed, log, TIMES))

    taken = sum(hammer(work))
    takes: dict[int, list[tuple[int, int]]] = {}
    for log in logs:
        for key, before, after in log[log[:, 1] > 0].tolist():
            takes.setdefault(key, []).append((before, after))
    assert sum(map(len, takes.values())) == taken > TIMES * THREADS * 10 / interval
    for each in takes.values():
        for (before, after), (later_before, later_after) in pairwise(sorted(each)):
            assert max(after, later_after) - min(before, later_before) >= interval


def test_a_bulkhead_is_never_over_full(limits: Any, hammer: Hammer) -> None:
    bulkhead = Bulkhead(3)
    inside = np.zeros(1, dtype=np.int64)
    results = hammer(lambda: limits.pass_through(bulkhead, inside, TIMES))
    assert max(most for most, _ in results) <= 3
    # How many get in depends on who is stopped while inside; that all places are free at the end does not.
    assert sum(visits for _, visits in results) > 0
    assert bulkhead.in_flight == inside[0] == 0


def test_an_adaptive_limit_holds_within_its_range(limits: Any, hammer: Hammer) -> None:
    limiter = AdaptiveLimiter(AdaptiveLimiterConfig(initial_limit=2, min_limit=1, max_limit=4))
    inside = np.zeros(1, dtype=np.int64)
    assert 1 <= max(hammer(lambda: limits.adapt(limiter, inside, TIMES))) <= 4
    assert limiter.in_flight == inside[0] == 0
    assert 1 <= limiter.limit <= 4
