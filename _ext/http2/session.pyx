# cython: language_level=3, freethreading_compatible=True
"""A gRPC connection without IO: nghttp2 below, what gRPC adds in reading.pyx and writing.pyx, events above.

Everything here runs without the GIL and without asyncio: the asyncio shells, the blocking client and the
load engine have the same session. nghttp2's functions are never called from within its callbacks but for
those that it allows there, the submit functions.

What a peer can make grow is bounded here: header fields and bytes (reading.pyx), streams (nghttp2 refuses
those beyond SETTINGS_MAX_CONCURRENT_STREAMS), answers that it does not read (`max_queued_frames`), resets by
either side (`reset_burst`; CVE-2023-44487, CVE-2025-8671), frames that say nothing (`glitch_burst`;
CVE-2019-9512 to 9518), pings (`max_ping_strikes`, gRFC A8), continuations (8; CVE-2024-27316).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, strlen

from tai_grpc._ext.http2.buffers cimport Buffer, buffer_append
from tai_grpc._ext.http2.events cimport (
    event_next, event_push, events_free, events_keep, stream_hold, stream_let_go, stream_new, stream_unlink,
)
from tai_grpc._ext.http2.fields cimport status_of_http, status_of_reset
from tai_grpc._ext.http2.nghttp2 cimport *
from tai_grpc._ext.http2.reading cimport (
    connection_give_back, count_header, message_read, read_data, read_end, read_header, stream_ended,
    stream_fail,
)
from tai_grpc._ext.http2.state cimport (
    BY_CONNECTION, BY_HTTP_STATUS, BY_PROTOCOL, BY_RESET, BY_STATUS, CLIENT, CLOSED, DEFAULT_WINDOW,
    DRAINED, GOAWAY, GOAWAY_SENT, HALF_CLOSED, IDENTITY, NOTICE_SENT, NOT_DRAINING, OTHER, PONG, REQUEST,
    RESPONSE, SERVED, SERVER, SETTINGS, UNPROCESSED, UNSENT,
    Event, SessionSettings, SessionState, StreamState,
)
from tai_grpc._ext.http2.writing cimport (
    send_chunks, write_end, write_headers, write_message, write_refusal, write_request, write_status,
    write_waiting,
)
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.limiter cimport bucket_init, bucket_take

cdef enum:
    UNKNOWN = 2
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14

    MAX_CONTINUATIONS = 8
    MAX_HEADER_BLOCK = 1 << 20  # bytes that nghttp2 may be given to send in one

# What the ping between the two GOAWAYs of a shutdown says.
cdef uint64_t DRAIN_PING = 0x7461692D64726E31

cdef const char *TOO_LARGE_TO_SEND = b"the metadata are larger than can be sent: at most 1 MiB"

cdef nghttp2_session_callbacks *_callbacks = NULL


# --- Making and ending ----------------------------------------------------------------------------------


cdef SessionSettings session_defaults(int role) noexcept nogil:
    cdef SessionSettings settings
    settings.role = role
    settings.max_streams = 1000
    settings.window_bytes = 1 << 20
    settings.connection_window_bytes = 16 << 20
    settings.max_header_fields = 128
    settings.max_header_bytes = 16384
    settings.max_message_bytes = 4 << 20
    settings.max_buffered_bytes = 64 << 20
    settings.max_queued_frames = 10_000
    settings.reset_burst = 2000
    settings.reset_rate = 1000
    settings.glitch_burst = 1000
    settings.glitch_rate = 100
    settings.min_ping_interval_ns = 300_000_000_000
    settings.max_ping_strikes = 2
    return settings


cdef SessionState *session_new(const SessionSettings *settings) noexcept nogil:
    cdef SessionState *session = <SessionState *>calloc(1, sizeof(SessionState))
    cdef nghttp2_option *option = NULL
    cdef int result
    if session is NULL:
        return NULL
    session.settings = settings[0]
    session.problem = b""
    session.next_stream_id = 1
    bucket_init(&session.resets, settings.reset_rate, settings.reset_burst)
    bucket_init(&session.glitches, settings.glitch_rate, settings.glitch_burst)
    if nghttp2_option_new(&option) != 0:
        free(session)
        return NULL
    nghttp2_option_set_no_auto_window_update(option, 1)
    # A server would keep as many closed streams as may be open, for priorities that it does not use.
    nghttp2_option_set_no_closed_streams(option, 1)
    nghttp2_option_set_max_send_header_block_length(option, MAX_HEADER_BLOCK)
    # Ours are exact for what gRPC does; nghttp2's count what an honest client does as well.
    tai_option_reset_rate(option, 10 * settings.reset_burst, 10 * settings.reset_rate)
    tai_option_glitch_rate(option, 10 * settings.glitch_burst, 10 * settings.glitch_rate)
    nghttp2_option_set_max_outbound_ack(option, <size_t>settings.max_queued_frames)
    # nghttp2 counts each piece in which a CONTINUATION's head of 9 bytes arrives.
    tai_option_max_continuations(option, 9 * (MAX_CONTINUATIONS + 1))
    if settings.role == SERVER:
        result = nghttp2_session_server_new2(&session.http2, _callbacks, session, option)
    else:
        result = nghttp2_session_client_new2(&session.http2, _callbacks, session, option)
    nghttp2_option_del(option)
    if result != 0 or _send_settings(session) != 0:
        nghttp2_session_del(session.http2)
        free(session)
        return NULL
    return session


cdef int _send_settings(SessionState *session) noexcept nogil:
    cdef nghttp2_settings_entry[3] entries
    cdef int result
    entries[0].settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
    entries[0].value = <uint32_t>session.settings.window_bytes
    entries[1].settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
    entries[1].value = <uint32_t>session.settings.max_header_bytes
    if session.settings.role == SERVER:
        entries[2].settings_id = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
        entries[2].value = <uint32_t>session.settings.max_streams
    else:
        entries[2].settings_id = NGHTTP2_SETTINGS_ENABLE_PUSH
        entries[2].value = 0
    result = nghttp2_submit_settings(session.http2, NGHTTP2_FLAG_NONE, entries, 3)
    if result == 0 and session.settings.connection_window_bytes > DEFAULT_WINDOW:
        result = nghttp2_session_set_local_window_size(
            session.http2, NGHTTP2_FLAG_NONE, 0, <int32_t>session.settings.connection_window_bytes
        )
    return result


cdef void session_free(SessionState *session) noexcept nogil:
    if session is NULL:
        return
    # First what nghttp2 has of the streams, then they themselves: some live on, with those who hold them.
    nghttp2_session_del(session.http2)
    session.http2 = NULL
    events_free(session)
    while session.streams is not NULL:
        stream_unlink(session.streams)
    free(session)


cdef void session_lost(SessionState *session) noexcept nogil:
    cdef StreamState *stream
    session.over = session.lost = True
    while session.streams is not NULL:
        stream = session.streams
        if not stream.ended:
            if session.settings.role == CLIENT:
                if not stream.on_wire:
                    stream.flags |= UNSENT | UNPROCESSED
                stream_ended(stream, UNAVAILABLE, BY_CONNECTION, 0, session.problem, strlen(session.problem))
            else:
                _closed(stream, NGHTTP2_CANCEL)
        stream_unlink(stream)


cdef int session_terminate(SessionState *session, uint32_t error_code) noexcept nogil:
    if session.problem[0] == 0:
        session.problem = b"the connection was given up"
    return nghttp2_session_terminate_session(session.http2, error_code)


cdef int _give_up(SessionState *session, uint32_t error_code, const char *problem) noexcept nogil:
    """End the connection because of what the peer does."""
    if not session.over:
        session.over = True
        session.problem = problem
        nghttp2_submit_goaway(
            session.http2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session.http2),
            error_code, <const uint8_t *>problem, strlen(problem),
        )
    return 0


cdef int session_shutdown(SessionState *session) noexcept nogil:
    if session.drain != NOT_DRAINING or session.over:
        return 0
    session.drain = NOTICE_SENT
    return -1 if nghttp2_submit_shutdown_notice(session.http2) != 0 else 0


cdef int _say_goaway(SessionState *session) noexcept nogil:
    """The second GOAWAY: what the peer sent before it heard the first has arrived."""
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


# --- In and out -----------------------------------------------------------------------------------------


cdef int session_receive(SessionState *session, const char *data, size_t size) noexcept nogil:
    cdef ssize_t taken
    if session.over:
        return -1
    taken = nghttp2_session_mem_recv(session.http2, <const uint8_t *>data, size)
    if taken < 0:
        session.over = True
        if session.problem[0] == 0:
            session.problem = b"the peer broke HTTP/2"
        return -1
    if nghttp2_session_get_outbound_queue_size(session.http2) > <size_t>(
        session.settings.max_queued_frames + 4 * session.stream_count
    ):
        _give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"the peer does not read the answers")
    return -1 if session.over else 0


cdef Event *session_next_event(SessionState *session) noexcept nogil:
    return event_next(session)


cdef int session_keep_events(SessionState *session) noexcept nogil:
    return events_keep(session)


cdef int session_output(SessionState *session, Buffer *buffer, size_t at_most) noexcept nogil:
    cdef int result
    if session.lost:
        return -1
    session.output = buffer
    session.output_limit = at_most
    session.output_full = False
    write_waiting(session)
    result = nghttp2_session_send(session.http2)
    # What was sent may have ended streams, so that those that wait can begin.
    while result == 0 and not session.output_full and write_waiting(session):
        result = nghttp2_session_send(session.http2)
    session.output = NULL
    if result != 0:
        session.over = True
        if session.problem[0] == 0:
            session.problem = b"the connection broke"
        return -1
    if session.output_full:
        return 1
    # After the first GOAWAY of a shutdown nghttp2 would not wait for what the peer sent before it heard it.
    return 0 if session_alive(session) or session.drain == NOTICE_SENT else -1


cdef bint session_alive(SessionState *session) noexcept nogil:
    if session.over:
        return False
    return (
        nghttp2_session_want_read(session.http2) != 0 or nghttp2_session_want_write(session.http2) != 0
    )


cdef int session_ping(SessionState *session, uint64_t number) noexcept nogil:
    cdef uint8_t[8] opaque
    memcpy(opaque, &number, 8)
    session.pings_unanswered += 1
    return nghttp2_submit_ping(session.http2, NGHTTP2_FLAG_NONE, opaque)


cdef int64_t session_streams(SessionState *session) noexcept nogil:
    return session.stream_count


cdef int64_t session_max_streams(SessionState *session) noexcept nogil:
    return nghttp2_session_get_remote_settings(session.http2, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)


cdef bint session_in_headers(SessionState *session) noexcept nogil:
    return session.current is not NULL


cdef const char *session_problem(SessionState *session) noexcept nogil:
    return session.problem


# --- Streams --------------------------------------------------------------------------------------------


cdef StreamState *session_request(
    SessionState *session, const char *path, size_t path_size, const char *authority, size_t authority_size,
    bint secure, int64_t timeout_ns, int encoding, const char *user_agent, size_t user_agent_size,
    const Buffer *metadata, void *owner,
) noexcept nogil:
    cdef StreamState *stream
    if session.over or session.going_away or session.next_stream_id == 0:
        return NULL
    stream = write_request(
        session, path, path_size, authority, authority_size, secure, timeout_ns, encoding, user_agent,
        user_agent_size, metadata,
    )
    if stream is not NULL:
        stream.owner = owner
        stream_hold(stream)
    return stream


cdef void stream_attach(StreamState *stream) noexcept nogil:
    stream_hold(stream)


cdef void stream_release(StreamState *stream) noexcept nogil:
    stream.owner = NULL
    stream_let_go(stream)


cdef void stream_message_read(StreamState *stream, size_t size) noexcept nogil:
    if stream.session is not NULL:
        message_read(stream, size)


cdef int stream_send_headers(StreamState *stream, const Buffer *metadata, int encoding) noexcept nogil:
    return -1 if stream.session is NULL else write_headers(stream, metadata, encoding)


cdef int stream_send_message(
    StreamState *stream, const char *data, size_t size, bint compressed
) noexcept nogil:
    return -1 if stream.session is NULL else write_message(stream, data, size, compressed)


cdef int stream_half_close(StreamState *stream) noexcept nogil:
    return -1 if stream.session is NULL else write_end(stream)


cdef int stream_finish(
    StreamState *stream, int status, const char *message, size_t message_size, const Buffer *trailers
) noexcept nogil:
    stream.muted = True
    if stream.session is NULL or stream.finished:
        return -1
    if write_status(stream, status, message, message_size, trailers) != 0:
        stream_reset(stream, NGHTTP2_INTERNAL_ERROR)
        return -1
    return 0


cdef void stream_reset(StreamState *stream, uint32_t error_code) noexcept nogil:
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


cdef inline void _closed(StreamState *stream, uint32_t error_code) noexcept nogil:
    cdef Event *event
    stream.ended = True
    event = event_push(stream.session, CLOSED, stream)
    if event is not NULL:
        event.code = error_code


# --- nghttp2's callbacks --------------------------------------------------------------------------------


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
    if session.continuations > MAX_CONTINUATIONS:
        _give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"too many CONTINUATION frames")
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
        _give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"a header block far beyond the limit")
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
    elif not stream.content_type_ok:
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
            return _say_goaway(session) if session.drain == NOTICE_SENT else 0
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
            return _give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"too_many_pings")
    return _glitch(session)


cdef int _on_goaway(SessionState *session, const nghttp2_frame *frame) noexcept nogil:
    cdef Event *event
    if session.settings.role == SERVER:
        return _glitch(session)
    session.going_away = True
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
            return NGHTTP2_ERR_CALLBACK_FAILURE if session_ping(session, DRAIN_PING) != 0 else 0
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
            stream_reset(stream, NGHTTP2_INTERNAL_ERROR)
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
        _closed(stream, error_code)
    elif not stream.ended:
        if error_code == NGHTTP2_REFUSED_STREAM:
            stream.flags |= UNPROCESSED
        stream_ended(stream, status_of_reset(error_code), BY_RESET, error_code, NULL, 0)
    stream_unlink(stream)
    connection_give_back(session)
    _served(session)
    return 0


cdef int _glitch(SessionState *session) noexcept nogil:
    """Count a frame that says nothing."""
    if bucket_take(&session.glitches, 1, monotonic_ns()) != 0:
        return _give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"too many frames that say nothing")
    return 0


cdef int _count_reset(SessionState *session) noexcept nogil:
    if bucket_take(&session.resets, 1, monotonic_ns()) != 0:
        return _give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"too many streams are reset")
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
