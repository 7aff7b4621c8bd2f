# cython: language_level=3, freethreading_compatible=True
"""What nghttp2 calls back, made into a stream's fields, messages and events.

Each callback is called from within `nghttp2_session_mem_recv` or `nghttp2_session_send`, where of nghttp2's
functions only those that submit and consume may be called.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcmp, memcpy, strlen

from tai_grpc._ext.http2.buffers cimport buffer_append
from tai_grpc._ext.http2.events cimport event_push, stream_new, stream_unlink
from tai_grpc._ext.http2.fields cimport status_of_http, status_of_reset
from tai_grpc._ext.http2.nghttp2 cimport *
from tai_grpc._ext.http2.reading cimport (
    connection_give_back, count_header, read_data, read_end, read_header, stream_ended, stream_fail,
)
from tai_grpc._ext.http2.state cimport (
    BY_CONNECTION, BY_HTTP_STATUS, BY_PROTOCOL, BY_RESET, BY_STATUS, CLIENT, CLOSED, DRAINED, GOAWAY,
    GOAWAY_SENT, HALF_CLOSED, IDENTITY, NOTICE_SENT, OTHER, PONG, REQUEST, RESPONSE, SERVED, SERVER,
    SETTINGS, UNPROCESSED, UNSENT, Event, SessionState, StreamState,
)
from tai_grpc._ext.http2.status cimport INTERNAL, RESOURCE_EXHAUSTED, UNAVAILABLE, UNIMPLEMENTED, UNKNOWN
from tai_grpc._ext.http2.writing cimport send_chunks, write_refusal
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.limiter cimport bucket_take

cdef enum:
    MIN_CONTINUATIONS = 8  # that are taken in any case
    FRAME_BYTES = 16384  # of one frame: we announce no more

# What the ping between the two GOAWAYs of a shutdown says.
cdef uint64_t DRAIN_PING = 0x7461692D64726E31

cdef const char *TOO_LARGE_TO_SEND = b"the metadata are larger than can be sent: at most 1 MiB"

cdef nghttp2_session_callbacks *_callbacks = NULL


cdef const nghttp2_session_callbacks *session_callbacks() noexcept nogil:
    return _callbacks


cdef int64_t max_continuations(SessionState *session) noexcept nogil:
    return max(<int64_t>MIN_CONTINUATIONS, 2 * (session.settings.max_header_bytes // FRAME_BYTES))


cdef int ping(SessionState *session, uint64_t number) noexcept nogil:
    cdef uint8_t[8] opaque
    memcpy(opaque, &number, 8)
    session.pings_unanswered += 1
    return nghttp2_submit_ping(session.http2, NGHTTP2_FLAG_NONE, opaque)


cdef void reset(StreamState *stream, uint32_t error_code) noexcept nogil:
    stream.deaf = stream.muted = True
    if stream.session is NULL or stream.reset:
        return
    stream.reset = True
    if stream.session.settings.role == CLIENT:
        stream.ended = True
        if stream.waiting:
            stream.flags |= UNSENT | UNPROCESSED
            stream_unlink(stream)
            return
    nghttp2_submit_rst_stream(stream.session.http2, NGHTTP2_FLAG_NONE, stream.id, error_code)


cdef int give_up(SessionState *session, uint32_t error_code, const char *problem) noexcept nogil:
    """End the connection because of what the peer does."""
    if not session.over:
        session.over = True
        session.problem = problem
        nghttp2_submit_goaway(
            session.http2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session.http2),
            error_code, <const uint8_t *>problem, strlen(problem),
        )
    return 0


cdef int say_goaway(SessionState *session) noexcept nogil:
    session.drain = GOAWAY_SENT
    cdef int result = nghttp2_submit_goaway(
        session.http2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session.http2),
        NGHTTP2_NO_ERROR, NULL, 0,
    )
    _served(session)
    return result


cdef inline void _served(SessionState *session) noexcept nogil:
    if session.drain == GOAWAY_SENT and session.stream_count == 0:
        session.drain = DRAINED
        event_push(session, SERVED, NULL)


cdef void closed(StreamState *stream, uint32_t error_code) noexcept nogil:
    cdef Event *event
    stream.ended = True
    event = event_push(stream.session, CLOSED, stream)
    if event is not NULL:
        event.code = error_code


cdef ssize_t _on_send(
    nghttp2_session *_http2, const uint8_t *data, size_t length, int _flags, void *user_data
) noexcept nogil:
    cdef SessionState *session = <SessionState *>user_data
    if session.output.size >= session.output_limit:
        session.output_full = True
        return NGHTTP2_ERR_WOULDBLOCK
    if buffer_append(session.output, <const char *>data, length) != 0:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    return <ssize_t>length


cdef int _on_begin_frame(
    nghttp2_session *_http2, const nghttp2_frame_hd *head, void *user_data
) noexcept nogil:
    cdef SessionState *session = <SessionState *>user_data
    if head.type != NGHTTP2_CONTINUATION:
        session.continuations = 0
        return 0
    session.continuations += 1
    if session.continuations > max_continuations(session):
        give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"too many CONTINUATION frames")
        return NGHTTP2_ERR_CALLBACK_FAILURE
    return 0


cdef int _on_begin_headers(
    nghttp2_session *http2, const nghttp2_frame *frame, void *user_data
) noexcept nogil:
    cdef SessionState *session = <SessionState *>user_data
    cdef StreamState *stream
    if frame.hd.type != NGHTTP2_HEADERS:
        session.current = NULL
        return 0
    if session.settings.role == SERVER and frame.headers.cat == NGHTTP2_HCAT_REQUEST:
        stream = stream_new(session, frame.hd.stream_id)
        if stream is NULL:
            return NGHTTP2_ERR_CALLBACK_FAILURE
        if nghttp2_session_set_stream_user_data(http2, frame.hd.stream_id, stream) != 0:
            stream_unlink(stream)
            return NGHTTP2_ERR_CALLBACK_FAILURE
    else:
        stream = <StreamState *>nghttp2_session_get_stream_user_data(http2, frame.hd.stream_id)
        if stream is not NULL:
            stream.header_fields = 0
            stream.header_bytes = 0
    session.current = stream
    return 0


cdef int _on_header(
    nghttp2_session *_http2, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
    const uint8_t *value, size_t value_size, uint8_t _flags, void *user_data,
) noexcept nogil:
    cdef SessionState *session = <SessionState *>user_data
    cdef StreamState *stream = session.current
    cdef int result
    if stream is NULL:
        return 0
    if stream.deaf or (session.settings.role == SERVER and frame.headers.cat != NGHTTP2_HCAT_REQUEST):
        result = count_header(stream, name_size, value_size)  # gRPC's requests have no trailers
    else:
        result = read_header(
            stream, stream.answered, <const char *>name, name_size, <const char *>value, value_size
        )
    if result != 0:
        give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"a header block far beyond the limit")
        return NGHTTP2_ERR_CALLBACK_FAILURE
    return 0


cdef int _on_invalid_header(
    nghttp2_session *http2, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
    const uint8_t *value, size_t value_size, uint8_t flags, void *user_data,
) noexcept nogil:
    """HTTP does not allow a character of it: the stream is reset, but for the sake of a status' message."""
    cdef SessionState *session = <SessionState *>user_data
    if session.settings.role == CLIENT and name_size == 12 and memcmp(name, b"grpc-message", 12) == 0:
        return _on_header(http2, frame, name, name_size, value, value_size, flags, user_data)
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE


