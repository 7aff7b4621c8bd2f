# cython: language_level=3
"""A call on a server, from request to status, and the task of its handler.

A call with one request begins when that and the end of the stream are here, one with a stream of requests (or
with interceptors) at once. The handler's first step is made then and there; if it ends in it, the answer is
queued before the next event is looked at, so that all that one read brought leaves in one write.

What may have been given up by the peer in the meantime is still there for the handler: metadata, peer and
deadline outlive the stream. What the handler itself is given is in context.pyx.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport INT64_MAX

import grpc
from grpc.aio import EOF, InternalError

from tai_grpc._ext.aio.callstream cimport Read, Requests
from tai_grpc._ext.http2.buffers cimport Buffer, buffer_free
from tai_grpc._ext.http2.metadata cimport metadata_append, metadata_of
from tai_grpc._ext.http2.nghttp2 cimport NGHTTP2_CANCEL
from tai_grpc._ext.http2.session cimport stream_finish, stream_reset
from tai_grpc._ext.http2.state cimport IDENTITY
from tai_grpc._ext.http2.status cimport (
    CANCELLED, DEADLINE_EXCEEDED, INTERNAL, OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNKNOWN,
)
from tai_grpc._ext.primitives.clock cimport monotonic_ns

cdef enum:
    LAST_CODE = 16
    TASK_CANCELLED = 2  # task.pxd's CANCELLED

METHOD_NOT_FOUND = "Method not found!"
LIMIT_EXCEEDED = "Concurrent RPC limit exceeded!"

cdef object _StatusCode = grpc.StatusCode


cdef int code_number(object code) except -1:
    """The code of a StatusCode or a number; UNKNOWN for what is neither."""
    if code is None:
        return OK
    if isinstance(code, _StatusCode):
        return code.value[0]
    if isinstance(code, int) and OK <= code <= LAST_CODE:
        return code
    return UNKNOWN


cdef str described(object error):
    """What a client is told of an error that nobody expected."""
    try:
        return f"Unexpected {type(error)}: {error}"
    except Exception:
        return f"Unexpected {type(error)}"


cdef str peer_name(object address):
    """A transport's address of its peer, as gRPC writes it."""
    if not isinstance(address, tuple):
        if isinstance(address, bytes):  # of an abstract one
            address = address.decode("utf-8", "replace")
        return f"unix:{address or ''}"
    if len(address) == 2:
        return f"ipv4:{address[0]}:{address[1]}"
    # As URIs have it: brackets and the zone's % are escaped.
    host = address[0].replace("%", "%25")
    return f"ipv6:%5B{host}%5D:{address[1]}"


cdef class Peer:
    """The other end of a connection, as calls may still ask for it when the connection is gone."""

    cdef dict authentication(self):
        if self.auth is None:
            self.auth = self.service.describe_peer(self.ssl_object)
        return self.auth


cdef class HandlerTask(CallTask):
    """The task of a handler."""

    cdef int finished(self) except -1:
        cdef ServedCall call = self.call
        self.call = None
        self.log_error = False
        return call.handler_ended(self)

    cdef int expired(self) except -1:
        return self.call.deadline_passed()


async def _generated(ServedCall call, object request):
    """Send what an async generator yields."""
    responses = call.method.behaviour(request, call)
    try:
        async for response in responses:
            call.send(response)
            while call.must_wait():
                await call.writable()
                call.check()
    except GeneratorExit:
        raise  # this coroutine is dropped, and can await nothing any more
    except BaseException:
        # It may have been left at a `yield`.
        await responses.aclose()
        raise


async def _intercepted(ServedCall call):
    """Let the interceptors choose the method, then serve it as `begin_handler` does."""
    cdef Service service = call.service
    cdef Method method = await service.intercept(call.path(), call.invocation())
    if method is None:
        call.finish(UNIMPLEMENTED, METHOD_NOT_FOUND, None)
        return None
    if 0 <= service.max_calls <= service.admitted:
        call.finish(RESOURCE_EXHAUSTED, LIMIT_EXCEEDED, None)
        return None
    service.admitted += 1
    call.admitted = True
    call.limit_time(method, monotonic_ns())
    call.method = method
    call.deserialize = method.deserialize
    call.serialize = method.serialize
    if method.request_streams:
        request = call.all_requests()
    else:
        request = await call.reading()
        if request is EOF or await call.reading() is not EOF:
            call.finish(UNIMPLEMENTED, f"{method.path} takes one request", None)
            return None
    if method.generates:
        return await _generated(call, request)
    return await method.behaviour(request, call)


