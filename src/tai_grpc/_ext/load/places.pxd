"""The places of an engine's connections: each has one, or is about to have the next. See places.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.load.state cimport EngineState, Link, Place

cdef void place_connect(EngineState *engine, Place *place, int64_t now) noexcept nogil
# Give up attempts that take too long, and begin those whose time has come.
cdef void places_tend(EngineState *engine, int64_t now) noexcept nogil
# After something happened to a connection: its place follows.
cdef void link_check(EngineState *engine, Link *link, int64_t now) noexcept nogil
