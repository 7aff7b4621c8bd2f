"""The queue of a session's events, and the memory of its streams."""

from libc.stdint cimport int32_t

from tai_grpc._ext.http2.state cimport Event, SessionState, StreamState

# The new event, to be filled; it keeps `stream` until it is retired. NULL: no memory, the session is over.
cdef Event *event_push(SessionState *session, int kind, StreamState *stream) noexcept nogil
# The next one, which lasts until the next call; retires the one before.
cdef Event *event_next(SessionState *session) noexcept nogil
# Copy what those that wait point to of the input, which then may go.
cdef int events_keep(SessionState *session) noexcept nogil  # -1: no memory
cdef void events_free(SessionState *session) noexcept nogil

# A stream in the session's list, with one reference, the session's. NULL: no memory.
cdef StreamState *stream_new(SessionState *session, int32_t stream_id) noexcept nogil
cdef void stream_hold(StreamState *stream) noexcept nogil
cdef void stream_let_go(StreamState *stream) noexcept nogil
cdef void chunks_free(StreamState *stream) noexcept nogil
# Take it out of the session's lists: nghttp2 knows it no longer.
cdef void stream_unlink(StreamState *stream) noexcept nogil
# Client: the queue of requests that wait.
cdef void waiting_append(StreamState *stream) noexcept nogil
cdef void waiting_remove(StreamState *stream) noexcept nogil
