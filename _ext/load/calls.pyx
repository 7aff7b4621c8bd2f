# cython: language_level=3, freethreading_compatible=True
"""Calls of an engine: how they begin, what they send, how they end.

A call is one of those that may be under way at the same time; it is made over and over again. Its
latency ends when the bytes with its status were read, not when their turn came. It begins when it was
due or, of a closed loop, right before its request is handed to the session.
"""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.string cimport strlen

from tai_grpc._ext.http2.nghttp2 cimport NGHTTP2_CANCEL
from tai_grpc._ext.http2.session cimport (
    session_has_room, session_max_streams, session_next_event, session_request, stream_half_close,
    stream_message_read, stream_release, stream_reset, stream_send_message,
)
from tai_grpc._ext.http2.state cimport (
    BY_CONNECTION, BY_PROTOCOL, BY_RESET, BY_STATUS, ENDED, GOAWAY, HIGH_WATER, IDENTITY, MESSAGE, SETTINGS,
    UNPROCESSED, UNSENT, WRITABLE, Event,
)
from tai_grpc._ext.http2.status cimport (
    CANCELLED, DEADLINE_EXCEEDED, INTERNAL, OK, RESOURCE_EXHAUSTED, UNAVAILABLE,
)
from tai_grpc._ext.load.failures cimport HERE, failures_add
from tai_grpc._ext.load.link cimport link_touch, link_unsent
from tai_grpc._ext.load.source cimport TAKEN, Request, request_release, source_take
from tai_grpc._ext.load.state cimport (
    CLIENT_STREAM, CLOSED_LOOP, DRAINING, LOST, OPEN_LOOP, READY, REASON, SERVER_STREAM, SETTLING,
    TargetState,
)
from tai_grpc._ext.primitives.atomics cimport add, store
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.hdr cimport histogram_record

cdef enum:
    # What may wait to be sent on a connection before no more calls are made there.
    MAX_UNSENT = 1 << 20

cdef const char *NO_MEMORY = b"out of memory"
cdef const char *NO_RESPONSE = b"the server sent no response"
cdef const char *TOO_MANY_RESPONSES = b"the server sent more than one response"


# --- Lists ----------------------------------------------------------------------------------------------


cdef void queue_append(Queue *queue, Entry *entry) noexcept nogil:
    _link_in(queue, queue.last, entry)


cdef void queue_prepend(Queue *queue, Entry *entry) noexcept nogil:
    _link_in(queue, NULL, entry)


cdef void queue_insert(Queue *queue, Entry *entry) noexcept nogil:
    # Nearly always it is the last.
    cdef Entry *before = queue.last
    while before is not NULL and before.at_ns > entry.at_ns:
        before = before.previous
    _link_in(queue, before, entry)


cdef void _link_in(Queue *queue, Entry *before, Entry *entry) noexcept nogil:
    cdef Entry *after = queue.first if before is NULL else before.next
    entry.listed = True
    entry.previous = before
    entry.next = after
    if before is NULL:
        queue.first = entry
    else:
        before.next = entry
    if after is NULL:
        queue.last = entry
    else:
        after.previous = entry


cdef void queue_remove(Queue *queue, Entry *entry) noexcept nogil:
    if not entry.listed:
        return
    entry.listed = False
    if entry.previous is NULL:
        queue.first = entry.next
    else:
        entry.previous.next = entry.next
    if entry.next is NULL:
        queue.last = entry.previous
    else:
        entry.next.previous = entry.previous
    entry.previous = entry.next = NULL


cdef void place_touch(EngineState *engine, Place *place) noexcept nogil:
    if not place.listed:
        place.listed = True
        place.next_listed = engine.listed
        engine.listed = place


# --- The beginning --------------------------------------------------------------------------------------


cdef bint link_takes_calls(const Link *link) noexcept nogil:
    return _is_open(link) and not _is_full(link)


