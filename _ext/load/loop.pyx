# cython: language_level=3, freethreading_compatible=True
"""The loop of an engine: timers, calls that are due, beginning and end.

A turn: what the clock says is done first, then calls are made where they may be, then what is to be sent
goes out, then the loop sleeps until a socket, the timer, a fed source or `stop` wakes it. The timer is a
descriptor with an absolute time, so it is as exact as the kernel's clock and no timer slack is added.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport INT64_MAX, uint32_t, uint64_t
from libc.string cimport memset
from posix.time cimport CLOCK_THREAD_CPUTIME_ID, clock_gettime, timespec

from tai_grpc._ext.http2.nghttp2 cimport NGHTTP2_NO_ERROR
from tai_grpc._ext.http2.session cimport session_lost, session_problem, session_receive, session_terminate
from tai_grpc._ext.load.calls cimport (
    call_abandon, call_duration_over, call_make, call_refuse, call_resend, call_send, call_too_late,
    call_unavailable, link_events, link_note_full, link_takes_calls, place_touch, queue_prepend,
    queue_remove,
)
from tai_grpc._ext.load.linux cimport (
    EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, TFD_TIMER_ABSTIME,
    epoll_event, epoll_wait, eventfd_read, itimerspec, timerfd_settime, timespec_of,
)
from tai_grpc._ext.load.link cimport (
    link_bury, link_decrypt, link_flush, link_free, link_lose, link_read, link_writable,
)
from tai_grpc._ext.load.places cimport link_check, place_connect, places_tend
from tai_grpc._ext.load.schedule cimport schedule_advance, schedule_skip
from tai_grpc._ext.load.source cimport STARVED, TAKEN, USED_UP, source_forget, source_miss, source_used_up
from tai_grpc._ext.load.state cimport (
    CLOSED_LOOP, CONNECTING, DRAINING, LOST, OPEN_LOOP, READY, Call, Entry, Link, Place,
)
from tai_grpc._ext.primitives.atomics cimport load, store
from tai_grpc._ext.primitives.clock cimport monotonic_ns

cdef enum:
    EVENTS = 256  # taken from the kernel in a turn

# How often the time that the thread had on a CPU is looked at.
cdef int64_t CPU_INTERVAL_NS = 50_000_000
# How soon it is seen that others have used the numbers up.
cdef int64_t LOOK_AROUND_NS = 50_000_000


# --- Calls ----------------------------------------------------------------------------------------------


cdef void _make_calls(EngineState *engine, int64_t now) noexcept nogil:
    """Make calls wherever they may be made."""
    cdef Place *place
    _send_again(engine, now)
    if not engine.begun or engine.ending:
        return
    if engine.pace == OPEN_LOOP:
        _make_due(engine, now)
        return
    while engine.listed is not NULL:
        place = engine.listed
        engine.listed = place.next_listed
        place.listed = False
        _fill(engine, place)


cdef void _fill(EngineState *engine, Place *place) noexcept nogil:
    """Closed loop: begin the calls of a place that are not under way."""
    cdef Call *call
    cdef int taken
    while place.idle.first is not NULL and link_takes_calls(place.link) and not engine.used_up:
        call = place.idle.first.call
        queue_remove(&place.idle, &call.waiting)
        taken = call_make(engine, call, place.link, 0, &call.starved)
        if taken != TAKEN:
            queue_prepend(&place.idle, &call.waiting)
            engine.starved = taken == STARVED
            engine.used_up = taken == USED_UP
            return
    if place.idle.first is not NULL and not engine.used_up:
        link_note_full(engine, place.link)


cdef void _make_due(EngineState *engine, int64_t now) noexcept nogil:
    """Open loop: begin the calls that are due. `held`: one is, and something else has to happen first."""
    cdef Place *place
    cdef Call *call
    cdef int64_t due_ns
    cdef int taken
    engine.held = False
    while not engine.used_up:
        if engine.schedule.due_ns < 0 or source_used_up(engine.source):
            engine.used_up = True
            return
        due_ns = engine.begin_ns + engine.schedule.due_ns
        if due_ns > now:
            return
        if engine.free.first is NULL:
            engine.held = True
            return
        place = _pick(engine)
        if place is NULL:
            engine.held = True
            return
        if place.link is NULL or place.failed:
            taken = call_refuse(engine, place, due_ns, &engine.arrival_starved)
        else:
            call = engine.free.first.call
            queue_remove(&engine.free, &call.waiting)
            taken = call_make(engine, call, place.link, due_ns, &engine.arrival_starved)
            if taken != TAKEN:
                queue_prepend(&engine.free, &call.waiting)
        if taken != TAKEN:
            engine.starved = engine.held = taken == STARVED
            engine.used_up = taken == USED_UP
            return
        schedule_advance(&engine.schedule)


cdef Place *_pick(EngineState *engine) noexcept nogil:
    """The next place in turn that takes calls. Where none does: NULL when one may soon, or else any that is
    down.
    """
    cdef Place *place
    cdef Place *down = NULL
    cdef bint soon = False
    for _ in range(engine.place_count):
        place = &engine.places[engine.turn]
        engine.turn = engine.turn + 1 if engine.turn + 1 < engine.place_count else 0
        if link_takes_calls(place.link):
            return place
        if place.failed:
            down = place
        else:
            soon = True  # it connects, has much to send, or as many calls as the peer allows
            link_note_full(engine, place.link)
    return NULL if soon else down


cdef void _send_again(EngineState *engine, int64_t now) noexcept nogil:
    cdef Entry *entry = engine.resends.first
    cdef Entry *following
    cdef Place *place
    while entry is not NULL:
        following = entry.next
        place = entry.call.place
        if engine.pace == OPEN_LOOP:
            place = _pick(engine)
        if place is not NULL:
            if link_takes_calls(place.link):
                call_resend(engine, entry.call, place.link)
            elif place.failed:
                entry.call.place = place
                call_unavailable(engine, entry.call, now)
        entry = following


cdef void _run_timers(EngineState *engine, int64_t now) noexcept nogil:
    cdef Call *call
    while engine.deadlines.first is not NULL and engine.deadlines.first.at_ns <= now:
        call_too_late(engine, engine.deadlines.first.call, now)
    while engine.ends.first is not NULL and engine.ends.first.at_ns <= now:
        call_duration_over(engine, engine.ends.first.call, now)
    while engine.next_sends.first is not NULL and engine.next_sends.first.at_ns <= now:
        call = engine.next_sends.first.call
        queue_remove(&engine.next_sends, &call.next_send)
        call_send(engine, call, now)


cdef void _abandon_all(EngineState *engine) noexcept nogil:
    while engine.deadlines.first is not NULL:
        call_abandon(engine, engine.deadlines.first.call)


cdef void _end(EngineState *engine, int64_t now, bint wait) noexcept nogil:
    """No new calls from here on; those that were due before and not sent are missed."""
    cdef int64_t warm_up
    cdef int64_t until = now
    if engine.pace == OPEN_LOOP and engine.begun and not engine.used_up and not engine.ending:
        if engine.end_ns >= 0:
            until = min(until, engine.end_ns)
        warm_up = min(engine.measure_ns, until) - engine.begin_ns
        schedule_skip(&engine.schedule, warm_up)
        store(
            &engine.missed,
            source_miss(engine.source, schedule_skip(&engine.schedule, until - engine.begin_ns)),
        )
    engine.ending = True
    if not wait:
        _abandon_all(engine)


# --- The loop -------------------------------------------------------------------------------------------


cdef void _flush(EngineState *engine, int64_t now) noexcept nogil:
    """Send what there is to send. Streams that can take more are given more, which goes out at once."""
    cdef Link *link
    while engine.dirty is not NULL:
        link = engine.dirty
        engine.dirty = link.next_dirty
        link.listed = False
        if link.phase == LOST:
            link_check(engine, link, now)
            continue
        if link.dirty:
            _put_out(engine, link, now)
        else:
            link_check(engine, link, now)


cdef void _put_out(EngineState *engine, Link *link, int64_t now) noexcept nogil:
    link_flush(engine, link)
    link_events(engine, link, now)
    link_check(engine, link, now)
    if link_takes_calls(link):
        _has_room(engine, link.place)


cdef void _has_room(EngineState *engine, Place *place) noexcept nogil:
    """Calls that had to wait until a connection had less to send need wait no longer."""
    if engine.used_up or engine.starved or engine.ending:
        return
    if engine.pace == OPEN_LOOP:
        if engine.free.first is not NULL:
            engine.held = False
    elif place.idle.first is not NULL:
        place_touch(engine, place)


cdef void _free_dead(EngineState *engine) noexcept nogil:
    cdef Link *link
    cdef Link *kept = NULL
    while engine.dead is not NULL:
        link = engine.dead
        engine.dead = link.next
        if link.listed:
            link.next = kept
            kept = link
        else:
            link_free(link)
    engine.dead = kept


cdef void _on_link(EngineState *engine, Link *link, uint32_t events) noexcept nogil:
    cdef size_t size
    cdef int64_t now
    if link.phase == LOST:
        return
    if events & EPOLLOUT or (link.phase == CONNECTING and events & (EPOLLERR | EPOLLHUP)):
        link_writable(link)
    if events & (EPOLLIN | EPOLLERR | EPOLLHUP) and link.phase != LOST and link.phase != CONNECTING:
        size = link_read(engine, link)
        now = monotonic_ns()
        if size == 0:
            size = link_decrypt(engine, link)
        while size != 0:
            if session_receive(link.session, engine.received, size) != 0:
                # Its last word is why.
                link_flush(engine, link)
                link_lose(link, session_problem(link.session))
            link_events(engine, link, now)
            size = link_decrypt(engine, link)
    else:
        now = monotonic_ns()
    link_check(engine, link, now)
    if link.phase != LOST:
        # At once: the server need not wait until the other connections were read.
        if engine.pace == CLOSED_LOOP and engine.begun and not engine.ending:
            _fill(engine, link.place)
        _put_out(engine, link, now)


cdef int64_t _next_ns(EngineState *engine, int64_t now) noexcept nogil:
    """When the loop has to wake at the latest."""
    cdef int64_t next_ns = engine.next_place_ns
    if engine.connecting:
        return next_ns
    if not engine.begun:
        return min(next_ns, engine.begin_ns)
    if not engine.measuring:
        next_ns = min(next_ns, engine.measure_ns)
    if not engine.ending:
        if engine.end_ns >= 0:
            next_ns = min(next_ns, engine.end_ns)
        if engine.pace == OPEN_LOOP and not engine.used_up and not engine.held:
            next_ns = min(next_ns, engine.begin_ns + engine.schedule.due_ns)
            if engine.source.total >= 0:
                # Another engine may take the last number.
                next_ns = min(next_ns, now + LOOK_AROUND_NS)
    if engine.deadlines.first is not NULL:
        next_ns = min(next_ns, engine.deadlines.first.at_ns)
    if engine.ends.first is not NULL:
        next_ns = min(next_ns, engine.ends.first.at_ns)
    if engine.next_sends.first is not NULL:
        next_ns = min(next_ns, engine.next_sends.first.at_ns)
    return next_ns


cdef inline bint _can_fill(const EngineState *engine) noexcept nogil:
    return engine.listed is not NULL and engine.pace == CLOSED_LOOP and engine.begun and not engine.ending


cdef int _wait(EngineState *engine) noexcept nogil:
    cdef epoll_event[EVENTS] events
    cdef int count, i
    cdef void *what
    cdef uint64_t woken
    cdef int64_t now = monotonic_ns()
    cdef int64_t next_ns = _next_ns(engine, now)
    cdef bint at_once = next_ns <= now or _can_fill(engine)
    # One that goes off too early does no harm, and costs less than to set it anew each time.
    if not at_once and next_ns != INT64_MAX and not now < engine.armed_ns <= next_ns:
        _arm(engine, next_ns)
    count = epoll_wait(engine.epoll, events, EVENTS, 0 if at_once else -1)
    if count < 0:
        return 0 if errno == EINTR else -1
    for i in range(count):
        what = events[i].data.ptr
        if what is NULL:
            continue  # the timer: it only wakes
        if what is <void *>engine:
            eventfd_read(engine.starving.wake, &woken)
            _fed(engine)
        else:
            _on_link(engine, <Link *>what, events[i].events)
    return 0


cdef void _arm(EngineState *engine, int64_t at_ns) noexcept nogil:
    cdef itimerspec when
    memset(&when, 0, sizeof(when))
    when.it_value = timespec_of(at_ns)
    timerfd_settime(engine.timer, TFD_TIMER_ABSTIME, &when, NULL)
    engine.armed_ns = at_ns


cdef void _fed(EngineState *engine) noexcept nogil:
    cdef size_t i
    if engine.starved:
        engine.starved = False
        for i in range(engine.place_count):
            place_touch(engine, &engine.places[i])


cdef void _read_cpu(EngineState *engine, int64_t now) noexcept nogil:
    cdef timespec time
    cdef int64_t cpu_ns
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    cpu_ns = <int64_t>time.tv_sec * 1_000_000_000 + time.tv_nsec
    if not engine.measuring:
        engine.cpu_base_ns = cpu_ns
    engine.cpu_read_ns = now
    store(&engine.cpu_ns, cpu_ns - engine.cpu_base_ns)


cdef int loop_connect(EngineState *engine, int64_t timeout_ns) noexcept nogil:
    cdef int64_t now = monotonic_ns()
    cdef size_t i
    engine.connecting = True
    engine.connect_timeout_ns = timeout_ns
    engine.settling = engine.place_count
    engine.next_place_ns = INT64_MAX
    for i in range(engine.place_count):
        place_connect(engine, &engine.places[i], now)
    while engine.settling != 0 and loop_problem(engine) is NULL and load(&engine.stop_asked) == 0:
        places_tend(engine, monotonic_ns())
        _flush(engine, monotonic_ns())
        _free_dead(engine)
        if engine.settling == 0 or loop_problem(engine) is not NULL:
            break
        if _wait(engine) != 0:
            return -1
    _flush(engine, monotonic_ns())
    _free_dead(engine)
    engine.connecting = False
    return 0 if engine.settling == 0 else -1


cdef const char *loop_problem(EngineState *engine) noexcept nogil:
    cdef size_t i
    for i in range(engine.place_count):
        if engine.places[i].failed:
            return engine.places[i].reason
    return NULL


cdef int loop_run(EngineState *engine) noexcept nogil:
    cdef int64_t now
    cdef int result = 0
    cdef size_t i
    while True:
        now = monotonic_ns()
        if load(&engine.stop_asked) != 0:
            _end(engine, now, False)
            break
        if not engine.begun and now >= engine.begin_ns:
            engine.begun = True
            for i in range(engine.place_count):
                place_touch(engine, &engine.places[i])
        if engine.begun and not engine.measuring and now >= engine.measure_ns:
            _read_cpu(engine, now)
            engine.measuring = True
        elif engine.measuring and now - engine.cpu_read_ns >= CPU_INTERVAL_NS:
            _read_cpu(engine, now)
        if engine.begun and not engine.ending and 0 <= engine.end_ns <= now:
            store(&engine.timed_out, 1)
            if engine.pace == OPEN_LOOP and engine.end_waits:
                _make_due(engine, engine.end_ns - 1)  # what only this thread is late with is not missed
            _end(engine, now, engine.end_waits)
        places_tend(engine, now)
        _run_timers(engine, now)
        _make_calls(engine, now)
        _flush(engine, now)
        _free_dead(engine)
        if engine.begun and engine.in_flight == 0 and (engine.ending or engine.used_up):
            break
        result = _wait(engine)
        if result != 0:
            _end(engine, now, False)
            break
    _flush(engine, monotonic_ns())
    _free_dead(engine)
    source_forget(engine.source, &engine.starving)
    _read_cpu(engine, monotonic_ns())
    return result


cdef void loop_disconnect(EngineState *engine) noexcept nogil:
    cdef Link *link
    while engine.links is not NULL:
        link = engine.links
        if link.phase == READY or link.phase == DRAINING:
            session_terminate(link.session, NGHTTP2_NO_ERROR)
            link_flush(engine, link)
        session_lost(link.session)
        link_events(engine, link, monotonic_ns())
        link.place.link = NULL
        link_bury(engine, link)
    engine.dirty = NULL
    while engine.dead is not NULL:
        link = engine.dead
        engine.dead = link.next
        link_free(link)
