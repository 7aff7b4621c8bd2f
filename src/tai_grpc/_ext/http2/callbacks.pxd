"""What nghttp2 calls back: see callbacks.pyx. For session.pyx alone."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from tai_grpc._ext.http2.nghttp2 cimport nghttp2_session_callbacks
from tai_grpc._ext.http2.state cimport SessionState, StreamState

cdef const nghttp2_session_callbacks *session_callbacks() noexcept nogil
# Of one header block: enough for twice what its fields may take.
cdef int64_t max_continuations(SessionState *session) noexcept nogil
# End the connection because of what the peer does, with a GOAWAY that says it.
cdef int give_up(SessionState *session, uint32_t error_code, const char *problem) noexcept nogil
# Server: tell that a stream is gone.
cdef void closed(StreamState *stream, uint32_t error_code) noexcept nogil
# Server: the second GOAWAY of a shutdown. -1: no memory.
cdef int say_goaway(SessionState *session) noexcept nogil
# What session_ping and stream_reset do.
cdef int ping(SessionState *session, uint64_t number) noexcept nogil
cdef void reset(StreamState *stream, uint32_t error_code) noexcept nogil
