"""The methods of a channel, called to make calls. See multicallable.pyx."""

from tai_grpc._ext.aio.call cimport Call
from tai_grpc._ext.aio.dispatcher cimport Dispatcher


cdef class MultiCallable:
    cdef object __weakref__
    cdef object channel  # keeps it
    cdef Dispatcher dispatcher
    cdef bytes method
    cdef object serialize
    cdef object deserialize
    cdef object authorize
    cdef bint always_authorize
    cdef int encoding

    cdef int prepare(
        self, Call call, object timeout, object metadata, object credentials, object wait_for_ready,
        object compression,
    ) except -1
    cdef int begin(self, Call call, object credentials) except -1
    cdef int load(self, Call call, object request) except -1


cdef class UnaryUnaryMultiCallable(MultiCallable):
    pass


cdef class UnaryStreamMultiCallable(MultiCallable):
    pass


cdef class StreamUnaryMultiCallable(MultiCallable):
    pass


cdef class StreamStreamMultiCallable(MultiCallable):
    pass
