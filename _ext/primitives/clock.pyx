# cython: language_level=3, freethreading_compatible=True
"""The one clock of the primitives: monotonic, in nanoseconds, never the wall clock."""

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from tai_grpc._ext.primitives.atomics cimport add, cas, load, store

from tai_grpc.checks import MAX_SECONDS, check_float

# What the clock says while a FrozenClock is entered; 0: it runs.
cdef int64_t _frozen_ns = 0


cdef int64_t monotonic_ns() noexcept nogil:
    cdef int64_t frozen_ns = load(&_frozen_ns)
    if frozen_ns != 0:
        return frozen_ns
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef class FrozenClock:
    """For tests: while entered, time stands still for every primitive of the process, and moves by `advance`.

    Raises:
        RuntimeError: another one is entered already.
    """

    def __enter__(self):
        cdef int64_t running = 0
        if not cas(&_frozen_ns, &running, monotonic_ns()):
            raise RuntimeError("the clock is frozen already")
        return self

    def __exit__(self, *error):
        store(&_frozen_ns, 0)

    def advance(self, seconds):
        """Move the clock `seconds` (0 to a week) forward, to the nanosecond."""
        if load(&_frozen_ns) == 0:
            raise RuntimeError("the clock runs: enter the FrozenClock first")
        add(&_frozen_ns, round(check_float("seconds", seconds, 0.0, MAX_SECONDS) * 1e9))

    @property
    def now_ns(self):
        """What the primitives read, in nanoseconds since an arbitrary start."""
        return monotonic_ns()
