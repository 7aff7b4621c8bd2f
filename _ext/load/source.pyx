# cython: language_level=3, freethreading_compatible=True
"""What the engines of a process share: which call is the next, and what it sends.

Numbers are one atomic addition. Requests are either fixed, and each call finds its own by its number, or they
come through a ring from a Python thread that renders them: engines take them under a lock that nobody holds
for longer than it takes to move a pointer, and that is never held while the GIL is waited for.
"""

import zlib

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, timespec

from tai_grpc._ext.http2.buffers cimport buffer_free
from tai_grpc._ext.http2.metadata cimport metadata_append
from tai_grpc._ext.http2.state cimport GZIP, IDENTITY
from tai_grpc._ext.load.linux cimport (
    eventfd_write, pthread_cond_broadcast, pthread_cond_destroy, pthread_cond_init, pthread_cond_timedwait,
    pthread_condattr_destroy, pthread_condattr_init, pthread_condattr_setclock, pthread_condattr_t,
    pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock, timespec_of,
)
from tai_grpc._ext.primitives.atomics cimport add, load
from tai_grpc._ext.primitives.clock cimport monotonic_ns

from tai_grpc.checks import MAX_SECONDS, check_float, check_int
from tai_grpc.errors import ConfigError

cdef object _compressobj = zlib.compressobj

cdef enum:
    LEVEL = 6
    GZIP_BITS = 31  # 15 of window, 16: with gzip's header


# --- For engines ----------------------------------------------------------------------------------------


cdef bint source_used_up(SourceState *source) noexcept nogil:
    return source.total >= 0 and load(&source.claimed) >= source.total


cdef inline bint _claim(SourceState *source) noexcept nogil:
    """Take a number; the engines that wait for a request learn that it was the last."""
    cdef int64_t number = add(&source.claimed, 1)
    if source.total < 0:
        return True
    return number < source.total


cdef int source_take(
    SourceState *source, bint measured, bint again, Starving *starving, Request **request
) noexcept nogil:
    cdef int64_t place
    cdef int result = TAKEN
    cdef bint was_half_free
    if source.fixed is not NULL:
        if measured and not _claim(source):
            return USED_UP
        place = source.first + add(&source.taken, 1) * source.step
        request[0] = source.fixed[place % source.fixed_count]
        return TAKEN
    pthread_mutex_lock(&source.lock)
    if measured and source_used_up(source):
        result = USED_UP
    elif source.head is NULL:
        if source.closed:
            result = USED_UP
        else:
            result = STARVED
            if not again:
                source.starved += 1
            if not starving.listed:
                starving.listed = True
                starving.next = source.starving
                source.starving = starving
    elif measured and not _claim(source):
        result = USED_UP
    else:
        was_half_free = _half_free(source)
        request[0] = source.head
        source.head = source.head.next
        if source.head is NULL:
            source.tail = NULL
        source.waiting -= 1
        source.waiting_bytes -= <int64_t>request[0].bytes
        source.taken += 1
        if not was_half_free and _half_free(source):
            pthread_cond_broadcast(&source.room)
        if measured and source_used_up(source):
            _wake_all(source)
    pthread_mutex_unlock(&source.lock)
    return result


cdef void _wake_all(SourceState *source) noexcept nogil:
    """With the lock."""
    cdef Starving *starving = source.starving
    while starving is not NULL:
        starving.listed = False
        eventfd_write(starving.wake, 1)
        starving = starving.next
    source.starving = NULL


cdef void source_forget(SourceState *source, Starving *starving) noexcept nogil:
    cdef Starving **link
    pthread_mutex_lock(&source.lock)
    link = &source.starving
    while link[0] is not NULL:
        if link[0] is starving:
            link[0] = starving.next
            starving.listed = False
            break
        link = &link[0].next
    pthread_mutex_unlock(&source.lock)


