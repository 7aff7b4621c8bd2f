# cython: language_level=3
"""A call's two streams in asyncio: a Read waits for a message to arrive, a Write for room to send one.

What is kept is bounded by the stream's window, which opens again as messages are read; what is written is
bounded by HIGH_WATER and one message, since a writer goes on only once less is queued.

Read and Write are awaitables of their own rather than coroutines: where nothing has to be waited for they
cost one small object and no frame. Like coroutines they do nothing before they are awaited, warn when they
never are, and a task can be made of them.
"""

from collections.abc import Coroutine

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_WarnEx
from cpython.ref cimport Py_INCREF

from grpc.aio import EOF, InternalError, UsageError

from tai_grpc._ext.aio.compression cimport decompressed
from tai_grpc._ext.aio.messages cimport MessageQueue, Packed, data_of, packed, transmit
from tai_grpc._ext.http2.session cimport (
    stream_attach, stream_message_read, stream_release, stream_send_headers,
)
from tai_grpc._ext.http2.state cimport HIGH_WATER, IDENTITY
from tai_grpc._ext.http2.status cimport INTERNAL, RESOURCE_EXHAUSTED

from tai_grpc._ext.aio.compression import TooLargeError

TOO_MUCH_QUEUED = "too much waits on this connection for the client to take it"

cdef str _ENDED = "the call was ended by its client, or its connection is lost"


cdef class CallStream:
    """The messages of one call, both ways, until its status is sent or its stream gone."""

    def __cinit__(self):
        self.stream = NULL

    def __dealloc__(self):
        if self.stream is not NULL:
            stream_release(self.stream)

    cdef int take_on(self, StreamState *stream, Connection connection, object loop) except -1:
        """Become the stream's owner. It holds a reference, which whoever hears of its end gives up."""
        stream_attach(stream)
        self.stream = stream
        stream.owner = <void *>self
        Py_INCREF(self)
        self.connection = connection
        self.loop = loop
        return 0

    # --- Messages that arrive ---

    cdef int message_arrived(self, object message) except -1:
        if self.arrived is None:
            self.arrived = MessageQueue.__new__(MessageQueue)
        self.arrived.put(message)
        if self.readers is not None:
            self.wake_readers()
        return 0

    cdef int wake_readers(self) except -1:
        readers, self.readers = self.readers, None
        if readers is not None:
            for future in readers:
                if not future.done():
                    future.set_result(None)
        return 0

    cdef bint holds_message(self) noexcept:
        if self.only is not None:
            return True
        return self.arrived is not None and self.arrived.left() > 0

    cdef object next_message(self):
        """The next of those that `holds_message` tells of, deserialized."""
        if self.only is not None:
            message, self.only = self.only, None
        else:
            message = self.arrived.take()
        if not self.closed:
            stream_message_read(self.stream, PyBytes_GET_SIZE(data_of(message)))
            self.connection.want_flush()
        if not PyBytes_CheckExact(message):
            message = self.unpacked(<Packed>message)
        return message if self.deserialize is None else self.deserialize(message)

    cdef bytes unpacked(self, Packed message):
        try:
            return decompressed(message.data, self.stream.encoding, self.max_receive_bytes)
        except ValueError as error:
            self.fail(RESOURCE_EXHAUSTED if isinstance(error, TooLargeError) else INTERNAL, str(error))
            self.check()
            raise

    cdef object readable(self):
        """A future that is done once a message has arrived or none will."""
        future = self.loop.create_future()
        if self.readers is None:
            self.readers = [future]
        else:
            self.readers = [waiting for waiting in self.readers if not waiting.done()] + [future]
        return future

    # --- Messages that are sent ---

    cdef int send(self, object message) except -1:
        """Queue a message, preceded by empty initial metadata if there were none yet."""
        self.check()
        return self.send_bytes(self.serialized(message))

    cdef bytes serialized(self, object message):
        if self.serialize is not None:
            message = self.serialize(message)
        if type(message) is bytes:
            return <bytes>message
        if message is None:
            return b""
        if isinstance(message, str):
            return message.encode()
        raise TypeError(f"Expected bytes, got {type(message).__name__}")

    cdef int send_bytes(self, bytes data) except -1:
        cdef object message = data
        if 0 <= self.max_send_bytes < PyBytes_GET_SIZE(data):
            size = PyBytes_GET_SIZE(data)
            self.fail(RESOURCE_EXHAUSTED, f"Sent message larger than max ({size} vs. {self.max_send_bytes})")
            self.check()
        if self.connection.session.queued >= self.max_queued_bytes:
            self.fail(RESOURCE_EXHAUSTED, TOO_MUCH_QUEUED)
            self.check()
        if self.encoding != IDENTITY:
            if not self.headers_sent:
                stream_send_headers(self.stream, NULL, self.encoding)
            if not self.next_as_is:
                message = packed(data, self.encoding)
        self.next_as_is = False
        self.headers_sent = True
        if not transmit(self.stream, message):
            # Its end came in the same read as what made this message, and is told next.
            self.refusal = InternalError(_ENDED)
            raise self.refusal
        self.connection.want_flush()
        return 0

    cdef bint must_wait(self) noexcept:
        return not self.closed and self.stream.queued > HIGH_WATER

    cdef object writable(self):
        """A future that is done once less is queued, or nothing can be."""
        future = self.loop.create_future()
        if self.writers is None:
            self.writers = [future]
        else:
            self.writers = [waiting for waiting in self.writers if not waiting.done()] + [future]
        self.stream.wants_writable = True
        return future

    cdef int wake_writers(self) except -1:
        writers, self.writers = self.writers, None
        if writers is not None:
            for future in writers:
                if not future.done():
                    future.set_result(None)
        return 0

    cdef int check(self) except -1:
        """Raise what a read or a write at this point raises, if the call takes none any more."""
        if self.refusal is not None:
            raise self.refusal
        if self.finished:
            raise UsageError("RPC already finished.")
        if self.closed:
            raise InternalError(_ENDED)
        return 0

    cdef int fail(self, int code, str details) except -1:
        return 0


