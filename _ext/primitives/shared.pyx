# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False
"""Primitives whose state is in a region: made in memory of their own first, then moved there."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

from tai_grpc._ext.primitives.arena cimport Memory, Region
from tai_grpc._ext.primitives.atomics cimport load, load_u64
from tai_grpc._ext.primitives.breaker cimport (
    METRICS_ONLY, STATE_SHIFT, BreakerState, CircuitBreaker, era_of, window_of,
)
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.counter cimport STRIPES, Counter, CounterState
from tai_grpc._ext.primitives.histogram cimport HistogramState, LatencyHistogram
from tai_grpc._ext.primitives.limiter cimport BucketState, TokenBucket
from tai_grpc._ext.primitives.retry cimport BudgetState, RetryBudget
from tai_grpc._ext.primitives.window cimport COUNT, WindowState

cdef enum:
    # Of a window's head, what is below the tag: see window.pyx.
    HEAD_MASK = (1 << 24) - 1

# How far eras, which every transition moves on, may be ahead of the clock: three days.
cdef int64_t MAX_TICKS_AHEAD = <int64_t>1 << 32


def share(Region region not None, name, str what not None, primitive):
    """Make a new `primitive` the view of the state called `name`, which begins as its own when there is none.

    `what` says what it is: a kind, then FIELD=VALUE for its configuration, with spaces between.

    Raises:
        ConfigError: `name` is not a str of 1 to 128 bytes in UTF-8.
        ArenaError: the region is full or damaged, or `name` is something else there.
    """
    cdef bint made = False
    cdef bint sound
    cdef void *state
    cdef Memory own
    if isinstance(primitive, CircuitBreaker):
        own = (<CircuitBreaker>primitive).owner
        state = region.entry(name, what, own, &made)
        sound = made or _is_breaker(<BreakerState *>state, <BreakerState *>own.data)
        (<CircuitBreaker>primitive).state_ = <BreakerState *>state
        (<CircuitBreaker>primitive).owner = region
    elif isinstance(primitive, TokenBucket):
        own = (<TokenBucket>primitive).owner
        state = region.entry(name, what, own, &made)
        sound = made or _is_bucket(<BucketState *>state, <BucketState *>own.data)
        (<TokenBucket>primitive).state_ = <BucketState *>state
        (<TokenBucket>primitive).owner = region
    elif isinstance(primitive, RetryBudget):
        own = (<RetryBudget>primitive).owner
        state = region.entry(name, what, own, &made)
        sound = made or _is_budget(<BudgetState *>state, <BudgetState *>own.data)
        (<RetryBudget>primitive).state_ = <BudgetState *>state
        (<RetryBudget>primitive).owner = region
    elif isinstance(primitive, Counter):
        own = (<Counter>primitive).owner
        state = region.entry(name, what, own, &made)
        sound = made or _is_counter(<CounterState *>state)
        (<Counter>primitive).state_ = <CounterState *>state
        (<Counter>primitive).owner = region
    elif isinstance(primitive, LatencyHistogram):
        own = (<LatencyHistogram>primitive).owner
        state = region.entry(name, what, own, &made)
        sound = made or _is_histogram(<HistogramState *>state, <HistogramState *>own.data)
        (<LatencyHistogram>primitive).state_ = <HistogramState *>state
        (<LatencyHistogram>primitive).counts_ = <int64_t *>(<HistogramState *>state + 1)
        (<LatencyHistogram>primitive).owner = region
    else:
        raise TypeError(f"{type(primitive).__name__} cannot be shared")
    if not sound:
        raise region.damaged(f"the state of {name!r} cannot be that of {what}")


# Whether `state` can be what became of `fresh`: the same configuration, and nothing that would overflow.


cdef inline bint _same(const void *state, const void *fresh, size_t begin, size_t end) noexcept nogil:
    return memcmp(<const char *>state + begin, <const char *>fresh + begin, end - begin) == 0


cdef bint _is_breaker(BreakerState *state, BreakerState *fresh) noexcept nogil:
    cdef uint64_t word = load_u64(&state.word)
    cdef int64_t latest = era_of(fresh.word) + MAX_TICKS_AHEAD
    cdef size_t fixed = <size_t>(<char *>&state.open_ticks - <char *>state)
    return (
        _same(state, fresh, fixed, sizeof(BreakerState))
        and word >> STATE_SHIFT <= METRICS_ONLY
        and era_of(word) <= latest
        and 0 <= load(&state.last_admission) <= latest
        and (state.window == 0 or _is_window(window_of(state), window_of(fresh)))
    )


cdef bint _is_window(WindowState *state, const WindowState *fresh) noexcept nogil:
    cdef size_t fixed = <size_t>(<char *>&state.kind - <char *>state)
    cdef int64_t place = <int64_t>(load_u64(&state.head) & HEAD_MASK)
    return _same(state, fresh, fixed, sizeof(WindowState)) and (state.kind != COUNT or place < 2 * state.size)


cdef bint _is_bucket(BucketState *state, const BucketState *fresh) noexcept nogil:
    cdef int64_t arrival = load(&state.arrival)
    return (
        state.interval == fresh.interval
        and state.tolerance == fresh.tolerance
        and state.burst == fresh.burst
        and 0 <= arrival <= (monotonic_ns() << 4) + fresh.tolerance
    )


cdef bint _is_budget(BudgetState *state, const BudgetState *fresh) noexcept nogil:
    return (
        state.max_tokens == fresh.max_tokens
        and state.token_ratio == fresh.token_ratio
        and 0 <= load(&state.tokens) <= fresh.max_tokens
    )


cdef bint _is_counter(CounterState *state) noexcept nogil:
    cdef int stripe
    for stripe in range(STRIPES):
        if load(&state.stripes[stripe].value) < 0:
            return False
    return True


cdef bint _is_histogram(HistogramState *state, const HistogramState *fresh) noexcept nogil:
    cdef size_t fixed = <size_t>(<char *>&state.lowest - <char *>state)
    cdef const int64_t *counts = <const int64_t *>(state + 1)
    cdef int64_t room = <int64_t>1 << 62
    cdef int64_t index, count
    if not _same(state, fresh, fixed, sizeof(HistogramState)):
        return False
    for index in range(fresh.counts_len):
        count = load(&counts[index])
        if not 0 <= count <= room:
            return False
        room -= count
    return load(&state.clamped) >= 0