cdef int64_t source_miss(SourceState *source, int64_t count) noexcept nogil:
    cdef int64_t before = add(&source.claimed, count)
    if source.total >= 0:
        count = max(<int64_t>0, min(count, source.total - before))
    add(&source.missed, count)
    return count


cdef void request_release(Request *request) noexcept nogil:
    if request is not NULL and request.owned:
        free(request)


# --- Requests -------------------------------------------------------------------------------------------


cdef Request *_request(object messages, object metadata, int encoding, bint owned) except NULL:
    """One piece of memory: the struct, the messages' ends, the metadata, the messages."""
    cdef Buffer fields
    cdef Request *request
    cdef list packed = []
    cdef size_t size = 0, at = 0, i
    cdef char *memory
    cdef bytes message
    fields.data = NULL
    fields.size = fields.capacity = 0
    try:
        for given in messages:
            if not isinstance(given, bytes):
                raise TypeError(f"a message is bytes, not {type(given).__name__}")
            message = given if encoding == IDENTITY else _compressed(given)
            size += <size_t>PyBytes_GET_SIZE(message)
            packed.append(message)
        metadata_append(metadata, &fields)
        size += sizeof(Request) + len(packed) * sizeof(size_t) + fields.size
        memory = <char *>malloc(size)
        if memory is NULL:
            raise MemoryError
        memset(memory, 0, sizeof(Request))
        request = <Request *>memory
        request.bytes = size
        request.owned = owned
        request.count = len(packed)
        request.ends = <size_t *>(memory + sizeof(Request))
        request.metadata.data = <char *>(request.ends + request.count)
        request.metadata.size = fields.size
        if fields.size != 0:
            memcpy(request.metadata.data, fields.data, fields.size)
        request.data = request.metadata.data + fields.size
        for i in range(request.count):
            message = packed[i]
            memcpy(request.data + at, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
            at += <size_t>PyBytes_GET_SIZE(message)
            request.ends[i] = at
    finally:
        buffer_free(&fields)
    return request


cdef bytes _compressed(bytes message):
    packer = _compressobj(LEVEL, zlib.DEFLATED, GZIP_BITS)
    return packer.compress(message) + packer.flush()


# --- For Python -----------------------------------------------------------------------------------------


cdef class Source:
    """Hands out the calls of a run, to engines on any number of threads.

    `total`: how many measured calls there are in all, 1 to 10^15; None: no limit. Calls of a warm-up are
    extra. `fixed`: what they send, each the messages of a call and its metadata: call k sends number
    `first` + k * `step` of them, over again where they are fewer (so several processes share one
    numbering). None: each call sends what `feed` was given next, of which at most `capacity` requests (1 to
    2^20) wait, or `max_bytes` and one more. `gzip`: messages are compressed with gzip when they are given.

    Raises:
        ConfigError: naming the argument and its range.
        TypeError, ValueError: a message is no bytes; metadata that cannot be sent, by their key.
    """

    def __cinit__(
        self, *, total, fixed, capacity=4096, max_bytes=64 << 20, first=0, step=1, bint gzip=False
    ):
        cdef SourceState *state = &self.state
        cdef pthread_condattr_t attributes
        cdef int64_t count, i
        state.total = -1 if total is None else check_int("total", total, 1, 10**15)
        state.capacity = check_int("capacity", capacity, 1, 1 << 20)
        state.max_bytes = check_int("max_bytes", max_bytes, 1, 1 << 40)
        state.first = check_int("first", first, 0, 10**15)
        state.step = check_int("step", step, 1, 1_000_000)
        state.encoding = GZIP if gzip else IDENTITY
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_mutex_init(&state.lock, NULL)
        pthread_cond_init(&state.room, &attributes)
        pthread_condattr_destroy(&attributes)
        self.made = True
        if fixed is None:
            return
        count = len(fixed)
        if count == 0:
            raise ConfigError("fixed", fixed, "at least one request")
        state.fixed = <Request **>calloc(<size_t>count, sizeof(Request *))
        if state.fixed is NULL:
            raise MemoryError
        state.fixed_count = count
        for i in range(count):
            messages, metadata = fixed[i]
            state.fixed[i] = _request(messages, metadata, state.encoding, False)

    def __dealloc__(self):
        cdef SourceState *state = &self.state
        cdef Request *request
        cdef int64_t i
        if state.fixed is not NULL:
            for i in range(state.fixed_count):
                free(state.fixed[i])
            free(<void *>state.fixed)
        while state.head is not NULL:
            request = state.head
            state.head = request.next
            free(request)
        if self.made:
            pthread_cond_destroy(&state.room)
            pthread_mutex_destroy(&state.lock)

    def feed(self, messages, metadata):
        """Give the next call's messages and metadata; False when there is no room, or the source is closed.

        Raises:
            TypeError, ValueError: a message is no bytes; metadata that cannot be sent, by their key.
        """
        cdef SourceState *state = &self.state
        cdef Request *request
        cdef bint room
        if state.fixed is not NULL:
            raise ConfigError("fixed", "requests", "None for a source that is fed")
        if not self._has_room():
            return False
        request = _request(messages, metadata, state.encoding, True)
        pthread_mutex_lock(&state.lock)
        room = _room(state)
        if room:
            if state.tail is NULL:
                state.head = request
            else:
                state.tail.next = request
            state.tail = request
            state.waiting += 1
            state.waiting_bytes += <int64_t>request.bytes
            state.fed += 1
            _wake_all(state)
        pthread_mutex_unlock(&state.lock)
        if not room:
            free(request)
        return room

    def wait_for_room(self, double timeout):
        """Wait until half of the ring is free, at most `timeout` seconds; False when it is not, or
        `close` was called. Other threads run meanwhile.

        Raises:
            ConfigError: `timeout` is not from 0 to a week.
        """
        cdef SourceState *state = &self.state
        cdef int64_t until_ns = monotonic_ns() + <int64_t>(
            check_float("timeout", timeout, 0.0, MAX_SECONDS) * 1e9
        )
        cdef bint room
        with nogil:
            pthread_mutex_lock(&state.lock)
            while not state.closed and not _half_free(state) and monotonic_ns() < until_ns:
                _wait(state, until_ns)
            room = _half_free(state) and not state.closed
            pthread_mutex_unlock(&state.lock)
        return room

    def close(self):
        """Nothing is fed any more: calls end with what has been."""
        cdef SourceState *state = &self.state
        pthread_mutex_lock(&state.lock)
        state.closed = True
        pthread_cond_broadcast(&state.room)
        _wake_all(state)
        pthread_mutex_unlock(&state.lock)

    cdef bint _has_room(self) noexcept:
        cdef SourceState *state = &self.state
        cdef bint room
        pthread_mutex_lock(&state.lock)
        room = _room(state)
        pthread_mutex_unlock(&state.lock)
        return room

    @property
    def issued(self):
        """How many measured calls were begun."""
        cdef SourceState *state = &self.state
        cdef int64_t claimed = load(&state.claimed)
        if state.total >= 0:
            claimed = min(claimed, state.total)
        return claimed - load(&state.missed)

    @property
    def fed(self):
        """How many requests were fed."""
        return load(&self.state.fed)

    @property
    def starved(self):
        """How many calls, of a warm-up as well, found no request ready and had to wait for it."""
        return load(&self.state.starved)


cdef inline bint _room(const SourceState *state) noexcept nogil:
    return not state.closed and state.waiting < state.capacity and state.waiting_bytes < state.max_bytes


cdef inline bint _half_free(const SourceState *state) noexcept nogil:
    return state.head is NULL or (
        state.waiting <= state.capacity // 2 and state.waiting_bytes <= state.max_bytes // 2
    )


cdef void _wait(SourceState *state, int64_t until_ns) noexcept nogil:
    cdef timespec until = timespec_of(until_ns)
    pthread_cond_timedwait(&state.room, &state.lock, &until)
