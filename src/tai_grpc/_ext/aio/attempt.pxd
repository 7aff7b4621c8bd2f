"""One unary attempt for code that makes the retries itself. See attempt.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.aio.call cimport Call
from tai_grpc._ext.aio.dispatcher cimport Dispatcher


cdef class UnaryAttempt(Call):
    cdef object hook
    cdef readonly bytes response  # None: there is none
    cdef bint compressed
    cdef bint has_response

    # It has ended: `code_number`, `details_text` and the properties say how. Overridden by who derives from
    # it, otherwise `hook(attempt)` is called. It may start and give up calls; an error goes to the loop's
    # exception handler.
    cdef int ended(self) except -1


# Start one, new and of UnaryAttempt or a class derived from it; `timeout_ns` -1: without a deadline. Raises
# TypeError and ValueError that name the metadata's key, and UsageError on a closed channel.
cdef int start_unary(
    UnaryAttempt attempt, Dispatcher dispatcher, bytes method, bytes request, int64_t timeout_ns,
    object metadata, bint wait_for_ready, int encoding,
) except -1
