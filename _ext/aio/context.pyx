# cython: language_level=3
"""What a handler knows of its call and does with it beside answering: grpc.aio's ServicerContext."""

import grpc
from grpc.aio import AbortError, InternalError, UsageError

from tai_grpc._ext.aio.callstream cimport Write
from tai_grpc._ext.aio.served cimport code_number
from tai_grpc._ext.http2.buffers cimport Buffer, buffer_free
from tai_grpc._ext.http2.metadata cimport metadata_append
from tai_grpc._ext.http2.session cimport stream_send_headers
from tai_grpc._ext.http2.state cimport IDENTITY
from tai_grpc._ext.http2.status cimport CANCELLED, INTERNAL, OK
from tai_grpc._ext.primitives.clock cimport monotonic_ns

cdef object _CANCELLED = grpc.StatusCode.CANCELLED


cdef tuple _checked(object metadata):
    """As a tuple of pairs, if that is its form."""
    cdef list pairs = []
    try:
        if not isinstance(metadata, dict):
            for pair in metadata:
                key, value = pair
                if not isinstance(pair, (tuple, list)) or not isinstance(key, str):
                    break
                if not isinstance(value, (str, bytes)):
                    break
                pairs.append((key, value))
            else:
                return metadata if isinstance(metadata, tuple) else tuple(pairs)
    except (TypeError, ValueError):
        pass
    raise TypeError(
        f"Invalid trailing metadata type, expected Tuple[Tuple[str, Union[str, bytes]]...]: {metadata}"
    )


cdef class ServicerContext(ServedCall):
    """The context that a handler is given.

    Reading, writing and aborting when the call is over raise `grpc.aio.UsageError`; when its client has given
    it up, or is gone, `grpc.aio.InternalError`.
    """

    def read(self):
        """Return an awaitable for the next request; `grpc.aio.EOF` past the last one."""
        return self.reading()

    def write(self, message):
        """Return an awaitable that sends `message`, and is done once the client keeps up."""
        cdef Write write = Write.__new__(Write)
        write.call = self
        write.message = message
        return write

    async def send_initial_metadata(self, initial_metadata):
        """Send the initial metadata, before the first message.

        Raises:
            UsageError: they have been sent, perhaps by a message.
            TypeError: a value is not of its key's type.
        """
        cdef Buffer fields
        self.check()
        if self.headers_sent:
            raise UsageError("Send initial metadata failed: already sent")
        fields.data = NULL
        fields.size = fields.capacity = 0
        try:
            metadata_append(initial_metadata or (), &fields)
            stream_send_headers(self.stream, &fields, self.encoding)
            self.headers_sent = True
        except ValueError as error:
            self.fail(INTERNAL, "Invalid metadata")
            raise InternalError(str(error)) from None
        finally:
            buffer_free(&fields)
        self.connection.want_flush()

    async def abort(self, code, str details="", trailing_metadata=()):
        """End the call with a status other than OK, now; always raises.

        Raises:
            AbortError: it is ended; let it pass.
            UsageError: it was aborted before, or is over.
            ValueError: `code` is OK.
            TypeError: the trailing metadata are no tuple of pairs.
        """
        cdef tuple trailing
        cdef int number
        if self.aborted:
            raise UsageError("Abort already called!")
        if not isinstance(trailing_metadata, tuple):
            raise TypeError(
                "Invalid trailing metadata type, expected Tuple[Tuple[str, Union[str, bytes]]...]: "
                f"{trailing_metadata}"
            )
        trailing = _checked(trailing_metadata)
        number = code_number(code)
        if number == OK:
            raise ValueError("abort: a code other than OK ends a call")
        if self.finished:
            raise UsageError("RPC already finished.")
        self.code_given = code
        if details:
            self.details_given = details
        if trailing:
            self.trailing = trailing
        self.aborted = True
        self.abort_error = AbortError("Locally aborted.")
        self.refusal = self.abort_error
        self.settle(number, self.details_given, self.trailing)
        raise self.refusal

    async def abort_with_status(self, status):
        """`abort` with the code, details and trailing metadata of a grpc.Status."""
        await self.abort(status.code, status.details or "", tuple(status.trailing_metadata or ()))

    def set_trailing_metadata(self, trailing_metadata):
        """Set what is sent with the status."""
        self.trailing = _checked(trailing_metadata)

    def trailing_metadata(self):
        return () if self.trailing is None else self.trailing

    def invocation_metadata(self):
        """Return what the client sent, as a tuple of (key, value)."""
        return self.invocation()

    def set_code(self, code):
        """Set the code with which the call ends if its handler returns."""
        self.code_given = code

    def code(self):
        return self.code_given

    def set_details(self, str details not None):
        """Set the text that goes with the code."""
        self.details_given = details

    def details(self):
        return "" if self.details_given is None else self.details_given

    def set_compression(self, compression):
        """Compress what is sent, where the client takes that. Before the initial metadata are sent.

        Raises:
            RuntimeError: they have been.
            ValueError: it is no member of grpc.Compression.
        """
        if self.headers_sent:
            raise RuntimeError("Compression setting must be specified before sending initial metadata")
        cdef int encoding = grpc.Compression(compression)
        self.encoding = encoding if self.stream.accepted & 1 << encoding else IDENTITY

    def disable_next_message_compression(self):
        """Send the next message as it is."""
        self.next_as_is = True

    def peer(self):
        """Return the client's address as `ipv4:HOST:PORT`, `ipv6:%5BHOST%5D:PORT` or `unix:PATH`."""
        return self.peer_info.name

    def auth_context(self):
        """Return what is known of the connection's security and the client's certificate."""
        return {name: list(values) for name, values in self.peer_info.authentication().items()}

    def peer_identity_key(self):
        """Return the name in `auth_context` of who the client is; None: it did not show a certificate."""
        cdef dict auth = self.peer_info.authentication()
        for name in ("x509_subject_alternative_name", "x509_common_name"):
            if name in auth:
                return name
        return None

    def peer_identities(self):
        """Return who the client is by its certificate; None: it did not show one."""
        key = self.peer_identity_key()
        return None if key is None else list(self.peer_info.authentication()[key])

    def time_remaining(self):
        """Return the seconds until the deadline; None: there is none."""
        if self.deadline_ns == 0:
            return None
        return max(0.0, (self.deadline_ns - monotonic_ns()) * 1e-9)

    def done(self):
        """Whether the handler's status has been sent."""
        return self.settled

    def cancelled(self):
        """Whether the code that was set is CANCELLED."""
        return self.code_given is _CANCELLED or self.code_given == CANCELLED

    def add_done_callback(self, callback):
        """Call `callback` with this context when the handler has ended."""
        if self.ended:
            self.loop.call_soon(callback, self)
        elif self.done_callbacks is None:
            self.done_callbacks = [callback]
        else:
            self.done_callbacks.append(callback)
