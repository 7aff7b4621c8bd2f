"""A client's session as both of its shells have it. See client_session.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.http2.state cimport Event, SessionSettings, SessionState

# Sizes in bytes. The window of each stream; 0: as it is.
cdef SessionSettings client_settings(
    int64_t max_message_bytes, int64_t max_header_bytes, int64_t window_bytes, int64_t max_unread_bytes
) noexcept
cdef bint queue_full(SessionState *session) noexcept  # as many calls wait for their turn as may
# What is said of an ENDED, and its code. A server that gives up at the deadline says so with a reset.
cdef str ended_details(const Event *event, int64_t deadline_ns, str connection_reason, int *code)
# Why a connection ends: what was known before, and what a GOAWAY says of it.
cdef str goaway_reason(const Event *event, str known)
cdef bint pings_too_many(const Event *event) except -1  # the GOAWAY says so
cdef str session_reason(SessionState *session)  # "": it has nothing to say