cdef inline bint _is_open(const Link *link) noexcept nogil:
    return (
        link is not NULL and link.phase == READY and not link.session.over and not link.session.going_away
        and link.session.next_stream_id != 0
        and link.session.queued + <int64_t>link_unsent(link) <= MAX_UNSENT
    )


cdef inline bint _is_full(const Link *link) noexcept nogil:
    """Whether the peer's streams are all in use. Of one that allows none calls are made all the same: they
    end by their timeout, and the run does.
    """
    return not session_has_room(link.session) and session_max_streams(link.session) != 0


cdef void link_note_full(EngineState *engine, const Link *link) noexcept nogil:
    cdef int64_t limit
    if _is_open(link) and _is_full(link):
        limit = session_max_streams(link.session)
        if not 0 <= engine.stream_limit <= limit:
            store(&engine.stream_limit, limit)


cdef int call_make(
    EngineState *engine, Call *call, Link *link, int64_t due_ns, bint *starved
) noexcept nogil:
    cdef int64_t now = monotonic_ns()
    cdef bint measured
    cdef int taken
    if engine.pace == CLOSED_LOOP:
        due_ns = now
    measured = due_ns >= engine.measure_ns
    taken = source_take(engine.source, measured, starved[0], &engine.starving, &call.request)
    starved[0] = taken != TAKEN
    if taken != TAKEN:
        return taken
    call.measured = measured
    call.due_ns = due_ns
    call.started_ns = now
    call.sent_again = False
    call.deadline.at_ns = now + engine.timeout_ns
    queue_insert(&engine.deadlines, &call.deadline)
    if engine.stream_duration_ns >= 0:
        call.end.at_ns = now + engine.stream_duration_ns
        queue_insert(&engine.ends, &call.end)
    store(&engine.in_flight, engine.in_flight + 1)
    if measured and engine.pace == OPEN_LOOP:
        histogram_record(engine.lag, engine.lag_counts, max(<int64_t>0, now - due_ns), 1)
    _begin(engine, call, link, now)
    return TAKEN


cdef int call_refuse(EngineState *engine, Place *place, int64_t due_ns, bint *starved) noexcept nogil:
    cdef int64_t now = monotonic_ns()
    cdef Request *request = NULL
    cdef bint measured
    cdef int taken
    if engine.pace == CLOSED_LOOP:
        due_ns = now
    measured = due_ns >= engine.measure_ns
    taken = source_take(engine.source, measured, starved[0], &engine.starving, &request)
    starved[0] = taken != TAKEN
    if taken == TAKEN:
        request_release(request)
        if measured:
            _count_failure(
                engine, place.target, UNAVAILABLE, HERE, 0, place.reason, strlen(place.reason), now
            )
    return taken


cdef void call_resend(EngineState *engine, Call *call, Link *link) noexcept nogil:
    queue_remove(&engine.resends, &call.waiting)
    _begin(engine, call, link, monotonic_ns())


cdef void _begin(EngineState *engine, Call *call, Link *link, int64_t now) noexcept nogil:
    cdef TargetState *target = link.place.target
    cdef Request *request = call.request
    cdef int64_t timeout_ns = max(<int64_t>1, call.deadline.at_ns - now)
    cdef int encoding = engine.source.encoding
    call.place = link.place
    call.received = 0
    call.next_message = 0
    call.half_closed = call.full = False
    call.next_send.at_ns = now
    call.stream = session_request(
        link.session, engine.path, engine.path_size, target.authority, target.authority_size,
        link.ssl is not NULL, timeout_ns, encoding, engine.user_agent, engine.user_agent_size,
        &request.metadata, call,
    )
    link_touch(engine, link)
    if call.stream is NULL:
        _fail(engine, call, RESOURCE_EXHAUSTED, HERE, 0, NO_MEMORY, strlen(NO_MEMORY), now)
        return
    call.link = link
    link.calls += 1
    call.to_send = <int64_t>min(request.count, <size_t>1)
    if engine.kind & CLIENT_STREAM:
        call.to_send = <int64_t>request.count
        if engine.stream_messages >= 0 and request.count != 0:
            call.to_send = engine.stream_messages
    call_send(engine, call, now)


