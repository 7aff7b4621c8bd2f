# cython: language_level=3
"""A client's session as both of its shells have it, asyncio's and the threads': how it is set, how many calls
it queues, and the words for how calls and connections end.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

from tai_grpc._ext.http2.metadata cimport ended_text
from tai_grpc._ext.http2.nghttp2 cimport NGHTTP2_ENHANCE_YOUR_CALM
from tai_grpc._ext.http2.session cimport (
    session_defaults, session_max_streams, session_problem, session_streams,
)
from tai_grpc._ext.http2.state cimport (
    BY_CONNECTION, BY_RESET, CLIENT, Event, SessionSettings, SessionState,
)
from tai_grpc._ext.http2.status cimport CANCELLED, DEADLINE_EXCEEDED
from tai_grpc._ext.primitives.clock cimport monotonic_ns

MAX_QUEUED_CALLS = 65_536
"""How many calls one connection queues beyond those that the server takes at once."""

QUEUE_FULL = f"{MAX_QUEUED_CALLS} calls wait until the server takes more at once"
DEADLINE_PASSED = "Deadline Exceeded"
LOCALLY_CANCELLED = "Locally cancelled by application!"

cdef int64_t _MAX_QUEUED_CALLS = MAX_QUEUED_CALLS


cdef SessionSettings client_settings(
    int64_t max_message_bytes, int64_t max_header_bytes, int64_t window_bytes, int64_t max_unread_bytes
) noexcept:
    cdef SessionSettings settings = session_defaults(CLIENT)
    settings.max_message_bytes = max_message_bytes
    settings.max_header_bytes = max_header_bytes
    if max_unread_bytes > 0:
        settings.max_buffered_bytes = max_unread_bytes
    if window_bytes > 0:
        settings.window_bytes = window_bytes
        settings.connection_window_bytes = max(settings.connection_window_bytes, window_bytes)
    return settings


cdef bint queue_full(SessionState *session) noexcept:
    return session_streams(session) >= session_max_streams(session) + _MAX_QUEUED_CALLS


cdef str ended_details(const Event *event, int64_t deadline_ns, str connection_reason, int *code):
    cdef bytes reason
    code[0] = <int>event.code
    if event.why == BY_CONNECTION:
        reason = (connection_reason or "it ended").encode("utf-8", "replace")
        return ended_text(BY_CONNECTION, 0, PyBytes_AS_STRING(reason), PyBytes_GET_SIZE(reason))
    if (
        event.why == BY_RESET and event.code == CANCELLED and deadline_ns != 0
        and monotonic_ns() >= deadline_ns
    ):
        code[0] = DEADLINE_EXCEEDED
        return DEADLINE_PASSED
    return ended_text(event.why, event.number, event.data, event.size)


cdef str goaway_reason(const Event *event, str known):
    cdef str reason = known or f"the server said GOAWAY (code {event.code})"
    if event.size != 0 and reason.endswith(")"):
        reason += ": " + event.data[:min(event.size, 256)].decode("utf-8", "replace")
    return reason


cdef bint pings_too_many(const Event *event) except -1:
    return event.code == NGHTTP2_ENHANCE_YOUR_CALM and event.data[:event.size] == b"too_many_pings"


cdef str session_reason(SessionState *session):
    cdef const char *problem = session_problem(session)
    return "" if problem is NULL else (<bytes>problem).decode("utf-8", "replace")