cdef int _on_frame(nghttp2_session *http2, const nghttp2_frame *frame, void *user_data) noexcept nogil:
    cdef SessionState *session = <SessionState *>user_data
    cdef StreamState *stream
    cdef bint end = (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0
    cdef int kind = frame.hd.type
    if session.over:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    if kind == NGHTTP2_DATA or kind == NGHTTP2_HEADERS:
        stream = <StreamState *>nghttp2_session_get_stream_user_data(http2, frame.hd.stream_id)
        if stream is NULL:
            return 0
        if kind == NGHTTP2_HEADERS:
            session.current = NULL
            return _on_headers(session, stream, frame.headers.cat, end)
        if end:
            _on_end_of_data(session, stream)
        elif frame.hd.length <= frame.data.padlen:
            return _glitch(session)
        return 0
    if kind == NGHTTP2_PING:
        return _on_ping(session, frame)
    if kind == NGHTTP2_SETTINGS:
        if frame.hd.flags & NGHTTP2_FLAG_ACK:
            return 0
        if not session.settled:
            session.settled = True
            event_push(session, SETTINGS, NULL)
            return 0
        return _glitch(session)
    if kind == NGHTTP2_GOAWAY:
        return _on_goaway(session, frame)
    if kind == NGHTTP2_PRIORITY:
        return _glitch(session)
    if kind == NGHTTP2_RST_STREAM:
        stream = <StreamState *>nghttp2_session_get_stream_user_data(http2, frame.hd.stream_id)
        # What had its answer costs nothing any more when it is reset.
        if session.settings.role == SERVER and (stream is NULL or not stream.finished):
            return _count_reset(session)
    return 0


cdef int _on_headers(SessionState *session, StreamState *stream, int category, bint end) noexcept nogil:
    if session.settings.role == SERVER:
        if category == NGHTTP2_HCAT_REQUEST:
            return _on_request(session, stream, end)
        if end:
            _on_half_closed(session, stream)
        return 0
    if stream.deaf:
        return 0
    if 100 <= stream.http_status < 200 and not stream.answered:
        # An interim response; what it said is not the answer's.
        stream.http_status = 0
        stream.grpc_status = -1
        stream.encoding = IDENTITY
        stream.content_type_ok = False
        stream.metadata.size = stream.message.size = 0
        return _glitch(session)
    if stream.broken != 0:
        stream_fail(stream, stream.broken, stream.broken_text, False)
        return 0
    if not end:
        if stream.answered:
            stream_fail(stream, INTERNAL, b"headers after the response's headers that do not end it", False)
            return 0
        stream.answered = True
        if stream.http_status != 200 or not stream.content_type_ok:
            _end_by_http(stream)
            _reset_locally(stream)
            return 0
        # They belong into the trailers.
        stream.grpc_status = -1
        stream.message.size = 0
        event_push(session, RESPONSE, stream)
        return 0
    if not stream.answered:
        # Trailers-Only: what came in one block are the trailers.
        stream.trailers, stream.metadata = stream.metadata, stream.trailers
    _on_end_of_response(stream)
    return 0


cdef int _on_request(SessionState *session, StreamState *stream, bint end) noexcept nogil:
    cdef int result
    stream.half_closed = end
    if stream.http_status == 405:
        result = write_refusal(stream, 405, INTERNAL, b"gRPC calls are POST")
    elif not stream.content_type_ok and stream.broken != RESOURCE_EXHAUSTED:
        # Where the fields are too many, this one may be among those that were not looked at.
        result = write_refusal(stream, 415, UNKNOWN, b"content-type is not application/grpc")
    elif stream.broken != 0:
        result = write_refusal(stream, 200, stream.broken, stream.broken_text)
    elif stream.encoding == OTHER:
        result = write_refusal(stream, 200, UNIMPLEMENTED, b"grpc-encoding is not identity, deflate or gzip")
    else:
        event_push(session, REQUEST, stream)
        if end:
            _on_half_closed(session, stream)
        return 0
    return NGHTTP2_ERR_CALLBACK_FAILURE if result != 0 else 0


cdef void _on_half_closed(SessionState *session, StreamState *stream) noexcept nogil:
    if read_end(stream) and not stream.deaf:
        event_push(session, HALF_CLOSED, stream)


cdef void _on_end_of_data(SessionState *session, StreamState *stream) noexcept nogil:
    if session.settings.role == SERVER:
        _on_half_closed(session, stream)
    elif read_end(stream):
        _on_end_of_response(stream)


cdef void _on_end_of_response(StreamState *stream) noexcept nogil:
    """Client: END_STREAM."""
    stream.half_closed = True
    if stream.deaf:
        return
    if stream.partial_size >= 0 or stream.prefix_size != 0:
        if stream.grpc_status <= 0:
            stream_fail(stream, INTERNAL, b"the stream ended within a message", False)
            return
    if stream.grpc_status >= 0:
        stream_ended(stream, stream.grpc_status, BY_STATUS, 0, stream.message.data, stream.message.size)
    else:
        _end_by_http(stream)
    _reset_locally(stream)


cdef inline void _end_by_http(StreamState *stream) noexcept nogil:
    if stream.grpc_status >= 0:
        stream_ended(stream, stream.grpc_status, BY_STATUS, 0, stream.message.data, stream.message.size)
    elif stream.http_status == 200 and not stream.content_type_ok:
        stream_ended(stream, UNKNOWN, BY_PROTOCOL, 200, b"the response is not of application/grpc", 39)
    else:
        stream_ended(stream, status_of_http(stream.http_status), BY_HTTP_STATUS, stream.http_status, NULL, 0)


cdef inline void _reset_locally(StreamState *stream) noexcept nogil:
    """Client: the call is over; what has not been sent of it is of no use."""
    cdef bint all_sent = stream.finished and stream.queued == 0
    if stream.reset or (all_sent and stream.half_closed):
        return
    stream.reset = True
    nghttp2_submit_rst_stream(
        stream.session.http2, NGHTTP2_FLAG_NONE, stream.id,
        NGHTTP2_NO_ERROR if stream.half_closed else NGHTTP2_CANCEL,
    )


cdef int _on_data(
    nghttp2_session *http2, uint8_t _flags, int32_t stream_id, const uint8_t *data, size_t size,
    void *user_data,
) noexcept nogil:
    cdef SessionState *session = <SessionState *>user_data
    cdef StreamState *stream
    if session.over:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    session.owed += <int64_t>size
    stream = <StreamState *>nghttp2_session_get_stream_user_data(http2, stream_id)
    if stream is not NULL:
        if session.settings.role == CLIENT and not stream.answered and not stream.deaf:
            stream_fail(stream, INTERNAL, b"data before the response's headers", False)
        read_data(stream, <const char *>data, size)
    connection_give_back(session)
    return 0


cdef int _on_ping(SessionState *session, const nghttp2_frame *frame) noexcept nogil:
    cdef uint64_t number
    cdef int64_t now
    cdef int64_t last = session.last_ping_ns
    cdef Event *event
    if frame.hd.flags & NGHTTP2_FLAG_ACK:
        if session.pings_unanswered == 0:
            return _glitch(session)
        session.pings_unanswered -= 1
        memcpy(&number, frame.ping.opaque_data, 8)
        if number == DRAIN_PING:
            # What the peer sent before it heard the first GOAWAY has arrived.
            return say_goaway(session) if session.drain == NOTICE_SENT else 0
        event = event_push(session, PONG, NULL)
        if event is not NULL:
            event.number = <int64_t>number
        return 0
    now = session.last_ping_ns = monotonic_ns()
    if last == 0:
        # Something was sent to it since the one before: it measures the way, as often as it likes.
        return 0
    if (
        session.settings.role == SERVER and session.settings.max_ping_strikes >= 0
        and now - last < session.settings.min_ping_interval_ns
    ):
        session.ping_strikes += 1
        if session.ping_strikes > session.settings.max_ping_strikes:
            return give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"too_many_pings")
    return _glitch(session)


