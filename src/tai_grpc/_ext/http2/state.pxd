"""What a session and its streams consist of, and the events that tell of them. See session.pxd."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.http2.nghttp2 cimport nghttp2_session
from tai_grpc._ext.primitives.limiter cimport BucketState

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
    # Server: the peer broke the protocol or a limit: code, data (a text). Nothing follows but CLOSED.
    FAILED = 5
    WRITABLE = 6  # what is queued has gone below LOW_WATER, after `stream.wants_writable` was set
    CLOSED = 7  # server: the stream is gone; code is HTTP/2's, 0 when both sides had ended
    ENDED = 8  # client: the call's status: code, data (grpc-message, percent-encoded), why, number
    # Of the connection.
    SETTINGS = 9  # the peer's first settings are here: the connection is ready
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
    int64_t max_buffered_bytes  # of all streams: unread messages, before the connection's window stays shut
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


cdef enum Drain:
    NOT_DRAINING = 0
    NOTICE_SENT = 1
    GOAWAY_SENT = 2
    DRAINED = 3  # SERVED has been told


cdef struct StreamState:
    SessionState *session  # NULL once the session is gone
    void *owner  # the shell's own
    StreamState *previous
    StreamState *next
    # Client: neighbours in the queue of requests that wait until the peer allows one more.
    StreamState *before
    StreamState *after
    bint waiting
    int32_t id
    int32_t references
    uint32_t flags
    # What the peer's headers said.
    Buffer path  # server
    Buffer metadata  # fields (see buffers.pxd): initial metadata, without what is the protocol's own
    Buffer trailers  # client: fields
    Buffer message  # client: grpc-message, percent-encoded
    int64_t timeout_ns  # server: -1: none
    int64_t deadline_ns  # client: of a request that waits for its turn, of the clock; 0: none
    int http_status
    int grpc_status  # client: -1: none yet
    int encoding  # of what the peer sends
    int accepted  # bits 1 << Encoding of what the peer takes
    int header_fields
    int64_t header_bytes
    bint content_type_ok
    bint answered  # client: the response's headers are here
    int broken  # server: the gRPC status that its headers, taken by themselves, have earned
    const char *broken_text
    # Reading.
    unsigned char prefix[5]
    int prefix_size
    Buffer partial  # of the message that is under way
    int64_t partial_size  # what it will be; -1: its prefix is not complete
    bint partial_compressed
    int64_t unread  # messages that the shell has been told of and not taken yet
    int64_t withheld  # bytes of the window not given back yet
    bint deaf  # what still comes is dropped
    bint muted  # the shell is done with it: of what is queued only CLOSED is told
    bint half_closed  # by the peer
    bint ended  # an ENDED or CLOSED has been queued, or none is to be
    bint closed  # nghttp2 knows it no longer
    # Sending.
    Chunk *first
    Chunk *last
    int64_t queued  # bytes in the chunks, beyond what nghttp2 has taken
    bint headers_sent
    bint on_wire  # client: its headers are in the output
    bint idle  # nghttp2 waits to be told that there is more
    bint finished  # no message follows
    bint moved  # some of it was sent since the shell set this to False
    int64_t stuck_since_ns  # the shell's own: when it last saw that some was; 0: it has not looked
    # Server: the trailers, to be sent once the chunks are. Client: the request's fields while it waits.
    Buffer fields
    bint reset
    bint wants_writable


cdef struct Event:
    int kind
    int64_t code
    int flag
    int why
    int64_t number
    StreamState *stream  # as long as it lasts
    const char *data
    size_t size
    char *owned  # what is to be freed with it


cdef struct SessionState:
    nghttp2_session *http2
    SessionSettings settings
    StreamState *streams
    int64_t stream_count
    int64_t sent_streams  # client: those of them that nghttp2 has
    StreamState *first_waiting
    StreamState *last_waiting
    int32_t next_stream_id  # client: 0 once there is none any more
    StreamState *current  # whose header block is arriving
    int continuations  # of it
    # Events from `first_event` to `end_event`; the first of them has been handed out when `handed_out`.
    Event *events
    size_t first_event
    size_t end_event
    size_t event_capacity
    bint handed_out
    Event current_event
    int64_t withheld  # bytes of all streams' windows not given back yet
    int64_t owed  # bytes of the connection's window, likewise
    int64_t partial_bytes  # that messages under way take
    int64_t queued  # bytes of messages that are yet to be sent, of all streams
    Buffer *output  # while `session_output` fills it
    size_t output_limit
    bint output_full
    bint over  # nothing is taken from the peer any more
    bint lost  # nothing is sent any more
    bint going_away  # client: the peer has said GOAWAY
    int64_t last_taken  # client: the last stream that it then says it takes
    bint settled  # the peer's first SETTINGS are here
    int drain  # a Drain
    BucketState resets
    BucketState glitches
    int64_t last_ping_ns
    int64_t ping_strikes
    int64_t pings_unanswered  # ours
    const char *problem
