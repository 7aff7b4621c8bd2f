# cython: language_level=3
"""One attempt of a call over a connection that threads share, in the thread that waits for it."""

cimport cython
from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

from tai_grpc._ext.aio.blocking cimport BlockingConnection, BlockingOwner
from tai_grpc._ext.aio.client_session cimport ended_details
from tai_grpc._ext.aio.compression cimport decompressed
from tai_grpc._ext.aio.messages cimport MessageQueue, Packed, data_of, packed, received, transmit
from tai_grpc._ext.http2.buffers cimport Buffer, buffer_free
from tai_grpc._ext.http2.metadata cimport metadata_append, metadata_of
from tai_grpc._ext.http2.nghttp2 cimport NGHTTP2_CANCEL
from tai_grpc._ext.http2.session cimport stream_half_close, stream_message_read, stream_reset
from tai_grpc._ext.http2.state cimport BY_CONNECTION, HIGH_WATER, UNPROCESSED, UNSENT, Event
from tai_grpc._ext.http2.status cimport CANCELLED, DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED
from tai_grpc._ext.primitives.clock cimport monotonic_ns

from tai_grpc._ext.aio.client_session import DEADLINE_PASSED, LOCALLY_CANCELLED
from tai_grpc._ext.aio.compression import TooLargeError

# What a thread waits for.
cdef enum Wanted:
    ANSWERED = 1  # initial metadata
    READABLE = 2
    WRITABLE_AGAIN = 3
    ENDED_AT_LAST = 4


def start(
    BlockingConnection connection not None,
    bytes method not None,
    metadata,
    bytes request,
    int64_t deadline_ns,
    int encoding,
    bint single,
):
    """Start a call; None when none can be started there any more. Without `request` they are a stream.

    Raises TypeError and ValueError that name a key of `metadata`.
    """
    cdef BlockingStream stream = BlockingStream.__new__(BlockingStream)
    cdef int64_t timeout_ns = -1
    cdef Buffer fields
    cdef object message = None
    stream.connection = connection
    stream.messages = MessageQueue.__new__(MessageQueue)
    stream.deadline_ns = deadline_ns
    stream.encoding = encoding
    stream.single = single
    stream.details_text = ""
    if request is not None:
        message = packed(request, encoding)
    if deadline_ns != 0:
        timeout_ns = max(<int64_t>1, deadline_ns - monotonic_ns())
    fields.data = NULL
    fields.size = fields.capacity = 0
    try:
        if metadata:
            metadata_append(metadata, &fields)
        connection.take_lock()
        try:
            if not connection.request(stream, method, timeout_ns, encoding, &fields):
                return None
            if message is not None:
                transmit(stream.stream, message)
                stream.half_closed = True
                stream_half_close(stream.stream)
            connection.flush()
        finally:
            connection.leave_lock()
    finally:
        buffer_free(&fields)
    return stream


