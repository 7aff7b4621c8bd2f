# cython: language_level=3
"""The four kinds of calls, with grpc.aio's methods and meanings.

A response that is one message is deserialized when the status comes; those of a stream when they are read,
and the server's window opens as they are. A stream's status can be asked for as soon as it is here; the call
is done once the messages before it were read. A call with a stream of responses lives as long as someone
holds it: dropped, it is given up. One with a single response lives until it is done, once its requests are
there.
"""

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE

from tai_grpc._ext.aio.call cimport DONE, ENDING, SENT, Call, wake, with_waiter
from tai_grpc._ext.aio.compression cimport decompressed
from tai_grpc._ext.aio.messages cimport MessageQueue, Packed, data_of, received
from tai_grpc._ext.http2.session cimport stream_message_read
from tai_grpc._ext.http2.status cimport INTERNAL, OK, RESOURCE_EXHAUSTED

from asyncio import CancelledError, InvalidStateError

from grpc import RpcError
from grpc.aio import EOF, UsageError

from tai_grpc._ext.aio.compression import TooLargeError

cdef enum Reading:
    NOT_YET = 0
    BY_ITERATION = 1
    BY_READ = 2

cdef str MIXED = "The iterator and read/write APIs may not be mixed on a single RPC."
cdef str FINISHED = "RPC already finished."
cdef str HALF_CLOSED = 'RPC is half closed after calling "done_writing".'


cdef object response_of(Call call, object message, object deserialize):
    """Raises what `deserialize` does, ValueError and TooLargeError."""
    cdef bytes data
    if PyBytes_CheckExact(message):
        data = <bytes>message
    else:
        data = decompressed((<Packed>message).data, call.stream.encoding, call.connection.max_message_bytes)
    return data if deserialize is None else deserialize(data)


cdef int unreadable(Call call, object error) except -1:
    """End the call because of what `response_of` has raised."""
    if isinstance(error, TooLargeError):
        return call.finish(RESOURCE_EXHAUSTED, str(error))
    return call.finish(INTERNAL, f"the response cannot be read: {error!r}")


cdef class UnaryResponse(Call):
    """Awaited for its one response."""

    cdef int on_message(self, const char *data, size_t size, bint compressed) except -1:
        stream_message_read(self.stream, size)
        if self.has_message:
            self.abandon()
            return self.finish(INTERNAL, "the server sent more than one response")
        self.message = received(data, size, compressed)
        self.has_message = True
        return 0

    cdef int settle(self, int code, str details) except -1:
        if code != OK:
            return self.finish(code, details)
        if not self.has_message:
            return self.finish(INTERNAL, "the server ended the call with OK and without a response")
        message, self.message = self.message, None
        try:
            self.response = response_of(self, message, self.deserialize)
        except Exception as error:
            return unreadable(self, error)
        return self.finish(code, details)

    def __await__(self):
        if self.state != DONE:
            waiter = self.dispatcher.loop.create_future()
            self.end_waiters = with_waiter(self.end_waiters, waiter)
            try:
                yield from waiter
            except CancelledError:
                self.cancel()
                raise
        return self.result()

    cdef object result(self):
        if self.code_number != OK:
            raise self.error()
        return self.response


cdef class UnaryUnaryCall(UnaryResponse):
    """One request, one response."""


cdef class StreamResponse(Call):
    """Read with `async for`, or with `read()` until it returns EOF."""

    def __cinit__(self):
        self.messages = MessageQueue.__new__(MessageQueue)

    cdef int on_message(self, const char *data, size_t size, bint compressed) except -1:
        self.messages.put(received(data, size, compressed))
        if self.read_waiters is not None:
            self.read_waiters = wake(self.read_waiters)
        return 0

    cdef int settle(self, int code, str details) except -1:
        if self.messages.left() == 0:
            return self.finish(code, details)
        self.stop_timer()  # the server has said all that it will
        self.state = ENDING
        self.code_number = code
        self.details_text = details
        self.end_waiters = wake(self.end_waiters)
        self.write_waiters = wake(self.write_waiters)
        return 0

    cdef int done_hook(self) except -1:
        self.messages.clear()
        if self.read_waiters is not None:
            self.read_waiters = wake(self.read_waiters)
        return 0

    cdef object take(self):
        """The next message; there is one."""
        message = self.messages.take()
        if self.state == SENT:
            stream_message_read(self.stream, PyBytes_GET_SIZE(data_of(message)))
            self.connection.want_flush()
        try:
            response = response_of(self, message, self.deserialize)
        except Exception as error:
            self.abandon()
            unreadable(self, error)
            raise self.error() from error
        if self.state == ENDING and self.messages.left() == 0:
            self.finish(self.code_number, self.details_text)
        return response

    cdef object end_of_stream(self):
        if self.code_number != OK:
            raise self.error()
        return EOF

    cdef int read_by(self, int style) except -1:
        if self.reading == NOT_YET:
            self.reading = style
        elif self.reading != style:
            raise UsageError(MIXED)
        return 0

    def __aiter__(self):
        self.read_by(BY_ITERATION)
        return self

    async def __anext__(self):
        while self.messages.left() == 0:
            if self.state == DONE:
                self.end_of_stream()
                raise StopAsyncIteration
            waiter = self.dispatcher.loop.create_future()
            self.read_waiters = with_waiter(self.read_waiters, waiter)
            try:
                await waiter
            except CancelledError:
                self.cancel()
                raise
        return self.take()

    async def read(self):
        """The next response, or EOF once there is none left. Raises AioRpcError when the call has failed."""
        if self.state == DONE:
            return self.end_of_stream()
        self.read_by(BY_READ)
        while self.messages.left() == 0:
            if self.state == DONE:
                return self.end_of_stream()
            waiter = self.dispatcher.loop.create_future()
            self.read_waiters = with_waiter(self.read_waiters, waiter)
            try:
                await waiter
            except CancelledError:
                self.cancel()
                raise
        return self.take()


