# cython: language_level=3, freethreading_compatible=True
"""A connection of an engine: a socket that does not wait, TLS where it is asked for, a session.

Bytes go one way: session, (TLS), output, socket. While the socket is full nothing is taken out of the
session, so the output holds no more than OUTPUT_BYTES and what one frame adds.
"""

from libc.errno cimport EAGAIN, EINPROGRESS, EINTR, errno
from libc.stdio cimport snprintf
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset, strerror
from posix.unistd cimport close

from tai_grpc._ext.http2.buffers cimport Buffer, buffer_free
from tai_grpc._ext.http2.session cimport session_free, session_new, session_output, session_problem
from tai_grpc._ext.load.linux cimport (
    AF_UNIX, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT, IPPROTO_TCP, MSG_NOSIGNAL, SO_ERROR,
    SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, TCP_NODELAY,
    connect, epoll_ctl, epoll_event, getsockopt, recv, send, setsockopt, sockaddr, socket, socklen_t,
)
from tai_grpc._ext.load.state cimport (
    CONNECTING, DRAINING, HANDSHAKING, LOST, REASON, SETTLING, Address,
)
from tai_grpc._ext.load.tls cimport (
    tls_feed, tls_free, tls_handshake, tls_is_http2, tls_new, tls_output, tls_read, tls_write,
)
from tai_grpc._ext.primitives.atomics cimport store

cdef enum:
    OUTPUT_BYTES = 262144


