# cython: language_level=3
"""One call, from when it is made until its status, over as many attempts as the protocol allows unasked.

A call goes to its dispatcher, which gives it a connection (`submit`). What becomes of its stream comes back
as `on_...`. It is sent anew, unseen, as often as the request never left, and once when the server proves that
it did not process it; for that the request messages are kept until the server answers, 256 KiB of a stream.
"""

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AsDouble
from libc.stdint cimport int64_t

from tai_grpc._ext.aio.client cimport ClientConnection
from tai_grpc._ext.aio.client_session cimport ended_details
from tai_grpc._ext.aio.dispatcher cimport DispatchedCall
from tai_grpc._ext.aio.messages cimport packed, transmit
from tai_grpc._ext.aio.timers cimport TimerEntry
from tai_grpc._ext.http2.buffers cimport buffer_free
from tai_grpc._ext.http2.metadata cimport metadata_append, metadata_of
from tai_grpc._ext.http2.session cimport stream_half_close
from tai_grpc._ext.http2.state cimport BY_STATUS, HIGH_WATER, UNPROCESSED, UNSENT, Event, StreamState
from tai_grpc._ext.http2.status cimport CANCELLED, DEADLINE_EXCEEDED, INTERNAL, OK, RESOURCE_EXHAUSTED
from tai_grpc._ext.primitives.clock cimport monotonic_ns

from asyncio import CancelledError

from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from tai_grpc._ext.aio.client_session import DEADLINE_PASSED, LOCALLY_CANCELLED

cdef tuple STATUS = tuple(sorted(StatusCode, key=lambda code: code.value[0]))
cdef object _empty_metadata = Metadata
cdef object _metadata_from = Metadata.from_tuple

# What is kept of a request stream to send it anew.
cdef Py_ssize_t MAX_REPLAY_BYTES = 256 * 1024
# A timeout above it counts as this: ten years.
cdef double MAX_TIMEOUT = 315_360_000.0


cdef object wake(object waiters):
    if waiters is None:
        return None
    if type(waiters) is list:
        for waiter in <list>waiters:
            if not waiter.done():
                waiter.set_result(None)
    elif not waiters.done():
        waiters.set_result(None)
    return None


cdef object with_waiter(object waiters, object waiter):
    if waiters is None:
        return waiter
    if type(waiters) is list:
        # Whoever gave up waiting leaves its future behind.
        waiters = [other for other in <list>waiters if not other.done()]
        (<list>waiters).append(waiter)
        return waiters
    return waiter if waiters.done() else [waiters, waiter]


cdef class Deadline(TimerEntry):
    """A call's; the call disarms it and takes itself out of it."""

    cdef int expired(self) except -1:
        cdef Call call
        if self.call is not NULL:
            call = <Call>self.call
            call.abandon()
            call.finish(DEADLINE_EXCEEDED, DEADLINE_PASSED)
        return 0


