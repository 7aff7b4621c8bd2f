# cython: language_level=3, freethreading_compatible=True
"""A gRPC connection without IO: nghttp2 below, what gRPC adds in reading.pyx and writing.pyx, events above.

Everything here runs without the GIL and without asyncio: the asyncio shells, the blocking client and the
load engine have the same session. nghttp2's functions are never called from within its callbacks but for
those that it allows there, the submit functions.

What a peer can make grow is bounded here: header fields and bytes (reading.pyx), streams (nghttp2 refuses
those beyond SETTINGS_MAX_CONCURRENT_STREAMS), answers that it does not read (`max_queued_frames`), resets by
either side (`reset_burst`; CVE-2023-44487, CVE-2025-8671), frames that say nothing (`glitch_burst`;
CVE-2019-9512 to 9518), pings (`max_ping_strikes`, gRFC A8), continuations (8, or twice what
`max_header_bytes` takes; CVE-2024-27316).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strlen

from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.http2.callbacks cimport (
    closed, give_up, max_continuations, ping, reset, say_goaway, session_callbacks,
)
from tai_grpc._ext.http2.events cimport (
    event_next, events_free, events_keep, stream_hold, stream_let_go, stream_unlink,
)
from tai_grpc._ext.http2.nghttp2 cimport *
from tai_grpc._ext.http2.reading cimport message_read, stream_ended
from tai_grpc._ext.http2.state cimport (
    BY_CONNECTION, CLIENT, DEFAULT_WINDOW, NOTICE_SENT, NOT_DRAINING, SERVER, UNPROCESSED, UNSENT,
    Event, SessionSettings, SessionState, StreamState,
)
from tai_grpc._ext.http2.status cimport UNAVAILABLE
from tai_grpc._ext.http2.writing cimport (
    write_end, write_has_room, write_headers, write_message, write_request, write_status, write_waiting,
)
from tai_grpc._ext.primitives.limiter cimport bucket_init

cdef enum:
    ANSWERS_TABLE = 1024  # bytes of HPACK's dynamic table for what a server sends
    MAX_HEADER_BLOCK = 1 << 20  # bytes that nghttp2 may be given to send in one


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
    if settings.role == SERVER:
        # Enough for the few fields that answers have, and a quarter of what it would cost each connection.
        nghttp2_option_set_max_deflate_dynamic_table_size(option, ANSWERS_TABLE)
    # Ours are exact for what gRPC does; nghttp2's count what an honest client does as well.
    tai_option_reset_rate(option, 10 * settings.reset_burst, 10 * settings.reset_rate)
    tai_option_glitch_rate(option, 10 * settings.glitch_burst, 10 * settings.glitch_rate)
    nghttp2_option_set_max_outbound_ack(option, <size_t>settings.max_queued_frames)
    # nghttp2 counts each piece in which a CONTINUATION's head of 9 bytes arrives.
    tai_option_max_continuations(option, 9 * <size_t>(max_continuations(session) + 1))
    if settings.role == SERVER:
        result = nghttp2_session_server_new2(&session.http2, session_callbacks(), session, option)
    else:
        result = nghttp2_session_client_new2(&session.http2, session_callbacks(), session, option)
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
                closed(stream, NGHTTP2_CANCEL)
        stream_unlink(stream)


cdef int session_terminate(SessionState *session, uint32_t error_code) noexcept nogil:
    if session.problem[0] == 0:
        session.problem = b"the connection was given up"
    return nghttp2_session_terminate_session(session.http2, error_code)


cdef int session_shutdown(SessionState *session) noexcept nogil:
    if session.drain != NOT_DRAINING or session.over:
        return 0
    session.drain = NOTICE_SENT
    return -1 if nghttp2_submit_shutdown_notice(session.http2) != 0 else 0


cdef int session_hurry(SessionState *session) noexcept nogil:
    return say_goaway(session) if session.drain == NOTICE_SENT and not session.over else 0


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
        give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, b"the peer does not read the answers")
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
    return ping(session, number)


cdef int64_t session_streams(SessionState *session) noexcept nogil:
    return session.stream_count


cdef int64_t session_max_streams(SessionState *session) noexcept nogil:
    return nghttp2_session_get_remote_settings(session.http2, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)


cdef bint session_has_room(SessionState *session) noexcept nogil:
    return write_has_room(session)


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
    reset(stream, error_code)
