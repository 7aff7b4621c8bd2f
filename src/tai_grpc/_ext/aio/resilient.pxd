"""Unary calls with a client's layers around them: see resilient.pyx."""

from tai_grpc._ext.aio.calls cimport UnaryUnaryCall
from tai_grpc._ext.aio.dispatcher cimport Dispatcher
from tai_grpc._ext.aio.timers cimport TimerEntry, Timers
from tai_grpc._ext.primitives.outbound cimport Outbound, OutboundCall


cdef class Caller:
    cdef object loop
    cdef Timers timers
    cdef Outbound layers
    cdef object reply
    cdef object error
    cdef object find
    cdef dict dispatchers
    cdef Dispatcher nowhere  # of calls that have no endpoint yet
    cdef set calls
    cdef Py_ssize_t max_calls
    cdef object idle_waiter
    cdef str closed  # why no call is taken; None: it is open

    cdef int start(self, ResilientCall call) except -1
    cdef int leave(self, ResilientCall call) except -1


cdef class ResilientMethod:
    cdef Caller caller
    cdef str method
    cdef bytes path
    cdef object serialize
    cdef object deserialize


cdef class Wait(TimerEntry):
    cdef ResilientCall call


cdef class ResilientCall(UnaryUnaryCall):
    cdef Caller caller
    cdef OutboundCall out
    cdef Wait wait
    cdef size_t asked_fields  # bytes of the caller's metadata

    cdef int start(self) except -1
    cdef int proceed(self, object ended) except -1
    cdef int attempt(self) except -1
    cdef int forget_attempt(self) except -1
    cdef int finish_call(self, int code, str details) except -1
    cdef tuple received(self)
    cdef tuple trailers(self)
