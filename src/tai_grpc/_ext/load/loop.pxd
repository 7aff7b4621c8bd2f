"""The loop of an engine. See loop.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.load.state cimport EngineState

# Connect every place. 0: done; -1: `engine_problem` says what is wrong.
cdef int loop_connect(EngineState *engine, int64_t timeout_ns) noexcept nogil
cdef const char *loop_problem(EngineState *engine) noexcept nogil
cdef int loop_run(EngineState *engine) noexcept nogil  # -1: the system refuses to wait
cdef void loop_disconnect(EngineState *engine) noexcept nogil
