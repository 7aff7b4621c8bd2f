# cython: language_level=3
"""The session as a Python object: bytes in, events and bytes out.

Each event is a tuple that begins with its kind and the stream's id:

    server: ("request", id, path, metadata, timeout or None), ("message", id, data, compressed),
            ("half_closed", id), ("failed", id, status, text), ("closed", id, error_code)
    client: ("response", id, metadata), ("message", ...),
            ("ended", id, status, message, trailers, why, number, unprocessed)
    both:   ("writable", id)
    of the connection (id 0): ("settings", 0), ("pong", 0, number), ("goaway", 0, code, data), ("served", 0)
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uintptr_t

from tai_grpc._ext.http2.buffers cimport Buffer, buffer_free
from tai_grpc._ext.http2.fields cimport percent_append, timeout_of, timeout_text
from tai_grpc._ext.http2.metadata cimport message_text, metadata_append, metadata_of
from tai_grpc._ext.http2.session cimport (
    session_alive, session_defaults, session_free, session_keep_events, session_lost, session_new,
    session_next_event,
    session_output, session_ping, session_problem, session_receive, session_request, session_shutdown,
    session_streams, stream_attach, stream_finish, stream_half_close, stream_message_read, stream_release,
    stream_reset, stream_send_headers, stream_send_message,
)
from tai_grpc._ext.http2.state cimport (
    CLIENT, CLOSED, DEFLATE, ENDED, FAILED, GOAWAY, GZIP, HALF_CLOSED, IDENTITY, MESSAGE, PONG,
    REQUEST, RESPONSE, SERVER, SETTINGS, UNPROCESSED, WRITABLE,
    Event, SessionSettings, StreamState,
)

cdef dict _ROLES = {"client": CLIENT, "server": SERVER}
cdef dict _ENCODINGS = {"identity": IDENTITY, "deflate": DEFLATE, "gzip": GZIP}


@cython.no_gc_clear  # `attached` is wanted when it goes
cdef class Session:
    """One end of a gRPC connection, without IO.

    `auto_read`: messages count as read when their event is taken; otherwise `message_read` opens their
    stream's window again. `limits` are the fields of SessionSettings in state.pxd.

    Raises:
        ValueError: the role or a limit is not known.
    """

    def __cinit__(self, role, *, bint auto_read=True, **limits):
        if role not in _ROLES:
            raise ValueError(f"role {role!r}: it is 'client' or 'server'")
        cdef SessionSettings settings = session_defaults(_ROLES[role])
        cdef dict given = settings
        for name in limits:
            if name == "role" or name not in given:
                raise ValueError(f"{name!r} is not a limit")
            given[name] = limits[name]
        settings = given
        self.settings = settings
        self.attached = {}
        self.auto_read = auto_read
        self.session = session_new(&settings)
        if self.session is NULL:
            raise MemoryError

    def __dealloc__(self):
        session_free(self.session)
        if self.attached is not None:
            for address in self.attached.values():
                stream_release(<StreamState *><uintptr_t>address)
        buffer_free(&self.output)

    def receive_data(self, bytes data not None):
        """Take what came from the peer; False when the connection is over."""
        _check(session_keep_events(self.session), 0)  # those that were not taken point into the last data
        self.received = data
        return session_receive(self.session, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)) == 0

    def events_received(self):
        """Return what happened since the last call."""
        cdef Event *event
        cdef list events = []
        while True:
            event = session_next_event(self.session)
            if event is NULL:
                return events
            events.append(self._event(event))

    def next_event(self):
        """Return one event, or None when there is none."""
        cdef Event *event = session_next_event(self.session)
        return None if event is NULL else self._event(event)

    def data_to_send(self, size_t at_most=<size_t>1 << 30):
        """Return what is to be sent now, about `at_most` bytes; b"" when there is nothing."""
        session_output(self.session, &self.output, at_most)
        data = PyBytes_FromStringAndSize(self.output.data, self.output.size)
        self.output.size = 0
        return data

    def request(self, str path not None, *, str authority="localhost", metadata=(), timeout=None,
                encoding="identity"):
        """Client: start a call and return its stream's id."""
        cdef bytes path_bytes = path.encode()
        cdef bytes authority_bytes = authority.encode()
        cdef int64_t timeout_ns = -1 if timeout is None else round(timeout * 1e9)
        cdef Buffer fields
        cdef StreamState *stream
        fields.data = NULL
        fields.size = fields.capacity = 0
        try:
            metadata_append(metadata, &fields)
            stream = session_request(
                self.session, PyBytes_AS_STRING(path_bytes), PyBytes_GET_SIZE(path_bytes),
                PyBytes_AS_STRING(authority_bytes), PyBytes_GET_SIZE(authority_bytes), False, timeout_ns,
                _ENCODINGS[encoding], b"tai-sansio", 10, &fields, NULL,
            )
        finally:
            buffer_free(&fields)
        if stream is NULL:
            raise RuntimeError("no call can be started on this connection any more")
        self.attached[stream.id] = <uintptr_t>stream
        return stream.id

    def send_headers(self, int stream_id, metadata=(), encoding="identity"):
        """Server: send the initial metadata."""
        cdef Buffer fields
        fields.data = NULL
        fields.size = fields.capacity = 0
        try:
            metadata_append(metadata, &fields)
            _check(stream_send_headers(self._stream(stream_id), &fields, _ENCODINGS[encoding]), stream_id)
        finally:
            buffer_free(&fields)

    def send_message(self, int stream_id, bytes data not None, bint compressed=False):
        """Queue a message; `compressed`: it is, as the headers said."""
        _check(
            stream_send_message(
                self._stream(stream_id), PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), compressed
            ),
            stream_id,
        )

    def half_close(self, int stream_id):
        """Client: no message follows."""
        _check(stream_half_close(self._stream(stream_id)), stream_id)

    def finish(self, int stream_id, int status=0, str message="", trailers=()):
        """Server: send the status once what is queued was sent."""
        cdef bytes text = message.encode()
        cdef Buffer fields
        fields.data = NULL
        fields.size = fields.capacity = 0
        try:
            metadata_append(trailers, &fields)
            _check(
                stream_finish(
                    self._stream(stream_id), status, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), &fields
                ),
                stream_id,
            )
        finally:
            buffer_free(&fields)

    def reset(self, int stream_id, unsigned int error_code):
        """Give a call up."""
        stream_reset(self._stream(stream_id), error_code)
        if self.settings.role == CLIENT:
            self._forget(stream_id)  # no event of it follows

    def message_read(self, int stream_id, size_t size):
        """A message of `size` bytes was read: its stream's window opens by as much."""
        stream_message_read(self._stream(stream_id), size)

    def queued(self, int stream_id):
        """How many bytes of a stream's messages are yet to be sent."""
        return self._stream(stream_id).queued

    def tell_writable(self, int stream_id):
        """Ask for a "writable" event once little is queued on a stream."""
        self._stream(stream_id).wants_writable = True

    def ping(self, number):
        _check(session_ping(self.session, number), 0)

    def shutdown(self):
        """Server: take no new streams and go on with those there are."""
        _check(session_shutdown(self.session), 0)

    def begin_anew(self):
        """Free the session and take a new one; the streams of the old one are held still."""
        session_free(self.session)
        self.session = session_new(&self.settings)
        if self.session is NULL:
            raise MemoryError

    def lost(self):
        """The connection is gone: every stream ends."""
        session_lost(self.session)

    @property
    def alive(self):
        return session_alive(self.session)

    @property
    def problem(self):
        """Why the connection is over; "" when nothing is wrong."""
        return session_problem(self.session).decode()

    @property
    def streams(self):
        return session_streams(self.session)

    cdef StreamState *_stream(self, int stream_id) except NULL:
        address = self.attached.get(stream_id)
        if address is None:
            raise KeyError(stream_id)
        return <StreamState *><uintptr_t>address

    cdef int _take_on(self, StreamState *stream) except -1:
        stream_attach(stream)
        self.attached[stream.id] = <uintptr_t>stream
        return 0

    cdef tuple _event(self, Event *event):
        cdef StreamState *stream = event.stream
        cdef int stream_id = 0 if stream is NULL else stream.id
        cdef int kind = event.kind
        if kind == MESSAGE:
            if self.auto_read:
                stream_message_read(stream, event.size)
            data = PyBytes_FromStringAndSize(event.data, event.size)
            return ("message", stream_id, data, event.flag != 0)
        if kind == REQUEST:
            self._take_on(stream)
            timeout = None if stream.timeout_ns < 0 else stream.timeout_ns * 1e-9
            path = PyBytes_FromStringAndSize(stream.path.data, stream.path.size).decode("latin-1")
            return ("request", stream_id, path, _plain(metadata_of(&stream.metadata)), timeout)
        if kind == RESPONSE:
            return ("response", stream_id, _plain(metadata_of(&stream.metadata)))
        if kind == HALF_CLOSED:
            return ("half_closed", stream_id)
        if kind == FAILED:
            return ("failed", stream_id, event.code, event.data[:event.size].decode())
        if kind == WRITABLE:
            return ("writable", stream_id)
        if kind == CLOSED:
            self._forget(stream_id)
            return ("closed", stream_id, event.code)
        if kind == ENDED:
            text = message_text(event.data, event.size)
            trailers = _plain(metadata_of(&stream.trailers))
            unprocessed = stream.flags & UNPROCESSED != 0
            self._forget(stream_id)
            return ("ended", stream_id, event.code, text, trailers, event.why, event.number, unprocessed)
        if kind == SETTINGS:
            return ("settings", 0)
        if kind == PONG:
            return ("pong", 0, event.number)
        if kind == GOAWAY:
            return ("goaway", 0, event.code, PyBytes_FromStringAndSize(event.data, event.size))
        return ("served", 0)

    def _forget(self, stream_id):
        address = self.attached.pop(stream_id, None)
        if address is not None:
            stream_release(<StreamState *><uintptr_t>address)