cdef Link *link_open(EngineState *engine, Place *place) noexcept nogil:
    cdef Link *link = <Link *>calloc(1, sizeof(Link))
    cdef int one = 1
    cdef Address *address = &place.target.addresses[place.address]
    cdef int family = address.place.ss_family
    if link is NULL:
        return NULL
    link.place = place
    link.descriptor = -1
    link.epoll = engine.epoll
    link.session = session_new(&engine.settings)
    if link.session is NULL:
        free(link)
        return NULL
    if place.target.tls is not NULL:
        link.ssl = tls_new(place.target.tls, place.target.server_name)
        if link.ssl is NULL:
            session_free(link.session)
            free(link)
            return NULL
    link.next = engine.links
    if engine.links is not NULL:
        engine.links.previous = link
    engine.links = link
    link.descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if link.descriptor < 0:
        _fail(link, errno)
        return link
    if family != AF_UNIX:
        setsockopt(link.descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    # EAGAIN: the queue of a unix socket is full. It is tried again like one that is refused.
    if (
        connect(link.descriptor, <const sockaddr *>&address.place, address.size) != 0
        and errno != EINPROGRESS
    ):
        _fail(link, errno)
        return link
    _watch(link, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT)
    return link


cdef void _watch(Link *link, int operation, uint32_t interest) noexcept nogil:
    cdef epoll_event event
    memset(&event, 0, sizeof(event))
    event.events = interest
    event.data.ptr = link
    link.interest = interest
    if epoll_ctl(link.epoll, operation, link.descriptor, &event) != 0:
        _fail(link, errno)


cdef void _fail(Link *link, int error) noexcept nogil:
    link_lose(link, strerror(error))


cdef void link_lose(Link *link, const char *reason) noexcept nogil:
    if link.phase == LOST:
        return
    if link.phase != DRAINING or link.reason[0] == 0:  # what a GOAWAY has said is why
        snprintf(link.reason, REASON, b"%s", reason)
    link.phase = LOST


cdef void link_bury(EngineState *engine, Link *link) noexcept nogil:
    if link.previous is not NULL:
        link.previous.next = link.next
    else:
        engine.links = link.next
    if link.next is not NULL:
        link.next.previous = link.previous
    link.previous = NULL
    link.next = engine.dead
    engine.dead = link
    link.phase = LOST
    if link.descriptor >= 0:
        close(link.descriptor)  # which takes it out of the epoll as well
        link.descriptor = -1


cdef void link_free(Link *link) noexcept nogil:
    if link.descriptor >= 0:
        close(link.descriptor)
    if link.ssl is not NULL:
        tls_free(link.ssl)
    session_free(link.session)
    buffer_free(&link.output)
    free(link)


cdef void link_touch(EngineState *engine, Link *link) noexcept nogil:
    link.dirty = True
    if not link.listed:
        link.listed = True
        link.next_dirty = engine.dirty
        engine.dirty = link


# --- In -------------------------------------------------------------------------------------------------


cdef void link_writable(Link *link) noexcept nogil:
    cdef int error = 0
    cdef socklen_t size = sizeof(error)
    if link.phase == CONNECTING:
        if getsockopt(link.descriptor, SOL_SOCKET, SO_ERROR, &error, &size) != 0:
            error = errno
        if error != 0:
            _fail(link, error)
        elif link.ssl is NULL:
            link.phase = SETTLING
        else:
            link.phase = HANDSHAKING
            _shake_hands(link)
    elif link.phase != LOST:
        _send(link)


cdef size_t link_read(EngineState *engine, Link *link) noexcept nogil:
    cdef ssize_t size
    while True:
        size = recv(link.descriptor, engine.received, RECEIVED_BYTES, 0)
        if size >= 0 or errno != EINTR:
            break
    if size == 0:
        link_lose(link, b"the peer closed it")
        return 0
    if size < 0:
        if errno != EAGAIN:
            _fail(link, errno)
        return 0
    if engine.measuring:
        store(&engine.bytes_received, engine.bytes_received + size)
    if link.ssl is NULL:
        return <size_t>size
    if tls_feed(link.ssl, engine.received, <size_t>size) != 0:
        link_lose(link, b"out of memory")
    elif link.phase == HANDSHAKING:
        _shake_hands(link)
    return 0


cdef size_t link_decrypt(EngineState *engine, Link *link) noexcept nogil:
    cdef const char *problem = NULL
    cdef ssize_t size
    if link.ssl is NULL or link.phase < SETTLING or link.phase == LOST:
        return 0
    size = tls_read(link.ssl, engine.received, RECEIVED_BYTES, &problem)
    if size == -1:
        link_lose(link, b"the peer closed it")
    elif size < 0:
        _fail_tls(link, problem)
    return <size_t>max(size, 0)


cdef void _shake_hands(Link *link) noexcept nogil:
    cdef const char *problem = NULL
    cdef int result = tls_handshake(link.ssl, &problem)
    if tls_output(link.ssl, &link.output) != 0:
        link_lose(link, b"out of memory")
        return
    _send(link)
    if result < 0:
        _fail_tls(link, problem)
    elif result == 1 and link.phase != LOST:
        if tls_is_http2(link.ssl):
            link.phase = SETTLING
        else:
            link_lose(link, b"no HTTP/2: the peer chose no ALPN h2")


cdef void _fail_tls(Link *link, const char *problem) noexcept nogil:
    cdef char[REASON] text
    snprintf(text, REASON, b"TLS: %s", problem)
    link_lose(link, text)


# --- Out ------------------------------------------------------------------------------------------------


cdef void link_flush(EngineState *engine, Link *link) noexcept nogil:
    cdef int result = 1
    cdef Buffer *output
    link.dirty = False
    if link.phase < SETTLING:
        return
    while result == 1 and link.phase != LOST and link_unsent(link) == 0:
        link.output.size = link.sent = 0
        output = &link.output if link.ssl is NULL else &engine.clear
        output.size = 0
        result = session_output(link.session, output, OUTPUT_BYTES)
        if link.ssl is not NULL and (
            tls_write(link.ssl, output.data, output.size) != 0 or tls_output(link.ssl, &link.output) != 0
        ):
            link_lose(link, b"TLS: it failed")
            return
        if engine.measuring:
            store(&engine.bytes_sent, engine.bytes_sent + <int64_t>link.output.size)
        _send(link)
        if result < 0:
            link_lose(link, session_problem(link.session))


cdef void _send(Link *link) noexcept nogil:
    cdef ssize_t size
    cdef uint32_t interest = EPOLLIN
    while link_unsent(link) != 0:
        size = send(link.descriptor, link.output.data + link.sent, link_unsent(link), MSG_NOSIGNAL)
        if size >= 0:
            link.sent += <size_t>size
        elif errno == EAGAIN:
            interest |= EPOLLOUT
            break
        elif errno != EINTR:
            _fail(link, errno)
            return
    if link_unsent(link) == 0:
        link.output.size = link.sent = 0
    if interest != link.interest:
        _watch(link, EPOLL_CTL_MOD, interest)
