"""What a balancer keeps of its endpoints: one place each, in memory that never moves while it lives.

A place is an EndpointState and, behind it, its breaker. Places lie in chunks: the first holds
2^`first_bits` of them, and each further one doubles the whole, so that a chunk is a whole subtree of the
tournament (see tournament.pyx). Chunks are never freed while anything refers to the balancer or to one of
its endpoints: whoever reads a place without the GIL reads mapped memory, if perhaps of an endpoint that is
gone, and its status says so. A place is given to another endpoint once nothing refers to the last one and
no call of it is in flight.

What every pick counts lies there twice, once for each lane: what is counted with the GIL held needs no atomic
addition (see atomics.pxd), and the two count as one.
"""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.primitives.atomics cimport add_held, add_seq, load, load_seq
from tai_grpc._ext.primitives.breaker cimport BreakerState

cdef extern from *:
    """
    #ifndef TAI_GRPC_SCALED
    #define TAI_GRPC_SCALED
    /* How many bits `number` has. */
    static inline int tai_bits(uint64_t number) { return number == 0 ? 0 : 64 - __builtin_clzll(number); }
    /* `number` of 0..2^64-1, scaled to 0..n-1. */
    static inline uint64_t tai_scaled(uint64_t number, uint64_t n) {
        return (uint64_t)(((unsigned __int128)number * n) >> 64);
    }
    /* The same, with what is left of the number's randomness in its stead, for a second draw. */
    static inline uint64_t tai_drawn(uint64_t *number, uint64_t n) {
        unsigned __int128 product = (unsigned __int128)*number * n;
        *number = (uint64_t)product;
        return (uint64_t)(product >> 64);
    }
    #endif
    """
    int bits_of "tai_bits" (uint64_t number) noexcept nogil
    uint64_t scaled "tai_scaled" (uint64_t number, uint64_t n) noexcept nogil
    uint64_t drawn "tai_drawn" (uint64_t *number, uint64_t n) noexcept nogil

cdef enum Strategy:
    ROUND_ROBIN
    LEAST_LOADED
    RANDOM
    POWER_OF_TWO
    PEAK_EWMA

cdef enum:
    # The lanes: of any thread, and of who holds the GIL.
    SHARED = 0
    HELD = 1
    LANES = 2

    # The status of a place; 0: it is free.
    USED = 1
    DRAINING = 2  # drained or removed: no new picks, for ever
    EJECTED = 4  # an outlier
    PARKED = 8  # its breaker refused: out of the tournament until that may have changed
    RAMPING = 16  # in slow start
    RESERVED = 32  # being set up

    # A ramp that is over.
    FULL = 65536

    MAX_CHUNKS = 15
    # Places in a group, which is the least that a chunk holds: 2^3.
    GROUP_BITS = 3
    # 2^17 places: twice as many as endpoints, for those that are gone but still referred to.
    PLACE_BITS = 17

cdef extern from *:
    # A time that never comes.
    int64_t NEVER "INT64_MAX"
    uint64_t GOLDEN_GAMMA "UINT64_C(0x9E3779B97F4A7C15)"


cdef struct EndpointState:
    int64_t status
    # By lane. Calls in flight are `started - finished`; load `finished` first, so that they are never below
    # 0. Both go on when the place is given to another endpoint: who comes too late finds no count to spoil.
    int64_t started[LANES]
    int64_t finished[LANES]
    int64_t weight
    # Which part of the weight counts, in 1/65536: less than FULL in slow start.
    int64_t ramp
    # When it was last picked, as a number of the balancer's `turn`.
    int64_t turn

    int64_t place
    # What had started here when this endpoint came.
    int64_t before
    # Microseconds in 1/256; 0: no answer yet.
    int64_t latency_ewma
    int64_t failures
    # What peak EWMA has of it: microseconds, as the bits of a double (0: no sample), and the time of it.
    int64_t cost
    int64_t cost_ns
    # What a ramping endpoint has saved up for its next draw, in 1/65536.
    int64_t credit
    int64_t ramp_began_ns

    # With PARKED: the breaker's word when it refused, and when to ask it again.
    uint64_t parked_word
    int64_t parked_until_ns
    # Outcomes since the last sweep, those that it judges, and what came of it.
    int64_t successes
    int64_t errors
    int64_t judged
    int64_t judged_well
    int64_t ejected_ns
    int64_t ejections
    int64_t reserved


