# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""When calls of an open loop are due.

A schedule is a rate over time in pieces, each of which rises, falls or stays evenly. Arrival `k` is due
at the time up to which the rate's integral is `k`: of one that is due in a segment, a quadratic
equation's solution. Of a Poisson process the distances between successive `k` are not 1 but
exponentially distributed about it.

Several engines share a schedule: each takes every `step`-th arrival from its `first` on; of a Poisson process
each makes one of a `step`-th of the rate, as those add up to one of the whole rate.
"""

from libc.math cimport INFINITY, fmax, fmin, log1p, sqrt
from libc.stdlib cimport calloc, free

from tai_grpc.checks import MAX_RATE, MAX_SECONDS, check_float, check_int
from tai_grpc.errors import ConfigError

cdef double NEVER_S = 9e9  # what fits an int64 of nanoseconds
# Sums of products of floats miss whole numbers by less than this part.
cdef double FUZZ = 1e-12
# Parts of a call so small that their squares would be 0.
cdef double NOTHING = 1e-30


cdef int schedule_init(
    Schedule *schedule, object segments, bint poisson, uint64_t seed, double first, double step
) except -1:
    cdef size_t count = len(segments)
    cdef size_t i
    cdef Segment *segment
    cdef double begin_s = 0, before = 0, end_rate
    if count == 0:
        raise ConfigError("segments", segments, "at least one")
    schedule.segments = <Segment *>calloc(count, sizeof(Segment))
    if schedule.segments is NULL:
        raise MemoryError
    schedule.count = count
    schedule.current = 0
    schedule.poisson = poisson
    _seed(schedule, seed)
    for i in range(count):
        seconds, start, end = segments[i]
        segment = &schedule.segments[i]
        segment.begin_s = begin_s
        segment.before = before
        segment.rate = check_float("rate", start, 0.0, MAX_RATE)
        end_rate = check_float("rate", end, 0.0, MAX_RATE)
        if seconds is None:
            if segment.rate != end_rate or segment.rate == 0 or i != count - 1:
                accepted = "without a duration the last one alone, at one rate above 0"
                raise ConfigError("segments", segments, accepted)
            segment.seconds = segment.calls = INFINITY
        else:
            segment.seconds = check_float("duration", seconds, 0.0, MAX_SECONDS, above=True)
            segment.slope = (end_rate - segment.rate) / segment.seconds
            segment.calls = (segment.rate + end_rate) / 2 * segment.seconds
        begin_s += segment.seconds
        before += segment.calls
    schedule.step = check_float("arrival_step", step, 0.0, 1e9, above=True)
    schedule.place = check_float("first_arrival", first, 0.0, 1e15)
    if poisson:
        schedule.place = schedule.step * _exponential(schedule)
    schedule.due_ns = _due_ns(schedule)
    return 0


cdef void schedule_free(Schedule *schedule) noexcept nogil:
    free(schedule.segments)
    schedule.segments = NULL
    schedule.count = 0


cdef void schedule_advance(Schedule *schedule) noexcept nogil:
    if schedule.due_ns < 0:
        return
    schedule.place += schedule.step * _exponential(schedule) if schedule.poisson else schedule.step
    schedule.due_ns = _due_ns(schedule)


cdef int64_t schedule_skip(Schedule *schedule, int64_t end_ns) noexcept nogil:
    cdef int64_t left = 0
    cdef int64_t far
    cdef double calls
    if not schedule.poisson:
        # All but the last few at once.
        calls = _calls_until(schedule, end_ns * 1e-9) - schedule.place
        far = <int64_t>fmin(calls / schedule.step, 9e18) - 2
        if far > 0 and schedule.due_ns >= 0:
            schedule.place += <double>far * schedule.step
            schedule.due_ns = _due_ns(schedule)
            left = far
    while 0 <= schedule.due_ns < end_ns:
        left += 1
        schedule_advance(schedule)
    return left


cdef int64_t _due_ns(Schedule *schedule) noexcept nogil:
    """When the arrival at `place` is due; -1 when the schedule is over before."""
    cdef Segment *segment = &schedule.segments[schedule.current]
    cdef double calls, root, seconds
    while schedule.place >= (segment.before + segment.calls) * (1 - FUZZ):
        schedule.current += 1
        if schedule.current == schedule.count:
            schedule.current -= 1
            return -1
        segment += 1
    calls = fmax(schedule.place - segment.before, 0)
    if calls < NOTHING:
        seconds = 0
    elif segment.slope == 0:
        seconds = calls / segment.rate
    else:
        root = sqrt(fmax(segment.rate * segment.rate + 2 * segment.slope * calls, 0))
        seconds = 2 * calls / (segment.rate + root)
    seconds = segment.begin_s + fmin(seconds, segment.seconds)
    return <int64_t>(seconds * 1e9) if seconds < NEVER_S else -1


cdef double _calls_until(const Schedule *schedule, double time_s) noexcept nogil:
    """The rate's integral from the beginning."""
    cdef const Segment *segment
    cdef double calls = 0, within
    cdef size_t i
    for i in range(schedule.count):
        segment = &schedule.segments[i]
        within = fmin(time_s - segment.begin_s, segment.seconds)
        if within <= 0:
            break
        calls = segment.before + within * (segment.rate + segment.slope * within / 2)
    return calls


