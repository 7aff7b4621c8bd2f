# cython: language_level=3, freethreading_compatible=True
"""What is sent on a stream: header blocks, and messages in chunks that nghttp2 takes as the windows allow.

A message is copied once, into a chunk with its prefix, and from there into the output; nghttp2 itself never
copies it (NGHTTP2_DATA_FLAG_NO_COPY). When nothing is queued, nghttp2 is told to wait, and woken by the next
message or the end.
"""

from libc.stdint cimport INT32_MAX, UINT32_MAX, int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, strlen

from tai_grpc._ext.http2.buffers cimport (
    Buffer, Cursor, Field, buffer_append, buffer_append_field, buffer_free, buffer_reserve,
    cursor_on, read_field,
)
from tai_grpc._ext.http2.events cimport event_push, stream_new, stream_unlink, waiting_append, waiting_remove
from tai_grpc._ext.http2.fields cimport decimal_text, percent_append, timeout_text
from tai_grpc._ext.http2.nghttp2 cimport *
from tai_grpc._ext.http2.reading cimport stream_ended
from tai_grpc._ext.http2.state cimport (
    BY_PROTOCOL, IDENTITY, LOW_WATER, SERVER, WRITABLE,
    Chunk, SessionState, StreamState,
)
from tai_grpc._ext.http2.status cimport RESOURCE_EXHAUSTED
from tai_grpc._ext.primitives.clock cimport monotonic_ns

cdef enum:
    PREFIX = 5
    # Fields of a header block beyond which their list does not fit on the stack.
    FEW_FIELDS = 32

cdef extern from *:
    """
    static const char tai_accepted[] = "identity, deflate, gzip";
    static const char *const tai_encodings[] = {"identity", "deflate", "gzip"};
    """
    const char *ACCEPTED "tai_accepted"
    size_t ACCEPTED_SIZE "(sizeof(tai_accepted) - 1)"
    const char **NAMES "tai_encodings"  # in the order of Encoding


# --- Lists of fields, as nghttp2 takes them -------------------------------------------------------------


cdef struct Fields:
    nghttp2_nv *list
    size_t count
    nghttp2_nv[FEW_FIELDS] few


cdef int _fields_begin(Fields *fields, size_t own, const Buffer *others) noexcept nogil:
    """Make room for `own` fields and `others`. -1: no memory."""
    cdef size_t count = own
    cdef Cursor cursor
    cdef Field field
    if others is not NULL:
        cursor = cursor_on(others.data, others.size)
        while read_field(&cursor, &field) == 0:
            count += 1
    fields.count = 0
    fields.list = fields.few
    if count > FEW_FIELDS:
        fields.list = <nghttp2_nv *>malloc(count * sizeof(nghttp2_nv))
    return -1 if fields.list is NULL else 0


cdef inline void _add(
    Fields *fields, const char *name, size_t name_size, const char *value, size_t value_size, uint8_t flags
) noexcept nogil:
    cdef nghttp2_nv *field = &fields.list[fields.count]
    field.name = <uint8_t *>name
    field.namelen = name_size
    field.value = <uint8_t *>value
    field.valuelen = value_size
    field.flags = flags
    fields.count += 1


cdef inline void _add_constant(
    Fields *fields, const char *name, size_t name_size, const char *value, size_t value_size
) noexcept nogil:
    _add(
        fields, name, name_size, value, value_size,
        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE,
    )


cdef void _add_all(Fields *fields, const Buffer *others) noexcept nogil:
    cdef Cursor cursor
    cdef Field field
    if others is NULL:
        return
    cursor = cursor_on(others.data, others.size)
    while read_field(&cursor, &field) == 0:
        _add(fields, field.name, field.name_size, field.value, field.value_size, NGHTTP2_NV_FLAG_NONE)


cdef inline void _fields_end(Fields *fields) noexcept nogil:
    if fields.list is not fields.few:
        free(fields.list)


# --- Headers --------------------------------------------------------------------------------------------