cdef int _on_goaway(SessionState *session, const nghttp2_frame *frame) noexcept nogil:
    cdef Event *event
    if session.settings.role == SERVER:
        return _glitch(session)
    session.going_away = True
    session.last_taken = frame.goaway.last_stream_id
    event = event_push(session, GOAWAY, NULL)
    if event is NULL:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    event.code = frame.goaway.error_code
    event.number = frame.goaway.last_stream_id
    if frame.goaway.opaque_data_len != 0:
        event.owned = <char *>malloc(frame.goaway.opaque_data_len)
        if event.owned is NULL:
            return NGHTTP2_ERR_CALLBACK_FAILURE
        memcpy(event.owned, frame.goaway.opaque_data, frame.goaway.opaque_data_len)
        event.data = event.owned
        event.size = frame.goaway.opaque_data_len
    while session.first_waiting is not NULL:
        _unsent(session.first_waiting)
    return _glitch(session)


cdef void _unsent(StreamState *stream) noexcept nogil:
    stream.flags |= UNSENT | UNPROCESSED
    stream_ended(stream, UNAVAILABLE, BY_CONNECTION, 0, NULL, 0)
    stream_unlink(stream)


cdef int _on_invalid_frame(
    nghttp2_session *_http2, const nghttp2_frame *_frame, int _error, void *user_data
) noexcept nogil:
    return _glitch(<SessionState *>user_data)


