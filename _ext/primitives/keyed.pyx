# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""Token buckets by key, in one block of memory of a size that is set when it is made.

A bucket is one 64-bit time (see limiter.pyx), and one whose time is past is full, which is the same as no
bucket at all: so a slot is free for another key as soon as the debt in it is paid, and nothing is swept.

A key may be in 16 slots, those of two groups of eight that its hash names. There are two slots for each of
`max_keys`, and a new key goes to the group where fewer are in debt, so `max_keys` keys in debt find room
("the power of two choices": the fullest of n groups holds log log n more than the mean). Should all 16 be
in debt, a key that is not among them is refused until the first of them is not: no debt is ever forgotten,
so nobody buys a full bucket with a flood of keys.

A slot is two words, and no lock. `owners` says whose it is, `arrivals` how much is taken. An owner is

    state: 2 bits | version: 14 bits | tag: the lower 48 bits of the key's hash

and each change of it takes the next version. A slot is given to another key in three steps, each one
compare-and-swap, and a thread or process that stops between them stops nobody:

1. LIVE -> CLAIMED, while it is full. The owner may end a claim and use the slot.
2. CLAIMED -> PENDING for the new key, which cannot be taken from yet. A free slot, EMPTY, starts here.
   Before, the arrival time goes up by the least there is, 1/16 ns; that takes nothing from a slot that has
   been full for as long. A take reads the arrival, then the owner, then charges by a compare-and-swap of what
   it read; and an arrival never goes back, so no value comes twice. So either the charge comes first, and the
   claim finds a slot that is not full and is given up; or the charge fails, and the take looks for its key
   again. No charge ever falls on another key.
3. PENDING -> LIVE, by whoever looks through all 16 slots after it was PENDING and sees no other slot of
   that key. So two threads that bring the same key at once agree on one slot: the first in order stays.
