# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""A circuit breaker: failures open it, and a bounded number of probes closes it again.

Everything that decides a transition is one 64-bit word, so each transition is one compare-and-swap:
nothing can be torn by a thread, or a process, that stops half way.

    state: 3 bits | era: 45 bits | body: 16 bits
    body while CLOSED: consecutive failures, or 1 when a window counts them
    body while HALF_OPEN: admitted (8 bits), succeeded (8 bits)

An era is the time between two transitions. Its name is the time at which it began, in ticks of 65.536 us
since the clock's start, at least one more than the last: so names are not used twice, 45 bits last 73
years, and one field tells both when OPEN ends and to which era a permit belongs. The result of a call that
an earlier era admitted is dropped; counting it in whatever era is current is the known flaw of resilience4j.

Permits of a HALF_OPEN era are a total. One whose call says nothing of its target is given back; so are
those never reported, once the newest of them is `open_timeout` old: then a new HALF_OPEN era begins, with
the successes of the last. `last_admission`, beside the word, only delays that: it is raised before the
admission that it belongs to, so a permit is never given back early, and no value of it over-admits.

The windows, which judge rates as resilience4j does, are in window.pyx. While one counts, the word stands
still for the whole era, which is how a window knows that the era lasts.
"""

from libc.math cimport ceil

from tai_grpc._ext.primitives.atomics cimport cas_u64, load, raise_to
from tai_grpc._ext.primitives.window cimport (
    CONSECUTIVE, FAILED, SLOW, TICK_SHIFT, WindowCounts,
    ticks, window_bytes, window_counts, window_init, window_record,
)

from tai_grpc.config import Window

cdef tuple _WINDOWS = (Window.CONSECUTIVE, Window.COUNT, Window.TIME)


cdef inline uint64_t _word(uint64_t state, int64_t era, uint64_t body) noexcept nogil:
    return (state << STATE_SHIFT) | ((<uint64_t>era & ERA_MASK) << ERA_SHIFT) | body


cdef inline int64_t _next_era(uint64_t word, int64_t now) noexcept nogil:
    return max(now, era_of(word) + 1)


cdef inline int _change(uint64_t word, uint64_t next_word) noexcept nogil:
    """Old and new state in one int; 0 when they are the same."""
    cdef int old = <int>(word >> STATE_SHIFT)
    cdef int new = <int>(next_word >> STATE_SHIFT)
    return 0 if old == new else old << 3 | new


cdef inline uint64_t _closed_body(BreakerState *breaker) noexcept nogil:
    """The body with which an era begins that counts failures."""
    return 0 if breaker.window == 0 else 1


cdef inline int64_t _open_ticks(double open_timeout) noexcept nogil:
    # One tick more, for the part of the era's first tick that was over before it began.
    return <int64_t>ceil(open_timeout * 1e9 / (1 << TICK_SHIFT)) + 1


cdef BreakerSettings breaker_settings(object config) except *:
    """What a CircuitBreakerConfig says, all but `outcome_of`, in plain numbers."""
    cdef BreakerSettings settings
    cdef int64_t size = config.window_size
    settings.failure_threshold = config.failure_threshold
    settings.open_ticks = _open_ticks(config.open_timeout)
    settings.half_open_max_calls = config.half_open_max_calls
    settings.success_threshold = (
        config.half_open_max_calls if config.success_threshold is None else config.success_threshold
    )
    settings.slow_ns = 0 if config.slow_call_duration is None else round(config.slow_call_duration * 1e9)
    settings.window = _WINDOWS.index(config.window)
    settings.window_size = size
    if config.minimum_calls is not None:
        settings.minimum_calls = config.minimum_calls
    else:
        settings.minimum_calls = min(<int64_t>100, size) if config.window is Window.COUNT else 100
    settings.failure_rate = config.failure_rate_threshold
    settings.slow_rate = config.slow_call_rate_threshold
    settings.reserved = 0
    return settings


cdef int64_t breaker_bytes(const BreakerSettings *settings) noexcept nogil:
    """The memory of a breaker with its window, if it has one, right behind it."""
    return <int64_t>sizeof(BreakerState) + window_bytes(settings.window, settings.window_size)


cdef void breaker_setup(
    BreakerState *breaker, WindowState *window, const BreakerSettings *settings
) noexcept nogil:
    """Set up zeroed memory as a CLOSED breaker.

    `window` is `window_bytes` of the same allocation, aligned to 8; it is not used in CONSECUTIVE mode.
    """
    breaker.open_ticks = settings.open_ticks
    breaker.failure_threshold = settings.failure_threshold
    breaker.half_open_max_calls = settings.half_open_max_calls
    breaker.success_threshold = settings.success_threshold
    breaker.slow_ns = settings.slow_ns
    breaker.window = 0
    if settings.window != CONSECUTIVE:
        breaker.window = <char *>window - <char *>breaker
        window_init(
            window, settings.window, settings.window_size, settings.minimum_calls,
            settings.failure_rate, settings.slow_rate,
        )
    breaker.word = _word(CLOSED, ticks(), _closed_body(breaker))


cdef inline int64_t _give_back_at(BreakerState *breaker, uint64_t word) noexcept nogil:
    """The tick at which the permits that a HALF_OPEN era is still waiting for are given back."""
    return max(era_of(word), load(&breaker.last_admission)) + breaker.open_ticks


cdef int64_t acquire_slow(BreakerState *breaker, int *change) noexcept nogil:
    cdef uint64_t word = load_u64(&breaker.word)
    cdef uint64_t state, next_word, succeeded
    cdef int64_t now
    change[0] = 0
    while True:
        state = word >> STATE_SHIFT
        if state == CLOSED or state == DISABLED or state == METRICS_ONLY:
            return era_of(word)
        if state == FORCED_OPEN:
            return REFUSED
        now = ticks()
        if state == OPEN:
            if now < era_of(word) + breaker.open_ticks:
                return REFUSED
            next_word = _word(HALF_OPEN, _next_era(word, now), 1 << 8)
        elif <int64_t>((word & BODY_MASK) >> 8) < breaker.half_open_max_calls:
            raise_to(&breaker.last_admission, now)
            next_word = word + (1 << 8)
        elif now < _give_back_at(breaker, word):
            return REFUSED
        else:
            succeeded = word & 0xFF
            next_word = _word(HALF_OPEN, _next_era(word, now), (succeeded + 1) << 8 | succeeded)
        if cas_u64(&breaker.word, &word, next_word):
            change[0] = _change(word, next_word)
            return era_of(next_word)


cdef int settle_slow(BreakerState *breaker, int64_t permit, int outcome) noexcept nogil:
    cdef uint64_t word = load_u64(&breaker.word)
    cdef uint64_t state, next_word, admitted, succeeded
    cdef bint failed = outcome & (FAILURE | SLOW_CALL) != 0
    while True:
        if permit != CURRENT_ERA and permit != era_of(word):
            return 0
        state = word >> STATE_SHIFT
        if state == CLOSED or state == METRICS_ONLY:
            if outcome == IGNORED:
                return 0
            if breaker.window != 0:
                return _settle_in_window(breaker, word, outcome)
            if not failed:
                if word & BODY_MASK == 0:
                    return 0
                next_word = word & ~<uint64_t>BODY_MASK
            elif state == METRICS_ONLY:
                if word & BODY_MASK == BODY_MASK:
                    return 0
                next_word = word + 1
            elif <int64_t>(word & BODY_MASK) + 1 < breaker.failure_threshold:
                next_word = word + 1
            else:
                next_word = _word(OPEN, _next_era(word, ticks()), 0)
        elif state == HALF_OPEN:
            admitted = (word & BODY_MASK) >> 8
            succeeded = word & 0xFF
            if admitted == succeeded:
                return 0  # no permit is out: a result without one, or reported twice
            if outcome == IGNORED:
                next_word = word - (1 << 8)
            elif failed:
                next_word = _word(OPEN, _next_era(word, ticks()), 0)
            elif <int64_t>succeeded + 1 < breaker.success_threshold:
                next_word = word + 1
            else:
                next_word = _word(CLOSED, _next_era(word, ticks()), _closed_body(breaker))
        else:
            return 0
        if cas_u64(&breaker.word, &word, next_word):
            return _change(word, next_word)


cdef int _settle_in_window(BreakerState *breaker, uint64_t word, int outcome) noexcept nogil:
    """Count a call in the window of the era that `word` names, and open when the window says so."""
    cdef int bits = (FAILED if outcome & FAILURE else 0) | (SLOW if outcome & SLOW_CALL else 0)
    cdef uint64_t next_word
    if not window_record(window_of(breaker), era_of(word), bits, &breaker.word, word):
        return 0
    if word >> STATE_SHIFT == METRICS_ONLY:
        return 0
    next_word = _word(OPEN, _next_era(word, ticks()), 0)
    # When this fails, another thread has ended the era.
    return _change(word, next_word) if cas_u64(&breaker.word, &word, next_word) else 0


cdef int force(BreakerState *breaker, uint64_t state) noexcept nogil:
    """Begin an era of `state` whatever the current one is; return the transition."""
    cdef uint64_t word = load_u64(&breaker.word)
    cdef uint64_t body = _closed_body(breaker) if state == CLOSED or state == METRICS_ONLY else 0
    cdef uint64_t next_word
    while True:
        next_word = _word(state, _next_era(word, ticks()), body)
        if cas_u64(&breaker.word, &word, next_word):
            return _change(word, next_word)


cdef int64_t retry_after_ns(BreakerState *breaker) noexcept nogil:
    """0 when a call would be admitted now, -1 when no time is set, else the wait in nanoseconds."""
    cdef uint64_t word = load_u64(&breaker.word)
    cdef uint64_t state = word >> STATE_SHIFT
    cdef int64_t at
    if state == CLOSED or state == DISABLED or state == METRICS_ONLY:
        return 0
    if state == FORCED_OPEN:
        return -1
    if state == OPEN:
        at = era_of(word) + breaker.open_ticks
    elif <int64_t>((word & BODY_MASK) >> 8) < breaker.half_open_max_calls:
        return 0
    else:
        at = _give_back_at(breaker, word)
    return max(<int64_t>0, at - ticks()) << TICK_SHIFT


cdef WindowCounts counts_of(BreakerState *breaker) noexcept nogil:
    """What is known of the recent calls of the current era."""
    cdef uint64_t word = load_u64(&breaker.word)
    cdef uint64_t state = word >> STATE_SHIFT
    cdef WindowCounts counts
    counts.calls = counts.failures = counts.slow = 0
    if state == HALF_OPEN:
        counts.calls = <int64_t>(word & 0xFF)
    elif state == CLOSED or state == METRICS_ONLY:
        if breaker.window != 0:
            return window_counts(window_of(breaker), era_of(word))
        counts.calls = counts.failures = <int64_t>(word & BODY_MASK)
    return counts


cdef int state_of(BreakerState *breaker) noexcept nogil:
    return <int>(load_u64(&breaker.word) >> STATE_SHIFT)