cdef struct Chunk:
    char *endpoints
    # A tournament, as a heap: the root at 1, the groups of places behind the inner nodes.
    int64_t *nodes
    # One bit for each place, set while it is PARKED.
    int64_t *parked


cdef struct PickState:
    int64_t turn
    int64_t random
    int64_t line[6]


cdef struct BalancerState:
    # One call of `pick` each, and what it made of it. Each lane has a line and a sequence of its own.
    PickState picks[LANES]

    # Read by every pick, written seldom. The bits of a status with which an endpoint is passed over:
    int64_t passed_over
    int64_t next_sweep_ns
    int64_t next_ramp_ns
    int64_t parked
    int64_t ejected
    # Endpoints that are neither drained nor removed.
    int64_t active
    int64_t chunks
    # Places from there on have never been given to an endpoint.
    int64_t untouched
    # Goes up with each new table.
    int64_t version

    # The configuration: written before the balancer is shared, then only read.
    int64_t strategy
    bint breakers
    bint outliers
    # Whether there is ever anything to do because time goes by.
    bint timed
    int64_t first_bits
    int64_t place_bytes
    int64_t interval_ns
    int64_t base_ejection_ns
    int64_t max_ejection_ns
    int64_t max_ejection_percent
    # 0: this algorithm is not used.
    int64_t success_rate_hosts
    int64_t success_rate_volume
    double stdev_factor
    int64_t failure_percentage_hosts
    int64_t failure_percentage_volume
    double failure_threshold
    # 0: no slow start.
    int64_t ramp_ns
    double min_ramp
    double ramp_exponent

    Chunk chunk[MAX_CHUNKS]
    # spine[n]: who wins among the places of the chunks 0 to n, n >= 1.
    int64_t spine[MAX_CHUNKS]


cdef inline BreakerState *breaker_of(EndpointState *endpoint) noexcept nogil:
    return <BreakerState *>(endpoint + 1)


cdef inline int64_t places(BalancerState *balancer) noexcept nogil:
    """How many places there are."""
    return <int64_t>1 << (balancer.first_bits + load_seq(&balancer.chunks) - 1)


cdef inline int64_t chunk_of(BalancerState *balancer, int64_t place) noexcept nogil:
    return bits_of(<uint64_t>place >> balancer.first_bits)


cdef inline int64_t chunk_begin(BalancerState *balancer, int64_t chunk) noexcept nogil:
    """The first place in a chunk."""
    return 0 if chunk == 0 else <int64_t>1 << (balancer.first_bits + chunk - 1)


cdef inline int64_t chunk_size(BalancerState *balancer, int64_t chunk) noexcept nogil:
    return <int64_t>1 << (balancer.first_bits + (0 if chunk == 0 else chunk - 1))


cdef inline EndpointState *endpoint_at(BalancerState *balancer, int64_t place) noexcept nogil:
    cdef int64_t chunk = chunk_of(balancer, place)
    cdef int64_t offset = (place - chunk_begin(balancer, chunk)) * balancer.place_bytes
    return <EndpointState *>(balancer.chunk[chunk].endpoints + offset)


cdef inline int64_t counted(int64_t *lanes) noexcept nogil:
    return load_seq(&lanes[SHARED]) + load_seq(&lanes[HELD])


cdef inline int64_t count(int64_t *word, int lane, int64_t n) noexcept nogil:
    """Add to a word of this lane; return what was there before."""
    return add_held(word, n) if lane == HELD else add_seq(word, n)


cdef inline int64_t in_flight(EndpointState *endpoint) noexcept nogil:
    cdef int64_t finished = counted(endpoint.finished)
    return counted(endpoint.started) - finished


cdef inline bint takes_part(EndpointState *endpoint, int64_t passed_over) noexcept nogil:
    return load_seq(&endpoint.status) & (USED | passed_over) == USED


cdef inline uint64_t mixed(uint64_t z) noexcept nogil:
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint64_t random_number(BalancerState *balancer, int lane) noexcept nogil:
    """SplitMix64 (Steele, Lea, Flood 2014): its state is a counter, so threads never get the same number."""
    cdef uint64_t last = <uint64_t>count(&balancer.picks[lane].random, lane, <int64_t>GOLDEN_GAMMA)
    return mixed(last + GOLDEN_GAMMA)
