# cython: language_level=3, freethreading_compatible=True
"""What the peer's headers and data say: fields into the stream, bytes into messages.

Fields are counted and measured here, before anybody makes an object of them: those beyond the limits are
dropped, and a block far beyond them costs its sender the connection. A message's length is judged before a
byte of memory is taken for it, and memory is taken as its bytes arrive, never because its prefix says so.

A stream's window: the bytes of messages that wait to be read are withheld from the peer until they were, so
a stream holds at most its window and one message more. While none waits, the bytes of the message under way
are given back at once, or one larger than the window could never arrive.

The connection's window opens at once, so that one stream which is read slowly does not stop the others,
until `max_buffered_bytes` wait to be read. Messages under way cannot wait, since each of them may be what its
reader needs to go on: where those of other streams take more than that, a further one is refused.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, strlen

from tai_grpc._ext.http2.buffers cimport (
    Cursor, buffer_append, buffer_append_field, buffer_free, buffer_resize, cursor_left, cursor_on,
    read_bytes, read_u8, read_u32_big_endian,
)
from tai_grpc._ext.http2.events cimport event_push
from tai_grpc._ext.http2.fields cimport (
    accepted_of, decimal_of, decimal_text, encoding_of, is_grpc, timeout_of,
)
from tai_grpc._ext.http2.nghttp2 cimport (
    NGHTTP2_CANCEL, NGHTTP2_FLAG_NONE, nghttp2_session_consume_connection, nghttp2_session_consume_stream,
    nghttp2_submit_rst_stream,
)
from tai_grpc._ext.http2.state cimport (
    BY_PROTOCOL, ENDED, FAILED, IDENTITY, MESSAGE, OTHER, SERVER,
    Event, SessionState, StreamState,
)
from tai_grpc._ext.http2.status cimport INTERNAL, RESOURCE_EXHAUSTED

cdef enum:
    PREFIX = 5
    # What a message under way takes at first; then it doubles.
    FIRST_BYTES = 65536
    # How many times max_header_bytes a block may have before the connection is given up.
    BOMB_FACTOR = 8


# --- Headers --------------------------------------------------------------------------------------------


cdef inline bint _is(const char *name, size_t size, const char *known, size_t known_size) noexcept nogil:
    return size == known_size and memcmp(name, known, size) == 0


cdef int count_header(StreamState *stream, size_t name_size, size_t value_size) noexcept nogil:
    stream.header_fields += 1
    stream.header_bytes += <int64_t>(name_size + value_size + 32)
    return -1 if stream.header_bytes // BOMB_FACTOR > stream.session.settings.max_header_bytes else 0


cdef int read_header(
    StreamState *stream, bint trailers,
    const char *name, size_t name_size, const char *value, size_t value_size,
) noexcept nogil:
    cdef SessionState *session = stream.session
    cdef int known
    if count_header(stream, name_size, value_size) != 0:
        return -1
    if (
        stream.header_fields > session.settings.max_header_fields
        or stream.header_bytes > session.settings.max_header_bytes
    ):
        _break(stream, RESOURCE_EXHAUSTED, b"the metadata are larger than the limit")
        return 0
    if session.settings.role == SERVER:
        known = _request_field(stream, name, name_size, value, value_size)
    else:
        known = _response_field(stream, name, name_size, value, value_size)
    if known == 0:
        known = buffer_append_field(
            &stream.trailers if trailers else &stream.metadata, name, name_size, value, value_size
        )
    return -1 if known == -1 else 0


cdef inline void _break(StreamState *stream, int status, const char *text) noexcept nogil:
    if stream.broken == 0:
        stream.broken = status
        stream.broken_text = text


cdef int _request_field(
    StreamState *stream, const char *name, size_t name_size, const char *value, size_t value_size
) noexcept nogil:
    """1: it is the protocol's own; 0: the user's; -1: no memory."""
    if name_size != 0 and name[0] == c':':
        if _is(name, name_size, b":path", 5):
            return 1 if buffer_append(&stream.path, value, value_size) == 0 else -1
        if _is(name, name_size, b":method", 7) and not _is(value, value_size, b"POST", 4):
            stream.http_status = 405
        return 1
    if name_size == 2:
        return 1 if _is(name, name_size, b"te", 2) else 0
    if name_size == 12:
        if _is(name, name_size, b"content-type", 12):
            stream.content_type_ok = is_grpc(value, value_size)
            return 1
        if _is(name, name_size, b"grpc-timeout", 12):
            stream.timeout_ns = timeout_of(value, value_size)
            if stream.timeout_ns < 0:
                _break(stream, INTERNAL, b"grpc-timeout is not at most 8 digits and one of H M S m u n")
            return 1
        return 0
    if name_size == 13 and _is(name, name_size, b"grpc-encoding", 13):
        stream.encoding = encoding_of(value, value_size)
        return 1
    if name_size == 14 and _is(name, name_size, b"content-length", 14):
        return 1
    if name_size == 20 and _is(name, name_size, b"grpc-accept-encoding", 20):
        stream.accepted = accepted_of(value, value_size)
        return 1
    return 0


cdef int _response_field(
    StreamState *stream, const char *name, size_t name_size, const char *value, size_t value_size
) noexcept nogil:
    """As `_request_field`."""
    cdef int64_t number
    if name_size == 7 and _is(name, name_size, b":status", 7):
        stream.http_status = <int>decimal_of(value, value_size, 3)
        return 1
    if name_size == 11 and _is(name, name_size, b"grpc-status", 11):
        number = decimal_of(value, value_size, 9)
        stream.grpc_status = <int>number if 0 <= number <= 16 else 2
        return 1
    if name_size == 12:
        if _is(name, name_size, b"content-type", 12):
            stream.content_type_ok = is_grpc(value, value_size)
            return 1
        if _is(name, name_size, b"grpc-message", 12):
            stream.message.size = 0
            return 1 if buffer_append(&stream.message, value, value_size) == 0 else -1
        return 0
    if name_size == 13 and _is(name, name_size, b"grpc-encoding", 13):
        stream.encoding = encoding_of(value, value_size)
        return 1
    if name_size == 14 and _is(name, name_size, b"content-length", 14):
        return 1
    if name_size == 20 and _is(name, name_size, b"grpc-accept-encoding", 20):
        stream.accepted = accepted_of(value, value_size)
        return 1
    return 0


# --- Data -----------------------------------------------------------------------------------------------


cdef void read_data(StreamState *stream, const char *data, size_t size) noexcept nogil:
    cdef Cursor cursor = cursor_on(data, size)
    stream.withheld += <int64_t>size
    stream.session.withheld += <int64_t>size
    while not stream.deaf and cursor_left(&cursor) != 0:
        if stream.partial_size < 0:
            if not _read_prefix(stream, &cursor):
                break
        if not _read_message(stream, &cursor):
            break
    if stream.unread == 0 or stream.deaf:
        _give_back(stream, stream.withheld)


cdef bint _read_prefix(StreamState *stream, Cursor *cursor) noexcept nogil:
    """Read a message's prefix; False when more of it is to come, or the stream has failed."""
    cdef Cursor prefix
    cdef unsigned char flag = 0
    cdef uint32_t length = 0
    cdef SessionState *session = stream.session
    while stream.prefix_size < PREFIX:
        if read_u8(cursor, &stream.prefix[stream.prefix_size]) != 0:
            return False
        stream.prefix_size += 1
    prefix = cursor_on(<const char *>stream.prefix, PREFIX)
    read_u8(&prefix, &flag)
    read_u32_big_endian(&prefix, &length)
    stream.prefix_size = 0
    if flag > 1:
        stream_fail(stream, INTERNAL, b"a message's compressed flag is neither 0 nor 1", False)
        return False
    if flag == 1 and stream.encoding == IDENTITY:
        stream_fail(stream, INTERNAL, b"a message is compressed, and grpc-encoding says of nothing", False)
        return False
    if flag == 1 and stream.encoding == OTHER:
        stream_fail(stream, INTERNAL, b"a message's grpc-encoding is not identity, deflate or gzip", False)
        return False
    if session.settings.max_message_bytes >= 0 and length > session.settings.max_message_bytes:
        _fail_too_large(stream, length)
        return False
    stream.partial_size = length
    stream.partial_compressed = flag == 1
    return True