cdef StreamState *write_request(
    SessionState *session, const char *path, size_t path_size, const char *authority, size_t authority_size,
    bint secure, int64_t timeout_ns, int encoding, const char *user_agent, size_t user_agent_size,
    const Buffer *metadata,
) noexcept nogil:
    cdef Fields fields
    cdef char[16] timeout
    cdef int result
    cdef StreamState *stream
    cdef bint waits = not write_has_room(session)
    if _fields_begin(&fields, 10, metadata) != 0:
        return NULL
    _add_constant(&fields, b":method", 7, b"POST", 4)
    if secure:
        _add_constant(&fields, b":scheme", 7, b"https", 5)
    else:
        _add_constant(&fields, b":scheme", 7, b"http", 4)
    _add(&fields, b":path", 5, path, path_size, NGHTTP2_NV_FLAG_NO_COPY_NAME)
    _add(&fields, b":authority", 10, authority, authority_size, NGHTTP2_NV_FLAG_NO_COPY_NAME)
    _add_constant(&fields, b"te", 2, b"trailers", 8)
    _add_constant(&fields, b"content-type", 12, b"application/grpc", 16)
    _add(&fields, b"user-agent", 10, user_agent, user_agent_size, NGHTTP2_NV_FLAG_NO_COPY_NAME)
    _add_constant(&fields, b"grpc-accept-encoding", 20, ACCEPTED, ACCEPTED_SIZE)
    if encoding != IDENTITY:
        _add_constant(&fields, b"grpc-encoding", 13, NAMES[encoding], strlen(NAMES[encoding]))
    if timeout_ns >= 0 and not waits:
        _add_timeout(&fields, timeout_ns, timeout)
    _add_all(&fields, metadata)
    stream = stream_new(session, session.next_stream_id)
    if stream is not NULL:
        stream.headers_sent = True
        if waits:
            if timeout_ns >= 0:
                stream.deadline_ns = monotonic_ns() + timeout_ns
            result = _wait(stream, &fields)
        else:
            result = _submit(stream, &fields)
        if result == 0:
            session.next_stream_id = stream.id + 2 if stream.id < INT32_MAX - 1 else 0
        else:
            stream_unlink(stream)
            stream = NULL
    _fields_end(&fields)
    return stream


cdef bint write_has_room(SessionState *session) noexcept nogil:
    return session.first_waiting is NULL and _has_room(session)


cdef inline void _add_timeout(Fields *fields, int64_t timeout_ns, char *text) noexcept nogil:
    # It is another one each time: in the peer's table it would only be in the way.
    _add(
        fields, b"grpc-timeout", 12, text, timeout_text(timeout_ns, text),
        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_INDEX,
    )


cdef inline bint _has_room(SessionState *session) noexcept nogil:
    return session.sent_streams < <int64_t>nghttp2_session_get_remote_settings(
        session.http2, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
    )


cdef int _submit(StreamState *stream, const Fields *fields) noexcept nogil:
    """Hand a request to nghttp2. -1: no memory."""
    cdef nghttp2_session *http2 = stream.session.http2
    cdef nghttp2_data_provider provider
    provider.source.ptr = stream
    provider.read_callback = read_chunks
    stream.session.sent_streams += 1
    if nghttp2_session_set_next_stream_id(http2, stream.id) != 0:
        return -1
    if nghttp2_submit_request(http2, NULL, fields.list, fields.count, &provider, stream) != stream.id:
        return -1
    return 0


cdef int _wait(StreamState *stream, const Fields *fields) noexcept nogil:
    """Keep a request until the peer allows one more: nghttp2 would keep those that are given up, too."""
    cdef const nghttp2_nv *field
    cdef size_t i
    waiting_append(stream)
    for i in range(fields.count):
        field = &fields.list[i]
        if buffer_append_field(
            &stream.fields, <const char *>field.name, field.namelen, <const char *>field.value, field.valuelen
        ) != 0:
            return -1
    return 0


cdef bint write_waiting(SessionState *session) noexcept nogil:
    cdef Fields fields
    cdef char[16] timeout
    cdef StreamState *stream
    cdef bint some = False
    cdef int result
    while session.first_waiting is not NULL and _has_room(session):
        stream = session.first_waiting
        waiting_remove(stream)
        some = True
        result = _fields_begin(&fields, 1, &stream.fields)
        if result == 0:
            _add_all(&fields, &stream.fields)
            if stream.deadline_ns != 0:
                _add_timeout(&fields, max(<int64_t>1, stream.deadline_ns - monotonic_ns()), timeout)
            result = _submit(stream, &fields)
            _fields_end(&fields)
        else:
            session.sent_streams += 1
        buffer_free(&stream.fields)
        if result != 0:
            stream_ended(stream, RESOURCE_EXHAUSTED, BY_PROTOCOL, 0, b"out of memory", 13)
            stream_unlink(stream)
    return some


