"""The load engine for Python: see engine.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.load.source cimport Source
from tai_grpc._ext.load.state cimport EngineState, TargetState
from tai_grpc._ext.load.tls cimport TlsContext
from tai_grpc._ext.primitives.histogram cimport LatencyHistogram

cdef enum Stage:
    MADE = 0
    CONNECTED = 1
    RUNNING = 2
    ENDED = 3
    CLOSED = 4


cdef class Target:
    cdef TargetState state
    cdef readonly str name
    cdef readonly LatencyHistogram latencies
    cdef TlsContext tls
    cdef bytes name_bytes
    cdef bytes authority
    cdef bytes server_name


cdef class Engine:
    cdef EngineState *state
    cdef list targets
    cdef Source source
    cdef bytes path
    cdef bytes user_agent
    cdef readonly LatencyHistogram send_lag
    cdef int stage

    cdef int settings(
        self, object timeout_ns, object stream_interval_ns, object stream_messages, object stream_duration_ns,
        object max_message_bytes,
    ) except -1
    cdef int make_parts(self, object connections, object concurrency) except -1
    cdef int make_descriptors(self) except -1
    cdef int dissolve(self) noexcept
    cdef int enter(self, int stage, int next) except -1
