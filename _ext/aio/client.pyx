# cython: language_level=3
"""One connection of a client. Its listener, a Python object, is told three things, each at most once:

- `connection_ready(connection)`: the peer's settings came, calls can be started;
- `connection_draining(connection, too_many_pings)`: no more calls can be started; those there are go on;
- `connection_gone(connection, error)`: it is closed; every call has been told before.
"""

cimport cython
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.aio.client_session cimport (
    client_settings, goaway_reason, pings_too_many, queue_full, session_reason,
)
from tai_grpc._ext.aio.connection cimport Connection
from tai_grpc._ext.aio.timers cimport TimerEntry, timers_of
from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.http2.nghttp2 cimport NGHTTP2_CANCEL, NGHTTP2_NO_ERROR
from tai_grpc._ext.http2.session cimport (
    session_ping, session_request, session_streams, session_terminate, stream_release, stream_reset,
)
from tai_grpc._ext.http2.state cimport (
    BY_STATUS, ENDED, GOAWAY, MESSAGE, PONG, RESPONSE, SETTINGS, WRITABLE, Event, SessionSettings,
    StreamState,
)
from tai_grpc._ext.primitives.clock cimport monotonic_ns


@cython.no_gc_clear  # `connection` is wanted when it goes
cdef class StreamOwner:
    """What gets the events of a stream."""

    def __cinit__(self):
        self.stream = NULL

    cdef int on_response(self) except -1:
        return 0

    cdef int on_message(self, const char *data, size_t size, bint compressed) except -1:
        return 0

    cdef int on_writable(self) except -1:
        return 0

    cdef int on_ended(self, const Event *event) except -1:
        return 0


cdef class Keepalive(TimerEntry):
    """Pings after an interval without a sign of life; no sign within the timeout ends the connection."""

    cdef int begin(self, ClientConnection connection) except -1:
        self.connection = connection
        self.timers = timers_of(connection.loop)
        self.timers.arm(self, monotonic_ns() + self.interval_ns)
        return 0

    cdef int stop(self) except -1:
        if self.timers is not None:
            self.timers.disarm(self)
        self.connection = None
        return 0

    cdef int answered(self, uint64_t number) except -1:
        if self.waiting and number == self.number:
            self.waiting = False
            self.timers.arm(self, monotonic_ns() + self.interval_ns)
        return 0

    cdef int expired(self) except -1:
        cdef ClientConnection connection = self.connection
        cdef int64_t now = monotonic_ns()
        cdef int64_t due
        if connection is None or connection.ended:
            return 0
        if self.waiting and connection.last_read_ns <= self.pinged_ns:
            connection.abort(f"keepalive: the server answered no ping within {self.timeout_ns / 1e9:g} s")
            return 0
        self.waiting = False
        due = connection.last_read_ns + self.interval_ns
        if now >= due:
            due = now + self.interval_ns
            if self.without_calls or session_streams(connection.session) > 0:
                self.number += 1
                self.waiting = True
                self.pinged_ns = now
                session_ping(connection.session, self.number)
                connection.want_flush()
                due = now + self.timeout_ns
        self.timers.arm(self, due)
        return 0


