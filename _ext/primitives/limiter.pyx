# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""A token bucket by GCRA (ITU-T I.371): one 64-bit time, one compare-and-swap a take.

The bucket is full when its theoretical arrival time is past; each token moves that time one interval on,
and a take that would move it more than `burst` intervals ahead of now is refused. Nothing is ever refilled,
so nothing is lost by asking often, and whatever is asked, any window of t seconds sees at most
`burst + rate * t` tokens: intervals are rounded up.
"""

from libc.math cimport INFINITY, ceil, fma, nextafter

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.arguments cimport natural
from tai_grpc._ext.primitives.atomics cimport cas, load
from tai_grpc._ext.primitives.clock cimport monotonic_ns

from tai_grpc.checks import check_float, check_int
from tai_grpc.errors import ConfigError, RateLimitedError

MAX_RATE = 1e9
"""The highest rate, in tokens a second."""

MAX_FILL_SECONDS = 31_536_000.0
"""The longest time, in seconds, that an empty bucket may take to be full: a year."""


cdef void bucket_init(BucketState *bucket, double rate, int64_t burst) noexcept nogil:
    """Set up zeroed memory as a full bucket; the ranges are those of TokenBucket."""
    cdef double second = 1e9 * (1 << FRACTION_BITS)
    cdef double interval = ceil(second / rate)
    # The quotient was rounded to the nearest double, which may be the next whole number below it.
    while fma(interval, rate, -second) < 0:
        interval = ceil(nextafter(interval, INFINITY))
    bucket.interval = <int64_t>interval
    bucket.tolerance = bucket.interval * burst
    bucket.burst = burst


cdef int64_t bucket_take(BucketState *bucket, int64_t n, int64_t now_ns) noexcept nogil:
    """Take `n` (1..burst) tokens and return 0, or none and return the wait until they are there, in ns."""
    cdef int64_t now = now_ns << FRACTION_BITS
    cdef int64_t arrival = load(&bucket.arrival)
    cdef int64_t ahead
    while True:
        ahead = bucket_ahead(bucket, arrival, n, now)
        if ahead > 0:
            return whole_ns(ahead)
        if cas(&bucket.arrival, &arrival, max(arrival, now) + n * bucket.interval):
            return 0


cdef int64_t bucket_wait_ns(BucketState *bucket, int64_t n, int64_t now_ns) noexcept nogil:
    """What `bucket_take` would return; takes nothing."""
    cdef int64_t ahead = bucket_ahead(bucket, load(&bucket.arrival), n, now_ns << FRACTION_BITS)
    return whole_ns(ahead) if ahead > 0 else 0


cdef double check_bucket(object rate, object burst) except -1:
    """`rate`, when both are what a bucket can be.

    Raises:
        ConfigError: naming the argument and its range.
    """
    cdef double checked = check_float("rate", rate, 0.0, MAX_RATE, above=True)
    check_int("burst", burst, 1, 2**31 - 1)
    if burst / checked > MAX_FILL_SECONDS:
        accepted = f"at most {checked * MAX_FILL_SECONDS:g}, a year of rate={checked:g}"
        raise ConfigError("burst", burst, accepted)
    return checked


def refusal(double rate, double wait):
    """The error that says that `rate` tokens a second do not allow it for `wait` seconds more."""
    return RateLimitedError(f"the limit of {rate:g} a second is reached: try again in {wait:.3f} s", wait)


cdef class TokenBucket:
    """Lets through `rate` tokens a second (above 0, to 10^9), and up to `burst` (1..2^31 - 1) at once.

    It begins full. An empty bucket must be full again within a year. The interval between two tokens is
    rounded up to 1/16 ns: the rate is exact to 0.1 % up to 16 million a second.

    Safe from any number of threads and tasks.

    Raises:
        ConfigError: naming the argument and its range.
    """

    def __cinit__(self, rate, burst):
        self.rate = check_bucket(rate, burst)
        cdef Memory memory = Memory(sizeof(BucketState))
        self.owner = memory
        self.state_ = <BucketState *>memory.data
        bucket_init(self.state_, self.rate, burst)

    def __repr__(self):
        return f"<TokenBucket rate={self.rate:g} burst={self.burst}>"

    @property
    def burst(self):
        return self.state_.burst

    cdef int64_t tokens(self, object n) except -1:
        """`n`, when this bucket can ever hold as many."""
        cdef int64_t count = natural(n)
        return count if 1 <= count <= self.state_.burst else check_int("n", n, 1, self.state_.burst)

    def try_acquire(self, n=1):
        """Take `n` (1..burst) tokens when they are there now; whether they were.

        Raises:
            ConfigError: `n` is outside its range, so it could never succeed.
        """
        return bucket_take(self.state_, self.tokens(n), monotonic_ns()) == 0

    def check(self, n=1):
        """As `try_acquire`, but a refusal is an error.

        Raises:
            ConfigError: `n` is outside its range.
            RateLimitedError: with `retry_after` in seconds.
        """
        cdef int64_t wait_ns = bucket_take(self.state_, self.tokens(n), monotonic_ns())
        if wait_ns != 0:
            raise refusal(self.rate, wait_ns * 1e-9)

    def wait_time(self, n=1):
        """Seconds until `n` (1..burst) tokens are there, if nobody takes any meanwhile; 0.0: now.

        Raises:
            ConfigError: `n` is outside its range.
        """
        return bucket_wait_ns(self.state_, self.tokens(n), monotonic_ns()) * 1e-9
