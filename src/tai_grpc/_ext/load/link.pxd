"""A connection of an engine: a socket, TLS, a session. See link.pyx."""

from tai_grpc._ext.load.state cimport EngineState, Link, Place

cdef enum:
    RECEIVED_BYTES = 262144  # of an engine's buffer

# Begin to connect; what goes wrong is told by the link's phase. NULL: no memory.
cdef Link *link_open(EngineState *engine, Place *place) noexcept nogil
# Disconnect, and have the engine free it when its turn is over.
cdef void link_bury(EngineState *engine, Link *link) noexcept nogil
cdef void link_free(Link *link) noexcept nogil
cdef void link_lose(Link *link, const char *reason) noexcept nogil
# The socket can be written to, or has an error.
cdef void link_writable(Link *link) noexcept nogil
# Read the socket into the engine's buffer: how many bytes are there now, of HTTP/2 without TLS; 0: none.
cdef size_t link_read(EngineState *engine, Link *link) noexcept nogil
# With TLS: decrypt a piece of what was read into the engine's buffer; 0: there is no more.
cdef size_t link_decrypt(EngineState *engine, Link *link) noexcept nogil
# Send what there is, as far as the socket takes it.
cdef void link_flush(EngineState *engine, Link *link) noexcept nogil
cdef void link_touch(EngineState *engine, Link *link) noexcept nogil  # it has something to send, maybe


cdef inline size_t link_unsent(const Link *link) noexcept nogil:
    return link.output.size - link.sent
