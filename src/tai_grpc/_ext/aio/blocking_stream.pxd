"""One attempt of a call, for threads. See blocking_stream.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.aio.blocking cimport BlockingOwner
from tai_grpc._ext.aio.messages cimport MessageQueue


cdef class BlockingStream(BlockingOwner):
    cdef int64_t deadline_ns  # 0: none
    cdef int encoding
    cdef bint single  # one response is expected
    cdef MessageQueue messages
    cdef bint has_answer
    cdef bint has_ended
    cdef bint ended_here  # and not by the server's word: what has come does not count any more
    cdef bint half_closed
    cdef int code_number
    cdef str details_text
    cdef unsigned int flags

    cdef int end_here(self, int code, str details) except -1
    cdef int ended_with(self, int code, str details) except -1