cdef class UnaryStreamCall(StreamResponse):
    """One request, a stream of responses."""


cdef bytes serialized(object serialize, object request):
    data = request if serialize is None else serialize(request)
    if data is None:  # as grpc.aio has it
        return b""
    if type(data) is not bytes:
        raise TypeError(f"a request must be bytes once it is serialized: got {type(data).__name__}")
    return <bytes>data


async def _write(Call call, object serialize, object request):
    if call.state >= ENDING:
        raise InvalidStateError(FINISHED)
    if call.half_closed:
        raise InvalidStateError(HALF_CLOSED)
    if call.state < SENT:
        await _sent(call)
        if call.state == DONE:
            raise call.error()
    call.send(serialized(serialize, request))
    while call.state < ENDING:
        if call.state < SENT:  # it is to be sent anew
            await _sent(call)
        elif call.has_room():
            return
        else:
            waiter = call.dispatcher.loop.create_future()
            call.write_waiters = with_waiter(call.write_waiters, waiter)
            try:
                await waiter
            except CancelledError:
                call.cancel()
                raise
    if call.code_number != OK:
        raise call.error()


async def _sent(Call call):
    while call.state < SENT:
        waiter = call.dispatcher.loop.create_future()
        call.sent_waiters = with_waiter(call.sent_waiters, waiter)
        try:
            await waiter
        except CancelledError:
            call.cancel()
            raise


async def _done_writing(Call call):
    if call.state < ENDING:
        call.half_close()


async def _feed(Call call, object serialize, object requests):
    """Write what an iterator gives; its failure gives the call up."""
    try:
        if hasattr(requests, "__aiter__"):
            async for request in requests:
                await _write(call, serialize, request)
        else:
            for request in requests:
                await _write(call, serialize, request)
        call.half_close()
    except CancelledError:
        call.cancel()
        raise
    except BaseException as error:
        if call.state < ENDING:
            call.dispatcher.loop.call_exception_handler(
                {"message": f"the requests of {call!r} failed: it is cancelled", "exception": error}
            )
            call.cancel()
        elif not isinstance(error, (RpcError, InvalidStateError)):
            call.dispatcher.loop.call_exception_handler(
                {"message": f"the requests of {call!r} failed after its end", "exception": error}
            )
        if not isinstance(error, Exception):
            raise


cdef class StreamUnaryCall(UnaryResponse):
    """A stream of requests, from an iterator or by `write` and `done_writing`; one response."""

    cdef int done_hook(self) except -1:
        if self.feed is not None:
            self.feed.cancel()
        return 0

    def write(self, request):
        """Send a request, waiting while the server is slow. Raises AioRpcError when the call has failed."""
        if self.feed is not None:
            raise UsageError(MIXED)
        return _write(self, self.serialize, request)

    def done_writing(self):
        """Tell the server that no request follows."""
        if self.feed is not None:
            raise UsageError(MIXED)
        self.keep()
        return _done_writing(self)


cdef class StreamStreamCall(StreamResponse):
    """A stream of requests, from an iterator or by `write` and `done_writing`; a stream of responses."""

    cdef int done_hook(self) except -1:
        if self.feed is not None:
            self.feed.cancel()
        return StreamResponse.done_hook(self)

    def write(self, request):
        """Send a request, waiting while the server is slow. Raises AioRpcError when the call has failed."""
        if self.feed is not None:
            raise UsageError(MIXED)
        return _write(self, self.serialize, request)

    def done_writing(self):
        """Tell the server that no request follows."""
        if self.feed is not None:
            raise UsageError(MIXED)
        return _done_writing(self)


def _start_feed(Call call, object serialize, object requests):
    return call.dispatcher.loop.create_task(_feed(call, serialize, requests))
