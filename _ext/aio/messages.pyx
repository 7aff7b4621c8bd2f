# cython: language_level=3
"""One message, as bytes or in its compressed form, and the queue of those that have arrived."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE

from tai_grpc._ext.aio.compression cimport compressed as compressed_form
from tai_grpc._ext.http2.session cimport stream_send_message
from tai_grpc._ext.http2.state cimport IDENTITY, StreamState

cdef enum:
    # From here on a queue is cut where it was read, when that is its larger half.
    CUT_FROM = 64


@cython.final
cdef class Packed:
    """A message in its compressed form."""


cdef Packed _packed(bytes data):
    cdef Packed message = Packed.__new__(Packed)
    message.data = data
    return message


cdef object received(const char *data, size_t size, bint compressed):
    message = PyBytes_FromStringAndSize(data, size)
    return _packed(message) if compressed else message


cdef object packed(bytes data, int encoding):
    cdef bytes smaller = None if encoding == IDENTITY else compressed_form(data, encoding)
    return data if smaller is None else _packed(smaller)


cdef bint transmit(StreamState *stream, object message) noexcept:
    cdef bytes data = data_of(message)
    return stream_send_message(
        stream, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), not PyBytes_CheckExact(message)
    ) == 0


@cython.final
@cython.no_gc_clear  # a thread may put a message there as long as the call that has it lasts
cdef class MessageQueue:
    """Messages in their order. What bounds it is the window of its stream, which opens as they are read."""

    def __cinit__(self):
        self.messages = []

    cdef int put(self, object message) except -1:
        self.messages.append(message)
        return 0

    cdef object take(self):
        cdef list messages = self.messages
        cdef Py_ssize_t left
        message = messages[self.head]
        messages[self.head] = None
        self.head += 1
        left = PyList_GET_SIZE(messages) - self.head
        if left == 0 or self.head >= CUT_FROM and self.head > left:
            del messages[:self.head]
            self.head = 0
        return message

    cdef int clear(self) except -1:
        self.messages.clear()
        self.head = 0
        return 0
