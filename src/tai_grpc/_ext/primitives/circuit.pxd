"""A circuit breaker's state machine, for code that runs without the GIL: see breaker.pxd."""


from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.primitives.atomics cimport load_u64
from tai_grpc._ext.primitives.window cimport WindowCounts, WindowState

cdef enum:
    # A state as it is in the word.
    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2
    FORCED_OPEN = 3
    DISABLED = 4
    METRICS_ONLY = 5

    # An outcome; SLOW may be added to the first two.
    SUCCESS = 0
    FAILURE = 1
    IGNORED = 2
    SLOW_CALL = 4

    # The word: state (3 bits) | era (45) | body (16). See breaker.pyx.
    STATE_SHIFT = 61
    ERA_SHIFT = 16
    BODY_MASK = 0xFFFF

    REFUSED = -1
    CURRENT_ERA = -1

cdef extern from *:
    uint64_t ERA_MASK "((UINT64_C(1) << 45) - 1)"


cdef struct BreakerSettings:
    # A CircuitBreakerConfig, all but `outcome_of`, in 88 bytes without padding.
    int64_t failure_threshold
    int64_t open_ticks
    int64_t half_open_max_calls
    int64_t success_threshold
    int64_t slow_ns  # 0: no call is slow
    int64_t window  # CONSECUTIVE, COUNT or TIME of window.pxd
    int64_t window_size  # calls, or seconds
    int64_t minimum_calls
    double failure_rate
    double slow_rate
    int64_t reserved


cdef struct BreakerState:
    uint64_t word
    # The newest admission of a HALF_OPEN era, in ticks.
    int64_t last_admission
    # The configuration: written before the breaker is shared, then only read.
    int64_t open_ticks
    int64_t failure_threshold
    int64_t half_open_max_calls
    int64_t success_threshold
    int64_t slow_ns
    int64_t window  # where its WindowState lies, in bytes from this struct; 0: it has none


cdef inline int64_t era_of(uint64_t word) noexcept nogil:
    return <int64_t>((word >> ERA_SHIFT) & ERA_MASK)


cdef inline WindowState *window_of(BreakerState *breaker) noexcept nogil:
    """The breaker's window, NULL in CONSECUTIVE mode."""
    return NULL if breaker.window == 0 else <WindowState *>(<char *>breaker + breaker.window)


cdef BreakerSettings breaker_settings(object config) except *
cdef int64_t breaker_bytes(const BreakerSettings *settings) noexcept nogil
cdef void breaker_setup(
    BreakerState *breaker, WindowState *window, const BreakerSettings *settings
) noexcept nogil
cdef int64_t acquire_slow(BreakerState *breaker, int *change) noexcept nogil
cdef int settle_slow(BreakerState *breaker, int64_t permit, int outcome) noexcept nogil
cdef int64_t retry_after_ns(BreakerState *breaker) noexcept nogil
cdef WindowCounts counts_of(BreakerState *breaker) noexcept nogil
cdef int state_of(BreakerState *breaker) noexcept nogil
cdef int force(BreakerState *breaker, uint64_t state) noexcept nogil


cdef inline bint would_admit(BreakerState *breaker) noexcept nogil:
    """Whether `acquire` would give a permit now; takes none."""
    return load_u64(&breaker.word) >> STATE_SHIFT == CLOSED or retry_after_ns(breaker) == 0


cdef inline int64_t acquire(BreakerState *breaker, int *change) noexcept nogil:
    """Return a permit (>= 0) for one call, or REFUSED."""
    cdef uint64_t word = load_u64(&breaker.word)
    if word >> STATE_SHIFT == CLOSED:
        change[0] = 0
        return era_of(word)
    return acquire_slow(breaker, change)


cdef inline int settle(BreakerState *breaker, int64_t permit, int outcome) noexcept nogil:
    """Report the outcome of the call that `permit` admitted; CURRENT_ERA for one that has no permit.

    Return the transition that this made, or 0.
    """
    cdef uint64_t word = load_u64(&breaker.word)
    # Most calls come to one of these: while CLOSED, a success without failures before it changes nothing,
    # and a call that says nothing never does.
    if outcome == SUCCESS and word == <uint64_t>permit << ERA_SHIFT:
        return 0
    if outcome == IGNORED and word >> STATE_SHIFT == CLOSED:
        return 0
    return settle_slow(breaker, permit, outcome)


cdef inline int settle_timed(
    BreakerState *breaker, int64_t permit, int outcome, int64_t duration_ns
) noexcept nogil:
    """As `settle`, for a call that took `duration_ns` (negative: unknown, and so not slow)."""
    if 0 < breaker.slow_ns < duration_ns and outcome != IGNORED:
        outcome |= SLOW_CALL
    return settle(breaker, permit, outcome)