cdef void call_send(EngineState *engine, Call *call, int64_t now) noexcept nogil:
    cdef Request *request = call.request
    cdef size_t number, begin
    if call.stream is NULL or call.half_closed:
        return
    link_touch(engine, call.link)
    while call.to_send > 0:
        if call.stream.queued >= HIGH_WATER:
            call.full = call.stream.wants_writable = True
            return
        number = call.next_message
        begin = request.ends[number - 1] if number != 0 else 0
        stream_send_message(
            call.stream, request.data + begin, request.ends[number] - begin,
            engine.source.encoding != IDENTITY,
        )
        call.next_message = number + 1 if number + 1 < request.count else 0
        call.to_send -= 1
        if call.measured:
            store(&engine.messages_sent, engine.messages_sent + 1)
        if engine.stream_interval_ns > 0 and call.to_send > 0:
            # From when this one was to be sent, so that the rate holds; never to make up for a long wait.
            call.next_send.at_ns = max(call.next_send.at_ns + engine.stream_interval_ns, now)
            queue_insert(&engine.next_sends, &call.next_send)
            return
    call.half_closed = True
    stream_half_close(call.stream)


# --- What comes back ------------------------------------------------------------------------------------


cdef void link_events(EngineState *engine, Link *link, int64_t now) noexcept nogil:
    cdef Event *event
    cdef Call *call
    while True:
        event = session_next_event(link.session)
        if event is NULL:
            return
        if event.kind == SETTINGS:
            if link.phase == SETTLING:
                link.phase = READY
            continue
        if event.kind == GOAWAY:
            if link.phase != LOST:
                _going_away(link, event)
            if link.calls != 0 and event.number != 0:
                link.served = True  # a call there will still be answered
            continue
        if event.stream is NULL:
            continue
        if event.kind == MESSAGE:
            stream_message_read(event.stream, event.size)
        call = <Call *>event.stream.owner
        if call is NULL:
            continue
        if event.kind == ENDED:
            _ended(engine, call, event, now)
        elif event.kind == MESSAGE:
            _received(engine, call, now)
        elif event.kind == WRITABLE and call.full:
            call.full = False
            call_send(engine, call, now)


cdef void _going_away(Link *link, const Event *event) noexcept nogil:
    cdef int size = <int>min(event.size, <size_t>REASON)
    link.phase = DRAINING
    if size == 0:
        snprintf(link.reason, REASON, b"the server said GOAWAY")
    else:
        snprintf(link.reason, REASON, b"the server said GOAWAY: %.*s", size, event.data)


cdef inline void _received(EngineState *engine, Call *call, int64_t now) noexcept nogil:
    call.received += 1
    if call.measured:
        store(&engine.messages_received, engine.messages_received + 1)
    if engine.kind == SERVER_STREAM and call.received == engine.stream_messages:
        _give_up(engine, call)
        _succeed(engine, call, now)


cdef void _ended(EngineState *engine, Call *call, const Event *event, int64_t now) noexcept nogil:
    cdef Link *link = call.link
    cdef int code = <int>event.code
    cdef const char *reason
    if event.why == BY_STATUS:
        link.served = True
    elif call.stream.flags & UNSENT or (call.stream.flags & UNPROCESSED and not call.sent_again):
        if not call.stream.flags & UNSENT:
            call.sent_again = True
            if call.measured:
                store(&engine.sent_again, engine.sent_again + 1)
        _detach(engine, call)
        queue_append(&engine.resends, &call.waiting)
        return
    if code == OK:
        if not engine.kind & SERVER_STREAM and call.received != 1:
            reason = NO_RESPONSE if call.received == 0 else TOO_MANY_RESPONSES
            _fail(engine, call, INTERNAL, BY_PROTOCOL, 0, reason, strlen(reason), now)
        else:
            _succeed(engine, call, now)
    elif event.why == BY_RESET and code == CANCELLED and now >= call.deadline.at_ns:
        # A server that gives up at the deadline says so with a reset.
        _fail(engine, call, DEADLINE_EXCEEDED, HERE, 0, engine.late, strlen(engine.late), now)
    elif event.why == BY_CONNECTION:
        _fail(engine, call, code, BY_CONNECTION, 0, link.reason, strlen(link.reason), now)
    else:
        _fail(engine, call, code, event.why, event.number, event.data, event.size, now)


