# cython: language_level=3, cdivision=True
"""The server's end of a connection: requests to their methods, events to their calls, and its own times.

Each connection has one timer, which is set for the nearest of: the preface (or a header block that was begun)
must be complete; a ping is due, or its answer; the connection is too old, or has been idle for too long; and
after that, the times until which it waits for the client's word and may go on; streams are to be looked at,
whose client may take nothing of what is queued on them.
"""

from random import uniform

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF
from libc.stdint cimport INT64_MAX

from tai_grpc._ext.aio.context cimport ServicerContext
from tai_grpc._ext.aio.messages cimport received
from tai_grpc._ext.aio.served cimport ServedCall, described, peer_name
from tai_grpc._ext.http2.metadata cimport metadata_of
from tai_grpc._ext.http2.nghttp2 cimport NGHTTP2_CANCEL, NGHTTP2_NO_ERROR
from tai_grpc._ext.http2.session cimport (
    session_hurry, session_in_headers, session_lost, session_ping, session_shutdown, session_streams,
    session_terminate, stream_finish, stream_reset,
)
from tai_grpc._ext.http2.state cimport (
    CLOSED, FAILED, HALF_CLOSED, MESSAGE, NOTICE_SENT, PONG, REQUEST, SERVED, SETTINGS, WRITABLE,
)
from tai_grpc._ext.http2.status cimport RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNKNOWN
from tai_grpc._ext.primitives.clock cimport monotonic_ns

from tai_grpc._ext.aio.callstream import TOO_MUCH_QUEUED
from tai_grpc._ext.aio.served import LIMIT_EXCEEDED, METHOD_NOT_FOUND

cdef bytes _METHOD_NOT_FOUND = METHOD_NOT_FOUND.encode()
cdef bytes _LIMIT_EXCEEDED = LIMIT_EXCEEDED.encode()
cdef bytes _TOO_MUCH_QUEUED = TOO_MUCH_QUEUED.encode()

# How long a connection that is cut may take to send its last words, in seconds.
cdef double _LAST_WORDS = 1.0
# How long a drain waits for a client's word that it heard of it: with calls under way, for whose answers the
# client reads, and without, where it may well read nothing.
cdef int64_t _DRAIN_NS = 20_000_000_000
cdef int64_t _IDLE_DRAIN_NS = 500_000_000
# The part by which the age at which connections are closed differs: not all clients come back at once.
cdef double _AGE_JITTER = 0.1


cdef class ConnectionTimer(TimerEntry):
    """The one timer of a connection."""

    cdef int expired(self) except -1:
        return self.connection.check_times()


