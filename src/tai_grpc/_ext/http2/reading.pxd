"""What the peer's headers and data say."""

from tai_grpc._ext.http2.state cimport SessionState, StreamState

# Count a field whatever becomes of it. -1: the block is far beyond the limits, give the connection up.
cdef int count_header(StreamState *stream, size_t name_size, size_t value_size) noexcept nogil
# A field of the header block that is arriving. -1: it is far beyond the limits, give the connection up.
cdef int read_header(
    StreamState *stream, bint trailers,
    const char *name, size_t name_size, const char *value, size_t value_size,
) noexcept nogil
# What came of a DATA frame: events.
# Open the connection's window, unless too much waits to be read.
cdef void connection_give_back(SessionState *session) noexcept nogil
cdef void message_read(StreamState *stream, size_t size) noexcept nogil
cdef void read_data(StreamState *stream, const char *data, size_t size) noexcept nogil
# The peer half-closed: a message must not be under way. False when one is; the stream has been failed.
cdef bint read_end(StreamState *stream) noexcept nogil
# The peer broke the protocol or a limit: FAILED at a server, ENDED at a client. `owned`: `text` is malloc's.
cdef void stream_fail(StreamState *stream, int status, const char *text, bint owned) noexcept nogil
# Client: tell the call's end, once.
cdef void stream_ended(
    StreamState *stream, int status, int why, long number, const char *data, size_t size
) noexcept nogil