cdef int _on_frame_sent(nghttp2_session *http2, const nghttp2_frame *frame, void *user_data) noexcept nogil:
    cdef SessionState *session = <SessionState *>user_data
    cdef StreamState *stream
    if frame.hd.type == NGHTTP2_HEADERS:
        session.last_ping_ns = 0
        session.ping_strikes = 0
        stream = <StreamState *>nghttp2_session_get_stream_user_data(http2, frame.hd.stream_id)
        if stream is NULL:
            return 0
        if session.settings.role == CLIENT:
            stream.on_wire = True
        elif frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            if not stream.half_closed and not stream.reset:
                # The answer is complete: what the client would still send is of no use.
                stream.reset = True
                nghttp2_submit_rst_stream(http2, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_NO_ERROR)
    elif frame.hd.type == NGHTTP2_RST_STREAM and session.settings.role == SERVER:
        # A peer that makes us reset its streams costs as much as one that resets them itself.
        if frame.rst_stream.error_code != NGHTTP2_NO_ERROR and frame.rst_stream.error_code != NGHTTP2_CANCEL:
            _count_reset(session)
    elif frame.hd.type == NGHTTP2_GOAWAY:
        if frame.goaway.error_code != NGHTTP2_NO_ERROR:
            session.over = True
            if session.problem[0] == 0:
                session.problem = b"the peer broke HTTP/2"
        elif session.drain == NOTICE_SENT:
            # Not earlier: nghttp2 sends pings before all else, and this one's answer must follow the notice.
            return NGHTTP2_ERR_CALLBACK_FAILURE if ping(session, DRAIN_PING) != 0 else 0
    return 0


