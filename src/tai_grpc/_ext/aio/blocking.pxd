"""One connection of a client for threads, without an event loop. See blocking.pyx.

A peer of streams derives from BlockingOwner and calls `BlockingConnection.request`.
"""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.aio.sharing cimport Awaited, Shared
from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.http2.state cimport Event, SessionState, StreamState


cdef class BlockingOwner(Awaited):
    cdef StreamState *stream  # attached; NULL: none yet
    cdef BlockingConnection connection

    # With the connection's lock.
    cdef int on_response(self) except -1
    cdef int on_message(self, const char *data, size_t size, bint compressed) except -1
    cdef int on_ended(self, const Event *event) except -1
    cdef int give_up(self) except -1  # CANCELLED, if it has not ended


cdef class BlockingConnection(Shared):
    cdef SessionState *session
    cdef bint reading  # events are being taken
    cdef int descriptor  # -1: closed
    cdef object tls  # an ssl.SSLObject, or None
    cdef object tls_in
    cdef object tls_out
    cdef char *received
    cdef Buffer clear  # TLS: what is to be encrypted
    cdef Buffer output
    cdef size_t output_sent
    # Streams whose owner is gone, to be given up by whoever holds the lock.
    cdef StreamState **graves
    cdef size_t grave_count
    cdef size_t grave_room
    cdef size_t owned_streams
    cdef list abandoned  # streams whose reader is gone, likewise
    cdef bytes authority
    cdef bytes user_agent
    cdef bint secure
    cdef readonly int64_t max_message_bytes
    cdef readonly bint ready  # the peer's settings came
    cdef readonly bint draining  # no new calls
    cdef readonly bint over  # nothing comes or goes any more
    cdef readonly bint served  # it was of use: a call was answered
    cdef readonly bint dismissed  # the server said GOAWAY in peace
    cdef readonly bint too_many_pings  # the server said so in its GOAWAY
    cdef readonly str reason  # why it ended, for people; "" before
    cdef bint closed_here
    cdef readonly int64_t keepalive_ns  # 0: no pings
    cdef int64_t keepalive_timeout_ns
    cdef bint keepalive_without_calls
    cdef bint pinging
    cdef int64_t pinged_ns
    cdef int64_t last_read_ns
    cdef uint64_t ping_number

    # Open a stream of the owner's. 0: no call can be started any more.
    cdef int request(
        self, BlockingOwner owner, bytes method, int64_t timeout_ns, int encoding, const Buffer *metadata
    ) except -1
    cdef int64_t keep_alive(self, int64_t now) except -1
    cdef int catch_up(self) except -1
    cdef int receive(self) except -1
    cdef int take(self, const char *data, size_t size) except -1
    cdef int drain_events(self) except -1
    cdef int heard_goaway(self, const Event *event) except -1
    cdef int flush(self) except -1
    cdef int encrypt(self) except -1
    cdef int decrypt(self) except -1
    cdef int lose(self, str why) except -1
    cdef int close_descriptor(self) noexcept
    cdef int close_if_idle(self) except -1
    cdef int reserve_grave(self) except -1
    cdef int bury(self, StreamState *stream) noexcept
    cdef int exhume(self) except -1
