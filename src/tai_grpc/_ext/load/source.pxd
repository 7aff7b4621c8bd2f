"""What the engines of a process share: which call is the next, and what it sends. See source.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.load.linux cimport pthread_cond_t, pthread_mutex_t

# What `source_take` may say.
cdef enum Taken:
    TAKEN = 0
    STARVED = 1  # nothing is there yet; the engine's `wake` is told once there is
    USED_UP = 2


# What one call sends. It lies in one piece of memory with all that it points to.
cdef struct Request:
    Request *next  # in the ring
    size_t bytes
    bint owned  # freed by who took it
    Buffer metadata  # fields
    size_t count  # of messages
    size_t *ends  # where each ends in `data`
    char *data


# An engine that waits for requests.
cdef struct Starving:
    Starving *next
    int wake  # an eventfd
    bint listed


cdef struct SourceState:
    int64_t total  # -1: no limit
    int64_t claimed  # numbers handed out to measured calls; goes beyond `total` by the engines' last attempts
    int64_t missed  # of them: calls that were due and not sent
    int64_t taken  # requests, of warm-up calls as well
    int64_t starved
    int encoding
    # Fixed requests; NULL: the ring.
    Request **fixed
    int64_t fixed_count
    int64_t first
    int64_t step
    # The ring, and the lock around it.
    pthread_mutex_t lock
    pthread_cond_t room
    Request *head
    Request *tail
    int64_t waiting  # requests in the ring
    int64_t waiting_bytes
    int64_t capacity
    int64_t max_bytes
    int64_t fed
    Starving *starving
    bint closed


# `measured`: it takes a number. `again`: the same call asked before.
cdef int source_take(
    SourceState *source, bint measured, bint again, Starving *starving, Request **request
) noexcept nogil
cdef void request_release(Request *request) noexcept nogil
# Take up to `count` numbers for calls that are not sent any more; returns how many there were.
cdef int64_t source_miss(SourceState *source, int64_t count) noexcept nogil
cdef bint source_used_up(SourceState *source) noexcept nogil  # no number is left
# The engine waits no longer.
cdef void source_forget(SourceState *source, Starving *starving) noexcept nogil


cdef class Source:
    cdef SourceState state
    cdef bint made

    cdef bint _has_room(self) noexcept