cdef int _on_frame_not_sent(
    nghttp2_session *http2, const nghttp2_frame *frame, int error, void *user_data
) noexcept nogil:
    """Headers that are too large; a client's request after a GOAWAY, or that was reset before it was sent."""
    cdef SessionState *session = <SessionState *>user_data
    cdef StreamState *stream
    if frame.hd.type != NGHTTP2_HEADERS:
        return 0
    if session.settings.role == SERVER:
        stream = <StreamState *>nghttp2_session_get_stream_user_data(http2, frame.hd.stream_id)
        if stream is not NULL and error == NGHTTP2_ERR_FRAME_SIZE_ERROR:
            reset(stream, NGHTTP2_INTERNAL_ERROR)
        return 0
    stream = session.streams
    while stream is not NULL and stream.id != frame.hd.stream_id:
        stream = stream.next
    if stream is not NULL:
        nghttp2_session_set_stream_user_data(http2, stream.id, NULL)
        if error == NGHTTP2_ERR_FRAME_SIZE_ERROR:
            stream_ended(
                stream, RESOURCE_EXHAUSTED, BY_PROTOCOL, 0, TOO_LARGE_TO_SEND, strlen(TOO_LARGE_TO_SEND)
            )
            stream_unlink(stream)
        else:
            _unsent(stream)
    return 0


cdef int _on_stream_closed(
    nghttp2_session *http2, int32_t stream_id, uint32_t error_code, void *user_data
) noexcept nogil:
    cdef SessionState *session = <SessionState *>user_data
    cdef StreamState *stream = <StreamState *>nghttp2_session_get_stream_user_data(http2, stream_id)
    if stream is NULL:
        return 0
    nghttp2_session_set_stream_user_data(http2, stream_id, NULL)
    if session.settings.role == SERVER:
        closed(stream, error_code)
    elif not stream.ended:
        if error_code == NGHTTP2_REFUSED_STREAM:
            stream.flags |= UNPROCESSED
        if session.going_away and stream.id > session.last_taken:
            stream_ended(stream, UNAVAILABLE, BY_CONNECTION, 0, NULL, 0)
        else:
            stream_ended(stream, status_of_reset(error_code), BY_RESET, error_code, NULL, 0)
    stream_unlink(stream)
    connection_give_back(session)
    _served(session)
    return 0


cdef int _glitch(SessionState *session) noexcept nogil:
    """Count a frame that says nothing."""
    if bucket_take(&session.glitches, 1, monotonic_ns()) != 0:
        return give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"too many frames that say nothing")
    return 0


cdef int _count_reset(SessionState *session) noexcept nogil:
    if bucket_take(&session.resets, 1, monotonic_ns()) != 0:
        return give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"too many streams are reset")
    return 0


cdef int _make_callbacks() except -1:
    global _callbacks
    if nghttp2_session_callbacks_new(&_callbacks) != 0:
        raise MemoryError
    nghttp2_session_callbacks_set_send_callback(_callbacks, _on_send)
    nghttp2_session_callbacks_set_send_data_callback(_callbacks, send_chunks)
    nghttp2_session_callbacks_set_on_begin_frame_callback(_callbacks, _on_begin_frame)
    nghttp2_session_callbacks_set_on_begin_headers_callback(_callbacks, _on_begin_headers)
    nghttp2_session_callbacks_set_on_header_callback(_callbacks, _on_header)
    nghttp2_session_callbacks_set_on_invalid_header_callback(_callbacks, _on_invalid_header)
    nghttp2_session_callbacks_set_on_frame_recv_callback(_callbacks, _on_frame)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(_callbacks, _on_data)
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(_callbacks, _on_invalid_frame)
    nghttp2_session_callbacks_set_on_frame_send_callback(_callbacks, _on_frame_sent)
    nghttp2_session_callbacks_set_on_frame_not_send_callback(_callbacks, _on_frame_not_sent)
    nghttp2_session_callbacks_set_on_stream_close_callback(_callbacks, _on_stream_closed)
    return 0


_make_callbacks()