@cython.no_gc_clear  # its connection is wanted when it goes
cdef class BlockingStream(BlockingOwner):
    """One attempt of a call. Made by `start`; dropped before its end it is given up."""

    # --- With the connection's lock ---

    cdef bint is_so(self, int wanted) noexcept:
        if self.has_ended:
            return True
        if wanted == ANSWERED:
            return self.has_answer
        if wanted == READABLE:
            return self.messages.left() > 0
        if wanted == WRITABLE_AGAIN:
            if self.stream.queued <= HIGH_WATER:
                return True
            self.stream.wants_writable = True
        return False

    cdef int on_response(self) except -1:
        self.has_answer = True
        return 0

    cdef int on_message(self, const char *data, size_t size, bint compressed) except -1:
        if self.single:
            stream_message_read(self.stream, size)
            if self.messages.left() > 0:
                return self.end_here(INTERNAL, "the server sent more than one response")
        return self.messages.put(received(data, size, compressed))

    cdef int on_ended(self, const Event *event) except -1:
        cdef BlockingConnection connection = self.connection
        self.has_ended = True
        self.flags = self.stream.flags
        if event.why == BY_CONNECTION and connection.closed_here:
            return self.ended_with(CANCELLED, connection.reason)
        self.details_text = ended_details(event, self.deadline_ns, connection.reason, &self.code_number)
        return 0

    cdef int end_here(self, int code, str details) except -1:
        """Give the stream up, with this status. It stays what it is once it has ended."""
        if self.has_ended:
            return 0
        self.has_ended = True
        self.ended_with(code, details)
        self.stream.owner = NULL
        stream_reset(self.stream, NGHTTP2_CANCEL)
        self.connection.wake(self)
        return 0

    cdef int ended_with(self, int code, str details) except -1:
        self.ended_here = True
        self.code_number = code
        self.details_text = details
        return 0

    cdef int give_up(self) except -1:
        return self.end_here(CANCELLED, LOCALLY_CANCELLED)

    # --- For Python: each waits, at most until the deadline, which ends the call ---

    def wait_answered(self):
        """Wait for the response's headers; False when the call ended without any."""
        self._wait(ANSWERED)
        return self.has_answer

    def wait_ended(self):
        """Wait for the server's status."""
        self._wait(ENDED_AT_LAST)

    def read(self):
        """Wait for the next message; None when there is none left: `code` then says why."""
        cdef BlockingConnection connection = self.connection
        self._wait(READABLE)
        connection.take_lock()
        try:
            if self.messages.left() == 0 or self.ended_here:
                return None
            message = self.messages.take()
            if not self.single and not self.has_ended:
                stream_message_read(self.stream, PyBytes_GET_SIZE(data_of(message)))
                connection.flush()
        finally:
            connection.leave_lock()
        if PyBytes_CheckExact(message):
            return message
        try:
            return decompressed((<Packed>message).data, self.stream.encoding, connection.max_message_bytes)
        except TooLargeError as error:
            self.fail(RESOURCE_EXHAUSTED, str(error))
        except ValueError as error:
            self.fail(INTERNAL, f"the response cannot be read: {error!r}")
        return None

    def write(self, bytes message not None):
        """Send a message, waiting while the server is slow; False when the call has ended."""
        cdef BlockingConnection connection = self.connection
        cdef object sent = packed(message, self.encoding)
        connection.take_lock()
        try:
            if self.has_ended or self.half_closed:
                return False
            transmit(self.stream, sent)
            connection.flush()
        finally:
            connection.leave_lock()
        if self.stream.queued > HIGH_WATER:
            self._wait(WRITABLE_AGAIN)
        return not self.has_ended

    def half_close(self):
        """Tell the server that no message follows."""
        cdef BlockingConnection connection = self.connection
        connection.take_lock()
        try:
            if not self.has_ended and not self.half_closed:
                self.half_closed = True
                stream_half_close(self.stream)
                connection.flush()
        finally:
            connection.leave_lock()

    def end(self, int code, str details not None):
        """Give the call up with this status, from any thread; False when it has ended."""
        cdef BlockingConnection connection = self.connection
        connection.take_lock()
        try:
            if self.has_ended:
                return False
            self.end_here(code, details)
            connection.flush()
        finally:
            connection.leave_lock()
        return True

    def abandon(self):
        """Give the call up, from a finalizer: that may run within the lock."""
        if not self.has_ended:
            self.connection.abandoned.append(self)
            self.connection.settle_soon()

    def fail(self, int code, str details not None):
        """Have it end with this status, whatever the server's is: what came cannot be used."""
        if not self.end(code, details):
            self.ended_with(code, details)

    def _wait(self, int wanted):
        cdef BlockingConnection connection = self.connection
        cdef int found
        if self.is_so(wanted):
            return
        connection.take_lock()
        try:
            try:
                found = connection.wait(self, wanted, self.deadline_ns)
            except BaseException:
                self.give_up()
                connection.flush()
                raise
            if not found:
                self.end_here(DEADLINE_EXCEEDED, DEADLINE_PASSED)
                connection.flush()
        finally:
            connection.leave_lock()

    @property
    def answered(self):
        """Whether the response's headers are here."""
        return self.has_answer

    @property
    def ended(self):
        """Whether the status is here; messages before it may still be there to be read."""
        return self.has_ended

    @property
    def all_read(self):
        """Whether the status is here and no message is left."""
        return self.has_ended and (self.messages.left() == 0 or self.ended_here)

    @property
    def may_be_sent_anew(self):
        """0: no. 1: once, as the server proves that it did not process it. 2: it never left."""
        if not self.has_ended or self.ended_here:
            return 0
        return 2 if self.flags & UNSENT else 1 if self.flags & UNPROCESSED else 0

    @property
    def code(self):
        """The status, a number, once it has ended."""
        return self.code_number

    @property
    def details(self):
        """What is said of the status, once it has ended."""
        return self.details_text

    def initial_metadata(self):
        """Those that came; () before."""
        return metadata_of(&self.stream.metadata) if self.has_answer else ()

    def trailing_metadata(self):
        """Those that came with the status; () before, and after an end that was made here."""
        return metadata_of(&self.stream.trailers) if self.has_ended and self.stream.owner is not NULL else ()
