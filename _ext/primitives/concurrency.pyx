# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""How many calls run at once: a fixed number, or one that follows the latency (gradient2)."""

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.arguments cimport natural
from tai_grpc._ext.primitives.atomics cimport cas, load, store
from tai_grpc._ext.primitives.blocks cimport Block, block_end, block_enter, block_leave
from tai_grpc._ext.primitives.clock cimport monotonic_ns

from tai_grpc.checks import MAX_CONCURRENT, check_int, check_type
from tai_grpc.config import AdaptiveLimiterConfig
from tai_grpc.errors import ConcurrencyLimitedError

cdef enum:
    LIMIT_BITS = 32
    LATENCY_BITS = 8
    COUNT_BITS = 4
    COUNT_MASK = 0xF
    # The first so many samples count alike in the long-term latency.
    WARM_UP = 10

cdef extern from *:
    # A week: longer ones count as that.
    int64_t MAX_LATENCY_NS "INT64_C(604800000000000)"
    int64_t MAX_LATENCY_US "INT64_C(604800000000)"


# --- Without the GIL ------------------------------------------------------------------------------------


cdef inline bint _enter(int64_t *in_flight, int64_t limit) noexcept nogil:
    cdef int64_t inside = load(in_flight)
    while inside < limit:
        if cas(in_flight, &inside, inside + 1):
            return True
    return False


cdef inline bint _leave(int64_t *in_flight) noexcept nogil:
    """False when nobody is inside."""
    cdef int64_t inside = load(in_flight)
    while inside > 0:
        if cas(in_flight, &inside, inside - 1):
            return True
    return False


cdef void bulkhead_init(BulkheadState *bulkhead, int64_t max_concurrent) noexcept nogil:
    """Set up zeroed memory as an empty bulkhead; the range is that of Bulkhead."""
    bulkhead.max_concurrent = max_concurrent


cdef bint bulkhead_enter(BulkheadState *bulkhead) noexcept nogil:
    """Whether there was a place: it is taken."""
    return _enter(&bulkhead.in_flight, bulkhead.max_concurrent)


cdef bint bulkhead_leave(BulkheadState *bulkhead) noexcept nogil:
    """Give a place back; False when none was taken."""
    return _leave(&bulkhead.in_flight)


cdef void adaptive_init(
    AdaptiveState *limiter,
    int64_t initial_limit,
    int64_t min_limit,
    int64_t max_limit,
    double smoothing,
    int64_t queue_size,
    double tolerance,
    int64_t long_window,
) noexcept nogil:
    """Set up zeroed memory as a limiter; the ranges are those of AdaptiveLimiterConfig."""
    limiter.min_limit = min_limit << LIMIT_BITS
    limiter.max_limit = max_limit << LIMIT_BITS
    limiter.smoothing = smoothing
    limiter.queue_size = queue_size
    limiter.tolerance = tolerance
    limiter.long_weight = 2.0 / (long_window + 1)
    store(&limiter.limit, initial_limit << LIMIT_BITS)


cdef bint adaptive_enter(AdaptiveState *limiter) noexcept nogil:
    """Whether a call may be made now: it is counted."""
    return _enter(&limiter.in_flight, load(&limiter.limit) >> LIMIT_BITS)


cdef inline double _add_long(AdaptiveState *limiter, double latency) noexcept nogil:
    """Add a sample to the long-term latency; return what that is then, in ns.

    Where it is more than twice the sample, the load has gone: it falls by 5 % more, after this one is used.
    """
    cdef int64_t word = load(&limiter.long_latency)
    cdef int64_t count, kept
    cdef double mean
    while True:
        count = min((word & COUNT_MASK) + 1, <int64_t>WARM_UP)
        mean = <double>(word >> COUNT_BITS) / (1 << LATENCY_BITS)
        if word & COUNT_MASK < WARM_UP:
            mean += (latency - mean) / count
        else:
            mean += (latency - mean) * limiter.long_weight
        kept = <int64_t>((mean * 0.95 if mean > 2 * latency else mean) * (1 << LATENCY_BITS))
        if cas(&limiter.long_latency, &word, kept << COUNT_BITS | count):
            return mean


cdef void _adapt(AdaptiveState *limiter, double latency, int64_t in_flight) noexcept nogil:
    cdef double long_latency = _add_long(limiter, latency)
    cdef double gradient = max(0.5, min(1.0, limiter.tolerance * long_latency / latency))
    cdef int64_t limit = load(&limiter.limit)
    cdef int64_t wanted
    cdef double aim
    # While fewer than half of the places are used, the latency says nothing of the limit.
    while (in_flight << LIMIT_BITS) >= limit // 2:
        aim = limit * gradient + limiter.queue_size * (<int64_t>1 << LIMIT_BITS)
        wanted = <int64_t>(limit + (aim - limit) * limiter.smoothing)
        wanted = max(limiter.min_limit, min(limiter.max_limit, wanted))
        if cas(&limiter.limit, &limit, wanted):
            return


