# cython: language_level=3, boundscheck=False, wraparound=False
"""The limits as other Cython code uses them: cimported, in loops without the GIL."""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.primitives.atomics cimport add, load
from tai_grpc._ext.primitives.concurrency cimport (
    AdaptiveLimiter, Bulkhead, adaptive_enter, adaptive_leave, bulkhead_enter, bulkhead_leave,
)
from tai_grpc._ext.primitives.keyed cimport KeyedTokenBucket, keyed_take, keyed_wait_ns
from tai_grpc._ext.primitives.limiter cimport TokenBucket, bucket_take


def take(TokenBucket bucket, int64_t[::1] clock, int64_t step_ns, int64_t times):
    """How many of `times` takes of one token succeed, each of which moves the clock `step_ns` on."""
    cdef int64_t taken = 0
    with nogil:
        for _ in range(times):
            taken += bucket_take(bucket.state_, 1, add(&clock[0], step_ns)) == 0
    return taken


def take_each(KeyedTokenBucket table, uint64_t[::1] hashes, int64_t[::1] taken):
    """Take a token of each key; count those that are there."""
    cdef int64_t i
    with nogil:
        for i in range(hashes.shape[0]):
            if keyed_take(table.state_, hashes[i], 1, 1_000_000) == 0:
                add(&taken[i], 1)


def take_any(
    KeyedTokenBucket table,
    uint64_t[::1] hashes,
    int64_t[::1] clock,
    int64_t step_ns,
    uint64_t seed,
    int64_t[:, ::1] log,
    int64_t times,
):
    """Take a token of a random key, `times` times, each of which moves the clock `step_ns` on.

    Logs the number of the key and the times before and after each take that succeeds; returns how many did.
    """
    cdef int64_t taken = 0
    cdef int64_t key, before
    with nogil:
        for _ in range(times):
            seed ^= seed << 13
            seed ^= seed >> 7
            seed ^= seed << 17
            key = <int64_t>(seed % <uint64_t>hashes.shape[0])
            before = add(&clock[0], step_ns)
            if keyed_take(table.state_, hashes[key], 1, before) == 0 and taken < log.shape[0]:
                log[taken, 0] = key
                log[taken, 1] = before
                log[taken, 2] = load(&clock[0])
                taken += 1
            keyed_wait_ns(table.state_, hashes[key], 1, before)
    return taken


def pass_through(Bulkhead bulkhead, int64_t[::1] inside, int64_t times):
    """The most that were inside at once, of `times` visits, and how many were let in."""
    cdef int64_t most = 0
    cdef int64_t visits = 0
    with nogil:
        for _ in range(times):
            if bulkhead_enter(bulkhead.state_):
                most = max(most, add(&inside[0], 1) + 1)
                visits += 1
                add(&inside[0], -1)
                bulkhead_leave(bulkhead.state_)
    return most, visits


def adapt(AdaptiveLimiter limiter, int64_t[::1] inside, int64_t times):
    """The most that were inside at once, of `times` visits, which take from 1 us to 1 ms."""
    cdef int64_t most = 0
    cdef int64_t i
    with nogil:
        for i in range(times):
            if adaptive_enter(limiter.state_):
                most = max(most, add(&inside[0], 1) + 1)
                add(&inside[0], -1)
                adaptive_leave(limiter.state_, 1000 * (1 + i % 1000))
    return most