# --- Chance: xoshiro256++, seeded by splitmix64 (Blackman and Vigna) --------------------------------------


cdef void _seed(Schedule *schedule, uint64_t seed) noexcept nogil:
    cdef uint64_t mixed
    cdef int i
    for i in range(4):
        seed += <uint64_t>0x9E3779B97F4A7C15
        mixed = seed
        mixed = (mixed ^ (mixed >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
        mixed = (mixed ^ (mixed >> 27)) * <uint64_t>0x94D049BB133111EB
        schedule.random[i] = mixed ^ (mixed >> 31)


cdef inline uint64_t _turned(uint64_t word, int bits) noexcept nogil:
    return (word << bits) | (word >> (64 - bits))


cdef double _exponential(Schedule *schedule) noexcept nogil:
    """A number of the exponential distribution with mean 1."""
    cdef uint64_t *random = schedule.random
    cdef uint64_t drawn = _turned(random[0] + random[3], 23) + random[0]
    cdef uint64_t shifted = random[1] << 17
    random[2] ^= random[0]
    random[3] ^= random[1]
    random[1] ^= random[2]
    random[0] ^= random[3]
    random[2] ^= shifted
    random[3] = _turned(random[3], 45)
    return -log1p(-<double>(drawn >> 11) * 2.0 ** -53)


# --- For tests, and for who wants to see a schedule before it is run --------------------------------------


def arrivals(segments, Py_ssize_t count, *, bint poisson=False, seed=0, double first=0.0, double step=1.0):
    """When the first `count` calls are due, in nanoseconds from the beginning; fewer where the schedule ends.

    `segments`: (seconds or None, rate at the start, rate at the end), rates in calls a second.

    Raises:
        ConfigError: naming the value and its range.
    """
    cdef Schedule schedule
    cdef list found = []
    schedule.segments = NULL
    try:
        schedule_init(&schedule, segments, poisson, check_int("seed", seed, 0, (1 << 64) - 1), first, step)
        while schedule.due_ns >= 0 and len(found) < count:
            found.append(schedule.due_ns)
            schedule_advance(&schedule)
    finally:
        schedule_free(&schedule)
    return found


def skipped(
    segments, Py_ssize_t taken, int64_t end_ns, *, bint poisson=False, seed=0, double first=0.0,
    double step=1.0,
):
    """How many calls are due before `end_ns` beyond the first `taken`, and when the next one is (-1: none).

    Raises:
        ConfigError: naming the value and its range.
    """
    cdef Schedule schedule
    cdef int64_t left
    schedule.segments = NULL
    try:
        schedule_init(&schedule, segments, poisson, check_int("seed", seed, 0, (1 << 64) - 1), first, step)
        for _ in range(taken):
            schedule_advance(&schedule)
        left = schedule_skip(&schedule, end_ns)
        return left, schedule.due_ns
    finally:
        schedule_free(&schedule)
