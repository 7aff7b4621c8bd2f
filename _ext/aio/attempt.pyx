# cython: language_level=3
"""One unary attempt for code that makes the retries itself: its end is told, never raised.

No future, no task and no exception is made for it. The attempt lives until it has ended.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t

from tai_grpc._ext.aio.call cimport INTERNAL, OK, RESOURCE_EXHAUSTED, Call
from tai_grpc._ext.aio.calls cimport unpacked
from tai_grpc._ext.aio.dispatcher cimport Dispatcher
from tai_grpc._ext.http2.metadata cimport metadata_append, metadata_of
from tai_grpc._ext.http2.session cimport stream_message_read
from tai_grpc._ext.http2.state cimport UNPROCESSED, UNSENT
from tai_grpc._ext.primitives.clock cimport monotonic_ns

from tai_grpc._ext.aio.calls import TooLargeError


cdef class UnaryAttempt(Call):
    """Made by `unary_attempt`."""

    cdef int on_message(self, const char *data, size_t size, bint compressed) except -1:
        stream_message_read(self.stream, size)
        if self.has_response:
            self.abandon()
            return self.finish(INTERNAL, "the server sent more than one response")
        self.response = PyBytes_FromStringAndSize(data, size)
        self.compressed = compressed
        self.has_response = True
        return 0

    cdef int settle(self, int code, str details) except -1:
        if code == OK and not self.has_response:
            return self.finish(INTERNAL, "the server ended the call with OK and without a response")
        if code == OK and self.compressed:
            try:
                self.response = unpacked(self, self.response)
            except TooLargeError as error:
                return self.finish(RESOURCE_EXHAUSTED, str(error))
            except ValueError as error:
                return self.finish(INTERNAL, str(error))
        return self.finish(code, details)

    cdef int done_hook(self) except -1:
        if self.code_number != OK:
            self.response = None
        try:
            self.ended()
        except Exception as error:
            self.loop().call_exception_handler(
                {"message": "what a gRPC attempt's end was told to failed", "exception": error}
            )
        return 0

    cdef int ended(self) except -1:
        if self.hook is not None:
            self.hook(self)
        return 0

    @property
    def status(self):
        """The status code's number."""
        return self.code_number

    @property
    def text(self):
        """The status's details."""
        return self.details_text

    @property
    def sent(self):
        """False when it is certain that the request never left."""
        return self.stream is not NULL and not self.stream.flags & UNSENT

    @property
    def unprocessed(self):
        """True when the server has proved that it did not process it, or cannot have."""
        return self.stream is NULL or self.stream.flags & (UNPROCESSED | UNSENT) != 0

    @property
    def initial(self):
        """The server's initial metadata, as pairs."""
        return metadata_of(&self.stream.metadata) if self.stream is not NULL and self.answered else ()

    @property
    def trailing(self):
        """The server's trailing metadata, as pairs."""
        return metadata_of(&self.stream.trailers) if self.stream is not NULL else ()


cdef int start_unary(
    UnaryAttempt attempt, Dispatcher dispatcher, bytes method, bytes request, int64_t timeout_ns,
    object metadata, bint wait_for_ready, int encoding,
) except -1:
    attempt.dispatcher = dispatcher
    attempt.method = method
    attempt.request = request
    attempt.encoding = encoding
    attempt.wait_for_ready = wait_for_ready
    if timeout_ns >= 0:
        attempt.deadline_ns = monotonic_ns() + timeout_ns
    if metadata is not None:
        metadata_append(metadata, &attempt.fields)
    attempt.begin(False)
    return attempt.keep()


def unary_attempt(
    Dispatcher dispatcher not None,
    bytes method not None,
    bytes request not None,
    hook,
    *,
    int64_t timeout_ns=-1,
    metadata=None,
    bint wait_for_ready=False,
    int encoding=0,
):
    """Start an attempt; `hook(attempt)` is called once when it has ended, which may be before this returns.

    Raises:
        TypeError: a metadata key or value is not of its type.
        ValueError: a metadata key or value cannot be sent, or the encoding is none of 0 to 2.
        UsageError: the channel is closed.
    """
    if not 0 <= encoding <= 2:
        raise ValueError(f"encoding must be 0 (identity), 1 (deflate) or 2 (gzip): got {encoding}")
    cdef UnaryAttempt attempt = UnaryAttempt.__new__(UnaryAttempt)
    attempt.hook = hook
    start_unary(attempt, dispatcher, method, request, timeout_ns, metadata, wait_for_ready, encoding)
    return attempt