"""

from os import urandom

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.arguments cimport natural
from tai_grpc._ext.primitives.atomics cimport cas, cas_u64, fence, load, load_u64
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.limiter cimport (
    FRACTION_BITS, bucket_ahead, bucket_init, check_bucket, whole_ns,
)

from tai_grpc._ext.primitives.limiter import refusal
from tai_grpc.checks import check_int
from tai_grpc.errors import ConfigError

MAX_KEYS = 100_000_000
"""The most keys that a table may have room for."""

cdef enum:
    EMPTY = 0
    LIVE = 1
    PENDING = 2
    CLAIMED = 3

    STATE_SHIFT = 62
    VERSION_SHIFT = 48
    VERSION_MASK = 0x3FFF

    KEY_SLOTS = 2 * GROUP_SLOTS

    # What a take returns whose slot was given to another key.
    MOVED = -1
    # Of a hash: what is hashed. The kinds of str, 1, 2 and 4, are the widths of its characters.
    BYTES = 8
    INT = 16

cdef extern from *:
    uint64_t TAG_MASK "((UINT64_C(1) << 48) - 1)"


# --- The hash -------------------------------------------------------------------------------------------


cdef inline uint64_t _rotated(uint64_t word, int bits) noexcept nogil:
    return word << bits | word >> (64 - bits)


cdef inline void _sip_round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = _rotated(v[1], 13) ^ v[0]
    v[3] = _rotated(v[3], 16) ^ v[2]
    v[0] = _rotated(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = _rotated(v[1], 17) ^ v[2]
    v[3] = _rotated(v[3], 21) ^ v[0]
    v[2] = _rotated(v[2], 32)


cdef inline void _sip_block(uint64_t *v, uint64_t block) noexcept nogil:
    v[3] ^= block
    _sip_round(v)
    v[0] ^= block


cdef inline void _sip_start(uint64_t *v, const uint64_t *secret) noexcept nogil:
    v[0] = secret[0] ^ <uint64_t>0x736F6D6570736575
    v[1] = secret[1] ^ <uint64_t>0x646F72616E646F6D
    v[2] = secret[0] ^ <uint64_t>0x6C7967656E657261
    v[3] = secret[1] ^ <uint64_t>0x7465646279746573


cdef inline uint64_t _sip_end(uint64_t *v, const char *data, size_t length, size_t total) noexcept nogil:
    """Hash the last `length` bytes of `total` (modulo 256, as SipHash has it)."""
    cdef uint64_t block = 0
    while length >= 8:
        memcpy(&block, data, 8)
        _sip_block(v, block)
        data += 8
        length -= 8
    block = 0
    memcpy(&block, data, length)
    _sip_block(v, block | <uint64_t>total << 56)
    v[2] ^= 0xFF
    _sip_round(v)
    _sip_round(v)
    _sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def siphash13(uint64_t secret0, uint64_t secret1, bytes data not None):
    """SipHash-1-3 of `data` (Aumasson and Bernstein, 2012), as the table has it; for tests."""
    cdef uint64_t[2] secret = [secret0, secret1]
    cdef uint64_t[4] v
    _sip_start(v, secret)
    return _sip_end(v, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), PyBytes_GET_SIZE(data))


cdef uint64_t keyed_hash(KeyedState *table, uint64_t kind, const void *data, size_t length) noexcept nogil:
    """The hash of a key. `kind` is hashed too: it keeps "1", b"1" and 1 apart."""
    cdef uint64_t[4] v
    _sip_start(v, table.secret)
    _sip_block(v, kind)
    return _sip_end(v, <const char *>data, length, length + 8)


# --- The table, without the GIL -------------------------------------------------------------------------


cdef struct Slots:
    # Where one key may be.
    KeyedGroup *groups[2]


cdef inline int64_t _n_groups(int64_t max_keys) noexcept nogil:
    return max(2, (2 * max_keys + GROUP_SLOTS - 1) // GROUP_SLOTS)


cdef size_t keyed_size(int64_t max_keys) noexcept nogil:
    """The bytes of a table for `max_keys` (1..MAX_KEYS)."""
    return sizeof(KeyedState) + _n_groups(max_keys) * sizeof(KeyedGroup)


cdef void keyed_init(
    KeyedState *table, double rate, int64_t burst, int64_t max_keys, uint64_t secret0, uint64_t secret1
) noexcept nogil:
    """Set up `keyed_size(max_keys)` zeroed bytes as a table without keys; the secrets are random numbers."""
    bucket_init(&table.bucket, rate, burst)
    table.max_keys = max_keys
    table.groups = _n_groups(max_keys)
    table.secret[0] = secret0
    table.secret[1] = secret1


cdef inline Slots _slots_of(KeyedState *table, uint64_t key) noexcept nogil:
    cdef KeyedGroup *groups = <KeyedGroup *>(table + 1)
    cdef uint64_t count = table.groups
    cdef uint64_t first = (key >> 32) * count >> 32
    # One of the others.
    cdef uint64_t second = first + 1 + (<uint64_t><uint32_t>key * (count - 1) >> 32)
    cdef Slots slots
    slots.groups[0] = &groups[first]
    slots.groups[1] = &groups[second if second < count else second - count]
    return slots


cdef inline uint64_t *_owner(Slots *slots, int index) noexcept nogil:
    return &slots.groups[index // GROUP_SLOTS].owners[index % GROUP_SLOTS]


cdef inline int64_t *_arrival(Slots *slots, int index) noexcept nogil:
    return &slots.groups[index // GROUP_SLOTS].arrivals[index % GROUP_SLOTS]


cdef inline uint64_t _next(uint64_t owner, uint64_t state, uint64_t tag) noexcept nogil:
    """The owner to follow `owner`."""
    return state << STATE_SHIFT | ((owner >> VERSION_SHIFT) + 1 & VERSION_MASK) << VERSION_SHIFT | tag


cdef inline bint _is(uint64_t owner, uint64_t state, uint64_t tag) noexcept nogil:
    return owner & ~(<uint64_t>VERSION_MASK << VERSION_SHIFT) == (state << STATE_SHIFT | tag)


cdef inline int _find(Slots *slots, uint64_t tag) noexcept nogil:
    """The index of the LIVE slot of `tag`; -1 when there is none."""
    cdef int index
    for index in range(KEY_SLOTS):
        if _is(load_u64(_owner(slots, index)), LIVE, tag):
            return index
    return -1


cdef inline bint _others_gone(Slots *slots, int pending, uint64_t tag) noexcept nogil:
    """Whether `pending` is the only slot of `tag`. If not, one of them is given up for another."""
    cdef int index
    cdef int given_up
    cdef uint64_t owner
    for index in range(KEY_SLOTS):
        owner = load_u64(_owner(slots, index))
        if index == pending or owner & TAG_MASK != tag or owner >> STATE_SHIFT == EMPTY:
            continue
        given_up = max(index, pending) if owner >> STATE_SHIFT == PENDING else pending
        owner = load_u64(_owner(slots, given_up))
        if _is(owner, PENDING, tag):
            cas_u64(_owner(slots, given_up), &owner, _next(owner, EMPTY, 0))
        return False
    return True


cdef bint _give(Slots *slots, int index, uint64_t tag, int64_t now) noexcept nogil:
    """Make a slot PENDING for `tag` if it is full and nobody is faster."""
    cdef uint64_t owner = load_u64(_owner(slots, index))
    cdef uint64_t claimed
    cdef int64_t arrival
    if owner >> STATE_SHIFT == LIVE or owner >> STATE_SHIFT == CLAIMED:
        claimed = _next(owner, CLAIMED, owner & TAG_MASK)
        if not cas_u64(_owner(slots, index), &owner, claimed):
            return False
        owner = claimed
        arrival = load(_arrival(slots, index))
        if arrival >= now or not cas(_arrival(slots, index), &arrival, arrival + 1):
            cas_u64(_owner(slots, index), &owner, _next(owner, LIVE, owner & TAG_MASK))
            return False
    return cas_u64(_owner(slots, index), &owner, _next(owner, PENDING, tag))


cdef int64_t _make_room(Slots *slots, uint64_t tag, int64_t now) noexcept nogil:
    """One step to a LIVE slot of `tag`: return 0, and it is to be looked for again.

    When there is no room for it, return the time until there is, in 1/16 ns.
    """
    cdef int index
    cdef int group, best
    cdef int[2] free
    cdef int[2] debts
    cdef uint64_t owner, pending
    cdef int64_t arrival
    cdef int64_t soonest = -1
    for group in range(2):
        free[group] = -1
        debts[group] = 0
    for index in range(KEY_SLOTS):
        group = index // GROUP_SLOTS
        owner = load_u64(_owner(slots, index))
        arrival = load(_arrival(slots, index))
        if _is(owner, LIVE, tag):
            return 0
        if _is(owner, CLAIMED, tag):
            cas_u64(_owner(slots, index), &owner, _next(owner, LIVE, tag))
            return 0
        if _is(owner, PENDING, tag):
            fence()
            pending = owner
            if _others_gone(slots, index, tag):
                cas_u64(_owner(slots, index), &pending, _next(pending, LIVE, tag))
            return 0
        if arrival >= now:
            debts[group] += 1
            if soonest < 0 or arrival < soonest:
                soonest = arrival
        elif free[group] < 0:
            free[group] = index
    if free[0] < 0 and free[1] < 0:
        return soonest - now + 1
    if free[0] < 0:
        best = 1
    elif free[1] < 0:
        best = 0
    else:
        best = debts[1] < debts[0]
    _give(slots, free[best], tag, now)
    return 0


cdef inline int64_t _take(
    KeyedState *table, uint64_t *owner, int64_t *arrival, uint64_t tag, int64_t n, int64_t now
) noexcept nogil:
    """As bucket_take, from a slot that was LIVE for `tag`; MOVED when it is another key's by now."""
    cdef int64_t paid, ahead
    cdef uint64_t word = load_u64(owner)
    cdef uint64_t last
    while True:
        while not _is(word, LIVE, tag):
            if not _is(word, CLAIMED, tag):
                return MOVED
            last = word
            if cas_u64(owner, &word, _next(last, LIVE, tag)):
                word = _next(last, LIVE, tag)
        paid = load(arrival)
        last = word
        word = load_u64(owner)
        if word != last:
            continue
        ahead = bucket_ahead(&table.bucket, paid, n, now)
        if ahead > 0:
            return whole_ns(ahead)
        if cas(arrival, &paid, max(paid, now) + n * table.bucket.interval):
            return 0