cdef void _fail_too_large(StreamState *stream, uint32_t length) noexcept nogil:
    # In grpc's words, which others look for.
    cdef const char *said = b"Received message larger than max ("
    cdef const char *than = b" vs. "
    cdef char *text = <char *>malloc(128)
    cdef char *at = text
    if text is NULL:
        stream_fail(stream, RESOURCE_EXHAUSTED, b"Received message larger than max", False)
        return
    memcpy(at, said, strlen(said))
    at += strlen(said)
    at += decimal_text(length, at)
    memcpy(at, than, strlen(than))
    at += strlen(than)
    at += decimal_text(stream.session.settings.max_message_bytes, at)
    at[0] = c')'
    at[1] = 0
    stream_fail(stream, RESOURCE_EXHAUSTED, text, True)


cdef bint _read_message(StreamState *stream, Cursor *cursor) noexcept nogil:
    """Read what there is of the message under way; False when more of it is to come."""
    cdef size_t size = <size_t>stream.partial_size
    cdef size_t there, capacity
    cdef const char *data = NULL
    cdef Event *event
    if stream.partial.size == 0 and cursor_left(cursor) >= size:
        # It is here in one piece, as most are.
        read_bytes(cursor, size, &data)
        event = _message(stream)
        if event is not NULL:
            event.data = data
            event.size = size
        return True
    there = min(cursor_left(cursor), size - stream.partial.size)
    read_bytes(cursor, there, &data)
    if stream.partial.capacity - stream.partial.size < there:
        capacity = max(stream.partial.size + there, 2 * stream.partial.capacity, <size_t>FIRST_BYTES)
        if not _resize_partial(stream, min(size, capacity)):
            return False
    buffer_append(&stream.partial, data, there)
    if stream.partial.size < size:
        return False
    event = _message(stream)
    if event is not NULL:
        event.data = event.owned = stream.partial.data
        event.size = size
        stream.session.partial_bytes -= <int64_t>stream.partial.capacity
        stream.partial.data = NULL
        stream.partial.size = stream.partial.capacity = 0
    return True


