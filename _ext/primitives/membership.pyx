# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""The endpoints of a balancer: where each lies in memory, and the tables of those that are there.

What a pick reads of the membership is a Table that never changes: a change makes a new one and puts it in the
old one's place, which lives on as long as somebody reads it. An endpoint's own state lies in a place of its
own, which no table owns, so counts are never lost by a change; see endpoint.pxd for its memory.
"""

from math import gcd

cimport cython

from tai_grpc._ext.primitives.atomics cimport add_seq, cas_seq, load, load_seq, raise_to, store
from tai_grpc._ext.primitives.endpoint cimport (
    DRAINING, GROUP_BITS, LEAST_LOADED, MAX_CHUNKS, PLACE_BITS, RESERVED,
    Chunk, chunk_begin, chunk_size, endpoint_at, in_flight, places,
)
from tai_grpc._ext.primitives.tournament cimport replay_all, tournament_init

from tai_grpc.errors import ConfigError


# no_gc, here and below: what it refers to refers to nothing.
@cython.no_gc
@cython.final
cdef class Ground:
    def __cinit__(self):
        self.memory = Memory(sizeof(BalancerState))
        self.state = <BalancerState *>self.memory.data
        self.chunks = []

    cdef int grow(self) except -1:
        """Add a chunk, unless somebody else has."""
        cdef BalancerState *state = self.state
        cdef int64_t number = load_seq(&state.chunks)
        cdef int64_t size = chunk_size(state, number)
        cdef int64_t nodes = 2 * (size >> GROUP_BITS) if state.strategy == LEAST_LOADED else 0
        cdef int64_t i
        cdef Chunk *chunk
        if number == MAX_CHUNKS or chunk_begin(state, number) + size > <int64_t>1 << PLACE_BITS:
            limit = f"at most {<int64_t>1 << PLACE_BITS} endpoints, with those removed but still referred to"
            raise ConfigError("address", f"{places(state)} endpoints", limit)
        cdef Memory memory = Memory(size * state.place_bytes + (nodes + ((size + 63) >> 6)) * sizeof(int64_t))
        with cython.critical_section(self):
            if load_seq(&state.chunks) != number:
                return 0
            chunk = &state.chunk[number]
            chunk.endpoints = <char *>memory.data
            chunk.nodes = <int64_t *>(chunk.endpoints + size * state.place_bytes)
            chunk.parked = chunk.nodes + nodes
            for i in range(size):
                (<EndpointState *>(chunk.endpoints + i * state.place_bytes)).place = (
                    chunk_begin(state, number) + i
                )
            if nodes != 0:
                tournament_init(state, number, chunk)
            self.chunks.append(memory)
            add_seq(&state.chunks, 1)
        if nodes != 0:
            replay_all(state)
        return 0

    cdef int64_t reserve(self) except -1:
        """Find a free place and reserve it."""
        cdef int64_t count, place, status
        cdef EndpointState *endpoint
        while True:
            count = places(self.state) if load_seq(&self.state.chunks) != 0 else 0
            for _ in range(count):
                place = load(&self.next_place) % count
                store(&self.next_place, place + 1)
                endpoint = endpoint_at(self.state, place)
                status = 0
                if in_flight(endpoint) == 0 and cas_seq(&endpoint.status, &status, RESERVED):
                    raise_to(&self.state.untouched, place + 1)
                    return place
            store(&self.next_place, count)
            self.grow()


@cython.no_gc
@cython.final
cdef class Place:
    def __dealloc__(self):
        if self.state is not NULL:
            store(&self.state.status, 0)


@cython.final
cdef class Member:
    pass


def _stride(total):
    """A stride of turns by weight: coprime to their total, and so that they lie spread over the round.

    How evenly they lie depends on the partial quotients of the continued fraction of stride / total: low ones
    are good, and those of the golden section are the lowest (Niederreiter 1992). The best near it is taken.
    """
    golden = round(total * 0.6180339887498949)
    best = None
    for stride in range(max(golden - 16, 1), min(golden + 17, total)):
        greatest, divisor, rest = 0, total, stride
        while rest != 0:
            greatest = max(greatest, divisor // rest)
            divisor, rest = rest, divisor % rest
        if divisor == 1 and (best is None or (greatest, abs(stride - golden)) < best[:2]):
            best = (greatest, abs(stride - golden), stride)
    return best[2]


@cython.final
cdef class Table:
    @staticmethod
    cdef Table of(Ground ground, list members, int64_t version):
        """A table of these, all but the draining of which may be drawn."""
        cdef Table table = Table.__new__(Table)
        cdef TableState *state = &table.state
        cdef Member member
        cdef list by_place = [None] * places(ground.state)
        cdef list drawn = []
        cdef list weights = []
        cdef int64_t i, end, buckets
        for member in members:
            by_place[member.place.index] = member
            if not load_seq(&member.place.state.status) & DRAINING:
                drawn.append(member)
                weights.append(load(&member.place.state.weight))
        table.members = tuple(members)
        table.by_place = tuple(by_place)
        table.by_address = {(<Member>each).place.address: each for each in members}
        state.version = version
        state.count = len(drawn)
        divisor = gcd(*weights)
        weights = [weight // divisor for weight in weights]
        state.total = sum(weights)
        cdef bint equal = state.total == state.count
        if not equal:
            # At most two buckets for each endpoint.
            while ((state.total - 1) >> state.guide_shift) >= 2 * state.count:
                state.guide_shift += 1
            state.stride = _stride(state.total)
        buckets = 0 if equal else ((state.total - 1) >> state.guide_shift) + 2
        table.room = len(by_place)
        table.memory = Memory(
            table.room * sizeof(PyObject *)
            + state.count * sizeof(EndpointState *)
            + (0 if equal else state.count + buckets) * sizeof(int64_t)
        )
        table.places = <PyObject **>table.memory.data
        for member in members:
            table.places[member.place.index] = <PyObject *>member.place
        state.endpoints = <EndpointState **>(table.places + table.room)
        for i in range(state.count):
            state.endpoints[i] = (<Member>drawn[i]).place.state
        if equal:
            return table
        state.ends = <int64_t *>(state.endpoints + state.count)
        state.guide = state.ends + state.count
        end = 0
        for i in range(state.count):
            end += weights[i]
            state.ends[i] = end
        end = 0
        for i in range(buckets):
            while end < state.count - 1 and state.ends[end] <= i << state.guide_shift:
                end += 1
            state.guide[i] = end
        return table
