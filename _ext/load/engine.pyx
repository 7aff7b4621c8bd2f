# cython: language_level=3, freethreading_compatible=True
"""The load engine for Python: one thread that makes calls over its connections without the GIL.

It is made, connects, runs once, and is closed; while it runs other threads read its counters and histograms,
and may stop it. What engines share is their `Source`; a `Target` belongs to one of them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC
from posix.unistd cimport close

from tai_grpc._ext.http2.buffers cimport buffer_free
from tai_grpc._ext.http2.session cimport session_defaults
from tai_grpc._ext.http2.state cimport CLIENT
from tai_grpc._ext.load.calls cimport queue_append
from tai_grpc._ext.load.failures cimport (
    MAX_KINDS, STATUSES, failures_free, failures_init, failures_list,
)
from tai_grpc._ext.load.link cimport RECEIVED_BYTES
from tai_grpc._ext.load.linux cimport (
    AF_INET, AF_INET6, AF_UNIX, EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLET, EPOLLIN,
    TFD_CLOEXEC, TFD_NONBLOCK,
    epoll_create1, epoll_ctl, epoll_event, eventfd, eventfd_write, htons, inet_pton, sockaddr_in,
    sockaddr_in6, sockaddr_un, timerfd_create,
)
from tai_grpc._ext.load.loop cimport loop_connect, loop_disconnect, loop_problem, loop_run
from tai_grpc._ext.load.schedule cimport schedule_free, schedule_init
from tai_grpc._ext.load.source cimport request_release
from tai_grpc._ext.load.state cimport (
    CLIENT_STREAM, CLOSED_LOOP, OPEN_LOOP, SERVER_STREAM, Address, Call, Place,
)
from tai_grpc._ext.primitives.atomics cimport load, store

from tai_grpc.checks import MAX_CONCURRENCY, MAX_CONNECTIONS, MAX_SECONDS, check_float, check_int
from tai_grpc.errors import ConfigError

ERROR_KINDS = <int>MAX_KINDS

cdef int64_t MAX_NS = <int64_t>1 << 61
cdef int64_t WINDOW_BYTES = (<int64_t>1 << 30) - 1  # nothing that is received waits to be read


cdef class Target:
    """A host that an engine calls.

    `name` is what people know it by. `addresses`, one or more: where it is, each a family, an address and
    a port: `socket.AF_INET` or AF_INET6 and a numeric address, or AF_UNIX and a path (and any port); a
    connection is made to the first that takes it. `authority` is what requests say. With `tls` the
    server's certificate has to be for `server_name`, a name or an address; "": any that is trusted will
    do. Latencies up to `highest_ns` are told apart.

    Raises:
        ConfigError: naming the argument and what it accepts.
    """

    def __cinit__(
        self, str name not None, *, addresses, str authority not None, TlsContext tls=None,
        str server_name not None="", highest_ns=60_000_000_000,
    ):
        cdef list places = list(addresses)
        cdef size_t i
        self.name = name
        self.name_bytes = _text("name", name)
        self.authority = _text("authority", authority)
        self.server_name = _text("server_name", server_name)
        self.tls = tls
        self.latencies = LatencyHistogram(1000, check_int("highest_ns", highest_ns, 1_000_000, MAX_NS), 3)
        self.state.name = PyBytes_AS_STRING(self.name_bytes)
        self.state.authority = PyBytes_AS_STRING(self.authority)
        self.state.authority_size = <size_t>PyBytes_GET_SIZE(self.authority)
        self.state.histogram = self.latencies.state_
        self.state.counts = self.latencies.counts_
        if tls is not None:
            self.state.tls = tls.context
            if server_name:
                self.state.server_name = PyBytes_AS_STRING(self.server_name)
        if not places:
            raise ConfigError("addresses", addresses, "at least one")
        self.state.addresses = <Address *>calloc(<size_t>len(places), sizeof(Address))
        if self.state.addresses is NULL:
            raise MemoryError
        self.state.address_count = len(places)
        for i in range(self.state.address_count):
            family, address, port = places[i]
            _set_address(
                &self.state.addresses[i], check_int("family", family, 0, 1 << 15), _text("address", address),
                check_int("port", port, 0, 65535),
            )

    def __dealloc__(self):
        free(self.state.addresses)

    def statuses(self):
        """How many measured calls ended with each status code, 0 to 16."""
        cdef int i
        return [load(&self.state.statuses[i]) for i in range(STATUSES)]


cdef bytes _text(str field, str value):
    if "\0" in value:
        raise ConfigError(field, value, "a text without a null character")
    return value.encode("utf-8", "surrogateescape")


cdef int _set_address(Address *where, int family, bytes address, int port) except -1:
    cdef sockaddr_in *ipv4 = <sockaddr_in *>&where.place
    cdef sockaddr_in6 *ipv6 = <sockaddr_in6 *>&where.place
    cdef sockaddr_un *path = <sockaddr_un *>&where.place
    cdef size_t size = <size_t>PyBytes_GET_SIZE(address)
    cdef const char *text = PyBytes_AS_STRING(address)
    where.place.ss_family = <unsigned short>family
    if family == AF_INET:
        ipv4.sin_port = htons(<unsigned short>port)
        where.size = sizeof(sockaddr_in)
        if inet_pton(AF_INET, text, &ipv4.sin_addr) == 1:
            return 0
    elif family == AF_INET6:
        ipv6.sin6_port = htons(<unsigned short>port)
        where.size = sizeof(sockaddr_in6)
        if inet_pton(AF_INET6, text, &ipv6.sin6_addr) == 1:
            return 0
    elif family == AF_UNIX:
        where.size = sizeof(sockaddr_un)
        if 0 < size < sizeof(path.sun_path):
            memcpy(path.sun_path, text, size)
            return 0
    else:
        raise ConfigError("family", family, "AF_INET, AF_INET6 or AF_UNIX")
    accepted = "a numeric address, or a path of 1 to 107 bytes"
    raise ConfigError("address", address.decode("utf-8", "replace"), accepted)


cdef class Engine:
    """Calls one method of `targets` over `connections` (1 to 10,000) of them in turn.

    `path` is "/pkg.Service/Method". A call takes at most `timeout_ns`. Without `segments` it is a closed
    loop: `concurrency` (1 to 100,000) callers, spread over the connections, each of which makes its
    next call when the last has ended. With them calls are due at a rate, at most `concurrency` at a
    time: each segment has seconds (None: for ever), a rate at its start and at its end, in calls a
    second. `poisson`: at random distances, which `seed` decides. Of the schedule this engine makes the
    `first_arrival`-th call and each `arrival_step`-th after it. Latencies count from when a call was
    due; `closed`: from when it was sent.

    Streams: `stream_messages` (-1: those of the request, once) are sent, one each `stream_interval_ns`
    (0: as fast as the server reads), and none after `stream_duration_ns` (-1: no limit); after as many
    messages, or as long, a server's stream is given up, as OK.

    `end_waits` False: calls in flight when the time is over are given up and counted as abandoned.

    Raises:
        ConfigError: naming the argument and its range.
    """

    def __cinit__(
        self, targets, Source source not None, *, str path not None, bint client_streaming=False,
        bint server_streaming=False, connections=1, concurrency=50, timeout_ns=20_000_000_000,
        str user_agent not None="", stream_interval_ns=0, stream_messages=-1, stream_duration_ns=-1,
        segments=None, bint poisson=False, seed=0, double first_arrival=0.0, double arrival_step=1.0,
        bint closed=False, bint end_waits=True, max_message_bytes=64 << 20,
    ):
        cdef EngineState *state
        self.state = state = <EngineState *>calloc(1, sizeof(EngineState))
        if state is NULL:
            raise MemoryError
        state.epoll = state.timer = state.starving.wake = -1
        state.stream_limit = -1
        self.targets = list(targets)
        self.source = source
        self.path = _text("path", path)
        self.user_agent = _text("user_agent", user_agent)
        if not self.targets or not all(isinstance(target, Target) for target in self.targets):
            raise ConfigError("targets", targets, "at least one Target")
        if failures_init(&state.failures) != 0:
            raise MemoryError
        state.source = &source.state
        state.path = PyBytes_AS_STRING(self.path)
        state.path_size = <size_t>PyBytes_GET_SIZE(self.path)
        state.user_agent = PyBytes_AS_STRING(self.user_agent)
        state.user_agent_size = <size_t>PyBytes_GET_SIZE(self.user_agent)
        if client_streaming:
            state.kind |= CLIENT_STREAM
        if server_streaming:
            state.kind |= SERVER_STREAM
        state.end_waits = end_waits
        self.settings(timeout_ns, stream_interval_ns, stream_messages, stream_duration_ns, max_message_bytes)
        # A call may wait as long as one may take.
        self.send_lag = LatencyHistogram(1000, (<Target>self.targets[0]).latencies.highest, 3)
        state.lag = self.send_lag.state_
        state.lag_counts = self.send_lag.counts_
        state.pace = CLOSED_LOOP
        state.from_send = closed
        if segments is not None:
            state.pace = OPEN_LOOP
            seed = check_int("seed", seed, 0, (1 << 64) - 1)
            schedule_init(&state.schedule, segments, poisson, seed, first_arrival, arrival_step)
        self.make_parts(connections, concurrency)
        self.make_descriptors()

    cdef int settings(
        self, object timeout_ns, object stream_interval_ns, object stream_messages, object stream_duration_ns,
        object max_message_bytes,
    ) except -1:
        cdef EngineState *state = self.state
        state.timeout_ns = check_int("timeout_ns", timeout_ns, 1, MAX_NS)
        state.stream_interval_ns = check_int("stream_interval_ns", stream_interval_ns, 0, MAX_NS)
        state.stream_messages = check_int("stream_messages", stream_messages, -1, MAX_NS)
        state.stream_duration_ns = check_int("stream_duration_ns", stream_duration_ns, -1, MAX_NS)
        state.settings = session_defaults(CLIENT)
        state.settings.window_bytes = state.settings.connection_window_bytes = WINDOW_BYTES
        state.settings.max_message_bytes = check_int("max_message_bytes", max_message_bytes, 0, (1 << 32) - 1)
        snprintf(state.late, sizeof(state.late), b"no answer within %g s", <double>state.timeout_ns * 1e-9)
        return 0

    cdef int make_parts(self, object connections, object concurrency) except -1:
        cdef EngineState *state = self.state
        cdef Call *call
        cdef size_t i
        state.place_count = check_int("connections", connections, 1, MAX_CONNECTIONS)
        state.call_count = check_int("concurrency", concurrency, 1, MAX_CONCURRENCY)
        # Each call may have a message under way, and that so many come at once is not the server's fault.
        state.settings.max_buffered_bytes = <int64_t>state.call_count * max(
            state.settings.max_message_bytes, <int64_t>1 << 20
        )
        state.received = <char *>malloc(RECEIVED_BYTES)
        state.places = <Place *>calloc(state.place_count, sizeof(Place))
        state.calls = <Call *>calloc(state.call_count, sizeof(Call))
        if state.received is NULL or state.places is NULL or state.calls is NULL:
            raise MemoryError
        for i in range(state.place_count):
            state.places[i].target = &(<Target>self.targets[i % <size_t>len(self.targets)]).state
        for i in range(state.call_count):
            call = &state.calls[i]
            call.waiting.call = call.deadline.call = call.next_send.call = call.end.call = call
            call.place = &state.places[i % state.place_count]
            queue_append(&call.place.idle if state.pace == CLOSED_LOOP else &state.free, &call.waiting)
        return 0

    cdef int make_descriptors(self) except -1:
        cdef EngineState *state = self.state
        cdef epoll_event event
        state.epoll = epoll_create1(EPOLL_CLOEXEC)
        state.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)
        state.starving.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if state.epoll < 0 or state.timer < 0 or state.starving.wake < 0:
            raise OSError("no descriptors are left for a load engine: see ulimit -n")
        event.events = EPOLLIN | EPOLLET
        event.data.ptr = NULL
        if epoll_ctl(state.epoll, EPOLL_CTL_ADD, state.timer, &event) != 0:
            raise OSError("epoll takes no timer")
        event.events = EPOLLIN
        event.data.ptr = state
        if epoll_ctl(state.epoll, EPOLL_CTL_ADD, state.starving.wake, &event) != 0:
            raise OSError("epoll takes no event")
        return 0

    def __dealloc__(self):
        if self.state is not NULL:
            self.dissolve()
            failures_free(&self.state.failures)
            free(self.state)

    cdef int dissolve(self) noexcept:
        """All but the counters and the failures, which are still read."""
        cdef EngineState *state = self.state
        cdef size_t i
        cdef int descriptor
        loop_disconnect(state)
        if state.calls is not NULL:
            for i in range(state.call_count):
                request_release(state.calls[i].request)
        free(state.places)
        free(state.calls)
        free(state.received)
        state.places = NULL
        state.calls = NULL
        state.received = NULL
        state.place_count = state.call_count = 0
        schedule_free(&state.schedule)
        buffer_free(&state.clear)
        for descriptor in [state.epoll, state.timer, state.starving.wake]:
            if descriptor >= 0:
                close(descriptor)
        state.epoll = state.timer = state.starving.wake = -1
        return 0

    cdef int enter(self, int stage, int next) except -1:
        """Stages follow each other, in one thread at a time."""
        if self.stage != stage:
            raise RuntimeError("an Engine connects once, then runs once, then is closed")
        self.stage = next
        return 0

    def connect(self, timeout):
        """Make all connections, within `timeout` seconds. Other threads run meanwhile.

        Raises:
            ConnectionError: naming the host and what is wrong.
            ConfigError: `timeout` is not above 0.
        """
        cdef double seconds = check_float("timeout", timeout, 0.0, MAX_SECONDS, above=True)
        cdef int result
        cdef const char *problem
        self.enter(MADE, RUNNING)
        with nogil:
            result = loop_connect(self.state, <int64_t>(seconds * 1e9))
        if result == 0:
            self.stage = CONNECTED
            return
        self.stage = ENDED
        problem = loop_problem(self.state)
        if problem is NULL:
            raise ConnectionError("connecting was stopped")
        raise ConnectionError(problem.decode("utf-8", "replace"))

    def run(self, *, begin_ns, measure_ns, end_ns):
        """Make calls from `begin_ns` on, those from `measure_ns` on measured, until `end_ns` or, with
        None, until the source's numbers are used up and the last call has ended; times of
        CLOCK_MONOTONIC. Other threads run meanwhile.

        Raises:
            ConfigError: the times are not in this order.
        """
        cdef EngineState *state = self.state
        cdef int64_t begin = check_int("begin_ns", begin_ns, 1, MAX_NS)
        cdef int64_t measure = check_int("measure_ns", measure_ns, begin, MAX_NS)
        cdef int64_t end = -1 if end_ns is None else check_int("end_ns", end_ns, measure, MAX_NS)
        cdef int result
        self.enter(CONNECTED, RUNNING)
        state.begin_ns, state.measure_ns, state.end_ns = begin, measure, end
        with nogil:
            result = loop_run(state)
        self.stage = ENDED
        if result != 0:
            raise OSError("epoll does not wait any more")

    def stop(self):
        """End it now, from any thread: calls in flight are given up and counted as abandoned."""
        store(&self.state.stop_asked, 1)
        if self.state.starving.wake >= 0:
            eventfd_write(self.state.starving.wake, 1)

    def close(self):
        """Disconnect. What was counted can still be read.

        Raises:
            RuntimeError: it runs.
        """
        if self.stage == RUNNING:
            raise RuntimeError("an Engine that runs is not closed: stop it, and wait for run to return")
        if self.stage != CLOSED:
            self.stage = CLOSED
            self.dissolve()

    def errors(self):
        """How measured calls failed: status code, what was said, how often. Of more than `ERROR_KINDS` kinds
        the others are counted by code, and what was said is None.
        """
        return failures_list(&self.state.failures)

    @property
    def in_flight(self):
        """Calls that have begun and not ended, of the warm-up as well."""
        return load(&self.state.in_flight)

    @property
    def abandoned(self):
        """Measured calls that were given up when the run was stopped, or its time was over."""
        return load(&self.state.abandoned)

    @property
    def missed(self):
        """Open loop: measured calls that were due before the end and never sent."""
        return load(&self.state.missed)

    @property
    def reconnects(self):
        """Connections that were made again after they were lost, or the server said GOAWAY."""
        return load(&self.state.reconnects)

    @property
    def sent_again(self):
        """Measured calls that were sent once more, as the server refused them and had done nothing."""
        return load(&self.state.sent_again)

    @property
    def stream_limit(self):
        """How many streams the server allows on a connection; None when no call had to wait for one."""
        cdef int64_t limit = load(&self.state.stream_limit)
        return None if limit < 0 else limit

    @property
    def messages_sent(self):
        """Of measured calls."""
        return load(&self.state.messages_sent)

    @property
    def messages_received(self):
        """Of measured calls."""
        return load(&self.state.messages_received)

    @property
    def bytes_sent(self):
        """Written to sockets, since measuring began."""
        return load(&self.state.bytes_sent)

    @property
    def bytes_received(self):
        """Read from sockets, since measuring began."""
        return load(&self.state.bytes_received)

    @property
    def last_end_ns(self):
        """When the last measured call ended, of CLOCK_MONOTONIC; 0: none has."""
        return load(&self.state.last_end_ns)

    @property
    def cpu_ns(self):
        """The time that the engine's thread had on a CPU since measuring began; looked at every 50 ms."""
        return load(&self.state.cpu_ns)

    @property
    def timed_out(self):
        """Whether it was `end_ns` that ended the run."""
        return load(&self.state.timed_out) != 0
