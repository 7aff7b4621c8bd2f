"""What both ends of an asyncio connection have: an `asyncio.Protocol` around one session. See connection.pyx.

A subclass gives `dispatch` (an event), `opened` and `gone`. It calls the session's functions as it likes,
then `want_flush`: what is to be sent goes out in one write at the end of the loop's turn, or at the end of
`data_received` when that is under way.
"""

from libc.stdint cimport int64_t

from tai_grpc._ext.http2.state cimport Event, SessionSettings, SessionState

cdef class Connection:
    cdef SessionState *session  # NULL after connection_lost
    cdef readonly object loop
    cdef readonly object transport  # None before connection_made and after connection_lost
    cdef object flush_callback
    cdef object stall_timer
    cdef object close_timer  # from when it closes
    cdef readonly double stall_timeout  # seconds that the peer may take nothing; 0: for ever
    cdef int64_t last_read_ns  # of the primitives' clock: when something came last
    cdef bint flushing  # a flush is on its way
    cdef bint receiving
    cdef bint paused  # the transport takes no more for now
    cdef readonly bint ended  # the session is over; the transport closes once all is written

    cdef int begin(self, object loop, const SessionSettings *settings) except -1
    cdef int want_flush(self) except -1
    cdef int flush(self) except -1
    cdef int drain_events(self) except -1
    cdef int _close(self) except -1
    cdef int end(self) except -1  # send what is queued, then close the transport
    # For the subclass.
    cdef int opened(self) except -1  # the transport is there
    cdef int heard(self) except -1  # a read was dispatched
    cdef int dispatch(self, Event *event) except -1
    cdef int gone(self, object error) except -1  # the connection is lost; the streams have been told
