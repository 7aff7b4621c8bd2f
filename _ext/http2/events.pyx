# cython: language_level=3, freethreading_compatible=True
"""The queue of a session's events, and the memory of its streams.

A stream lives as long as somebody refers to it: the session while nghttp2 knows it, each event that is of it,
and the shell that took it on.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from tai_grpc._ext.http2.buffers cimport buffer_free
from tai_grpc._ext.http2.state cimport (
    CLIENT, CLOSED, IDENTITY, MESSAGE, Chunk, Event, SessionState, StreamState,
)

# What a queue keeps of its memory when it is empty; that of a connection without streams keeps nothing.
cdef size_t KEPT = 16


cdef Event *event_push(SessionState *session, int kind, StreamState *stream) noexcept nogil:
    cdef size_t capacity
    cdef Event *events
    cdef Event *event
    if session.end_event == session.event_capacity:
        if session.first_event >= KEPT and session.first_event * 2 >= session.event_capacity:
            session.end_event -= session.first_event
            memmove(
                session.events, session.events + session.first_event, session.end_event * sizeof(Event)
            )
            session.first_event = 0
        else:
            capacity = max(2 * session.event_capacity, KEPT)
            events = <Event *>realloc(session.events, capacity * sizeof(Event))
            if events is NULL:
                session.over = True
                session.problem = b"out of memory"
                return NULL
            session.events = events
            session.event_capacity = capacity
    event = &session.events[session.end_event]
    session.end_event += 1
    memset(event, 0, sizeof(Event))
    event.kind = kind
    event.stream = stream
    if stream is not NULL:
        stream.references += 1
    return event


cdef inline void _retire_first(SessionState *session) noexcept nogil:
    cdef Event *event = &session.events[session.first_event]
    session.first_event += 1
    _retire(event)


cdef inline bint _is_muted(const Event *event) noexcept nogil:
    return event.stream is not NULL and event.stream.muted and event.kind != CLOSED


cdef inline void _retire(Event *event) noexcept nogil:
    free(event.owned)
    if event.stream is not NULL:
        stream_let_go(event.stream)


cdef Event *event_next(SessionState *session) noexcept nogil:
    if session.handed_out:
        session.handed_out = False
        _retire_first(session)
    while session.first_event != session.end_event and _is_muted(&session.events[session.first_event]):
        _retire_first(session)
    if session.first_event == session.end_event:
        session.first_event = session.end_event = 0
        if session.event_capacity > KEPT or session.stream_count == 0:
            free(session.events)
            session.events = NULL
            session.event_capacity = 0
        return NULL
    session.handed_out = True
    # The shell may cause new events while it looks at this one, which may move the queue: so it gets a copy.
    session.current_event = session.events[session.first_event]
    return &session.current_event


cdef int events_keep(SessionState *session) noexcept nogil:
    cdef size_t i
    cdef Event *event
    for i in range(session.first_event, session.end_event):
        event = &session.events[i]
        if event.kind == MESSAGE and event.owned is NULL and event.size != 0:
            event.owned = <char *>malloc(event.size)
            if event.owned is NULL:
                event.size = 0
                return -1
            memcpy(event.owned, event.data, event.size)
            event.data = event.owned
    return 0


cdef void events_free(SessionState *session) noexcept nogil:
    cdef size_t i
    for i in range(session.first_event, session.end_event):
        _retire(&session.events[i])
    free(session.events)
    session.events = NULL
    session.first_event = session.end_event = session.event_capacity = 0
    session.handed_out = False


cdef StreamState *stream_new(SessionState *session, int32_t stream_id) noexcept nogil:
    cdef StreamState *stream = <StreamState *>calloc(1, sizeof(StreamState))
    if stream is NULL:
        return NULL
    stream.session = session
    stream.id = stream_id
    stream.references = 1
    stream.timeout_ns = -1
    stream.grpc_status = -1
    stream.partial_size = -1
    stream.encoding = IDENTITY
    stream.accepted = 1 << IDENTITY
    stream.next = session.streams
    if session.streams is not NULL:
        session.streams.previous = stream
    session.streams = stream
    session.stream_count += 1
    return stream


cdef void stream_hold(StreamState *stream) noexcept nogil:
    stream.references += 1


cdef void stream_let_go(StreamState *stream) noexcept nogil:
    stream.references -= 1
    if stream.references == 0:
        chunks_free(stream)
        buffer_free(&stream.path)
        buffer_free(&stream.metadata)
        buffer_free(&stream.trailers)
        buffer_free(&stream.message)
        buffer_free(&stream.partial)
        buffer_free(&stream.fields)
        free(stream)


cdef void chunks_free(StreamState *stream) noexcept nogil:
    cdef Chunk *chunk
    while stream.first is not NULL:
        chunk = stream.first
        stream.first = chunk.next
        free(chunk)
    stream.last = NULL
    stream.queued = 0


cdef void stream_unlink(StreamState *stream) noexcept nogil:
    cdef SessionState *session = stream.session
    if stream.closed:
        return
    stream.closed = True
    if stream.previous is not NULL:
        stream.previous.next = stream.next
    else:
        session.streams = stream.next
    if stream.next is not NULL:
        stream.next.previous = stream.previous
    stream.previous = stream.next = NULL
    if session.current is stream:
        session.current = NULL
    session.stream_count -= 1
    session.queued -= stream.queued
    if stream.waiting:
        waiting_remove(stream)
    elif session.settings.role == CLIENT:
        session.sent_streams -= 1
    chunks_free(stream)
    session.withheld -= stream.withheld
    session.partial_bytes -= <int64_t>stream.partial.capacity
    buffer_free(&stream.partial)
    buffer_free(&stream.fields)
    stream.session = NULL
    stream_let_go(stream)


cdef void waiting_append(StreamState *stream) noexcept nogil:
    cdef SessionState *session = stream.session
    stream.waiting = True
    stream.before = session.last_waiting
    if session.last_waiting is not NULL:
        session.last_waiting.after = stream
    else:
        session.first_waiting = stream
    session.last_waiting = stream


cdef void waiting_remove(StreamState *stream) noexcept nogil:
    cdef SessionState *session = stream.session
    stream.waiting = False
    if stream.before is not NULL:
        stream.before.after = stream.after
    else:
        session.first_waiting = stream.after
    if stream.after is not NULL:
        stream.after.before = stream.before
    else:
        session.last_waiting = stream.before
    stream.before = stream.after = NULL