cdef bint adaptive_leave(AdaptiveState *limiter, int64_t latency_ns) noexcept nogil:
    """A call has ended, after `latency_ns` (NO_SAMPLE: that says nothing); False when none was counted."""
    cdef int64_t in_flight = load(&limiter.in_flight)
    if not _leave(&limiter.in_flight):
        return False
    if latency_ns != NO_SAMPLE:
        _adapt(limiter, <double>max(<int64_t>1, min(latency_ns, MAX_LATENCY_NS)), in_flight)
    return True


# --- The Python objects ---------------------------------------------------------------------------------


cdef class Bulkhead:
    """Lets at most `max_concurrent` calls (1..1,000,000) run at once.

    Safe from any number of threads and tasks.

    Raises:
        ConfigError: naming the argument and its range.
    """

    def __cinit__(self, max_concurrent):
        check_int("max_concurrent", max_concurrent, 1, MAX_CONCURRENT)
        cdef Memory memory = Memory(sizeof(BulkheadState))
        self.owner = memory
        self.state_ = <BulkheadState *>memory.data
        bulkhead_init(self.state_, max_concurrent)

    def __repr__(self):
        return f"<Bulkhead {self.in_flight} of {self.max_concurrent} in flight>"

    @property
    def max_concurrent(self):
        return self.state_.max_concurrent

    @property
    def in_flight(self):
        """How many are inside now."""
        return load(&self.state_.in_flight)

    def try_enter(self):
        """Take a place if there is one; whether there was. `leave` gives it back."""
        return bulkhead_enter(self.state_)

    def leave(self):
        """Give a place back.

        Raises:
            RuntimeError: none was taken.
        """
        if not bulkhead_leave(self.state_):
            raise RuntimeError("leave() without a place: it goes with a try_enter() that returned True")


cdef class AdaptiveLimiter:
    """AdaptiveLimiter(config=None)\n--\n
    Lets as many calls run at once as their target bears without its latency rising.

    Each call that ends compares its latency with the long-term one. While it is not much longer, the limit
    rises, by a part of `queue_size`; when calls take longer because they wait for each other, it falls. The
    algorithm is Gradient2 of Netflix's concurrency-limits, with its defaults:

        gradient = clamp(tolerance * long / latency, 0.5, 1)
        limit = (1 - smoothing) * limit + smoothing * (limit * gradient + queue_size)

    within `min_limit`..`max_limit`; it stays as it is while fewer than half of the places are used. `long`
    is the exponential mean of `long_window` latencies.

    `with limiter:` and `async with limiter:` never wait: they refuse. They measure the latency of a block
    that ends, or raises TimeoutError; any other exception may come at once and says nothing of the load.

    Safe from any number of threads and tasks.

    Raises:
        ConfigError: `config` is not an AdaptiveLimiterConfig.
    """

    def __cinit__(self, config=None):
        if config is None:
            config = AdaptiveLimiterConfig()
        check_type("config", config, AdaptiveLimiterConfig)
        cdef Memory memory = Memory(sizeof(AdaptiveState))
        self.owner = memory
        self.state_ = <AdaptiveState *>memory.data
        adaptive_init(
            self.state_,
            config.initial_limit,
            config.min_limit,
            config.max_limit,
            config.smoothing,
            config.queue_size,
            config.tolerance,
            config.long_window,
        )

    def __repr__(self):
        return f"<AdaptiveLimiter {self.in_flight} of {self.limit} in flight>"

    @property
    def limit(self):
        """How many calls may run at once now."""
        return load(&self.state_.limit) >> LIMIT_BITS

    @property
    def in_flight(self):
        """How many calls run now."""
        return load(&self.state_.in_flight)

    def try_enter(self):
        """Whether a call may be made now. If so it is counted until `leave`."""
        return adaptive_enter(self.state_)

    cdef int finish(self, int64_t latency_ns) except -1:
        if not adaptive_leave(self.state_, latency_ns):
            raise RuntimeError("leave() without a call: it goes with a try_enter() that returned True")
        return 0

    def leave(self, latency_us=None):
        """A call has ended, after `latency_us` (0 to a week); None: how long it took says nothing.

        Raises:
            ConfigError: `latency_us` is outside its range.
            RuntimeError: no call was counted.
        """
        cdef int64_t latency
        if latency_us is None:
            self.finish(NO_SAMPLE)
            return
        latency = natural(latency_us)
        if not 0 <= latency <= MAX_LATENCY_US:
            latency = check_int("latency_us", latency_us, 0, MAX_LATENCY_US)
        self.finish(latency * 1000)

    # Each block's start is in its context (see blocks.pyx), where the innermost on this limiter ends first.

    def __enter__(self):
        if not adaptive_enter(self.state_):
            raise ConcurrencyLimitedError(
                f"the limit of concurrent calls is reached: the latency allows {self.limit}"
            )
        block_enter(self, 0, monotonic_ns())
        return self

    def __exit__(self, kind, error, traceback):
        cdef Block block = block_leave(self)
        cdef int64_t latency_ns = NO_SAMPLE
        # Left in another context than it was entered in, it has no start.
        if block is not None:
            block_end(block)
            if kind is None or issubclass(kind, TimeoutError):
                latency_ns = monotonic_ns() - block.started_ns
        self.finish(latency_ns)

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, kind, error, traceback):
        self.__exit__(kind, error, traceback)
