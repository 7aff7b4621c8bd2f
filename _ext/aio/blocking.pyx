# cython: language_level=3
"""One connection of a client for any number of threads, without an event loop or a thread of its own.

The threads that wait share it (sharing.pyx): the one that leads reads, for all. What a thread sends it writes
by itself, as far as the socket takes it; what is left goes with the leader's turn.

Nothing is called under the lock that a caller could have written: messages are bytes here, and a stream that
is collected meanwhile is only put on a list.

While nobody waits, nothing is read, and no ping is sent or answered: keepalive is looked at when a call
waits. A server that pings an idle client, and gets no answer, may end the connection; what came meanwhile,
and that the connection ended, is read before the next call begins, which then goes to a new one.

After a fork the child has copies of the descriptors and must not use them: it calls `forget`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport strerror
from posix.unistd cimport close

from tai_grpc._ext.aio.client_session cimport (
    client_settings, goaway_reason, pings_too_many, queue_full, session_reason,
)
from tai_grpc._ext.aio.sharing cimport POLLIN, POLLOUT, Awaited, Shared
from tai_grpc._ext.http2.buffers cimport Buffer, buffer_append, buffer_free
from tai_grpc._ext.http2.nghttp2 cimport NGHTTP2_CANCEL, NGHTTP2_NO_ERROR
from tai_grpc._ext.http2.session cimport (
    session_free, session_lost, session_new, session_next_event, session_output, session_ping,
    session_receive, session_request, session_streams, session_terminate, stream_release, stream_reset,
)
from tai_grpc._ext.http2.state cimport (
    BY_STATUS, ENDED, GOAWAY, MESSAGE, PONG, RESPONSE, SETTINGS, WRITABLE, Event, SessionSettings,
    StreamState,
)
from tai_grpc._ext.primitives.clock cimport monotonic_ns

import ssl

cdef extern from "sys/socket.h" nogil:
    ssize_t recv(int descriptor, void *data, size_t size, int flags)
    ssize_t send(int descriptor, const void *data, size_t size, int flags)
    const int MSG_DONTWAIT
    const int MSG_NOSIGNAL

cdef enum:
    READ_BYTES = 65536
    WRITE_BYTES = 262144
    MAX_CATCH_UP = 64  # reads

cdef object _want_read = ssl.SSLWantReadError
cdef object _tls_errors = (ssl.SSLError, ValueError)


@cython.no_gc_clear  # its connection is wanted when it goes
cdef class BlockingOwner(Awaited):
    """What gets the events of a stream, and is waited for."""

    def __cinit__(self):
        self.stream = NULL

    def __dealloc__(self):
        if self.stream is not NULL:
            self.connection.bury(self.stream)

    cdef int on_response(self) except -1:
        return 0

    cdef int on_message(self, const char *data, size_t size, bint compressed) except -1:
        return 0

    cdef int on_ended(self, const Event *event) except -1:
        return 0

    cdef int give_up(self) except -1:
        return 0


@cython.no_gc_clear  # the descriptor and the session are wanted when it goes
cdef class BlockingConnection(Shared):
    """The client's end of a connection that is connected: `sock` is given away. Sizes are in bytes; 0: what
    the session takes by itself.

    `tls`: None, or an `ssl.SSLObject` after its handshake and the `MemoryBIO`s that it reads and writes.
    """

    def __cinit__(self):
        self.descriptor = -1
        self.received = <char *>malloc(READ_BYTES)
        if self.received is NULL:
            raise MemoryError

    def __init__(
        self,
        sock,
        bytes authority not None,
        bytes user_agent not None,
        *,
        tls=None,
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
        if self.session is not NULL:
            raise RuntimeError("a BlockingConnection is made once")
        self.session = session_new(&settings)
        if self.session is NULL:
            raise MemoryError
        self.abandoned = []
        self.authority = authority
        self.user_agent = user_agent
        self.max_message_bytes = max_message_bytes
        self.keepalive_ns = keepalive_ns
        self.keepalive_timeout_ns = keepalive_timeout_ns
        self.keepalive_without_calls = keepalive_without_calls
        self.reason = ""
        self.last_read_ns = monotonic_ns()
        if tls is not None:
            self.tls, self.tls_in, self.tls_out = tls
            self.secure = True
        self.open_pipe()
        sock.setblocking(False)
        self.descriptor = sock.detach()

    def __dealloc__(self):
        session_free(self.session)
        while self.grave_count != 0:
            self.grave_count -= 1
            stream_release(self.graves[self.grave_count])
        free(<void *>self.graves)
        free(self.received)
        buffer_free(&self.clear)
        buffer_free(&self.output)
        self.close_descriptor()

    # --- For Python ---

    @property
    def calls(self):
        """How many streams are open or wait to be."""
        return session_streams(self.session)

    def wait_ready(self, int64_t deadline_ns):
        """Wait until calls can be started; False when that will not be, or not until the deadline (of the
        primitives' clock, 0: none).
        """
        self.take_lock()
        try:
            self.flush()
            if self.tls is not None:
                self.decrypt()  # what came with the end of the handshake
            self.wait(self, 0, deadline_ns)
        finally:
            self.leave_lock()
        return self.ready and not self.draining

    def is_full(self):
        """Whether as many calls wait for their turn as may."""
        return queue_full(self.session)

    def drain(self):
        """Start no more calls; close once those there are have ended."""
        self.take_lock()
        try:
            self.draining = True
            self.close_if_idle()
        finally:
            self.leave_lock()

    def close(self, str why not None):
        """End every call with CANCELLED and `why`, tell the server, and disconnect. From any thread."""
        self.take_lock()
        try:
            if self.over:
                return
            self.closed_here = True
            self.reason = why
            session_terminate(self.session, NGHTTP2_NO_ERROR)
            self.flush()
            self.lose(why)
        finally:
            self.leave_lock()

    def abort(self, str why not None):
        """Cut it off; every call ends with UNAVAILABLE and `why`."""
        self.take_lock()
        try:
            self.lose(why)
        finally:
            self.leave_lock()

    def forget(self):
        """In the child of a fork: let go of the parent's connection without touching it."""
        self.begin_anew()
        self.tls = None
        self.close_descriptor()
        self.take_lock()
        try:
            self.lose("the process was forked")
        finally:
            self.leave_lock()

    # --- For its calls: with the lock ---

    cdef int request(
        self, BlockingOwner owner, bytes method, int64_t timeout_ns, int encoding, const Buffer *metadata
    ) except -1:
        if not self.led and not self.reading:
            self.catch_up()
        if self.draining or self.over:
            return 0
        self.reserve_grave()
        owner.stream = session_request(
            self.session, PyBytes_AS_STRING(method), PyBytes_GET_SIZE(method),
            PyBytes_AS_STRING(self.authority), PyBytes_GET_SIZE(self.authority), self.secure, timeout_ns,
            encoding, PyBytes_AS_STRING(self.user_agent), PyBytes_GET_SIZE(self.user_agent), metadata,
            <void *>owner,
        )
        if owner.stream is NULL:
            self.draining = True
            return 0
        self.owned_streams += 1
        return 1

    # --- What Shared asks for: with the lock ---

    cdef bint is_so(self, int wanted) noexcept:
        """Whether calls can be started, or never will be."""
        return self.ready or self.over

    cdef int lead(self, Awaited awaited, int64_t deadline_ns) except -1:
        cdef int64_t due_ns = self.keep_alive(monotonic_ns())
        cdef int64_t until_ns = deadline_ns if due_ns == 0 or 0 < deadline_ns < due_ns else due_ns
        cdef short events = POLLIN
        cdef int failure
        if self.over:
            return 0
        if self.output_sent < self.output.size:
            events |= POLLOUT
        try:
            failure = self.poll_for(awaited, self.descriptor, &events, until_ns)
        finally:
            if self.over:
                self.close_descriptor()  # which `lose` left to this thread, as it was polling
        if self.over:
            return 0
        if failure != 0:
            return self.lose(strerror(failure).decode("utf-8", "replace"))
        if events & ~POLLOUT:
            self.receive()
        elif self.pinging and due_ns != 0 and monotonic_ns() >= due_ns:
            return self.lose(
                f"keepalive: the server answered no ping within {self.keepalive_timeout_ns / 1e9:g} s"
            )
        return self.flush()

    cdef int64_t keep_alive(self, int64_t now) except -1:
        """Ping a silent server; return when to look again, 0: never."""
        if self.keepalive_ns == 0:
            return 0
        if self.pinging and self.last_read_ns > self.pinged_ns:
            self.pinging = False
        if not self.pinging:
            if now < self.last_read_ns + self.keepalive_ns:
                return self.last_read_ns + self.keepalive_ns
            if not self.keepalive_without_calls and session_streams(self.session) == 0:
                return now + self.keepalive_ns
            self.ping_number += 1
            self.pinging = True
            self.pinged_ns = now
            session_ping(self.session, self.ping_number)
            self.flush()
        return self.pinged_ns + self.keepalive_timeout_ns

    # --- In and out: with the lock ---

    cdef int catch_up(self) except -1:
        """Nobody reads: take what came since somebody did."""
        cdef int turns = MAX_CATCH_UP
        while not self.over and turns > 0 and self.receive():
            turns -= 1
        return self.close_if_idle()

    cdef int receive(self) except -1:
        """What there is, without waiting. 0: nothing, or the connection's end."""
        cdef ssize_t size = recv(self.descriptor, self.received, READ_BYTES, MSG_DONTWAIT)
        cdef int failure = errno
        if size < 0:
            if failure != EAGAIN and failure != EINTR:
                self.lose(strerror(failure).decode("utf-8", "replace"))
            return 0
        if size == 0:
            return self.lose("the server closed it")
        self.last_read_ns = monotonic_ns()
        if self.tls is None:
            self.take(self.received, size)
        else:
            self.tls_in.write(PyBytes_FromStringAndSize(self.received, size))
            self.decrypt()
        return 1

    cdef int decrypt(self) except -1:
        try:
            while not self.over:
                data = self.tls.read(READ_BYTES)
                if not data:
                    return self.lose("the server closed it")
                self.take(PyBytes_AS_STRING(<bytes?>data), PyBytes_GET_SIZE(<bytes?>data))
        except _want_read:
            return 0
        except _tls_errors as error:
            return self.lose(f"TLS: {error}")
        return 0

    cdef int take(self, const char *data, size_t size) except -1:
        cdef int over = session_receive(self.session, data, size)
        self.reading = True
        try:
            self.drain_events()
            if over != 0:
                self.flush()
                self.lose("")
        finally:
            self.reading = False
        return 0

    cdef int drain_events(self) except -1:
        cdef Event *event
        cdef BlockingOwner owner
        while True:
            event = session_next_event(self.session)
            if event is NULL:
                return 0
            if event.kind <= ENDED:
                if event.stream is NULL or event.stream.owner is NULL:
                    continue
                owner = <BlockingOwner>event.stream.owner
                if event.kind == MESSAGE:
                    owner.on_message(event.data, event.size, event.flag != 0)
                elif event.kind == ENDED:
                    if event.why == BY_STATUS:
                        self.served = True
                    owner.on_ended(event)
                elif event.kind == RESPONSE:
                    self.served = True
                    owner.on_response()
                elif event.kind != WRITABLE:
                    continue
                self.wake(owner)
            elif event.kind == SETTINGS:
                self.ready = True
                self.wake(self)
            elif event.kind == PONG:
                self.pinging = False
            elif event.kind == GOAWAY:
                self.heard_goaway(event)

    cdef int heard_goaway(self, const Event *event) except -1:
        self.reason = goaway_reason(event, self.reason)
        self.dismissed = self.dismissed or event.code == NGHTTP2_NO_ERROR
        self.too_many_pings = self.too_many_pings or pings_too_many(event)
        self.draining = True
        return 0

    cdef int flush(self) except -1:
        """Send what there is, as far as the socket takes it; the leader's poll sees to the rest."""
        cdef int more = 1
        cdef ssize_t sent
        cdef int failure
        while not self.over:
            if self.output_sent == self.output.size:
                if more != 1:
                    break
                self.output.size = self.output_sent = 0
                if self.output.capacity > 2 * WRITE_BYTES:
                    buffer_free(&self.output)
                if self.tls is None:
                    more = session_output(self.session, &self.output, WRITE_BYTES)
                else:
                    more = session_output(self.session, &self.clear, WRITE_BYTES)
                    self.encrypt()
                self.drain_events()
                if self.output.size == 0:
                    break
            sent = send(
                self.descriptor, self.output.data + self.output_sent, self.output.size - self.output_sent,
                MSG_DONTWAIT | MSG_NOSIGNAL,
            )
            failure = errno
            if sent >= 0:
                self.output_sent += sent
            elif failure == EAGAIN:
                self.poke()
                return 0
            elif failure != EINTR:
                if not self.reading:
                    self.receive()  # what the server has sent before says more of why
                self.lose(strerror(failure).decode("utf-8", "replace"))
        if more == -1 and not self.over:
            return self.lose("")
        return self.close_if_idle() if self.draining and not self.over else 0

    cdef int encrypt(self) except -1:
        cdef bytes data
        if self.clear.size == 0:
            return 0
        try:
            self.tls.write(PyBytes_FromStringAndSize(self.clear.data, self.clear.size))
            data = self.tls_out.read()
        except _tls_errors as error:
            return self.lose(f"TLS: {error}")
        finally:
            self.clear.size = 0
        if buffer_append(&self.output, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)) != 0:
            raise MemoryError
        return 0

    cdef int lose(self, str why) except -1:
        """It is over: every call is told."""
        if self.over:
            return 0
        self.reason = self.reason or session_reason(self.session) or why or "it ended"
        self.draining = self.over = True
        session_lost(self.session)
        self.drain_events()
        self.wake(self)
        if self.led:
            self.poke()
        else:
            self.close_descriptor()
        return 0

    cdef int close_descriptor(self) noexcept:
        if self.descriptor >= 0:
            close(self.descriptor)
            self.descriptor = -1
            self.close_pipe()
        return 0

    cdef int close_if_idle(self) except -1:
        if self.draining and not self.over and session_streams(self.session) == 0:
            session_terminate(self.session, NGHTTP2_NO_ERROR)
            self.draining = False  # so that the last words are not taken for a reason to close anew
            self.flush()
            self.draining = True
            self.lose("")
        return 0

    # --- Streams that nobody holds ---

    cdef int reserve_grave(self) except -1:
        """There is a place for every stream, so that `bury` needs no memory."""
        cdef size_t room = max(self.grave_room * 2, <size_t>16)
        cdef StreamState **graves
        if self.owned_streams < self.grave_room:
            return 0
        graves = <StreamState **>realloc(<void *>self.graves, room * sizeof(StreamState *))
        if graves is NULL:
            raise MemoryError
        self.graves = graves
        self.grave_room = room
        return 0

    cdef int bury(self, StreamState *stream) noexcept:
        """From a finalizer, in a thread that may hold the lock or not."""
        stream.owner = NULL
        self.graves[self.grave_count] = stream
        self.grave_count += 1
        self.settle_soon()
        return 0

    cdef int settle(self) except -1:
        while self.grave_count != 0 or PyList_GET_SIZE(self.abandoned) != 0:
            self.exhume()
        return 0

    cdef int exhume(self) except -1:
        cdef StreamState *stream
        cdef bint given_up = False
        while PyList_GET_SIZE(self.abandoned) != 0:
            (<BlockingOwner>self.abandoned.pop()).give_up()
            given_up = True
        while self.grave_count != 0:
            self.grave_count -= 1
            self.owned_streams -= 1
            stream = self.graves[self.grave_count]
            if stream.session is not NULL and not stream.ended and not stream.reset:
                stream_reset(stream, NGHTTP2_CANCEL)
                given_up = True
            stream_release(stream)
        if given_up:
            self.flush()
        return 0
