# cython: language_level=3
"""The methods of a channel, called to make calls, with grpc.aio's arguments.

`authorize(call, method, credentials)`, a Python function, is given each call that needs credentials: it ends
in the call's `_proceed` or `_refuse`.
"""

from tai_grpc._ext.aio.call cimport DONE, Call
from tai_grpc._ext.aio.calls cimport (
    StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall, serialized,
)
from tai_grpc._ext.aio.dispatcher cimport Dispatcher
from tai_grpc._ext.http2.metadata cimport metadata_append

from tai_grpc._ext.aio.calls import _start_feed

cdef object start_feed = _start_feed


cdef class MultiCallable:
    """A method; `channel` is only kept."""

    def __init__(
        self,
        channel,
        Dispatcher dispatcher not None,
        bytes method not None,
        serialize,
        deserialize,
        authorize,
        bint always_authorize=False,
        int encoding=0,
    ):
        self.channel = channel
        self.dispatcher = dispatcher
        self.method = method
        self.serialize = serialize
        self.deserialize = deserialize
        self.authorize = authorize
        self.always_authorize = always_authorize
        self.encoding = encoding

    cdef int prepare(
        self, Call call, object timeout, object metadata, object credentials, object wait_for_ready,
        object compression,
    ) except -1:
        call.dispatcher = self.dispatcher
        call.method = self.method
        call.encoding = self.encoding if compression is None else int(compression)
        if not 0 <= call.encoding <= 2:
            raise ValueError(f"compression must be a grpc.Compression: got {compression!r}")
        if timeout is not None:
            call.set_timeout(timeout)
        if metadata is not None:
            metadata_append(metadata, &call.fields)
        if wait_for_ready is not None:
            call.wait_for_ready = bool(wait_for_ready)
        if credentials is not None and self.authorize is None:
            from grpc.aio import UsageError
            raise UsageError("Call credentials are only valid on secure channels")
        return 0

    cdef int begin(self, Call call, object credentials) except -1:
        cdef bint held = self.always_authorize or credentials is not None
        call.begin(held)
        if held and call.state != DONE:
            self.authorize(call, self.method, credentials)
        return 0

    cdef int load(self, Call call, object request) except -1:
        """Give a call its one request. A serializer that fails makes a call that fails."""
        if self.serialize is None:
            call.request = serialized(None, request)
            return 0
        try:
            data = self.serialize(request)
        except Exception as error:
            call.unsendable = f"the request cannot be serialized: {error!r}"
            return 0
        call.request = serialized(None, data)
        return 0


cdef class UnaryUnaryMultiCallable(MultiCallable):
    """One request, one response."""

    def __call__(
        self, request, *, timeout=None, metadata=None, credentials=None, wait_for_ready=None, compression=None
    ):
        cdef UnaryUnaryCall call = UnaryUnaryCall.__new__(UnaryUnaryCall)
        self.prepare(call, timeout, metadata, credentials, wait_for_ready, compression)
        call.deserialize = self.deserialize
        self.load(call, request)
        self.begin(call, credentials)
        call.keep()
        return call


cdef class UnaryStreamMultiCallable(MultiCallable):
    """One request, a stream of responses."""

    def __call__(
        self, request, *, timeout=None, metadata=None, credentials=None, wait_for_ready=None, compression=None
    ):
        cdef UnaryStreamCall call = UnaryStreamCall.__new__(UnaryStreamCall)
        self.prepare(call, timeout, metadata, credentials, wait_for_ready, compression)
        call.deserialize = self.deserialize
        self.load(call, request)
        self.begin(call, credentials)
        return call


cdef class StreamUnaryMultiCallable(MultiCallable):
    """A stream of requests, one response."""

    def __call__(
        self, request_iterator=None, timeout=None, metadata=None, credentials=None, wait_for_ready=None,
        compression=None,
    ):
        cdef StreamUnaryCall call = StreamUnaryCall.__new__(StreamUnaryCall)
        self.prepare(call, timeout, metadata, credentials, wait_for_ready, compression)
        call.deserialize = self.deserialize
        call.serialize = self.serialize
        self.begin(call, credentials)
        if request_iterator is not None and call.state != DONE:
            call.feed = start_feed(call, self.serialize, request_iterator)
            call.keep()
        return call


cdef class StreamStreamMultiCallable(MultiCallable):
    """A stream of requests, a stream of responses."""

    def __call__(
        self, request_iterator=None, timeout=None, metadata=None, credentials=None, wait_for_ready=None,
        compression=None,
    ):
        cdef StreamStreamCall call = StreamStreamCall.__new__(StreamStreamCall)
        self.prepare(call, timeout, metadata, credentials, wait_for_ready, compression)
        call.deserialize = self.deserialize
        call.serialize = self.serialize
        self.begin(call, credentials)
        if request_iterator is not None and call.state != DONE:
            call.feed = start_feed(call, self.serialize, request_iterator)
        return call
