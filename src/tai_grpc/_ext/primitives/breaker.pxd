"""A circuit breaker for code that runs without the GIL.

`acquire` a permit before the call, `settle` it after. Both say in `change` (0: nothing) which transition
this very call made: pass it to `CircuitBreaker.announce`, with the GIL, so that the callbacks hear of it.

A breaker's memory is a BreakerState and, unless its mode is CONSECUTIVE, a window: `breaker_bytes` of it when
the window follows at once, or the window somewhere else in the same memory. `breaker_settings` makes plain
numbers of a CircuitBreakerConfig, `breaker_setup` a breaker of zeroed memory and these, and `breaker_view` a
Python object on it.
"""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.primitives.circuit cimport (
    BODY_MASK, CLOSED, CURRENT_ERA, DISABLED, ERA_MASK, ERA_SHIFT, FAILURE, FORCED_OPEN, HALF_OPEN, IGNORED,
    METRICS_ONLY, OPEN, REFUSED, SLOW_CALL, STATE_SHIFT, SUCCESS, BreakerSettings, BreakerState,
    acquire, acquire_slow, breaker_bytes, breaker_settings, breaker_setup, counts_of,
    era_of, force, retry_after_ns, settle, settle_slow, settle_timed, state_of, window_of, would_admit,
)


cdef class CircuitBreaker:
    cdef BreakerState *state_
    # What keeps the state's memory.
    cdef object owner
    cdef readonly str name
    cdef object outcome_of
    cdef tuple callbacks
    # The `with` blocks on this object that are open: those that share one permit and have no start, and those
    # that are in the context.
    cdef int64_t alike_permit
    cdef int alike
    cdef int apart

    cdef int announce(self, int change) except -1
    cdef int64_t take(self) except -2
    cdef int64_t started(self) noexcept
    cdef int finish(self, int64_t permit, int outcome, int64_t started_ns) except -1
    cdef int judge(self, object error) except -1
    cdef int _enter(self, int64_t permit) except -1
    cdef int64_t _leave(self, int64_t *started_ns) except -2


cdef CircuitBreaker breaker_view(BreakerState *state, object owner, str name, object outcome_of=*)