# --- The end --------------------------------------------------------------------------------------------


cdef void _count_failure(
    EngineState *engine, TargetState *target, int code, int why, int64_t number, const char *text,
    size_t size, int64_t now,
) noexcept nogil:
    add(&target.statuses[code], 1)
    failures_add(&engine.failures, code, why, number, text, size)
    store(&engine.last_end_ns, now)


cdef void _fail(
    EngineState *engine, Call *call, int code, int why, int64_t number, const char *text, size_t size,
    int64_t now,
) noexcept nogil:
    if call.measured:
        _count_failure(engine, call.place.target, code, why, number, text, size, now)
    _finish(engine, call)


cdef void _succeed(EngineState *engine, Call *call, int64_t now) noexcept nogil:
    cdef TargetState *target = call.place.target
    cdef int64_t since_ns = call.started_ns if engine.from_send else call.due_ns
    if call.measured:
        add(&target.statuses[<int>OK], 1)
        histogram_record(target.histogram, target.counts, max(<int64_t>0, now - since_ns), 1)
        store(&engine.last_end_ns, now)
    _finish(engine, call)


cdef void _detach(EngineState *engine, Call *call) noexcept nogil:
    """Its stream has nothing to do with it any more."""
    if call.stream is not NULL:
        stream_release(call.stream)
        call.stream = NULL
        call.link.calls -= 1
        link_touch(engine, call.link)  # it may be done, or have room for others
        call.link = NULL
    queue_remove(&engine.next_sends, &call.next_send)


cdef void _finish(EngineState *engine, Call *call) noexcept nogil:
    _detach(engine, call)
    queue_remove(&engine.deadlines, &call.deadline)
    queue_remove(&engine.ends, &call.end)
    queue_remove(&engine.resends, &call.waiting)
    request_release(call.request)
    call.request = NULL
    store(&engine.in_flight, engine.in_flight - 1)
    if engine.pace == CLOSED_LOOP:
        queue_prepend(&call.place.idle, &call.waiting)
        place_touch(engine, call.place)
    else:
        queue_prepend(&engine.free, &call.waiting)
        engine.held = False


cdef void _give_up(EngineState *engine, Call *call) noexcept nogil:
    if call.stream is not NULL:
        stream_reset(call.stream, NGHTTP2_CANCEL)


cdef void call_too_late(EngineState *engine, Call *call, int64_t now) noexcept nogil:
    _give_up(engine, call)
    _fail(engine, call, DEADLINE_EXCEEDED, HERE, 0, engine.late, strlen(engine.late), now)


cdef void call_unavailable(EngineState *engine, Call *call, int64_t now) noexcept nogil:
    cdef const char *reason = call.place.reason
    _fail(engine, call, UNAVAILABLE, HERE, 0, reason, strlen(reason), now)


cdef void call_duration_over(EngineState *engine, Call *call, int64_t now) noexcept nogil:
    queue_remove(&engine.ends, &call.end)
    if engine.kind == SERVER_STREAM:
        _give_up(engine, call)
        _succeed(engine, call, now)
    elif engine.kind & CLIENT_STREAM:
        queue_remove(&engine.next_sends, &call.next_send)
        call.to_send = 0
        call.full = False
        call_send(engine, call, now)


cdef void call_abandon(EngineState *engine, Call *call) noexcept nogil:
    if call.measured:
        store(&engine.abandoned, engine.abandoned + 1)
    _give_up(engine, call)
    _finish(engine, call)
