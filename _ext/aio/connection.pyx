# cython: language_level=3
"""An asyncio connection around a sans-IO session: reads are dispatched as events, writes are gathered.

A connection writes once a turn of the loop, whatever number of calls had something to send. While the
transport takes no more, nothing is taken from the session either: there it waits in the streams' own queues,
which their writers watch. A peer that takes nothing for `stall_timeout` is cut off.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from tai_grpc._ext.http2.buffers cimport Buffer, buffer_free
from tai_grpc._ext.http2.session cimport (
    Event, SessionSettings, session_free, session_keep_events, session_lost, session_new, session_next_event,
    session_output, session_receive,
)
from tai_grpc._ext.primitives.clock cimport monotonic_ns

# What one write takes at most. It is filled and emptied under the GIL, so one serves all connections.
cdef size_t WRITE_BYTES = 256 * 1024
cdef Buffer _output
# How long a peer that broke the protocol may take to hear why, in seconds.
cdef double LAST_WORDS = 1.0


cdef class Connection:
    def __cinit__(self):
        self.session = NULL

    def __dealloc__(self):
        session_free(self.session)

    cdef int begin(self, object loop, const SessionSettings *settings) except -1:
        self.session = session_new(settings)
        if self.session is NULL:
            raise MemoryError
        self.loop = loop
        self.flush_callback = self._flush_now
        return 0

    # --- asyncio.Protocol ---

    def connection_made(self, transport):
        self.transport = transport
        self.opened()
        self.flush()

    def data_received(self, bytes data):
        if self.ended:
            return
        cdef int over
        self.last_read_ns = monotonic_ns()
        self.receiving = True
        try:
            over = session_receive(self.session, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            self.drain_events()
            self.heard()
        except BaseException:
            session_keep_events(self.session)  # those that are left point into `data`
            raise
        finally:
            self.receiving = False
        if over != 0:
            self.end()
        else:
            self.flush()

    def eof_received(self):
        return None  # close the transport

    def connection_lost(self, exc):
        self.ended = True
        self.transport = None
        self._stop_stall_timer()
        if self.close_timer is not None:
            self.close_timer.cancel()  # it would keep this connection
            self.close_timer = None
        session_lost(self.session)
        self.drain_events()
        self.gone(exc)
        # Calls that have ended may hold this for long; and it refers to itself.
        self.flush_callback = None
        session_free(self.session)
        self.session = NULL

    def pause_writing(self):
        self.paused = True
        if self.stall_timeout > 0:
            self.stall_timer = self.loop.call_later(self.stall_timeout, self._stalled)

    def resume_writing(self):
        self.paused = False
        self._stop_stall_timer()
        self.flush()

    # --- For subclasses ---

    cdef int opened(self) except -1:
        return 0

    cdef int heard(self) except -1:
        return 0

    cdef int dispatch(self, Event *event) except -1:
        return 0

    cdef int gone(self, object error) except -1:
        return 0

    cdef int drain_events(self) except -1:
        cdef Event *event
        while True:
            event = session_next_event(self.session)
            if event is NULL:
                return 0
            try:
                self.dispatch(event)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                # Of one call: the others go on.
                self.loop.call_exception_handler(
                    {"message": "a gRPC call failed to take an event", "exception": error, "protocol": self}
                )

    cdef int want_flush(self) except -1:
        if not self.flushing and not self.receiving and not self.paused and self.transport is not None:
            self.flushing = True
            self.loop.call_soon(self.flush_callback)
        return 0

    cdef int flush(self) except -1:
        cdef int more = 1
        while more == 1 and not self.paused and self.transport is not None:
            more = session_output(self.session, &_output, WRITE_BYTES)
            if _output.size != 0:
                data = PyBytes_FromStringAndSize(_output.data, _output.size)
                if _output.capacity > 2 * WRITE_BYTES:
                    buffer_free(&_output)
                _output.size = 0
                self.transport.write(data)
            self.drain_events()
        if more == -1 and not self.ended:
            self._close()
        return 0

    cdef int end(self) except -1:
        self.flush()
        if not self.ended:
            self._close()
        return 0

    cdef int _close(self) except -1:
        """Close once all is written, or when the peer takes nothing of it."""
        self.ended = True
        if self.transport is not None:
            self.transport.close()
        if self.transport is not None and self.stall_timeout > 0:
            delay = min(self.stall_timeout, LAST_WORDS) if self.session.over else self.stall_timeout
            self.close_timer = self.loop.call_later(delay, self._stalled)
        return 0

    def _flush_now(self):
        self.flushing = False
        self.flush()

    def _stalled(self):
        self.stall_timer = None
        if self.transport is not None:
            self.transport.abort()

    def _stop_stall_timer(self):
        if self.stall_timer is not None:
            self.stall_timer.cancel()
            self.stall_timer = None