cdef class ClientConnection(Connection):
    """The client's end of a connection, an asyncio.Protocol. Sizes are in bytes; 0: what the session takes by
    itself.
    """

    def __init__(
        self,
        loop,
        listener,
        bytes authority not None,
        bytes user_agent not None,
        *,
        bint secure=False,
        int64_t max_message_bytes=4 * 1024 * 1024,
        int64_t max_header_bytes=16 * 1024,
        int64_t window_bytes=0,
        int64_t max_unread_bytes=0,
        int64_t keepalive_ns=0,
        int64_t keepalive_timeout_ns=20_000_000_000,
        bint keepalive_without_calls=False,
    ):
        cdef SessionSettings settings = client_settings(
            max_message_bytes, max_header_bytes, window_bytes, max_unread_bytes
        )
        self.begin(loop, &settings)
        self.listener = listener
        self.authority = authority
        self.user_agent = user_agent
        self.secure = secure
        self.max_message_bytes = max_message_bytes
        self.thread = PyThread_get_thread_ident()
        self.reason = ""
        if keepalive_ns > 0:
            self.keepalive = Keepalive()
            self.keepalive.interval_ns = keepalive_ns
            self.keepalive.timeout_ns = keepalive_timeout_ns
            self.keepalive.without_calls = keepalive_without_calls

    @property
    def calls(self):
        """How many streams are open or wait to be."""
        return 0 if self.session is NULL else session_streams(self.session)

    def drain(self):
        """Start no more calls; close once those there are have ended."""
        self.draining = True
        self.close_when_idle()

    def abort(self, str reason not None):
        """Cut it off; every call of it ends with UNAVAILABLE and the reason."""
        self.draining = True
        if not self.reason:
            self.reason = reason
        if self.transport is not None:
            self.transport.abort()

    # --- For its calls ---

    cdef StreamState *start(
        self, StreamOwner owner, bytes method, int64_t timeout_ns, int encoding, const Buffer *metadata
    ) noexcept:
        if self.draining or self.ended:
            return NULL
        return session_request(
            self.session, method, len(method), self.authority, len(self.authority), self.secure, timeout_ns,
            encoding, self.user_agent, len(self.user_agent), metadata, <void *>owner,
        )

    cdef bint is_full(self) noexcept:
        return queue_full(self.session)

    cdef int give_up(self, StreamState *stream) except -1:
        stream_reset(stream, NGHTTP2_CANCEL)
        self.want_flush()
        if self.draining:
            self.close_when_idle()
        return 0

    cdef int let_go(self, StreamState *stream) noexcept:
        stream.owner = NULL
        if stream.session is NULL or stream.ended or stream.reset:
            return 0
        stream_reset(stream, NGHTTP2_CANCEL)
        if self.transport is not None:
            try:
                if PyThread_get_thread_ident() == self.thread:
                    self._flush_released()
                else:
                    self.loop.call_soon_threadsafe(self._flush_released)
            except (AttributeError, RuntimeError):
                pass  # the loop is closed, or garbage like the call and taken apart before it
        return 0

    cdef int release(self, StreamState *stream) noexcept:
        self.let_go(stream)
        stream_release(stream)
        return 0

    def _flush_released(self):
        self.want_flush()
        if self.draining:
            self.close_when_idle()

    # --- A connection's own ---

    cdef int dispatch(self, Event *event) except -1:
        cdef int kind = event.kind
        cdef StreamOwner owner
        if kind <= ENDED:
            if event.stream is NULL or event.stream.owner is NULL:
                return 0
            owner = <StreamOwner>event.stream.owner
            if kind == MESSAGE:
                owner.on_message(event.data, event.size, event.flag != 0)
            elif kind == ENDED:
                if event.why == BY_STATUS:
                    self.served = True
                if self.draining:
                    self.close_when_idle()
                owner.on_ended(event)
            elif kind == RESPONSE:
                self.served = True
                owner.on_response()
            elif kind == WRITABLE:
                owner.on_writable()
        elif kind == SETTINGS:
            if not self.ready:
                self.ready = True
                if self.keepalive is not None:
                    self.keepalive.begin(self)
                self.listener.connection_ready(self)
        elif kind == PONG:
            if self.keepalive is not None:
                self.keepalive.answered(event.number)
        elif kind == GOAWAY:
            self.heard_goaway(event)
        return 0

    cdef int heard_goaway(self, const Event *event) except -1:
        self.reason = goaway_reason(event, self.reason)
        if event.code == NGHTTP2_NO_ERROR:
            self.dismissed = True
        if not self.draining:
            self.draining = True
            self.listener.connection_draining(self, pings_too_many(event) != 0)
        self.close_when_idle()
        return 0

    cdef int close_when_idle(self) except -1:
        if not self.closing_soon and self.transport is not None:
            self.closing_soon = True
            self.loop.call_soon(self._close_if_idle)
        return 0

    def _close_if_idle(self):
        self.closing_soon = False
        if self.transport is not None and session_streams(self.session) == 0:
            session_terminate(self.session, NGHTTP2_NO_ERROR)
            self.end()

    def connection_lost(self, exc):
        self.reason = self.reason or session_reason(self.session)
        if not self.reason:
            self.reason = "the server closed it" if exc is None else str(exc) or type(exc).__name__
        self.draining = True
        Connection.connection_lost(self, exc)

    cdef int gone(self, object error) except -1:
        if self.keepalive is not None:
            self.keepalive.stop()
        self.listener.connection_gone(self, error)
        return 0
