"""What an engine consists of: targets, places for connections, connections, calls."""

from libc.stdint cimport int64_t, uint32_t

from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.http2.state cimport SessionSettings, SessionState, StreamState
from tai_grpc._ext.load.failures cimport STATUSES, Failures
from tai_grpc._ext.load.linux cimport sockaddr_storage, socklen_t
from tai_grpc._ext.load.openssl cimport SSL, SSL_CTX
from tai_grpc._ext.load.schedule cimport Schedule
from tai_grpc._ext.load.source cimport Request, SourceState, Starving
from tai_grpc._ext.primitives.hdr cimport HistogramState

cdef enum:
    REASON = 256  # bytes of what is said of a connection's end

cdef enum LinkPhase:
    CONNECTING = 0
    HANDSHAKING = 1  # TLS
    SETTLING = 2  # the peer's settings are yet to come
    READY = 3
    DRAINING = 4  # no new calls: the peer said GOAWAY, or there are no stream ids left
    LOST = 5

cdef enum Pace:
    CLOSED_LOOP = 0
    OPEN_LOOP = 1

cdef enum Kind:
    # Bits of a method's kind; a unary one has none.
    CLIENT_STREAM = 1
    SERVER_STREAM = 2


# A place in a list of calls that is in the order of `at_ns`.
cdef struct Entry:
    Entry *previous
    Entry *next
    Call *call
    int64_t at_ns
    bint listed


cdef struct Queue:
    Entry *first
    Entry *last


# Where a host may be.
cdef struct Address:
    sockaddr_storage place
    socklen_t size


# One host, of one engine.
cdef struct TargetState:
    Address *addresses
    size_t address_count
    const char *name  # for people
    const char *authority
    size_t authority_size
    SSL_CTX *tls  # NULL: none
    const char *server_name  # NULL: the certificate's names are not looked at
    HistogramState *histogram
    int64_t *counts
    int64_t statuses[STATUSES]


# A connection.
cdef struct Link:
    Place *place
    # Neighbours among all of the engine's.
    Link *previous
    Link *next
    Link *next_dirty
    bint dirty  # something may be there to be sent
    bint listed  # among the dirty ones
    int phase  # a LinkPhase
    int descriptor
    int epoll
    uint32_t interest
    SessionState *session
    SSL *ssl  # NULL: none
    Buffer output  # what is on its way into the socket, from `sent` on
    size_t sent
    int64_t calls  # that have a stream here
    int64_t ready_ns
    bint served  # the peer has answered a call here, or is about to
    char reason[REASON]  # why it goes away, or was lost


# Where one of the connections is, and the next when it is lost.
cdef struct Place:
    TargetState *target
    Link *link  # NULL: none at the moment
    size_t address  # which of the target's it has, or tries
    int64_t at_ns  # without a link: when to connect; before it is ready: when to give that up
    int64_t pause_ns  # before the next attempt but one
    bint failed  # the last attempt to connect; until one succeeds
    bint was_ready
    char reason[2 * REASON]  # of that
    Queue idle  # closed loop: calls that are to be made here
    Place *next_listed
    bint listed  # among those where calls may be made


# One of those that are made at the same time, over and over again.
cdef struct Call:
    Place *place
    Link *link  # NULL: it is not under way
    StreamState *stream
    Request *request
    int64_t due_ns
    int64_t started_ns
    bint measured
    bint starved
    bint sent_again  # after the peer had refused it
    size_t next_message  # of its request
    int64_t to_send  # messages; those sent are taken off
    int64_t received
    bint half_closed
    bint full  # it waits until its stream is writable
    Entry waiting  # idle, or to be sent again
    Entry deadline
    Entry next_send  # of a stream with an interval
    Entry end  # of a stream with a duration


cdef struct EngineState:
    # What it does.
    SourceState *source
    SessionSettings settings
    const char *path
    size_t path_size
    const char *user_agent
    size_t user_agent_size
    int kind  # bits of Kind
    int pace
    bint from_send  # open loop: latencies count from the sending
    bint end_waits
    int64_t timeout_ns
    int64_t stream_interval_ns
    int64_t stream_messages  # -1: the request's own
    int64_t stream_duration_ns  # -1: none
    int64_t connect_timeout_ns
    Schedule schedule
    HistogramState *lag
    int64_t *lag_counts
    Failures failures
    char late[64]  # what is said of a call that took too long
    # Its parts.
    Place *places
    size_t place_count
    size_t turn  # open loop: the place whose turn it is
    Call *calls
    size_t call_count
    Link *links
    Link *dirty
    Link *dead
    Place *listed
    Queue free  # open loop: calls that are not under way
    Queue resends
    Queue deadlines
    Queue next_sends
    Queue ends
    int epoll
    int timer
    int64_t armed_ns  # when the timer goes off; 0: it does not
    Starving starving
    bint starved
    char *received
    Buffer clear  # TLS: what is to be encrypted
    # Where it stands.
    int64_t begin_ns
    int64_t measure_ns
    int64_t end_ns  # -1: none
    int64_t next_place_ns  # when to look after the places
    int64_t cpu_base_ns
    int64_t cpu_read_ns
    size_t settling  # places that have not been ready yet
    bint connecting
    bint begun
    bint measuring
    bint ending  # no new calls
    bint used_up
    bint arrival_starved  # open loop: the call that is due has found no request
    bint held  # open loop: a call is due and cannot be made now
    # What other threads read or write.
    int64_t stop_asked
    int64_t in_flight
    int64_t abandoned
    int64_t missed
    int64_t reconnects
    int64_t sent_again  # measured calls, after the peer had refused them
    int64_t stream_limit  # the peer's, of a connection, that had a call wait; -1: none has
    int64_t messages_sent
    int64_t messages_received
    int64_t bytes_sent
    int64_t bytes_received
    int64_t last_end_ns
    int64_t cpu_ns
    int64_t timed_out
