# cython: language_level=3, boundscheck=False, wraparound=False
"""Every operation of every primitive, cimported and called without the GIL; the tests compare with Python."""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.primitives.backoff cimport BackoffState, backoff_range, backoff_state, backoff_wait
from tai_grpc._ext.primitives.balancer cimport LoadBalancer, Table
from tai_grpc._ext.primitives.breaker cimport (
    CLOSED, DISABLED, FORCED_OPEN, METRICS_ONLY,
    CircuitBreaker, acquire, counts_of, force, retry_after_ns, settle, settle_timed, state_of, would_admit,
)
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.concurrency cimport (
    NO_SAMPLE, AdaptiveLimiter, Bulkhead, adaptive_enter, adaptive_leave, bulkhead_enter, bulkhead_leave,
)
from tai_grpc._ext.primitives.counter cimport Counter, counter_add, counter_value
from tai_grpc._ext.primitives.endpoint cimport EndpointState, in_flight
from tai_grpc._ext.primitives.histogram cimport (
    LatencyHistogram,
    first_index, highest_at, histogram_convert, histogram_count, histogram_mean, histogram_merge,
    histogram_percentile, histogram_percentiles, histogram_record, histogram_record_corrected,
    histogram_reset, histogram_subtract, histogram_take_all, last_index, lowest_at,
)
from tai_grpc._ext.primitives.keyed cimport KeyedTokenBucket, keyed_hash, keyed_take, keyed_wait_ns
from tai_grpc._ext.primitives.limiter cimport TokenBucket, bucket_take, bucket_wait_ns
from tai_grpc._ext.primitives.retry cimport RetryBudget, budget_allows, budget_failure, budget_success
from tai_grpc._ext.primitives.strategies cimport Pick, balancer_pick, balancer_release
from tai_grpc._ext.primitives.window cimport WindowCounts

FORCED = {"reset": CLOSED, "force_open": FORCED_OPEN, "disable": DISABLED, "metrics_only": METRICS_ONLY}


def breaker_call(CircuitBreaker breaker, int outcome, int64_t duration_ns):
    """One call: its permit."""
    cdef int64_t permit
    cdef int change
    with nogil:
        permit = acquire(breaker.state_, &change)
        if duration_ns < 0:
            settle(breaker.state_, permit, outcome)
        else:
            settle_timed(breaker.state_, permit, outcome, duration_ns)
    return permit


def breaker_force(CircuitBreaker breaker, uint64_t state):
    with nogil:
        force(breaker.state_, state)


def breaker_knows(CircuitBreaker breaker):
    """Whether it would admit a call, the wait, the state as in the word, and its counts."""
    cdef WindowCounts counts
    cdef bint admits
    cdef int64_t wait_ns
    cdef int state
    with nogil:
        admits = would_admit(breaker.state_)
        wait_ns = retry_after_ns(breaker.state_)
        state = state_of(breaker.state_)
        counts = counts_of(breaker.state_)
    return admits, wait_ns, state, (counts.calls, counts.failures, counts.slow)


def bucket(TokenBucket bucket, int64_t n):
    """What a take returns, and the wait for as many afterwards, in ns."""
    cdef int64_t taken, wait_ns
    with nogil:
        taken = bucket_take(bucket.state_, n, monotonic_ns())
        wait_ns = bucket_wait_ns(bucket.state_, n, monotonic_ns())
    return taken, wait_ns


def keyed(KeyedTokenBucket table, bytes key, int64_t n):
    cdef const char *data = key
    cdef Py_ssize_t size = len(key)
    cdef int64_t taken, wait_ns
    cdef uint64_t name
    with nogil:
        name = keyed_hash(table.state_, 8, data, size)
        taken = keyed_take(table.state_, name, n, monotonic_ns())
        wait_ns = keyed_wait_ns(table.state_, name, n, monotonic_ns())
    return taken, wait_ns


def bulkhead(Bulkhead bulkhead, int visits):
    """How many of so many that come one after the other get in; one goes again."""
    cdef int inside = 0
    with nogil:
        for _ in range(visits):
            inside += bulkhead_enter(bulkhead.state_)
        bulkhead_leave(bulkhead.state_)
    return inside


