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

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from tai_grpc._ext.http2.buffers cimport Buffer

cdef enum Role:
    CLIENT = 0
    SERVER = 1

cdef enum Encoding:
    IDENTITY = 0
    DEFLATE = 1
    GZIP = 2
    OTHER = 3

cdef enum EventKind:
    # Of a stream.
    REQUEST = 1  # server: its headers are here; set `stream.owner` and call `stream_attach` to take it on
    RESPONSE = 2  # client: its initial metadata are here; not with a Trailers-Only answer
    MESSAGE = 3  # data, size; flag: compressed. Answer with `stream_message_read` when it was taken on
    HALF_CLOSED = 4  # server: no message follows
    FAILED = 5  # server: the peer broke the protocol or a limit: code, data (a text). Nothing follows but CLOSED
    WRITABLE = 6  # what is queued has gone below LOW_WATER, after `stream.wants_writable` was set
    CLOSED = 7  # server: the stream is gone; code is HTTP/2's, 0 when both sides had ended
    ENDED = 8  # client: the call's status: code, data (grpc-message, percent-encoded), why, number
    # Of the connection.
    SETTINGS = 9  # client: the peer's settings are here: the connection is ready
    PONG = 10  # number: as in `session_ping`
    GOAWAY = 11  # client: code, data (debug data): no call may be started any more
    SERVED = 12  # server, after session_shutdown: the last stream has closed, so the connection can be

cdef enum Why:
    # How the status of an ENDED came about.
    BY_STATUS = 0  # grpc-status: the server's own word; data is grpc-message
    BY_HTTP_STATUS = 1  # number is the HTTP status
    BY_RESET = 2  # number is the HTTP/2 error code
    BY_CONNECTION = 3  # the connection was lost, or said GOAWAY
    BY_PROTOCOL = 4  # the answer breaks the protocol or a limit of ours; data says how

cdef enum:
    DEFAULT_WINDOW = 65535
    LOW_WATER = 32768  # bytes queued on a stream below which it is WRITABLE again
    HIGH_WATER = 65536  # from here on a writer should wait
    # Bits of StreamState.flags.
    UNPROCESSED = 1  # client: the peer proves that it did not process it (REFUSED_STREAM, GOAWAY)
    UNSENT = 2  # client: the request never left


cdef struct SessionSettings:
    int role
    int64_t max_streams  # what a server announces as MAX_CONCURRENT_STREAMS
    int64_t window_bytes  # of each stream: 65,535 to 2^31-1
    int64_t connection_window_bytes
    int64_t max_header_fields  # decoded, of one header block
    int64_t max_header_bytes  # names and values and 32 each, of one header block
    int64_t max_message_bytes  # received; -1: 2^32-1, what the protocol can say
    int64_t max_queued_frames  # answers that the peer does not read, before the connection is given up
    int64_t reset_burst  # streams that may be reset in a row, by either side, beyond reset_rate a second
    int64_t reset_rate
    int64_t glitch_burst  # frames that say nothing, likewise
    int64_t glitch_rate
    int64_t min_ping_interval_ns  # server: pings closer than this are strikes
    int64_t max_ping_strikes  # -1: without limit


cdef struct Chunk:
    Chunk *next
    size_t size
    size_t sent
    char data[1]


cdef struct StreamState:
    SessionState *session  # NULL once the session is gone
    void *owner  # the shell's own
    StreamState *previous
    StreamState *next
    int32_t id
    int32_t references
    uint32_t flags
    # What the peer's headers said.
    Buffer path  # server
    Buffer metadata  # fields (see buffers.pxd): initial metadata, without what is the protocol's own
    Buffer trailers  # client: fields
    Buffer message  # client: grpc-message, percent-encoded
    int64_t timeout_ns  # server: -1: none
    int http_status
    int grpc_status  # client: -1: none yet
    int encoding  # of what the peer sends
    int accepted  # bits 1 << Encoding of what the peer takes
    int header_fields
    int64_t header_bytes
    bint content_type_ok
    bint trailers_only
    int broken  # gRPC status that its headers, taken by themselves, have earned
    const char *broken_text
    # Reading.
    Buffer prefix
    Buffer partial  # of the message that is under way
    int64_t partial_size  # what it will be; -1: its prefix is not complete
    bint partial_compressed
    int64_t unread  # messages that the shell has been told of and not taken yet
    int64_t withheld  # bytes of the window not given back yet
    bint deaf  # what still comes is dropped
    bint half_closed  # by the peer
    bint ended  # an ENDED or CLOSED has been queued
    # Sending.
    Chunk *first
    Chunk *last
    int64_t queued  # bytes in the chunks, beyond what nghttp2 has taken
    bint headers_sent
    bint idle  # nghttp2 waits to be told that there is more
    bint finished  # no message follows
    int status  # server: to be sent once the chunks are
    Buffer status_fields  # server: the trailers, ready
    bint reset
    bint wants_writable


cdef struct Event:
    int kind
    int code
    int flag
    int why
    int64_t number
    StreamState *stream
    const char *data
    size_t size
    char *owned  # what is to be freed with it


cdef struct SessionState


# --- The connection ---

cdef SessionState *session_new(const SessionSettings *settings) noexcept nogil  # NULL: no memory
cdef void session_free(SessionState *session) noexcept nogil
cdef SessionSettings session_defaults(int role) noexcept nogil
# -1: the connection is over; what `session_output` then gives (a GOAWAY) is its last word.
cdef int session_receive(SessionState *session, const char *data, size_t size) noexcept nogil
cdef Event *session_next_event(SessionState *session) noexcept nogil
# Append what is to be sent, about `at_most` bytes, to `buffer`. -1: the connection is over. 1: there is more.
cdef int session_output(SessionState *session, Buffer *buffer, size_t at_most) noexcept nogil
# False once both sides have said their last.
cdef bint session_alive(SessionState *session) noexcept nogil
cdef void session_lost(SessionState *session) noexcept nogil  # ends every stream, by events
cdef int session_ping(SessionState *session, uint64_t number) noexcept nogil
# Server: take no new streams, tell the peer (GOAWAY, ping, GOAWAY) and go on with those there are.
cdef int session_shutdown(SessionState *session) noexcept nogil
# Say GOAWAY with an HTTP/2 error code; the session is over once that was sent.
cdef int session_terminate(SessionState *session, uint32_t error_code) noexcept nogil
cdef int64_t session_streams(SessionState *session) noexcept nogil  # those that are not closed
cdef int64_t session_max_streams(SessionState *session) noexcept nogil  # what the peer allows
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
# Server: the status, `message` in UTF-8, trailing metadata (fields, or NULL), after what is queued.
cdef int stream_finish(
    StreamState *stream, int status, const char *message, size_t message_size, const Buffer *trailers
) noexcept nogil
# Give it up with an HTTP/2 error code. Client: no ENDED follows.
cdef void stream_reset(StreamState *stream, uint32_t error_code) noexcept nogil