cdef int write_headers(StreamState *stream, const Buffer *metadata, int encoding) noexcept nogil:
    cdef Fields fields
    cdef nghttp2_data_provider provider
    cdef int result
    if stream.headers_sent or stream.reset or stream.closed:
        return -1
    if _fields_begin(&fields, 4, metadata) != 0:
        return -1
    _add_constant(&fields, b":status", 7, b"200", 3)
    _add_constant(&fields, b"content-type", 12, b"application/grpc", 16)
    _add_constant(&fields, b"grpc-accept-encoding", 20, ACCEPTED, ACCEPTED_SIZE)
    if encoding != IDENTITY:
        _add_constant(&fields, b"grpc-encoding", 13, NAMES[encoding], strlen(NAMES[encoding]))
    _add_all(&fields, metadata)
    provider.source.ptr = stream
    provider.read_callback = read_chunks
    result = nghttp2_submit_response(stream.session.http2, stream.id, fields.list, fields.count, &provider)
    _fields_end(&fields)
    if result != 0:
        return -1
    stream.headers_sent = True
    return 0


cdef int write_status(
    StreamState *stream, int status, const char *message, size_t message_size, const Buffer *trailers
) noexcept nogil:
    cdef char[20] code
    cdef Buffer encoded
    cdef Buffer *fields = &stream.fields
    cdef int result
    if stream.finished or stream.reset or stream.closed:
        return -1
    stream.finished = True
    stream.deaf = True
    result = buffer_append_field(fields, b"grpc-status", 11, code, decimal_text(status, code))
    if message_size != 0 and result == 0:
        encoded.data = NULL
        encoded.size = encoded.capacity = 0
        result = percent_append(&encoded, message, message_size)
        if result == 0:
            result = buffer_append_field(fields, b"grpc-message", 12, encoded.data, encoded.size)
        buffer_free(&encoded)
    if result != 0:
        return -1
    if trailers is not NULL and buffer_append(fields, trailers.data, trailers.size) != 0:
        return -1
    if not stream.headers_sent:
        return _write_trailers_only(stream, 200)
    return _wake(stream)


cdef int _write_trailers_only(StreamState *stream, int http_status) noexcept nogil:
    cdef Fields fields
    cdef char[20] status
    cdef int result
    if _fields_begin(&fields, 3, &stream.fields) != 0:
        return -1
    _add(&fields, b":status", 7, status, decimal_text(http_status, status), NGHTTP2_NV_FLAG_NO_COPY_NAME)
    _add_constant(&fields, b"content-type", 12, b"application/grpc", 16)
    _add_all(&fields, &stream.fields)
    result = nghttp2_submit_response(stream.session.http2, stream.id, fields.list, fields.count, NULL)
    _fields_end(&fields)
    stream.headers_sent = True
    return -1 if result != 0 else 0


cdef int write_refusal(StreamState *stream, int http_status, int status, const char *text) noexcept nogil:
    cdef char[20] code
    if stream.headers_sent or stream.reset or stream.closed:
        return -1
    stream.finished = True
    stream.deaf = True
    if (
        buffer_append_field(&stream.fields, b"grpc-status", 11, code, decimal_text(status, code)) != 0
        or buffer_append_field(&stream.fields, b"grpc-message", 12, text, strlen(text)) != 0
        or buffer_append_field(
            &stream.fields, b"grpc-accept-encoding", 20, ACCEPTED, ACCEPTED_SIZE
        ) != 0
    ):
        return -1
    return _write_trailers_only(stream, http_status)


# --- Messages -------------------------------------------------------------------------------------------


