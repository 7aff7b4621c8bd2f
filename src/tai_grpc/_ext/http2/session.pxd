"""One end of a gRPC connection, without IO: bytes in, events and bytes out. See session.pyx.

Whoever does the IO (a shell) does this, in one thread at a time and never from within one of these calls:

    session_receive(session, data, size)                  # what came from the peer
    while (event := session_next_event(session)) != NULL: # what it means; may call any function below
        ...
    session_output(session, &buffer)                      # what is to be sent now; may bring new events
    ... write buffer, buffer.size = 0 ...

An event, with what it points to, lasts until the next call of `session_next_event` or `session_receive`. A
function that returns int returns 0, or -1 where it says so.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.http2.state cimport Event, SessionSettings, SessionState, StreamState


# --- The connection ---

cdef SessionState *session_new(const SessionSettings *settings) noexcept nogil  # NULL: no memory
cdef void session_free(SessionState *session) noexcept nogil
cdef SessionSettings session_defaults(int role) noexcept nogil
# -1: the connection is over; what `session_output` then gives (a GOAWAY) is its last word.
cdef int session_receive(SessionState *session, const char *data, size_t size) noexcept nogil
cdef Event *session_next_event(SessionState *session) noexcept nogil
# Copy what events that have not been taken point to in `data`, which may go then. -1: no memory.
cdef int session_keep_events(SessionState *session) noexcept nogil
# Append what is to be sent, about `at_most` bytes, to `buffer`. -1: the connection is over. 1: there is more.
cdef int session_output(SessionState *session, Buffer *buffer, size_t at_most) noexcept nogil
# False once both sides have said their last.
cdef bint session_alive(SessionState *session) noexcept nogil
cdef void session_lost(SessionState *session) noexcept nogil  # ends every stream, by events
cdef int session_ping(SessionState *session, uint64_t number) noexcept nogil
# Server: take no new streams, tell the peer (GOAWAY, ping, GOAWAY) and go on with those there are.
cdef int session_shutdown(SessionState *session) noexcept nogil
# Server: end the wait for the peer's word that it heard of a shutdown, where it is still waited for.
cdef int session_hurry(SessionState *session) noexcept nogil
# Say GOAWAY with an HTTP/2 error code; the session is over once that was sent.
cdef int session_terminate(SessionState *session, uint32_t error_code) noexcept nogil
cdef int64_t session_streams(SessionState *session) noexcept nogil  # those that are not closed
cdef int64_t session_max_streams(SessionState *session) noexcept nogil  # what the peer allows
cdef bint session_has_room(SessionState *session) noexcept nogil  # client: a call need not wait its turn
cdef bint session_in_headers(SessionState *session) noexcept nogil  # a header block has begun and not ended
cdef const char *session_problem(SessionState *session) noexcept nogil  # why it is over, for people

# --- A stream ---

# Client: start a call. `metadata`: fields. Over the peer's limit it waits its turn. NULL: no call can be
# started here any more (or no memory). The stream is attached.
cdef StreamState *session_request(
    SessionState *session, const char *path, size_t path_size, const char *authority, size_t authority_size,
    bint secure, int64_t timeout_ns, int encoding, const char *user_agent, size_t user_agent_size,
    const Buffer *metadata, void *owner,
) noexcept nogil
# Keep the stream's memory until `stream_release`, even beyond the session's end.
cdef void stream_attach(StreamState *stream) noexcept nogil
cdef void stream_release(StreamState *stream) noexcept nogil
cdef void stream_message_read(StreamState *stream, size_t size) noexcept nogil  # opens its window again
# Server: initial metadata (fields, or NULL). Without it they go, empty, with the first message.
cdef int stream_send_headers(StreamState *stream, const Buffer *metadata, int encoding) noexcept nogil
# -1: it has ended, or no memory.
cdef int stream_send_message(
    StreamState *stream, const char *data, size_t size, bint compressed
) noexcept nogil
cdef int stream_half_close(StreamState *stream) noexcept nogil  # client
# Server: the status, `message` in UTF-8, trailing metadata (fields, or NULL), after what is queued. Nothing
# is told of the stream any more but that it is CLOSED.
cdef int stream_finish(
    StreamState *stream, int status, const char *message, size_t message_size, const Buffer *trailers
) noexcept nogil
# Give it up with an HTTP/2 error code. Nothing is told of it any more, but to a server that it is CLOSED.
cdef void stream_reset(StreamState *stream, uint32_t error_code) noexcept nogil
