"""One connection of a client for threads, without an event loop. See blocking.pyx."""

from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.aio.messages cimport MessageQueue
from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.http2.state cimport Event, SessionState, StreamState

# What a thread waits for.
cdef enum Wanted:
    READY = 0  # of the connection: the peer's settings
    ANSWERED = 1  # of a stream: initial metadata
    READABLE = 2
    WRITABLE_AGAIN = 3
    ENDED_AT_LAST = 4


# A thread that waits while another one reads for it. It lies on that thread's stack.
cdef struct Waiter:
    PyThread_type_lock lock
    Waiter *previous
    Waiter *next
    void *stream  # a BlockingStream; NULL: it waits for the connection
    bint woken


cdef class BlockingConnection:
    cdef SessionState *session
    cdef PyThread_type_lock lock  # around all that follows
    cdef unsigned long holder  # of the lock; 0: nobody
    cdef Waiter *first_waiter
    cdef Waiter *last_waiter
    cdef bint led  # a thread polls the socket
    cdef void *leads_for  # what that thread itself waits for; as in Waiter
    cdef bint reading  # events are being taken
    cdef int descriptor  # -1: closed
    cdef int wake_reader
    cdef int wake_writer
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
    cdef readonly bint served  # it was of use: a call was answered, or the server said GOAWAY in peace
    cdef readonly bint too_many_pings  # the server said so in its GOAWAY
    cdef readonly str reason  # why it ended, for people; "" before
    cdef bint closed_here
    cdef int64_t keepalive_ns  # 0: no pings
    cdef int64_t keepalive_timeout_ns
    cdef bint keepalive_without_calls
    cdef bint pinging
    cdef int64_t pinged_ns
    cdef int64_t last_read_ns
    cdef uint64_t ping_number

    cdef int take_lock(self) except -1
    cdef int leave_lock(self) except -1
    cdef int wait(self, BlockingStream stream, int wanted, int64_t deadline_ns) except -1
    cdef bint is_so(self, BlockingStream stream, int wanted) noexcept
    cdef int lead(self, BlockingStream stream, int64_t deadline_ns) except -1
    cdef int follow(self, BlockingStream stream, int64_t deadline_ns) except -1
    cdef int heed_signals(self) except -1
    cdef int wake(self, BlockingStream stream) noexcept
    cdef int hand_over(self) noexcept
    cdef int poke(self) noexcept
    cdef int64_t keep_alive(self, int64_t now) except -1
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
    cdef int tidy(self) except -1
    cdef int exhume(self) except -1


cdef class BlockingStream:
    cdef StreamState *stream  # attached; NULL: none yet
    cdef BlockingConnection connection
    cdef int64_t deadline_ns  # 0: none
    cdef int encoding
    cdef bint single  # one response is expected
    cdef MessageQueue messages
    cdef bint has_answer
    cdef bint has_ended
    cdef bint half_closed
    cdef int code_number
    cdef int why
    cdef int64_t number
    cdef unsigned int flags
    cdef bytes text
    cdef str local_details  # of an end that was made here; None: the peer's

    cdef int on_message(self, const char *data, size_t size, bint compressed) except -1
    cdef int on_ended(self, const Event *event) except -1
    cdef int end_here(self, int code, str details) except -1