cdef int64_t keyed_take(KeyedState *table, uint64_t key, int64_t n, int64_t now_ns) noexcept nogil:
    """Take `n` (1..burst) tokens of the key of this hash and return 0, or none and return the wait, in ns."""
    cdef int64_t now = now_ns << FRACTION_BITS
    cdef Slots slots = _slots_of(table, key)
    cdef uint64_t tag = key & TAG_MASK
    cdef int64_t wait
    cdef int index
    while True:
        index = _find(&slots, tag)
        if index >= 0:
            wait = _take(table, _owner(&slots, index), _arrival(&slots, index), tag, n, now)
            if wait != MOVED:
                return wait
        else:
            wait = _make_room(&slots, tag, now)
            if wait > 0:
                return whole_ns(wait)


cdef int64_t keyed_wait_ns(KeyedState *table, uint64_t key, int64_t n, int64_t now_ns) noexcept nogil:
    """What `keyed_take` would return; takes nothing and makes no room."""
    cdef int64_t now = now_ns << FRACTION_BITS
    cdef Slots slots = _slots_of(table, key)
    cdef uint64_t tag = key & TAG_MASK
    cdef uint64_t owner
    cdef int64_t arrival, ahead
    cdef int64_t soonest = -1
    cdef int index
    for index in range(KEY_SLOTS):
        owner = load_u64(_owner(&slots, index))
        arrival = load(_arrival(&slots, index))
        if _is(owner, LIVE, tag) or _is(owner, CLAIMED, tag):
            ahead = bucket_ahead(&table.bucket, arrival, n, now)
            return whole_ns(ahead) if ahead > 0 else 0
        if soonest < 0 or arrival < soonest:
            soonest = arrival
    return whole_ns(soonest - now + 1) if soonest >= now else 0