cdef class Call(DispatchedCall):
    """What the four kinds have. Subclasses say what a message and the end mean to them."""

    def __del__(self):
        # The garbage collector calls this, in whatever thread, before it clears anything: from here on the
        # loop does not reach a call that is half cleared. Held again it is a cancelled one.
        if self.timer is not None:
            self.timer.call = NULL
            self.dispatcher.timers.disarm(self.timer)
            self.timer = None
        if self.stream is not NULL:
            self.connection.let_go(self.stream)
        if self.dispatcher is not None:
            self.dispatcher.forget(self)
        if self.state != DONE:
            self.state = DONE
            self.locally_cancelled = True
            self.code_number = CANCELLED
            self.details_text = LOCALLY_CANCELLED

    def __dealloc__(self):
        self.detach()
        buffer_free(&self.fields)

    # --- The way out ---

    cdef object loop(self):
        return self.dispatcher.loop

    cdef int set_timeout(self, object timeout) except -1:
        cdef double seconds = PyFloat_AsDouble(timeout)
        if seconds != seconds:
            raise ValueError("timeout must be a number of seconds: got nan")
        if seconds > MAX_TIMEOUT:
            seconds = MAX_TIMEOUT
        if seconds < 0.0:
            seconds = 0.0
        self.deadline_ns = monotonic_ns() + <int64_t>(seconds * 1e9)
        return 0

    cdef int begin(self, bint held) except -1:
        self.dispatcher.start(self)
        if self.unsendable is not None:
            return self.finish(INTERNAL, self.unsendable)
        if self.deadline_ns != 0:
            if monotonic_ns() >= self.deadline_ns:
                return self.finish(DEADLINE_EXCEEDED, DEADLINE_PASSED)
            self.timer = Deadline.__new__(Deadline)
            self.timer.call = <void *>self
            self.dispatcher.timers.arm(self.timer, self.deadline_ns)
        if self.request is not None:
            self.half_closed = True
            if 0 <= self.dispatcher.max_send_bytes < len(self.request):
                return self.refuse_size(len(self.request))
        else:
            self.replay = []
        if held:
            self.state = HELD
            return 0
        self.state = WAITING
        return self.dispatcher.route(self)

    cdef int keep(self) except -1:
        """Live until it is done, whoever lets go of it."""
        if not self.kept and self.state != DONE:
            self.kept = True
            self.dispatcher.kept.add(self)
        return 0

    cdef int submit(self, ClientConnection connection) except -1:
        cdef int64_t timeout_ns = -1
        if self.deadline_ns != 0:
            timeout_ns = max(<int64_t>1, self.deadline_ns - monotonic_ns())
        cdef StreamState *stream = connection.start(
            self, self.method, timeout_ns, self.encoding, &self.fields
        )
        if stream is NULL:
            return 0
        self.stream = stream
        self.connection = connection
        self.state = SENT
        if self.request is not None:
            transmit(stream, packed(self.request, self.encoding))
        elif self.replay is not None:
            for message in self.replay:
                transmit(stream, packed(<bytes>message, self.encoding))
        if self.half_closed:
            stream_half_close(stream)
        connection.want_flush()
        if self.sent_waiters is not None:
            self.sent_waiters = wake(self.sent_waiters)
        return 1

    cdef int send(self, bytes message) except -1:
        """One of a stream's, in state SENT."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(message)
        if 0 <= self.dispatcher.max_send_bytes < size:
            return self.refuse_size(size)
        if self.replay is not None:
            self.replay_bytes += size
            if self.replay_bytes > MAX_REPLAY_BYTES:
                self.replay = None
            else:
                self.replay.append(message)
        # What has ended takes nothing more, and its end is on its way.
        transmit(self.stream, packed(message, self.encoding))
        self.connection.want_flush()
        return 0

    cdef int refuse_size(self, Py_ssize_t size) except -1:
        self.abandon()
        return self.finish(
            RESOURCE_EXHAUSTED,
            f"Sent message larger than max ({size} vs. {self.dispatcher.max_send_bytes})",
        )

    cdef int half_close(self) except -1:
        if not self.half_closed:
            self.half_closed = True
            if self.state == SENT:
                stream_half_close(self.stream)
                self.connection.want_flush()
        return 0

    cdef bint has_room(self) noexcept:
        if self.stream.queued <= HIGH_WATER:
            return True
        self.stream.wants_writable = True
        return False

    # --- What became of it ---

    cdef int on_response(self) except -1:
        self.answered = True
        self.request = None
        self.replay = None
        if self.answer_waiters is not None:
            self.answer_waiters = wake(self.answer_waiters)
        return 0

    cdef int on_writable(self) except -1:
        self.write_waiters = wake(self.write_waiters)
        return 0

    cdef int on_ended(self, const Event *event) except -1:
        cdef unsigned int flags = self.stream.flags
        cdef int code
        cdef str details
        if (flags & UNSENT or (flags & UNPROCESSED and not self.retried)) and (
            self.request is not None or self.replay is not None
        ):
            self.retried = self.retried or not flags & UNSENT
            self.detach()
            self.state = WAITING
            self.write_waiters = wake(self.write_waiters)
            return self.dispatcher.route(self)
        details = ended_details(event, self.deadline_ns, self.connection.reason, &code)
        if event.why == BY_STATUS:
            return self.settle(code, details)
        return self.finish(code, details)

    cdef int settle(self, int code, str details) except -1:
        return self.finish(code, details)

    cdef int fail(self, int code, str details) except -1:
        return self.finish(code, details)

    cdef int close_down(self) except -1:
        return self.cancel_call(LOCALLY_CANCELLED)

    cdef int cancel_call(self, str details) except -1:
        if self.state != DONE:
            self.locally_cancelled = True
            self.abandon()
            self.finish(CANCELLED, details)
        return 0

    cdef int abandon(self) except -1:
        cdef StreamState *stream = self.stream
        if self.state == SENT and stream.session is not NULL and not stream.ended:
            stream.owner = NULL
            self.connection.give_up(stream)
        return 0

    cdef int detach(self) noexcept:
        cdef StreamState *stream = self.stream
        if stream is NULL:
            return 0
        self.stream = NULL
        return self.connection.release(stream)

    cdef int finish(self, int code, str details) except -1:
        if self.state == DONE:
            return 0
        self.state = DONE
        self.code_number = code
        self.details_text = details
        self.request = None
        self.replay = None
        self.stop_timer()
        self.dispatcher.leave(self)
        if self.kept:
            self.kept = False
            self.dispatcher.kept.discard(self)
        self.done_hook()
        self.wake_all()
        if self.callbacks is not None:
            callbacks, self.callbacks = self.callbacks, None
            for callback in callbacks:
                try:
                    callback(self)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as error:
                    self.loop().call_exception_handler(
                        {"message": "a gRPC call's done callback failed", "exception": error}
                    )
        return 0

    cdef int stop_timer(self) except -1:
        if self.timer is not None:
            self.timer.call = NULL
            self.dispatcher.timers.disarm(self.timer)
            self.timer = None
        return 0

    cdef int wake_all(self) except -1:
        if self.end_waiters is not None:
            self.end_waiters = wake(self.end_waiters)
        if self.answer_waiters is not None:
            self.answer_waiters = wake(self.answer_waiters)
        if self.sent_waiters is not None:
            self.sent_waiters = wake(self.sent_waiters)
        if self.write_waiters is not None:
            self.write_waiters = wake(self.write_waiters)
        return 0

    cdef int done_hook(self) except -1:
        return 0

    cdef object error(self):
        if self.locally_cancelled:
            return CancelledError()
        return AioRpcError(
            status_of(self.code_number), self.initial(), self.trailing(), self.details_text, self.debug_text()
        )

    cdef str debug_text(self):
        if self.locally_cancelled:
            return None
        if self.code_number == OK:
            return ""
        return f"{status_of(self.code_number).name}:{self.details_text}"

    cdef object initial(self):
        if self.stream is NULL or not self.answered:
            return _empty_metadata()
        return _metadata_from(metadata_of(&self.stream.metadata))

    cdef object trailing(self):
        if self.stream is NULL or self.locally_cancelled:
            return _empty_metadata()
        return _metadata_from(metadata_of(&self.stream.trailers))

    # --- For Python ---

    def _proceed(self, metadata):
        """Send a call that was held, with more metadata. Raises TypeError and ValueError that name a key."""
        if self.state == HELD:
            metadata_append(metadata, &self.fields)
            self.state = WAITING
            self.dispatcher.route(self)

    def _refuse(self, int code, str details not None):
        """End a call that was held."""
        if self.state == HELD:
            self.finish(code, details)

    def cancel(self):
        """Give the call up; False when it has ended already."""
        if self.state == DONE:
            return False
        self.cancel_call(LOCALLY_CANCELLED)
        return True

    def cancelled(self):
        return self.state == DONE and self.code_number == CANCELLED

    def done(self):
        return self.state == DONE

    def add_done_callback(self, callback):
        """Call `callback(call)` when it ends; at once when it has."""
        if self.state == DONE:
            callback(self)
        elif self.callbacks is None:
            self.callbacks = [callback]
        else:
            self.callbacks.append(callback)

    def was_answered(self):
        """Whether the server's initial metadata are here. Not of grpc.aio: for our own client."""
        return self.answered

    def was_sent(self):
        """Whether the last attempt may have left this process. Not of grpc.aio: for our own client."""
        return self.stream is not NULL

    def time_remaining(self):
        """The seconds until the deadline; None when there is none."""
        if self.deadline_ns == 0:
            return None
        return max(0.0, (self.deadline_ns - monotonic_ns()) / 1e9)

    async def initial_metadata(self):
        if not self.answered and self.state != DONE:
            waiter = self.loop().create_future()
            self.answer_waiters = with_waiter(self.answer_waiters, waiter)
            await waiter
        return self.initial()

    async def trailing_metadata(self):
        if self.state < ENDING:
            await self._end()
        return self.trailing()

    async def code(self):
        if self.state < ENDING:
            await self._end()
        return status_of(self.code_number)

    async def details(self):
        if self.state < ENDING:
            await self._end()
        return self.details_text

    async def debug_error_string(self):
        if self.state < ENDING:
            await self._end()
        return self.debug_text()

    async def wait_for_connection(self):
        """Wait until the call is on a connection. Raises AioRpcError when it failed before."""
        while self.state < SENT:
            waiter = self.loop().create_future()
            self.sent_waiters = with_waiter(self.sent_waiters, waiter)
            await waiter
        if self.state == DONE and self.code_number != OK:
            raise self.error()

    def _end(self):
        waiter = self.loop().create_future()
        self.end_waiters = with_waiter(self.end_waiters, waiter)
        return waiter

    def __repr__(self):
        if self.state != DONE:
            return f"<{type(self).__name__} of {self.method.decode()} under way>"
        return (
            f"<{type(self).__name__} of {self.method.decode()} that ended with "
            f"{status_of(self.code_number)}: {self.details_text!r}>"
        )


cdef object status_of(int code):
    return STATUS[code] if 0 <= code < len(STATUS) else StatusCode.UNKNOWN
