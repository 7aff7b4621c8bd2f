"""The messages of a call, on their way out and until they are read. See messages.pyx.

A message is bytes or, as it is on the wire, a Packed.
"""

cimport cython
from cpython.bytes cimport PyBytes_CheckExact
from cpython.list cimport PyList_GET_SIZE

from tai_grpc._ext.http2.state cimport StreamState


@cython.final
cdef class Packed:
    cdef bytes data


cdef inline bytes data_of(object message):
    return <bytes>message if PyBytes_CheckExact(message) else (<Packed>message).data

# What has come.
cdef object received(const char *data, size_t size, bint compressed)
# What is sent in place of these bytes: a Packed where that is smaller. Encoding: a state.pxd's Encoding.
cdef object packed(bytes data, int encoding)
# Queue it on its stream. False: that has ended, which is told next.
cdef bint transmit(StreamState *stream, object message) noexcept


@cython.final
cdef class MessageQueue:
    cdef list messages
    cdef Py_ssize_t head  # those before it are taken

    cdef inline Py_ssize_t left(self) noexcept:
        return PyList_GET_SIZE(self.messages) - self.head

    cdef int put(self, object message) except -1
    cdef object take(self)  # the first of those that are left
    cdef int clear(self) except -1