cdef class ServedCall(CallStream):
    """What the connection and the handler's task drive; its only subclass is ServicerContext."""

    # --- The connection's side ---

    cdef int accept(
        self, StreamState *stream, Connection connection, Service service, Peer peer, Method method,
        int64_t now_ns,
    ) except -1:
        """Take on a request. `method` None: its interceptors are to be asked."""
        cdef HandlerTask task = HandlerTask.__new__(HandlerTask)
        self.take_on(stream, connection, service.loop)
        self.service = service
        self.peer_info = peer
        self.max_receive_bytes = service.session.max_message_bytes
        self.max_send_bytes = service.max_send_bytes
        self.max_queued_bytes = service.max_queued_bytes
        if service.encoding != IDENTITY and stream.accepted & 1 << service.encoding:
            self.encoding = service.encoding
        self.task = task
        task.call = self
        if stream.timeout_ns >= 0:
            self.deadline_ns = now_ns + min(stream.timeout_ns, INT64_MAX - now_ns)
            service.timers.arm(task, self.deadline_ns)
        if method is not None:
            self.limit_time(method, now_ns)
            service.admitted += 1
            self.admitted = True
            self.method = method
            self.deserialize = method.deserialize
            self.serialize = method.serialize
            if not method.request_streams:
                self.gathering = True
                return 0
        return self.begin_handler()

    cdef int limit_time(self, Method method, int64_t now_ns) except -1:
        """Bring the deadline forward to the server's maximum."""
        cdef Service service = self.service
        cdef int64_t limit_ns = (
            service.max_stream_timeout_ns if method.response_streams else service.max_timeout_ns
        )
        if limit_ns >= 0 and (self.deadline_ns == 0 or now_ns + limit_ns < self.deadline_ns):
            self.limit_ns = limit_ns
            self.deadline_ns = now_ns + limit_ns
            service.timers.arm(self.task, self.deadline_ns)
        return 0

    cdef int one_message(self, object message) except -1:
        """A message is here: the one that the handler begins with, or one for it to read."""
        if not self.gathering:
            return 0 if self.ended else self.message_arrived(message)
        if self.only is None:
            self.only = message
            return 0
        return self.fail(UNIMPLEMENTED, f"{self.method.path} takes one request, and more have come")

    cdef int half_closed(self) except -1:
        self.complete = True
        if not self.gathering:
            return 0 if self.readers is None else self.wake_readers()
        if self.only is None:
            return self.fail(UNIMPLEMENTED, f"{self.method.path} takes one request, and none has come")
        self.gathering = False
        return self.begin_handler()

    cdef int stream_closed(self) except -1:
        """The stream is gone: the handler, if it still works for it, is cancelled."""
        self.closed = True
        if self.running:
            if not self.finished:
                self.task.request_cancel(None)
        elif not self.ended:
            self._leave()
        self.only = None
        self.wake_readers()
        self.wake_writers()
        self.connection = None
        return 0

    # --- The handler ---

    cdef int begin_handler(self) except -1:
        cdef HandlerTask task = self.task
        cdef Method method = self.method
        self.running = True
        self.service.calls += 1
        try:
            if method is None:
                coroutine = _intercepted(self)
            else:
                request = self.all_requests() if method.request_streams else self.next_message()
                if method.generates:
                    coroutine = _generated(self, request)
                else:
                    coroutine = method.behaviour(request, self)
            task.begin(coroutine, self.loop, None)
        except Exception as error:
            # Of what prepares the handler; what the handler itself raises is its task's.
            if self.ended:
                raise
            try:
                self._failed(error)
            finally:
                self._leave()
        return 0

    cdef int handler_ended(self, HandlerTask task) except -1:
        try:
            if task.state == TASK_CANCELLED:
                if not self.finished and not self.closed:
                    self.settle(CANCELLED, "the handler was cancelled", self.trailing)
            elif task.error is not None:
                self._failed(task.error)
            else:
                self._succeeded(task.outcome)
        finally:
            self._leave()
        return 0

    cdef int _succeeded(self, object outcome) except -1:
        cdef int code
        if self.abort_error is not None:
            return self.report("Abort error unexpectedly suppressed", self.abort_error)
        if self.finished or self.closed:
            return 0
        code = code_number(self.code_given)
        if code == OK and not self.method.response_streams:
            try:
                self.send(outcome)
            except Exception as error:
                return self._failed(error)
        return self.settle(code, self.details_given, self.trailing)

    cdef int _failed(self, object error) except -1:
        cdef int code
        if error is self.abort_error or error is self.refusal:
            return 0
        if self.closed and isinstance(error, InternalError):
            return 0
        if not self.finished and not self.closed:
            code = code_number(self.code_given)
            self.settle(UNKNOWN if code == OK else code, described(error), self.trailing)
        return self.report("Unexpected exception of the handler", error)

    cdef int _leave(self) except -1:
        """The handler has ended, or will not begin: release what is counted, and tell those who asked."""
        cdef Service service = self.service
        cdef HandlerTask task = self.task
        self.ended = True
        self.gathering = False
        self.task = None
        # Their tracebacks lead to the handler's frames, and those back to here.
        self.refusal = None
        self.abort_error = None
        service.timers.disarm(task)
        task.call = None
        if self.admitted:
            self.admitted = False
            service.admitted -= 1
        if self.running:
            self.running = False
            service.call_ended()
        callbacks, self.done_callbacks = self.done_callbacks, None
        if callbacks is not None:
            for callback in callbacks:
                try:
                    callback(self)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as error:
                    self.report("Unexpected exception of a done callback", error)
        return 0

    cdef int deadline_passed(self) except -1:
        if self.limit_ns != 0:
            details = f"the call took longer than the {self.limit_ns * 1e-9:.3f} s that the server allows"
            self.finish(DEADLINE_EXCEEDED, details, None)
        elif self.closed or self.stream.queued == 0:
            self.finish(DEADLINE_EXCEEDED, "Deadline Exceeded", None)
        else:
            # The client's own has passed as well: it does not take what waits for its window.
            self.finished = True
            stream_reset(self.stream, NGHTTP2_CANCEL)
            self.connection.want_flush()
        if self.running:
            self.task.request_cancel(None)
        elif not self.ended:
            self._leave()
        return 0

    cdef int fail(self, int code, str details) except -1:
        """End the call with a status that is not the handler's: it learns of it when it reads or writes."""
        if not self.finished and not self.closed:
            self.refusal = InternalError(details)
            self.finish(code, details, None)
        if not self.running and not self.ended:
            self._leave()
        return 0

    cdef int settle(self, int code, str details, tuple trailing) except -1:
        """End the call with the handler's status."""
        self.settled = True
        try:
            return self.finish(code, details, trailing)
        except (TypeError, ValueError) as error:
            self.finish(INTERNAL, "Invalid metadata", None)
            return self.report("the trailing metadata cannot be sent", error)

    cdef int finish(self, int code, str details, tuple trailing) except -1:
        cdef Buffer fields
        cdef const char *message = NULL
        cdef Py_ssize_t size = 0
        cdef bytes encoded
        if self.finished or self.closed:
            return 0
        fields.data = NULL
        fields.size = fields.capacity = 0
        try:
            if trailing:
                metadata_append(trailing, &fields)
            if details:
                encoded = details.encode("utf-8", "replace")
                message = PyBytes_AS_STRING(encoded)
                size = PyBytes_GET_SIZE(encoded)
            self.finished = True
            stream_finish(self.stream, code, message, size, &fields if fields.size != 0 else NULL)
            # Whoever waits in the handler's stead, or beside it, is not told of the stream any more.
            self.wake_readers()
            self.wake_writers()
        finally:
            buffer_free(&fields)
        self.connection.want_flush()
        return 0

    cdef str path(self):
        if self.method is not None:
            return self.method.path
        return PyUnicode_DecodeLatin1(self.stream.path.data, self.stream.path.size, NULL)

    cdef tuple invocation(self):
        if self.metadata is None:
            self.metadata = metadata_of(&self.stream.metadata)
        return self.metadata

    cdef int report(self, str message, object error) except -1:
        self.service.report(message, error, self.path(), self.invocation(), self.peer_info.name)
        return 0

    cdef Read reading(self):
        cdef Read read = Read.__new__(Read)
        read.call = self
        return read

    cdef Requests all_requests(self):
        cdef Requests requests = Requests.__new__(Requests)
        requests.call = self
        return requests
