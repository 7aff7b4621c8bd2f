"""The four kinds of calls, as grpc.aio has them. See calls.pyx."""

from tai_grpc._ext.aio.call cimport Call
from tai_grpc._ext.aio.messages cimport MessageQueue


cdef bytes serialized(object serialize, object request)


cdef class UnaryResponse(Call):
    cdef object deserialize
    cdef object message  # None: it has not come, or is read
    cdef object response
    cdef bint has_message

    cdef object result(self)


cdef class UnaryUnaryCall(UnaryResponse):
    pass


cdef class StreamUnaryCall(UnaryResponse):
    cdef object serialize
    cdef object feed


cdef class StreamResponse(Call):
    cdef object deserialize
    cdef MessageQueue messages
    cdef object read_waiters
    cdef int reading  # how: by iteration or by read()

    cdef object take(self)
    cdef object end_of_stream(self)
    cdef int read_by(self, int style) except -1


cdef class UnaryStreamCall(StreamResponse):
    pass


cdef class StreamStreamCall(StreamResponse):
    cdef object serialize
    cdef object feed