def adaptive(AdaptiveLimiter limiter, int visits):
    cdef int inside = 0
    with nogil:
        for _ in range(visits):
            inside += adaptive_enter(limiter.state_)
        adaptive_leave(limiter.state_, NO_SAMPLE)
    return inside


def budget(RetryBudget budget, int failures, int successes):
    cdef bint allows
    with nogil:
        for _ in range(failures):
            budget_failure(budget.state_)
        for _ in range(successes):
            budget_success(budget.state_)
        allows = budget_allows(budget.state_)
    return allows


def counter(Counter counter, int64_t n):
    cdef int64_t value
    with nogil:
        counter_add(counter.state_, n)
        value = counter_value(counter.state_)
    return value


def wait(object config, int64_t retry, double previous):
    """Between what is drawn, and the waits of both ends."""
    cdef BackoffState state = backoff_state(config)
    cdef double low, high, shortest, longest
    with nogil:
        backoff_range(&state, retry, previous, &low, &high)
        shortest = backoff_wait(&state, retry, low)
        longest = backoff_wait(&state, retry, high)
    return (low, high), (shortest, longest)


def record(LatencyHistogram histogram, int64_t value, int64_t interval):
    with nogil:
        histogram_record(histogram.state_, histogram.counts_, value, 1)
        histogram_record_corrected(histogram.state_, histogram.counts_, value, interval)


def read(LatencyHistogram histogram):
    """Count, mean, least, most, median and two percentiles."""
    cdef double[2] wanted = [50.0, 99.0]
    cdef int64_t[2] found
    cdef int64_t count, least, most, median
    cdef double mean
    with nogil:
        count = histogram_count(histogram.state_, histogram.counts_)
        mean = histogram_mean(histogram.state_, histogram.counts_)
        least = lowest_at(histogram.state_, first_index(histogram.state_, histogram.counts_))
        most = highest_at(histogram.state_, last_index(histogram.state_, histogram.counts_))
        median = histogram_percentile(histogram.state_, histogram.counts_, 50.0)
        histogram_percentiles(histogram.state_, histogram.counts_, wanted, found, 2)
    return count, mean, least, most, median, [found[0], found[1]]


def combine(LatencyHistogram histogram, LatencyHistogram other, int64_t[::1] zeros):
    """Merge `other`, then subtract it twice; `zeros` is room for the counts and `clamped`."""
    cdef int64_t here
    cdef bint merged
    cdef int64_t first, second
    with nogil:
        histogram_convert(histogram.state_, other.state_, other.counts_, &zeros[0])
        merged = histogram_merge(histogram.state_, histogram.counts_, &zeros[0])
        first = histogram_subtract(histogram.state_, histogram.counts_, &zeros[0], &here)
        second = histogram_subtract(histogram.state_, histogram.counts_, &zeros[0], &here)
    return merged, first, second


def move(LatencyHistogram histogram, LatencyHistogram into):
    with nogil:
        histogram_take_all(histogram.state_, histogram.counts_, into.state_, into.counts_)


def forget(LatencyHistogram histogram):
    with nogil:
        histogram_reset(histogram.state_, histogram.counts_)


cdef class Taken:
    """A pick that was made without the GIL, and lasts."""
    cdef Pick pick
    # It keeps what the pick reads.
    cdef Table table
    cdef LoadBalancer balancer

    def __init__(self, LoadBalancer balancer):
        self.balancer = balancer
        self.table = balancer.newest()
        with nogil:
            balancer_pick(self.balancer.state, &self.table.state, &self.pick)

    @property
    def index(self):
        """The endpoint's number; None: all breakers refuse."""
        return None if self.pick.endpoint is NULL else self.pick.endpoint.place

    def forget_table(self):
        self.table = None

    def in_flight(self):
        cdef EndpointState *endpoint = self.pick.endpoint
        cdef int64_t calls
        with nogil:
            calls = in_flight(endpoint)
        return calls

    def release(self, int outcome, int64_t latency_us):
        with nogil:
            balancer_release(
                self.balancer.state, self.pick.endpoint, self.pick.permit, outcome, latency_us
            )