cdef bint _resize_partial(StreamState *stream, size_t capacity) noexcept nogil:
    """Make room for more of the message under way; False: there is none, the stream has failed."""
    cdef SessionState *session = stream.session
    cdef int64_t others = session.partial_bytes - <int64_t>stream.partial.capacity
    if others > session.settings.max_buffered_bytes:
        stream_fail(stream, RESOURCE_EXHAUSTED, b"too many large messages arrive on this connection", False)
        return False
    if buffer_resize(&stream.partial, capacity) != 0:
        stream_fail(stream, RESOURCE_EXHAUSTED, b"out of memory", False)
        return False
    session.partial_bytes = others + <int64_t>capacity
    return True


cdef inline Event *_message(StreamState *stream) noexcept nogil:
    cdef Event *event = event_push(stream.session, MESSAGE, stream)
    if event is not NULL:
        event.flag = stream.partial_compressed
        stream.unread += 1
    stream.partial_size = -1
    return event


cdef inline void _give_back(StreamState *stream, int64_t size) noexcept nogil:
    stream.withheld -= size
    if stream.closed:
        return
    stream.session.withheld -= size
    if size != 0:
        nghttp2_session_consume_stream(stream.session.http2, stream.id, <size_t>size)


cdef void connection_give_back(SessionState *session) noexcept nogil:
    if session.owed != 0 and session.withheld <= session.settings.max_buffered_bytes:
        nghttp2_session_consume_connection(session.http2, <size_t>session.owed)
        session.owed = 0


cdef void message_read(StreamState *stream, size_t size) noexcept nogil:
    if stream.unread > 0:
        stream.unread -= 1
    if stream.unread == 0:
        _give_back(stream, stream.withheld)
    else:
        _give_back(stream, min(<int64_t>size + PREFIX, stream.withheld))
    if stream.session is not NULL:
        connection_give_back(stream.session)


cdef bint read_end(StreamState *stream) noexcept nogil:
    stream.half_closed = True
    if stream.deaf:
        return True
    if stream.partial_size >= 0 or stream.prefix_size != 0:
        stream_fail(stream, INTERNAL, b"the stream ended within a message", False)
        return False
    return True


cdef void stream_fail(StreamState *stream, int status, const char *text, bint owned) noexcept nogil:
    cdef Event *event
    stream.deaf = True
    stream.session.partial_bytes -= <int64_t>stream.partial.capacity
    buffer_free(&stream.partial)
    stream.partial_size = -1
    stream.prefix_size = 0
    if stream.session.settings.role == SERVER:
        event = event_push(stream.session, FAILED, stream)
    else:
        event = NULL
        if not stream.ended:
            stream.ended = True
            event = event_push(stream.session, ENDED, stream)
        if not stream.reset and not stream.closed:
            stream.reset = True
            nghttp2_submit_rst_stream(stream.session.http2, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_CANCEL)
    if event is not NULL:
        event.code = status
        event.why = BY_PROTOCOL
        event.data = text
        event.size = strlen(text)
        event.owned = <char *>text if owned else NULL
    elif owned:
        free(<char *>text)


cdef void stream_ended(
    StreamState *stream, int status, int why, long number, const char *data, size_t size
) noexcept nogil:
    cdef Event *event
    stream.deaf = True
    if stream.ended:
        return
    stream.ended = True
    event = event_push(stream.session, ENDED, stream)
    if event is not NULL:
        event.code = status
        event.why = why
        event.number = number
        event.data = data
        event.size = size