cdef tuple _plain(tuple metadata):
    return tuple([tuple(entry) for entry in metadata])


cdef int _check(int result, int stream_id) except -1:
    if result != 0:
        raise RuntimeError(f"stream {stream_id} has ended, or cannot do this now")
    return 0


# --- The codecs of header values, for their tests -------------------------------------------------------


def timeout_roundtrip(double seconds):
    """What grpc-timeout says of `seconds`, and how many seconds that is."""
    cdef char[16] text
    cdef size_t size = timeout_text(<int64_t>(seconds * 1e9), text)
    return text[:size].decode(), timeout_of(text, size) * 1e-9


def timeout_seconds(bytes value not None):
    """What a grpc-timeout means; None when it is not one."""
    cdef int64_t timeout_ns = timeout_of(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    return None if timeout_ns < 0 else timeout_ns * 1e-9


def percent_encoded(bytes text not None):
    cdef Buffer buffer
    buffer.data = NULL
    buffer.size = buffer.capacity = 0
    try:
        if percent_append(&buffer, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)) != 0:
            raise MemoryError
        return PyBytes_FromStringAndSize(buffer.data, buffer.size)
    finally:
        buffer_free(&buffer)


def percent_decoded(bytes text not None):
    return message_text(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


def metadata_roundtrip(metadata):
    """What a peer gets of metadata, or the error that says why they cannot be sent."""
    cdef Buffer buffer
    buffer.data = NULL
    buffer.size = buffer.capacity = 0
    try:
        metadata_append(metadata, &buffer)
        return _plain(metadata_of(&buffer))
    finally:
        buffer_free(&buffer)