# --- The Python object ----------------------------------------------------------------------------------


cdef class KeyedTokenBucket:
    """KeyedTokenBucket(rate, burst, max_keys)\n--\n
    A token bucket for each key: `rate` tokens a second, and up to `burst` at once (see TokenBucket).

    Keys are str, bytes or int (-2^63..2^63 - 1), and "1", b"1" and 1 are three. The memory, 32 bytes for
    each of `max_keys` (1..100,000,000), is set aside at once and never grows: there is no object per key.

    A key whose bucket is full needs no room. Room is made for a new key by forgetting such a one, so at
    least `max_keys` may be in debt at a time, and one in debt is never forgotten. A key for which there is
    no room even so is refused until there is, which takes `burst / rate` seconds and a nanosecond at most.

    Keys are known by SipHash-1-3 with a random secret that is kept with the table: nobody can choose keys
    that collide, and of a million keys any two share one bucket with a probability below 10^-6.

    Safe from any number of threads and tasks.

    Raises:
        ConfigError: naming the argument and its range.
        MemoryError: there is no room for the table.
    """

    def __cinit__(self, rate, burst, max_keys):
        cdef uint64_t[2] secret
        cdef bytes seed = urandom(16)
        self.rate = check_bucket(rate, burst)
        check_int("max_keys", max_keys, 1, MAX_KEYS)
        cdef Memory memory = Memory(keyed_size(max_keys))
        self.owner = memory
        self.state_ = <KeyedState *>memory.data
        memcpy(secret, PyBytes_AS_STRING(seed), 16)
        keyed_init(self.state_, self.rate, burst, max_keys, secret[0], secret[1])

    def __repr__(self):
        return f"<KeyedTokenBucket rate={self.rate:g} burst={self.burst} max_keys={self.max_keys}>"

    @property
    def burst(self):
        return self.state_.bucket.burst

    @property
    def max_keys(self):
        return self.state_.max_keys

    @property
    def size_bytes(self):
        """The memory of the table."""
        return keyed_size(self.state_.max_keys)

    cdef uint64_t hash_of(self, object key) except? 0:
        cdef int overflow = 0
        cdef int64_t number
        cdef Py_ssize_t length
        if isinstance(key, str):
            length = PyUnicode_GET_LENGTH(key) * PyUnicode_KIND(key)
            return keyed_hash(self.state_, PyUnicode_KIND(key), PyUnicode_DATA(key), length)
        if isinstance(key, bytes):
            return keyed_hash(self.state_, BYTES, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        if isinstance(key, int) and not isinstance(key, bool):
            number = PyLong_AsLongLongAndOverflow(key, &overflow)
            if overflow == 0:
                return keyed_hash(self.state_, INT, &number, sizeof(number))
        raise ConfigError("key", key, "a str, bytes, or an int from -2^63 to 2^63 - 1")

    cdef int64_t tokens(self, object n) except -1:
        """`n`, when these buckets can ever hold as many."""
        cdef int64_t count = natural(n)
        cdef int64_t burst = self.state_.bucket.burst
        return count if 1 <= count <= burst else check_int("n", n, 1, burst)

    def try_acquire(self, key, n=1):
        """Take `n` (1..burst) tokens of `key` when they are there now; whether they were.

        Raises:
            ConfigError: `key` is not as above, or `n` is outside its range.
        """
        return keyed_take(self.state_, self.hash_of(key), self.tokens(n), monotonic_ns()) == 0

    def check(self, key, n=1):
        """As `try_acquire`, but a refusal is an error.

        Raises:
            ConfigError: `key` is not as above, or `n` is outside its range.
            RateLimitedError: with `retry_after` in seconds.
        """
        cdef int64_t wait_ns = keyed_take(self.state_, self.hash_of(key), self.tokens(n), monotonic_ns())
        if wait_ns != 0:
            raise refusal(self.rate, wait_ns * 1e-9)

    def wait_time(self, key, n=1):
        """Seconds until `n` (1..burst) tokens of `key` are there, if nobody takes any meanwhile; 0.0: now.

        Raises:
            ConfigError: `key` is not as above, or `n` is outside its range.
        """
        return keyed_wait_ns(self.state_, self.hash_of(key), self.tokens(n), monotonic_ns()) * 1e-9
