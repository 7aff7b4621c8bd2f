"""The session for Python: see sansio.pyx. Compiled code takes the functions of session.pxd instead."""

from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.http2.state cimport Event, SessionSettings, SessionState, StreamState

cdef class Session:
    cdef SessionState *session
    cdef SessionSettings settings
    cdef Buffer output
    cdef bytes received
    cdef bint auto_read
    cdef dict attached  # stream id -> address of its StreamState

    cdef StreamState *_stream(self, int stream_id) except NULL
    cdef int _take_on(self, StreamState *stream) except -1
    cdef tuple _event(self, Event *event)
