# cython: language_level=3, boundscheck=False, wraparound=False
"""The primitives as other Cython code uses them: cimported, in loops without the GIL."""

from libc.stdint cimport int64_t

from tai_grpc._ext.primitives.balancer cimport LoadBalancer, Table
from tai_grpc._ext.primitives.breaker cimport (
    CURRENT_ERA, FAILURE, HALF_OPEN, REFUSED, SUCCESS, CircuitBreaker, acquire, settle, settle_timed,
)
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.counter cimport Counter, counter_add
from tai_grpc._ext.primitives.histogram cimport LatencyHistogram, histogram_record
from tai_grpc._ext.primitives.limiter cimport TokenBucket, bucket_take
from tai_grpc._ext.primitives.retry cimport RetryBudget, budget_failure, budget_success
from tai_grpc._ext.primitives.strategies cimport Pick, balancer_pick, balancer_release


def ask(CircuitBreaker breaker, int64_t times):
    """How many of `times` calls are admitted."""
    cdef int64_t admitted = 0
    cdef int change
    with nogil:
        for _ in range(times):
            admitted += acquire(breaker.state_, &change) != REFUSED
    return admitted


def call(CircuitBreaker breaker, int64_t[:] permits, int64_t[:] probing, int64_t[:, :] changes):
    """One call for each place in `permits`, every third of which fails.

    Writes the permits there, those with which an era of HALF_OPEN began to `probing`, and counts the
    transitions, by old and new state, in `changes`.
    """
    cdef int64_t i, permit
    cdef int64_t eras = 0
    cdef int change
    with nogil:
        for i in range(permits.shape[0]):
            permit = acquire(breaker.state_, &change)
            permits[i] = permit
            changes[change >> 3, change & 7] += change != 0
            if change & 7 == HALF_OPEN:
                probing[eras] = permit
                eras += 1
            if permit != REFUSED:
                change = settle(breaker.state_, permit, FAILURE if i % 3 == 0 else SUCCESS)
                changes[change >> 3, change & 7] += change != 0


def report(CircuitBreaker breaker, int64_t times):
    """`times` calls of the current era: every third fails, every fifth takes 2 s and the others 1 s."""
    cdef int64_t i
    with nogil:
        for i in range(times):
            settle_timed(
                breaker.state_, CURRENT_ERA, FAILURE if i % 3 == 0 else SUCCESS,
                2_000_000_000 if i % 5 == 0 else 1_000_000_000,
            )


def take(TokenBucket bucket, int64_t times):
    """How many of `times` takes of one token succeed."""
    cdef int64_t taken = 0
    with nogil:
        for _ in range(times):
            taken += bucket_take(bucket.state_, 1, monotonic_ns()) == 0
    return taken


def count(Counter counter, LatencyHistogram histogram, int64_t times):
    cdef int64_t i
    with nogil:
        for i in range(times):
            counter_add(counter.state_, 1)
            histogram_record(histogram.state_, histogram.counts_, i, 1)


def spend(RetryBudget budget, int64_t times):
    """`times` failures, each followed by a success."""
    with nogil:
        for _ in range(times):
            budget_failure(budget.state_)
            budget_success(budget.state_)


def balance(LoadBalancer balancer, int64_t times):
    """Pick and release `times` times; every fifth call fails. Return how many were refused."""
    cdef Pick pick
    cdef int64_t i
    cdef int64_t refused = 0
    cdef int outcome
    # It keeps what the pick reads.
    cdef Table table = balancer.newest()
    with nogil:
        for i in range(times):
            outcome = FAILURE if i % 5 == 0 else SUCCESS
            balancer_pick(balancer.state, &table.state, &pick)
            if pick.endpoint is NULL:
                refused += 1
                continue
            balancer_release(balancer.state, pick.endpoint, pick.permit, outcome, i)
    return refused