cdef int write_message(StreamState *stream, const char *data, size_t size, bint compressed) noexcept nogil:
    cdef Chunk *chunk
    if stream.finished or stream.reset or stream.closed or size > <size_t>UINT32_MAX:
        return -1
    if not stream.headers_sent and write_headers(stream, NULL, IDENTITY) != 0:
        return -1
    chunk = <Chunk *>malloc(sizeof(Chunk) + PREFIX + size)
    if chunk is NULL:
        return -1
    chunk.next = NULL
    chunk.size = PREFIX + size
    chunk.sent = 0
    chunk.data[0] = 1 if compressed else 0
    chunk.data[1] = <char>(size >> 24)
    chunk.data[2] = <char>(size >> 16)
    chunk.data[3] = <char>(size >> 8)
    chunk.data[4] = <char>size
    memcpy(chunk.data + PREFIX, data, size)
    if stream.last is NULL:
        stream.first = chunk
    else:
        stream.last.next = chunk
    stream.last = chunk
    stream.queued += <int64_t>chunk.size
    stream.session.queued += <int64_t>chunk.size
    return _wake(stream)


cdef int write_end(StreamState *stream) noexcept nogil:
    if stream.finished or stream.reset or stream.closed:
        return -1
    stream.finished = True
    return _wake(stream)


cdef inline int _wake(StreamState *stream) noexcept nogil:
    if stream.idle:
        stream.idle = False
        if nghttp2_session_resume_data(stream.session.http2, stream.id) != 0:
            return -1
    return 0


cdef ssize_t read_chunks(
    nghttp2_session *http2, int32_t stream_id, uint8_t *_buffer, size_t length, uint32_t *flags,
    nghttp2_data_source *source, void *_session,
) noexcept nogil:
    """nghttp2 asks how much of a DATA frame there is, and whether it is the last."""
    cdef StreamState *stream = <StreamState *>source.ptr
    cdef size_t size = min(length, <size_t>stream.queued)
    if (size == 0 and not stream.finished) or stream.session.over:
        stream.idle = True
        return NGHTTP2_ERR_DEFERRED
    flags[0] |= NGHTTP2_DATA_FLAG_NO_COPY
    if stream.finished and <size_t>stream.queued == size:
        flags[0] |= NGHTTP2_DATA_FLAG_EOF
        if stream.session.settings.role == SERVER:
            flags[0] |= NGHTTP2_DATA_FLAG_NO_END_STREAM
            if _submit_trailers(http2, stream) != 0:
                return NGHTTP2_ERR_CALLBACK_FAILURE
    return <ssize_t>size


cdef int _submit_trailers(nghttp2_session *http2, StreamState *stream) noexcept nogil:
    cdef Fields fields
    cdef int result
    if _fields_begin(&fields, 0, &stream.fields) != 0:
        return -1
    _add_all(&fields, &stream.fields)
    result = nghttp2_submit_trailer(http2, stream.id, fields.list, fields.count)
    _fields_end(&fields)
    return result


cdef int send_chunks(
    nghttp2_session *_http2, nghttp2_frame *frame, const uint8_t *head, size_t length,
    nghttp2_data_source *source, void *user_data,
) noexcept nogil:
    """nghttp2 has a DATA frame ready: append its head and `length` bytes of chunks to the output."""
    cdef SessionState *session = <SessionState *>user_data
    cdef StreamState *stream = <StreamState *>source.ptr
    cdef Buffer *output = session.output
    cdef Chunk *chunk
    cdef size_t part
    if output.size >= session.output_limit:
        session.output_full = True
        return NGHTTP2_ERR_WOULDBLOCK
    if buffer_reserve(output, 9 + length) != 0:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    buffer_append(output, <const char *>head, 9)
    while length != 0 and stream.first is not NULL:
        chunk = stream.first
        part = min(length, chunk.size - chunk.sent)
        buffer_append(output, chunk.data + chunk.sent, part)
        chunk.sent += part
        length -= part
        stream.queued -= <int64_t>part
        session.queued -= <int64_t>part
        if chunk.sent == chunk.size:
            stream.first = chunk.next
            if stream.first is NULL:
                stream.last = NULL
            free(chunk)
    if length != 0:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    stream.moved = True
    if stream.wants_writable and stream.queued < LOW_WATER:
        stream.wants_writable = False
        if event_push(session, WRITABLE, stream) is NULL:
            return NGHTTP2_ERR_CALLBACK_FAILURE
    session.last_ping_ns = 0
    session.ping_strikes = 0
    return 0