cdef class Transfer:
    """Something to await once: the common part of Read and Write. `__next__` is what an `await` steps."""

    def __dealloc__(self):
        if not self.begun and not self.ended:
            PyErr_WarnEx(RuntimeWarning, b"a read or write of a call was never awaited, and was not made", 1)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def send(self, value):
        return self.__next__()

    def throw(self, kind, value=None, traceback=None):
        self.ended = True
        self.waiting = None
        if value is None:
            value = kind if isinstance(kind, BaseException) else kind()
        if traceback is not None:
            value = value.with_traceback(traceback)
        raise value

    def close(self):
        self.ended = True
        self.waiting = None

    cdef object begin_wait(self, object future):
        self.begun = True
        self.waiting = future
        future._asyncio_future_blocking = True
        return future

    cdef object go_on_waiting(self):
        """The future that is waited for; None: it is done, or there was none."""
        if self.ended:
            raise RuntimeError("cannot reuse already awaited coroutine")
        future = self.waiting
        if future is None:
            return None
        if future.done():
            self.waiting = None
            return None
        future._asyncio_future_blocking = True
        return future


cdef class Read(Transfer):
    """The next message; past the last one EOF, or the end of the iteration."""

    def __next__(self):
        cdef CallStream call = self.call
        future = self.go_on_waiting()
        if future is not None:
            return future
        try:
            call.check()
            if call.holds_message():
                message = call.next_message()
            elif not call.complete:
                return self.begin_wait(call.readable())
            elif self.iterates:
                raise StopAsyncIteration
            else:
                message = EOF
        except BaseException:
            self.ended = True
            raise
        self.ended = True
        raise StopIteration(message)


cdef class Write(Transfer):
    """Queue a message, then wait while too much is queued."""

    def __next__(self):
        cdef CallStream call = self.call
        future = self.go_on_waiting()
        if future is not None:
            return future
        try:
            if not self.begun:
                self.begun = True
                call.send(self.message)
                self.message = None
            elif call.closed or call.finished:
                call.check()
            if call.must_wait():
                return self.begin_wait(call.writable())
        except BaseException:
            self.ended = True
            raise
        self.ended = True
        raise StopIteration


cdef class Requests:
    """The requests of a call, once over."""

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Read read = Read.__new__(Read)
        read.call = self.call
        read.iterates = True
        return read


Coroutine.register(Transfer)
