# cython: language_level=3
"""One connection of a client for any number of threads, without an event loop or a thread of its own.

Whoever waits first leads: it polls the socket, reads for all, and wakes those whose calls it heard of. They
follow: each waits on a lock of its own. When the leader's own call has what it waits for, it wakes another
one that waits, which leads from there on. What a thread sends it writes by itself, as far as the socket takes
it; what is left goes with the leader's poll, which is woken through a pipe.

The lock is held but for the polls. Nothing is called under it that a caller could have written: messages are
bytes here, and what is collected meanwhile only puts its stream on a list.

While nobody waits, nothing is read, and no ping is sent or answered: keepalive is looked at when a call
waits. A server that pings an idle client, and gets no answer, may end the connection; the next call finds
that out and goes to a new one.

After a fork the child has copies of the descriptors and must not use them: it calls `forget`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_SIZE
from cpython.pythread cimport (
    NOWAIT_LOCK, PY_LOCK_INTR, WAIT_LOCK, PyLockStatus, PyThread_acquire_lock, PyThread_allocate_lock,
    PyThread_free_lock, PyThread_get_thread_ident, PyThread_release_lock, PyThread_type_lock,
)
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport strerror
from posix.unistd cimport close, read, write

from tai_grpc._ext.aio.compression cimport decompressed
from tai_grpc._ext.aio.messages cimport MessageQueue, Packed, data_of, packed, received, transmit
from tai_grpc._ext.http2.buffers cimport Buffer, buffer_append, buffer_free
from tai_grpc._ext.http2.metadata cimport http2_error_name, message_text, metadata_append, metadata_of
from tai_grpc._ext.http2.nghttp2 cimport NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_NO_ERROR
from tai_grpc._ext.http2.session cimport (
    session_defaults, session_free, session_lost, session_max_streams, session_new, session_next_event,
    session_output, session_ping, session_problem, session_receive, session_request, session_streams,
    session_terminate, stream_half_close, stream_message_read, stream_release, stream_reset,
)
from tai_grpc._ext.http2.state cimport (
    BY_CONNECTION, BY_HTTP_STATUS, BY_RESET, BY_STATUS, CLIENT, ENDED, GOAWAY, HIGH_WATER, MESSAGE,
    PONG, RESPONSE, SETTINGS, UNPROCESSED, UNSENT, WRITABLE, Event, SessionSettings, StreamState,
)
from tai_grpc._ext.primitives.clock cimport monotonic_ns

import socket
import ssl

from tai_grpc._ext.aio.compression import TooLargeError

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *descriptors, unsigned long count, int timeout_ms)
    const short POLLIN
    const short POLLOUT

cdef extern from "sys/socket.h" nogil:
    ssize_t recv(int descriptor, void *data, size_t size, int flags)
    ssize_t send(int descriptor, const void *data, size_t size, int flags)
    int shutdown(int descriptor, int how)
    const int MSG_DONTWAIT
    const int MSG_NOSIGNAL
    const int SHUT_RDWR

cdef extern from "pythread.h":
    PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock lock, long long us, int interruptible) nogil

cdef enum:
    READ_BYTES = 65536
    WRITE_BYTES = 262144
    CANCELLED = 1
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    INTERNAL = 13

# How many calls one connection queues beyond those that the server takes at once.
cdef int64_t MAX_QUEUED_CALLS = 65_536
# A poll's longest turn. Whoever has no deadline goes round again.
cdef int64_t LONGEST_TURN_NS = 600_000_000_000

cdef object _want_read = ssl.SSLWantReadError
cdef object _tls_errors = (ssl.SSLError, ValueError)


@cython.no_gc_clear  # the descriptors and the session are wanted when it goes
cdef class BlockingConnection:
    """The client's end of a connection that is connected: `sock` is given away. Sizes are in bytes.

    `tls`: None, or an `ssl.SSLObject` after its handshake and the `MemoryBIO`s that it reads and writes.
    """

    def __cinit__(self):
        self.descriptor = self.wake_reader = self.wake_writer = -1
        self.lock = PyThread_allocate_lock()
        self.received = <char *>malloc(READ_BYTES)
        if self.lock is NULL or self.received is NULL:
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
        int64_t keepalive_ns=0,
        int64_t keepalive_timeout_ns=20_000_000_000,
        bint keepalive_without_calls=False,
    ):
        cdef SessionSettings settings = session_defaults(CLIENT)
        if self.session is not NULL:
            raise RuntimeError("a BlockingConnection is made once")
        settings.max_message_bytes = max_message_bytes
        settings.max_header_bytes = max_header_bytes
        if window_bytes > 0:
            settings.window_bytes = window_bytes
            settings.connection_window_bytes = max(settings.connection_window_bytes, window_bytes)
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
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.wake_reader = ours.detach()
        self.wake_writer = theirs.detach()
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
        if self.lock is not NULL:
            PyThread_free_lock(self.lock)

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
            self.wait(None, READY, deadline_ns)
        finally:
            self.leave_lock()
        return self.ready and not self.draining

    def is_full(self):
        """Whether as many calls wait for their turn as may."""
        return session_streams(self.session) >= session_max_streams(self.session) + MAX_QUEUED_CALLS

    def start(
        self, bytes method not None, metadata, bytes request, int64_t deadline_ns, int encoding, bint single
    ):
        """Start a call; None when none can be started here any more. Without `request` they are a stream.

        Raises TypeError and ValueError that name a key of `metadata`.
        """
        cdef BlockingStream stream = BlockingStream.__new__(BlockingStream)
        cdef int64_t timeout_ns = -1
        cdef Buffer fields
        cdef object message = None
        stream.connection = self
        stream.messages = MessageQueue.__new__(MessageQueue)
        stream.deadline_ns = deadline_ns
        stream.encoding = encoding
        stream.single = single
        if request is not None:
            message = packed(request, encoding)
        if deadline_ns != 0:
            timeout_ns = max(<int64_t>1, deadline_ns - monotonic_ns())
        fields.data = NULL
        fields.size = fields.capacity = 0
        try:
            if metadata:
                metadata_append(metadata, &fields)
            self.take_lock()
            try:
                if self.draining or self.over:
                    return None
                self.reserve_grave()
                stream.stream = session_request(
                    self.session, PyBytes_AS_STRING(method), PyBytes_GET_SIZE(method),
                    PyBytes_AS_STRING(self.authority), PyBytes_GET_SIZE(self.authority), self.secure,
                    timeout_ns, encoding, PyBytes_AS_STRING(self.user_agent),
                    PyBytes_GET_SIZE(self.user_agent), &fields,
                    <void *>stream,
                )
                if stream.stream is NULL:
                    self.draining = True
                    return None
                self.owned_streams += 1
                if request is not None:
                    transmit(stream.stream, message)
                    stream.half_closed = True
                    stream_half_close(stream.stream)
                self.flush()
            finally:
                self.leave_lock()
        finally:
            buffer_free(&fields)
        return stream

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
        self.lock = PyThread_allocate_lock()  # the old one may be held by a thread that is not here
        if self.lock is NULL:
            raise MemoryError
        self.holder = 0
        self.first_waiter = self.last_waiter = NULL
        self.led = False
        self.tls = None
        self.close_descriptor()
        self.take_lock()
        try:
            self.lose("the process was forked")
        finally:
            self.leave_lock()

    # --- The lock ---

    cdef int take_lock(self) except -1:
        cdef unsigned long me = PyThread_get_thread_ident()
        if PyThread_acquire_lock(self.lock, NOWAIT_LOCK) == 0:
            if self.holder == me:
                raise RuntimeError("a finalizer that runs within a call of this connection cannot use it")
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
        self.holder = me
        return 0

    cdef int leave_lock(self) except -1:
        """Nothing between the look at the graves and the release lets another thread run."""
        try:
            while self.grave_count != 0 or PyList_GET_SIZE(self.abandoned) != 0:
                self.exhume()
        finally:
            self.holder = 0
            PyThread_release_lock(self.lock)
        return 0

    # --- Waiting: with the lock ---

    cdef int wait(self, BlockingStream stream, int wanted, int64_t deadline_ns) except -1:
        """1: it is so; 0: the deadline has passed. Raises what a signal's handler raises."""
        try:
            while not self.is_so(stream, wanted):
                if deadline_ns != 0 and monotonic_ns() >= deadline_ns:
                    return 0
                if self.led:
                    self.follow(stream, deadline_ns)
                else:
                    self.lead(stream, deadline_ns)
            return 1
        finally:
            self.hand_over()

    cdef bint is_so(self, BlockingStream stream, int wanted) noexcept:
        if stream is None:
            return self.ready or self.over
        if stream.has_ended:
            return True
        if wanted == ANSWERED:
            return stream.has_answer
        if wanted == READABLE:
            return stream.messages.left() > 0
        if wanted == WRITABLE_AGAIN:
            if stream.stream.queued <= HIGH_WATER:
                return True
            stream.stream.wants_writable = True
        return False

    cdef int lead(self, BlockingStream stream, int64_t deadline_ns) except -1:
        """Poll once, and do for all what there is to do."""
        cdef pollfd descriptors[2]
        cdef int64_t now = monotonic_ns()
        cdef int64_t turn_ns = LONGEST_TURN_NS
        cdef int64_t due_ns = self.keep_alive(now)
        cdef char[64] dust
        cdef int timeout_ms, found, failure
        if self.over:
            return 0
        if deadline_ns != 0:
            turn_ns = min(turn_ns, max(<int64_t>0, deadline_ns - now))
        if due_ns != 0:
            turn_ns = min(turn_ns, max(<int64_t>0, due_ns - now))
        timeout_ms = <int>((turn_ns + 999_999) // 1_000_000)
        descriptors[0].fd = self.descriptor
        descriptors[0].events = POLLIN
        if self.output_sent < self.output.size:
            descriptors[0].events |= POLLOUT
        descriptors[1].fd = self.wake_reader
        descriptors[1].events = POLLIN
        descriptors[0].revents = descriptors[1].revents = 0
        self.led = True
        self.leads_for = NULL if stream is None else <void *>stream
        try:
            self.leave_lock()
        finally:
            with nogil:
                found = poll(descriptors, 2, timeout_ms)
                failure = errno
            self.take_lock()
            self.led = False
        if self.over:
            self.close_descriptor()  # which `lose` left to this thread, as it was polling
            return 0
        if found < 0:
            if failure != EINTR:
                return self.lose(strerror(failure).decode("utf-8", "replace"))
            return self.heed_signals()
        if descriptors[1].revents != 0:
            while read(self.wake_reader, dust, 64) == 64:
                pass
        if descriptors[0].revents & ~POLLOUT:
            self.receive()
        elif self.pinging and due_ns != 0 and monotonic_ns() >= due_ns:
            return self.lose(
                f"keepalive: the server answered no ping within {self.keepalive_timeout_ns / 1e9:g} s"
            )
        return self.flush()

    cdef int follow(self, BlockingStream stream, int64_t deadline_ns) except -1:
        """Wait until woken, or until the deadline."""
        cdef Waiter waiter
        cdef long long us = -1
        cdef PyLockStatus status
        waiter.lock = PyThread_allocate_lock()
        if waiter.lock is NULL:
            raise MemoryError
        PyThread_acquire_lock(waiter.lock, WAIT_LOCK)
        waiter.stream = NULL if stream is None else <void *>stream
        waiter.woken = False
        waiter.next = NULL
        waiter.previous = self.last_waiter
        if self.last_waiter is NULL:
            self.first_waiter = &waiter
        else:
            self.last_waiter.next = &waiter
        self.last_waiter = &waiter
        if deadline_ns != 0:
            us = max(<int64_t>0, deadline_ns - monotonic_ns()) // 1000 + 1
        try:
            self.leave_lock()
        finally:
            with nogil:
                status = PyThread_acquire_lock_timed(waiter.lock, us, 1)
            self.take_lock()
            if waiter.previous is NULL:
                self.first_waiter = waiter.next
            else:
                waiter.previous.next = waiter.next
            if waiter.next is NULL:
                self.last_waiter = waiter.previous
            else:
                waiter.next.previous = waiter.previous
            PyThread_free_lock(waiter.lock)
        return self.heed_signals() if status == PY_LOCK_INTR else 0

    cdef int heed_signals(self) except -1:
        """Without the lock: a handler may well close the channel."""
        self.hand_over()
        try:
            self.leave_lock()
            PyErr_CheckSignals()
        finally:
            self.take_lock()
        return 0

    cdef int wake(self, BlockingStream stream) noexcept:
        """Wake who waits for this stream; None: for the connection."""
        cdef void *wanted = NULL if stream is None else <void *>stream
        cdef Waiter *waiter = self.first_waiter
        if self.led and self.leads_for == wanted:
            self.poke()
        while waiter is not NULL:
            if waiter.stream == wanted and not waiter.woken:
                waiter.woken = True
                PyThread_release_lock(waiter.lock)
            waiter = waiter.next
        return 0

    cdef int hand_over(self) noexcept:
        """If nobody leads, have one that waits do it. Those that are woken already come by themselves."""
        cdef Waiter *waiter = self.first_waiter
        if self.led:
            return 0
        while waiter is not NULL:
            if waiter.woken:
                return 0
            waiter = waiter.next
        if self.first_waiter is not NULL:
            self.first_waiter.woken = True
            PyThread_release_lock(self.first_waiter.lock)
        return 0

    cdef int poke(self) noexcept:
        """End the leader's poll. A full pipe does as well."""
        cdef char one = 1
        if self.led:
            write(self.wake_writer, &one, 1)
        return 0

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

    cdef int receive(self) except -1:
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
            return self.take(self.received, size)
        self.tls_in.write(PyBytes_FromStringAndSize(self.received, size))
        return self.decrypt()

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
        cdef BlockingStream stream
        while True:
            event = session_next_event(self.session)
            if event is NULL:
                return 0
            if event.kind <= ENDED:
                if event.stream is NULL or event.stream.owner is NULL:
                    continue
                stream = <BlockingStream>event.stream.owner
                if event.kind == MESSAGE:
                    stream.on_message(event.data, event.size, event.flag != 0)
                elif event.kind == ENDED:
                    stream.on_ended(event)
                elif event.kind == RESPONSE:
                    self.served = True
                    stream.has_answer = True
                elif event.kind != WRITABLE:
                    continue
                self.wake(stream)
            elif event.kind == SETTINGS:
                self.ready = True
                self.wake(None)
            elif event.kind == PONG:
                self.pinging = False
            elif event.kind == GOAWAY:
                self.heard_goaway(event)

    cdef int heard_goaway(self, const Event *event) except -1:
        cdef bytes debug = event.data[:event.size] if event.size != 0 else b""
        if not self.reason:
            self.reason = f"the server said GOAWAY (code {event.code})"
            if debug:
                self.reason += ": " + debug[:256].decode("utf-8", "replace")
        if event.code == NGHTTP2_NO_ERROR:
            self.served = True
        elif event.code == NGHTTP2_ENHANCE_YOUR_CALM and debug == b"too_many_pings":
            self.too_many_pings = True
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
        cdef const char *problem
        if self.over:
            return 0
        if not self.reason:
            problem = session_problem(self.session)
            if problem is not NULL and problem[0] != 0:
                self.reason = (<bytes>problem).decode("utf-8", "replace")
            else:
                self.reason = why or "it ended"
        self.draining = self.over = True
        session_lost(self.session)
        self.drain_events()
        self.wake(None)
        if self.led:
            self.poke()
        else:
            self.close_descriptor()
        return 0

    cdef int close_descriptor(self) noexcept:
        if self.descriptor >= 0:
            close(self.descriptor)
            close(self.wake_reader)
            close(self.wake_writer)
            self.descriptor = self.wake_reader = self.wake_writer = -1
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
        self.tidy()
        return 0

    cdef int tidy(self) except -1:
        """Now, or by whoever holds the lock when it leaves it."""
        if PyThread_acquire_lock(self.lock, NOWAIT_LOCK) != 0:
            self.holder = PyThread_get_thread_ident()
            self.leave_lock()
        return 0

    cdef int exhume(self) except -1:
        cdef StreamState *stream
        cdef bint given_up = False
        while PyList_GET_SIZE(self.abandoned) != 0:
            (<BlockingStream>self.abandoned.pop()).end_here(CANCELLED, "Locally cancelled by application!")
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


@cython.no_gc_clear  # its connection is wanted when it goes
cdef class BlockingStream:
    """One attempt of a call. Made by `BlockingConnection.start`; dropped before its end it is given up."""

    def __cinit__(self):
        self.stream = NULL

    def __dealloc__(self):
        if self.stream is not NULL:
            self.connection.bury(self.stream)

    # --- With the connection's lock ---

    cdef int on_message(self, const char *data, size_t size, bint compressed) except -1:
        if self.single:
            stream_message_read(self.stream, size)
            if self.messages.left() > 0:
                return self.end_here(INTERNAL, "the server sent more than one response")
        return self.messages.put(received(data, size, compressed))

    cdef int on_ended(self, const Event *event) except -1:
        cdef BlockingConnection connection = self.connection
        self.has_ended = True
        self.code_number = event.code
        self.why = event.why
        self.number = event.number
        self.flags = self.stream.flags
        self.text = event.data[:event.size] if event.size != 0 else b""
        if event.why == BY_STATUS:
            connection.served = True
        elif event.why == BY_CONNECTION and connection.closed_here:
            self.code_number = CANCELLED
            self.local_details = connection.reason
            self.flags = 0
        return 0

    cdef int end_here(self, int code, str details) except -1:
        """Give the stream up, with this status. It stays what it is once it has ended."""
        if self.has_ended:
            return 0
        self.has_ended = True
        self.code_number = code
        self.local_details = details
        self.stream.owner = NULL
        stream_reset(self.stream, NGHTTP2_CANCEL)
        self.connection.wake(self)
        return 0

    # --- For Python: each waits, at most until the deadline, which ends the call ---

    def wait_answered(self):
        """Wait for the response's headers; False when the call ended without any."""
        self._wait(ANSWERED)
        return self.has_answer

    def wait_ended(self):
        """Wait for the server's status."""
        self._wait(ENDED_AT_LAST)

    def read(self):
        """Wait for the next message; None when there is none left: `ok` or `code` then say why."""
        cdef BlockingConnection connection = self.connection
        self._wait(READABLE)
        connection.take_lock()
        try:
            if self.messages.left() == 0 or self.local_details is not None:
                return None
            message = self.messages.take()
            if not self.single and not self.has_ended:
                stream_message_read(self.stream, PyBytes_GET_SIZE(data_of(message)))
                connection.flush()
        finally:
            connection.leave_lock()
        if PyBytes_CheckExact(message):
            return message
        try:
            return decompressed((<Packed>message).data, self.stream.encoding, connection.max_message_bytes)
        except TooLargeError as error:
            self.fail(RESOURCE_EXHAUSTED, str(error))
        except ValueError as error:
            self.fail(INTERNAL, f"the response cannot be read: {error!r}")
        return None

    def write(self, bytes message not None):
        """Send a message, waiting while the server is slow; False when the call has ended."""
        cdef BlockingConnection connection = self.connection
        cdef object sent = packed(message, self.encoding)
        connection.take_lock()
        try:
            if self.has_ended or self.half_closed:
                return False
            transmit(self.stream, sent)
            connection.flush()
        finally:
            connection.leave_lock()
        if self.stream.queued > HIGH_WATER:
            self._wait(WRITABLE_AGAIN)
        return not self.has_ended

    def half_close(self):
        """Tell the server that no message follows."""
        cdef BlockingConnection connection = self.connection
        connection.take_lock()
        try:
            if not self.has_ended and not self.half_closed:
                self.half_closed = True
                stream_half_close(self.stream)
                connection.flush()
        finally:
            connection.leave_lock()

    def end(self, int code, str details not None):
        """Give the call up with this status, from any thread; False when it has ended."""
        cdef BlockingConnection connection = self.connection
        connection.take_lock()
        try:
            if self.has_ended:
                return False
            self.end_here(code, details)
            connection.flush()
        finally:
            connection.leave_lock()
        return True

    def abandon(self):
        """Give the call up, from a finalizer: that may run within the lock."""
        if not self.has_ended:
            self.connection.abandoned.append(self)
            self.connection.tidy()

    def fail(self, int code, str details not None):
        """Have it end with this status, whatever the server's is: what came cannot be used."""
        if not self.end(code, details):
            self.code_number = code
            self.local_details = details

    def _wait(self, int wanted):
        cdef BlockingConnection connection = self.connection
        cdef int found
        if connection.is_so(self, wanted):
            return
        connection.take_lock()
        try:
            try:
                found = connection.wait(self, wanted, self.deadline_ns)
            except BaseException:
                self.end_here(CANCELLED, "Locally cancelled by application!")
                connection.flush()
                raise
            if not found:
                self.end_here(DEADLINE_EXCEEDED, "Deadline Exceeded")
                connection.flush()
        finally:
            connection.leave_lock()

    @property
    def answered(self):
        """Whether the response's headers are here."""
        return self.has_answer

    @property
    def ended(self):
        """Whether the status is here; messages before it may still be there to be read."""
        return self.has_ended

    @property
    def all_read(self):
        """Whether the status is here and no message is left."""
        return self.has_ended and (
            self.messages.left() == 0 or self.local_details is not None
        )

    @property
    def may_be_sent_anew(self):
        """0: no. 1: once, as the server proves that it did not process it. 2: it never left."""
        if not self.has_ended or self.local_details is not None:
            return 0
        return 2 if self.flags & UNSENT else 1 if self.flags & UNPROCESSED else 0

    @property
    def code(self):
        """The status, a number, once it has ended."""
        self._settle()
        return self.code_number

    @property
    def details(self):
        """What is said of the status, once it has ended."""
        self._settle()
        if self.local_details is not None:
            return self.local_details
        if self.why == BY_STATUS:
            return message_text(PyBytes_AS_STRING(self.text), PyBytes_GET_SIZE(self.text))
        if self.why == BY_HTTP_STATUS:
            return f"Received http2 header with status: {self.number}"
        if self.why == BY_RESET:
            return f"Received RST_STREAM with error code {self.number} ({http2_error_name(self.number)})"
        if self.why == BY_CONNECTION:
            return f"the connection was lost: {self.connection.reason or 'it ended'}"
        return self.text.decode("utf-8", "replace")

    def _settle(self):
        # A server that gives up at the deadline says so with a reset.
        if (
            self.has_ended and self.local_details is None and self.why == BY_RESET
            and self.code_number == CANCELLED and self.deadline_ns != 0 and monotonic_ns() >= self.deadline_ns
        ):
            self.code_number = DEADLINE_EXCEEDED
            self.local_details = "Deadline Exceeded"

    def initial_metadata(self):
        """Those that came; () before."""
        return metadata_of(&self.stream.metadata) if self.has_answer else ()

    def trailing_metadata(self):
        """Those that came with the status; () before, and after an end that was made here."""
        return metadata_of(&self.stream.trailers) if self.has_ended and self.stream.owner is not NULL else ()
