"""Calls of an engine: how they begin, what they send, how they end. See calls.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.load.state cimport Call, EngineState, Entry, Link, Place, Queue

cdef void queue_prepend(Queue *queue, Entry *entry) noexcept nogil
cdef void queue_append(Queue *queue, Entry *entry) noexcept nogil
cdef void queue_insert(Queue *queue, Entry *entry) noexcept nogil  # by its `at_ns`
cdef void queue_remove(Queue *queue, Entry *entry) noexcept nogil  # when it is in it

cdef bint link_takes_calls(const Link *link) noexcept nogil
# A call has to wait; remember when it is for one of the peer's streams.
cdef void link_note_full(EngineState *engine, const Link *link) noexcept nogil
cdef void place_touch(EngineState *engine, Place *place) noexcept nogil  # calls may be made there, maybe
# Make a new call, which has been due since `due_ns`: what `source_take` says; it is made when that is TAKEN.
cdef int call_make(
    EngineState *engine, Call *call, Link *link, int64_t due_ns, bint *starved
) noexcept nogil
# Have a new call end at once, as there is no connection: likewise.
cdef int call_refuse(EngineState *engine, Place *place, int64_t due_ns, bint *starved) noexcept nogil
# Send a call again that was not processed.
cdef void call_resend(EngineState *engine, Call *call, Link *link) noexcept nogil
# What the session tells.
cdef void link_events(EngineState *engine, Link *link, int64_t now) noexcept nogil
cdef void call_send(EngineState *engine, Call *call, int64_t now) noexcept nogil  # as much as may be now
# End calls, with their streams reset.
cdef void call_too_late(EngineState *engine, Call *call, int64_t now) noexcept nogil
cdef void call_unavailable(EngineState *engine, Call *call, int64_t now) noexcept nogil
cdef void call_duration_over(EngineState *engine, Call *call, int64_t now) noexcept nogil
cdef void call_abandon(EngineState *engine, Call *call) noexcept nogil
