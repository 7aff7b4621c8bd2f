"""Token buckets by key for code that runs without the GIL."""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.primitives.limiter cimport BucketState

cdef enum:
    GROUP_SLOTS = 8

cdef struct KeyedGroup:
    # Eight slots in two cache lines: whose each is, and the theoretical arrival time in 1/16 ns.
    uint64_t owners[GROUP_SLOTS]
    int64_t arrivals[GROUP_SLOTS]

# Followed in memory by `groups` times KeyedGroup. All of it is written before the table is shared, then only
# read.
cdef struct KeyedState:
    # What each key's bucket is; its `arrival` is not used.
    BucketState bucket
    int64_t max_keys
    int64_t groups
    # The key of the hash: random, and the same for all who share the table.
    uint64_t secret[2]


cdef size_t keyed_size(int64_t max_keys) noexcept nogil
cdef void keyed_init(
    KeyedState *table, double rate, int64_t burst, int64_t max_keys, uint64_t secret0, uint64_t secret1
) noexcept nogil
cdef uint64_t keyed_hash(KeyedState *table, uint64_t kind, const void *data, size_t length) noexcept nogil
cdef int64_t keyed_take(KeyedState *table, uint64_t key, int64_t n, int64_t now_ns) noexcept nogil
cdef int64_t keyed_wait_ns(KeyedState *table, uint64_t key, int64_t n, int64_t now_ns) noexcept nogil


cdef class KeyedTokenBucket:
    cdef KeyedState *state_
    # What keeps the state's memory.
    cdef object owner
    cdef readonly double rate

    cdef uint64_t hash_of(self, object key) except? 0
    cdef int64_t tokens(self, object n) except -1
