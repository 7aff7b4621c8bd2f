# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""Keeps the least loaded endpoint at hand: a tournament between groups of eight.

Each node names the place that wins below it, and whoever changes an endpoint replays its way to the root:
a pick and a release cost the logarithm of the number of places. It is an f-array (Jayanti, "f-arrays:
implementation and applications", PODC 2002): a node carries a version, a replay swaps in the winner and a new
version, and when it loses that race twice the second winner has read what the first one wrote. So nobody
waits, and once the changes that were under way are done the root is right, whatever their interleaving.

The winner is who takes part; among these, who has the lowest (calls in flight + 1) / (weight * ramp); among
these, whose last pick is the longest ago; and then the lower place.

An endpoint whose breaker refuses is parked, which takes it out. Each pick while some are parked asks
whether their breakers have changed or their time has come; that costs a look at each, and a word for every
64 places.
"""

from libc.stdint cimport uint64_t

from tai_grpc._ext.primitives.atomics cimport (
    add_seq, cas_seq, clear_bits, fence, load, load_seq, load_u64, set_bits, store,
)
from tai_grpc._ext.primitives.breaker cimport retry_after_ns
from tai_grpc._ext.primitives.endpoint cimport (
    GROUP_BITS, NEVER, PARKED, PLACE_BITS,
    breaker_of, chunk_begin, chunk_of, chunk_size, endpoint_at, in_flight, takes_part,
)

cdef extern from *:
    int trailing_zeros "__builtin_ctzll" (unsigned long long word) noexcept nogil

cdef int64_t PLACE_MASK = (1 << PLACE_BITS) - 1


cdef struct Player:
    # Calls in flight and the next one, and what they count against.
    int64_t calls
    int64_t share
    int64_t turn


cdef inline void _look(EndpointState *endpoint, Player *player) noexcept nogil:
    player.calls = in_flight(endpoint) + 1
    player.share = load_seq(&endpoint.weight) * load_seq(&endpoint.ramp)
    player.turn = load(&endpoint.turn)


cdef inline bint _beats(const Player *one, const Player *other) noexcept nogil:
    """Whether `one`, whose place is the lower, beats `other`."""
    # Cross-multiplied, to be exact: below 2^36 * 2^26.
    cdef int64_t left = one.calls * other.share
    cdef int64_t right = other.calls * one.share
    return left < right or (left == right and one.turn <= other.turn)


cdef inline int64_t _best_of_group(BalancerState *balancer, int64_t begin) noexcept nogil:
    """Who wins in the group of places that begins there: if nobody takes part, the first."""
    cdef int64_t passed_over = load_seq(&balancer.passed_over)
    cdef char *endpoint = <char *>endpoint_at(balancer, begin)
    cdef Player best, challenger
    cdef int64_t winner = -1
    cdef int64_t size = min(load_seq(&balancer.untouched) - begin, <int64_t>1 << GROUP_BITS)
    cdef int64_t i
    for i in range(size):
        if takes_part(<EndpointState *>endpoint, passed_over):
            _look(<EndpointState *>endpoint, &challenger)
            if winner < 0 or not _beats(&best, &challenger):
                best = challenger
                winner = i
        endpoint += balancer.place_bytes
    return begin + max(winner, <int64_t>0)


cdef inline int64_t _better(BalancerState *balancer, int64_t one, int64_t other) noexcept nogil:
    cdef int64_t passed_over = load_seq(&balancer.passed_over)
    cdef EndpointState *first = endpoint_at(balancer, one)
    cdef EndpointState *second = endpoint_at(balancer, other)
    cdef Player left, right
    if not takes_part(second, passed_over):
        return one
    if not takes_part(first, passed_over):
        return other
    _look(first, &left)
    _look(second, &right)
    return one if _beats(&left, &right) else other


cdef bint _replay_node(
    BalancerState *balancer, int64_t *node, int64_t *left, int64_t *right, int64_t begin, int64_t place
) noexcept nogil:
    """Let the winners of both sides meet, or without sides all of the group that begins at `begin`.

    Return whether this may matter to the node above when `place` has changed.
    """
    cdef int64_t seen, winner, version
    for _ in range(2):
        seen = load_seq(node)
        if left is NULL:
            winner = _best_of_group(balancer, begin)
        else:
            winner = _better(balancer, load_seq(left) & PLACE_MASK, load_seq(right) & PLACE_MASK)
        # A new version even for the same winner: it undoes what others decide on what they read before.
        version = <int64_t>((<uint64_t>seen | <uint64_t>PLACE_MASK) + 1)
        if cas_seq(node, &seen, version | winner):
            return winner == place or seen & PLACE_MASK == place
    return True


cdef inline bint _is_one_group(BalancerState *balancer) noexcept nogil:
    """Whether there is no tournament yet: so few are looked at by the pick itself."""
    return balancer.first_bits == GROUP_BITS and load_seq(&balancer.chunks) == 1


cdef inline int64_t *_below(BalancerState *balancer, int64_t chunk) noexcept nogil:
    """Who wins among the places of all chunks before this one."""
    return &balancer.chunk[0].nodes[1] if chunk == 1 else &balancer.spine[chunk - 1]


cdef inline int64_t _winner(BalancerState *balancer, int64_t chunks) noexcept nogil:
    return load_seq(_below(balancer, chunks)) & PLACE_MASK


cdef bint _replay_spine(BalancerState *balancer, int64_t chunk, int64_t place) noexcept nogil:
    cdef int64_t *root = &balancer.chunk[chunk].nodes[1]
    return _replay_node(balancer, &balancer.spine[chunk], _below(balancer, chunk), root, 0, place)


cdef void replay(BalancerState *balancer, int64_t place) noexcept nogil:
    """To be called after each change of the endpoint at `place` that the tournament depends on."""
    cdef int64_t chunk, i
    cdef int64_t *nodes
    if _is_one_group(balancer):
        return
    # The change, which may be a plain store, is to be seen by all before this reads the first version.
    fence()
    chunk = chunk_of(balancer, place)
    nodes = balancer.chunk[chunk].nodes
    i = (chunk_size(balancer, chunk) + place - chunk_begin(balancer, chunk)) >> GROUP_BITS
    if not _replay_node(balancer, &nodes[i], NULL, NULL, place >> GROUP_BITS << GROUP_BITS, place):
        return
    while i > 1:
        i >>= 1
        if not _replay_node(balancer, &nodes[i], &nodes[2 * i], &nodes[2 * i + 1], 0, place):
            return
    chunk = max(chunk, <int64_t>1)
    # Asked anew each time: whoever adds a chunk replays what was decided before it was there.
    while chunk < load_seq(&balancer.chunks):
        if not _replay_spine(balancer, chunk, place):
            return
        chunk += 1


cdef void replay_all(BalancerState *balancer) noexcept nogil:
    """To be called after a change of `passed_over` or of `chunks`."""
    cdef int64_t chunk, groups, i, begin
    cdef int64_t *nodes
    if _is_one_group(balancer):
        return
    for chunk in range(load_seq(&balancer.chunks)):
        nodes = balancer.chunk[chunk].nodes
        groups = chunk_size(balancer, chunk) >> GROUP_BITS
        for i in range(groups):
            begin = chunk_begin(balancer, chunk) + (i << GROUP_BITS)
            _replay_node(balancer, &nodes[groups + i], NULL, NULL, begin, 0)
        for i in range(groups - 1, 0, -1):
            _replay_node(balancer, &nodes[i], &nodes[2 * i], &nodes[2 * i + 1], 0, 0)
        if chunk > 0:
            _replay_spine(balancer, chunk, 0)


cdef void tournament_init(BalancerState *balancer, int64_t chunk, Chunk *memory) noexcept nogil:
    """Set up the nodes of the next chunk, whose places are all free, before `chunks` counts it."""
    cdef int64_t groups = chunk_size(balancer, chunk) >> GROUP_BITS
    cdef int64_t begin = chunk_begin(balancer, chunk)
    cdef int64_t i
    for i in range(groups):
        store(&memory.nodes[groups + i], begin + (i << GROUP_BITS))
    for i in range(groups - 1, 0, -1):
        store(&memory.nodes[i], load(&memory.nodes[2 * i]))
    if chunk > 0:
        store(&balancer.spine[chunk], _winner(balancer, chunk))


cdef EndpointState *least_loaded(BalancerState *balancer) noexcept nogil:
    """The least loaded of those that take part, NULL when none does."""
    cdef int64_t place
    cdef EndpointState *endpoint
    if _is_one_group(balancer):
        place = _best_of_group(balancer, 0)
    else:
        place = _winner(balancer, load_seq(&balancer.chunks))
    endpoint = endpoint_at(balancer, place)
    return endpoint if takes_part(endpoint, load_seq(&balancer.passed_over)) else NULL


cdef void park(
    BalancerState *balancer, EndpointState *endpoint, uint64_t word, int64_t now_ns
) noexcept nogil:
    """Take out an endpoint whose breaker refused when its word was `word`, or an earlier one."""
    cdef int64_t place = endpoint.place
    cdef int64_t chunk = chunk_of(balancer, place)
    cdef int64_t offset = place - chunk_begin(balancer, chunk)
    cdef int64_t bit = <int64_t>(<uint64_t>1 << (offset & 63))
    cdef int64_t wait_ns = retry_after_ns(breaker_of(endpoint))
    store(<int64_t *>&endpoint.parked_word, <int64_t>word)
    store(&endpoint.parked_until_ns, NEVER if wait_ns < 0 else now_ns + wait_ns)
    set_bits(&endpoint.status, PARKED)
    if not set_bits(&balancer.chunk[chunk].parked[offset >> 6], bit) & bit:
        add_seq(&balancer.parked, 1)
    replay(balancer, place)


cdef void unpark(BalancerState *balancer, int64_t now_ns) noexcept nogil:
    """Bring back those whose breaker has changed since, or whose time has come."""
    cdef int64_t chunk, i, place, bit, begin
    cdef uint64_t word
    cdef int64_t *parked
    cdef EndpointState *endpoint
    for chunk in range(load_seq(&balancer.chunks)):
        begin = chunk_begin(balancer, chunk)
        parked = balancer.chunk[chunk].parked
        for i in range((chunk_size(balancer, chunk) + 63) >> 6):
            word = <uint64_t>load(&parked[i])
            while word != 0:
                place = begin + (i << 6) + trailing_zeros(word)
                bit = <int64_t>(word & (~word + 1))
                word &= word - 1
                endpoint = endpoint_at(balancer, place)
                if (
                    load_u64(&breaker_of(endpoint).word) == load_u64(&endpoint.parked_word)
                    and now_ns < load(&endpoint.parked_until_ns)
                ):
                    continue
                if clear_bits(&parked[i], bit) & bit:
                    clear_bits(&endpoint.status, PARKED)
                    add_seq(&balancer.parked, -1)
                    replay(balancer, place)