cdef class ServerConnection(Connection):
    """One client's connection: the asyncio.Protocol that the loop's server makes for each."""

    def __init__(self, Service service not None):
        self.service = service
        self.stall_timeout = service.stall_timeout
        self.begin(service.loop, &service.session)

    # --- What Connection asks for ---

    cdef int opened(self) except -1:
        cdef Service service = self.service
        cdef int64_t now_ns
        ssl_object = self.transport.get_extra_info("ssl_object")
        if (
            service.draining
            or len(service.connections) >= service.max_connections
            or (ssl_object is not None and ssl_object.selected_alpn_protocol() != "h2")
        ):
            self.paused = True  # there is nothing to say
            self.transport.abort()
            return 0
        now_ns = self.last_read_ns = monotonic_ns()
        self.setup_due_ns = now_ns + service.handshake_ns if service.handshake_ns >= 0 else -1
        self.pong_due_ns = self.cut_due_ns = self.age_due_ns = self.sweep_due_ns = -1
        self.idle_since_ns = now_ns
        if service.max_age_ns >= 0:
            self.age_due_ns = now_ns + <int64_t>(
                service.max_age_ns * <double>uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)
            )
        self.peer = Peer.__new__(Peer)
        self.peer.service = service
        # The text now: it takes less memory than the address, which nothing else has.
        self.peer.name = peer_name(self.transport.get_extra_info("peername"))
        self.peer.ssl_object = ssl_object
        service.connections.add(self)
        self.timer = ConnectionTimer.__new__(ConnectionTimer)
        self.timer.connection = self
        self._set_timer(now_ns)
        return 0

    cdef int gone(self, object error) except -1:
        if self.timer is not None:
            self.service.timers.disarm(self.timer)
            self.timer.connection = None
            self.timer = None
        if self in self.service.connections:
            self.service.connections.remove(self)
            if self.service.draining:
                self.service.check_idle()
        return 0

    cdef int dispatch(self, Event *event) except -1:
        cdef StreamState *stream = event.stream
        cdef int kind = event.kind
        cdef ServedCall call = None
        if stream is not NULL and stream.owner is not NULL:
            call = <ServedCall>stream.owner
        if kind == MESSAGE:
            if call is not None:
                call.one_message(received(event.data, event.size, event.flag != 0))
        elif kind == HALF_CLOSED:
            if call is not None:
                call.half_closed()
        elif kind == REQUEST:
            self.request(stream)
        elif kind == CLOSED:
            self.stream_gone(stream)
        elif kind == WRITABLE:
            if call is not None:
                call.wake_writers()
        elif kind == FAILED:
            if call is not None:
                call.fail(event.code, event.data[: event.size].decode("utf-8", "replace"))
            else:
                stream_finish(stream, event.code, event.data, event.size, NULL)
        elif kind == PONG:
            if event.number == self.ping_number and self.timer is not None:
                self.pong_due_ns = -1
                self._set_timer(self.last_read_ns)
        elif kind == SETTINGS:
            if self.setup_due_ns >= 0 and not session_in_headers(self.session):
                self.setup_due_ns = -1
        elif kind == SERVED:
            # Not from within: ending sends, which brings events of its own.
            self.loop.call_soon(self._end)
        return 0

    cdef int heard(self) except -1:
        if session_in_headers(self.session):
            if self.setup_due_ns < 0 and self.service.handshake_ns >= 0:
                self.setup_due_ns = self.last_read_ns + self.service.handshake_ns
                self._set_timer(self.last_read_ns)
        elif self.session.settled:
            self.setup_due_ns = -1
        return 0

    cdef int flush(self) except -1:
        Connection.flush(self)
        if self.sweep_due_ns < 0 and self.timer is not None and self.session.queued != 0:
            self.sweep_due_ns = monotonic_ns() + self.service.sweep_ns
            self._set_timer(self.last_read_ns)
        return 0

    # --- Streams ---

    cdef int request(self, StreamState *stream) except -1:
        cdef Service service = self.service
        cdef Method method = None
        cdef ServedCall call
        self.idle_since_ns = -1
        if stream.session is NULL:
            return 0  # reset in the same read as it came: no handler is begun for nothing (CVE-2023-44487)
        if self.session.queued >= service.max_queued_bytes:
            return self.refuse(stream, RESOURCE_EXHAUSTED, _TOO_MUCH_QUEUED)
        if service.intercept is None:
            path = PyBytes_FromStringAndSize(stream.path.data, stream.path.size)
            method = service.method_of(path)
            if method is None:
                try:
                    method = self.resolved(path, stream)
                except Exception as error:
                    return self.refuse(stream, UNKNOWN, described(error).encode("utf-8", "replace"))
                if method is None:
                    return self.refuse(stream, UNIMPLEMENTED, _METHOD_NOT_FOUND)
            if 0 <= service.max_calls <= service.admitted:
                return self.refuse(stream, RESOURCE_EXHAUSTED, _LIMIT_EXCEEDED)
        call = ServicerContext.__new__(ServicerContext)
        return call.accept(stream, self, service, self.peer, method, self.last_read_ns)

    cdef Method resolved(self, bytes path, StreamState *stream):
        """Ask those who know methods that are in no dictionary."""
        cdef Service service = self.service
        if service.resolve is None:
            return None
        metadata = metadata_of(&stream.metadata)
        name = path.decode("latin-1")
        try:
            method, for_good = service.resolve(name, metadata)
        except Exception as error:
            service.report("A generic handler failed", error, name, metadata, self.peer.name)
            raise
        if for_good:
            service.methods[path] = method
        return method

    cdef int refuse(self, StreamState *stream, int code, bytes text) except -1:
        stream_finish(stream, code, text, len(text), NULL)
        return 0

    cdef int stream_gone(self, StreamState *stream) except -1:
        if session_streams(self.session) == 0:
            self.idle_since_ns = self.last_read_ns
            if (self.service.max_idle_ns >= 0 or self.draining) and self.timer is not None:
                self._set_timer(self.last_read_ns)
        if stream.owner is NULL:
            return 0
        cdef ServedCall call = <ServedCall>stream.owner
        stream.owner = NULL
        Py_DECREF(call)  # what `take_on` took
        return call.stream_closed()

    # --- The end ---

    def drain(self):
        """Take no new calls, and close once those that run have ended."""
        if not self.draining and self.transport is not None:
            self.draining = True
            self.drained_ns = monotonic_ns()
            session_shutdown(self.session)
            self._set_timer(self.drained_ns)
            self.want_flush()

    def cut(self):
        """Close, and cancel the calls that run."""
        if self.transport is None:
            return
        session_terminate(self.session, NGHTTP2_NO_ERROR)
        self.end()
        session_lost(self.session)
        self.drain_events()
        self.loop.call_later(_LAST_WORDS, self._abort)

    def _end(self):
        if self.transport is not None:
            self.end()

    def _abort(self):
        if self.transport is not None:
            self.transport.abort()

    # --- The times ---

    cdef int64_t next_check(self, int64_t now_ns) noexcept:
        """When something is due next, INT64_MAX: never."""
        cdef Service service = self.service
        cdef int64_t due_ns = INT64_MAX
        if self.setup_due_ns >= 0:
            due_ns = min(due_ns, self.setup_due_ns)
        if self.pong_due_ns >= 0:
            due_ns = min(due_ns, self.pong_due_ns)
        elif service.keepalive_ns >= 0:
            due_ns = min(due_ns, self.last_read_ns + service.keepalive_ns)
        if self.sweep_due_ns >= 0:
            due_ns = min(due_ns, self.sweep_due_ns)
        if self.hurry_due_ns() >= 0:
            due_ns = min(due_ns, self.hurry_due_ns())
        if self.cut_due_ns >= 0:
            due_ns = min(due_ns, self.cut_due_ns)
        elif self.age_due_ns >= 0 and not self.draining:
            due_ns = min(due_ns, self.age_due_ns)
        if service.max_idle_ns >= 0 and self.idle_since_ns >= 0 and not self.draining:
            due_ns = min(due_ns, self.idle_since_ns + service.max_idle_ns)
        # A ping that is not sent because nothing is called is looked at again later, not at once.
        return max(due_ns, now_ns + 1_000_000)

    cdef int64_t hurry_due_ns(self) noexcept:
        if not self.draining or self.session.drain != NOTICE_SENT or self.session.over:
            return -1
        return self.drained_ns + (_IDLE_DRAIN_NS if session_streams(self.session) == 0 else _DRAIN_NS)

    cdef int _set_timer(self, int64_t now_ns) except -1:
        cdef int64_t due_ns = self.next_check(now_ns)
        if due_ns == INT64_MAX:
            self.service.timers.disarm(self.timer)
        else:
            self.service.timers.arm(self.timer, due_ns)
        return 0

    cdef int check_times(self) except -1:
        cdef Service service = self.service
        cdef int64_t now_ns = monotonic_ns()
        cdef bint idle = False
        if self.transport is None:
            return 0
        if 0 <= self.setup_due_ns <= now_ns or 0 <= self.pong_due_ns <= now_ns:
            self.transport.abort()
            return 0
        if 0 <= self.cut_due_ns <= now_ns:
            self.cut_due_ns = -1
            self.cut()
            return 0
        if service.max_idle_ns >= 0 <= self.idle_since_ns:
            idle = now_ns - self.idle_since_ns >= service.max_idle_ns
        if not self.draining and (idle or 0 <= self.age_due_ns <= now_ns):
            self.drain()
            if service.max_age_grace_ns >= 0:
                self.cut_due_ns = now_ns + service.max_age_grace_ns
        if 0 <= self.hurry_due_ns() <= now_ns:
            session_hurry(self.session)
            self.flush()
        if 0 <= self.sweep_due_ns <= now_ns:
            self.sweep(now_ns)
        if (
            service.keepalive_ns >= 0 > self.pong_due_ns
            and now_ns - self.last_read_ns >= service.keepalive_ns
        ):
            self._send_ping(now_ns)
        return self._set_timer(now_ns)

    cdef int sweep(self, int64_t now_ns) except -1:
        """Give up the streams of which the client has taken nothing for too long, and those whose handler has
        ended and whose deadline, the client's own, has passed.
        """
        cdef int64_t limit_ns = self.service.stream_stall_ns
        cdef StreamState *stream = self.session.streams
        cdef ServicerContext call
        cdef bint useless
        self.sweep_due_ns = -1
        if self.session.queued == 0:
            return 0
        while stream is not NULL:
            if stream.queued != 0:
                if stream.moved or stream.stuck_since_ns == 0:
                    stream.moved = False
                    stream.stuck_since_ns = now_ns
                useless = 0 <= limit_ns <= now_ns - stream.stuck_since_ns
                if stream.owner is not NULL:
                    call = <ServicerContext>stream.owner
                    useless = useless or (call.limit_ns == 0 < call.deadline_ns <= now_ns)
                if useless:
                    stream_reset(stream, NGHTTP2_CANCEL)
            stream = stream.next
        self.sweep_due_ns = now_ns + self.service.sweep_ns
        return self.want_flush()

    cdef int _send_ping(self, int64_t now_ns) except -1:
        if not self.service.keepalive_without_calls and session_streams(self.session) == 0:
            self.last_read_ns = now_ns  # as if it had answered
            return 0
        self.ping_number += 1
        session_ping(self.session, self.ping_number)
        if self.service.keepalive_timeout_ns >= 0:
            self.pong_due_ns = now_ns + self.service.keepalive_timeout_ns
        else:
            self.last_read_ns = now_ns
        return self.want_flush()
