# cython: language_level=3
"""A server's methods, limits, counts and callbacks, as its connections need them.

A method is looked up by the bytes of its path, in one dictionary. A path that is not in it is put to
`resolve`, which may say that the answer holds for good: only then is it kept, so nothing that a peer makes up
is.
"""

from tai_grpc._ext.aio.timers cimport timers_of
from tai_grpc._ext.http2.session cimport session_defaults
from tai_grpc._ext.http2.state cimport SERVER

# How often a connection whose client does not take all at once is looked at, at least.
cdef int64_t _SWEEP_NS = 1_000_000_000


cdef inline int64_t _ns(object seconds) except? -2:
    """Seconds as nanoseconds; -1 for None and for what is longer than a century."""
    if seconds is None or seconds > 3e9:
        return -1
    return <int64_t>(<double>seconds * 1e9)


cdef class Method:
    """How to serve one method. `behaviour` is a function of the request (or the iterator of requests) and the
    context: a coroutine function or, where it `generates` a stream of responses, an async generator function.
    """

    def __cinit__(
        self, str path, object source, object behaviour, object deserialize, object serialize,
        bint request_streams, bint response_streams, bint generates,
    ):
        self.path = path
        self.source = source
        self.behaviour = behaviour
        self.deserialize = deserialize
        self.serialize = serialize
        self.request_streams = request_streams
        self.response_streams = response_streams
        self.generates = generates


cdef class Service:
    """The state that a server's connections share.

    `resolve(path, metadata)` gives (Method or None, whether that holds for good); `intercept(path,
    metadata)`, unless it is None, a coroutine that gives the Method or None, for each call anew.
    `report(message, error, path, metadata, peer)` is told of what handlers did wrong,
    `describe_peer(ssl_object)` gives the authentication context of a TLS connection. Durations are seconds,
    None: never.
    """

    def __cinit__(
        self, object loop, dict methods, object resolve, object intercept, object report,
        object describe_peer, *, int encoding, int64_t max_send_bytes, object max_calls,
        int64_t max_connections, object handshake_timeout, object keepalive_time, object keepalive_timeout,
        bint keepalive_without_calls, object max_age, object max_age_grace, object max_idle,
        object max_timeout, object max_stream_timeout, object stall_timeout, object stream_stall_timeout,
        int64_t max_queued_bytes, dict session,
    ):
        self.loop = loop
        self.timers = timers_of(loop)
        self.methods = methods
        self.resolve = resolve
        self.intercept = intercept
        self.report = report
        self.describe_peer = describe_peer
        self.encoding = encoding
        self.max_send_bytes = max_send_bytes
        self.max_calls = -1 if max_calls is None else max_calls
        self.max_connections = max_connections
        self.handshake_ns = _ns(handshake_timeout)
        self.keepalive_ns = _ns(keepalive_time)
        self.keepalive_timeout_ns = _ns(keepalive_timeout)
        self.keepalive_without_calls = keepalive_without_calls
        self.max_age_ns = _ns(max_age)
        self.max_age_grace_ns = _ns(max_age_grace)
        self.max_idle_ns = _ns(max_idle)
        self.max_timeout_ns = _ns(max_timeout)
        self.max_stream_timeout_ns = _ns(max_stream_timeout)
        self.stall_timeout = 0.0 if stall_timeout is None else stall_timeout
        self.stream_stall_ns = _ns(stream_stall_timeout)
        self.sweep_ns = _SWEEP_NS if self.stream_stall_ns < 0 else min(_SWEEP_NS, self.stream_stall_ns // 4)
        self.max_queued_bytes = max_queued_bytes
        self.connections = set()
        self.session = session_defaults(SERVER)
        cdef dict left = dict(session)
        cdef SessionSettings *own = &self.session
        own.max_streams = left.pop("max_streams", own.max_streams)
        own.window_bytes = left.pop("window_bytes", own.window_bytes)
        own.max_header_bytes = left.pop("max_header_bytes", own.max_header_bytes)
        own.max_message_bytes = left.pop("max_message_bytes", own.max_message_bytes)
        own.max_buffered_bytes = left.pop("max_buffered_bytes", own.max_buffered_bytes)
        own.min_ping_interval_ns = left.pop("min_ping_interval_ns", own.min_ping_interval_ns)
        own.max_ping_strikes = left.pop("max_ping_strikes", own.max_ping_strikes)
        own.reset_burst = left.pop("reset_burst", own.reset_burst)
        own.reset_rate = left.pop("reset_rate", own.reset_rate)
        if left:
            raise TypeError(f"unknown settings of a session: {', '.join(left)}")

    cdef Method method_of(self, bytes path):
        found = self.methods.get(path)
        return found

    cdef int call_ended(self) except -1:
        self.calls -= 1
        if self.draining:
            self.check_idle()
        return 0

    cdef int check_idle(self) except -1:
        if self.calls == 0 and not self.connections and self.idle is not None and not self.idle.done():
            self.idle.set_result(None)
        return 0

    def drain(self):
        """Take no new connection and no new call; return a future that is done once nothing is left."""
        self.draining = True
        if self.idle is None:
            self.idle = self.loop.create_future()
            for connection in list(self.connections):
                connection.drain()
            self.check_idle()
        return self.idle

    def cut(self):
        """Close every connection, which cancels the handlers that run."""
        for connection in list(self.connections):
            connection.cut()
