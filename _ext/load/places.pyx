# cython: language_level=3, freethreading_compatible=True
"""The places of an engine's connections: each has one, or is about to have the next.

One that is lost, or goes away, is replaced at once; where that fails, or it was of no use, after a pause that
doubles. Meanwhile calls fail fast, as gRPC has it: those of a closed loop once with each attempt, those of an
open loop when they are due and no other connection is up.
"""

from libc.stdint cimport INT64_MAX
from libc.stdio cimport snprintf

from tai_grpc._ext.http2.nghttp2 cimport NGHTTP2_NO_ERROR
from tai_grpc._ext.http2.session cimport session_lost, session_terminate
from tai_grpc._ext.load.calls cimport call_refuse, link_events, place_touch
from tai_grpc._ext.load.link cimport link_bury, link_flush, link_lose, link_open
from tai_grpc._ext.load.source cimport STARVED, TAKEN, USED_UP
from tai_grpc._ext.load.state cimport CLOSED_LOOP, DRAINING, LOST, READY, Entry, Link, Place
from tai_grpc._ext.primitives.atomics cimport store

cdef int64_t FIRST_PAUSE_NS = 100_000_000
cdef int64_t LONGEST_PAUSE_NS = 2_000_000_000
# A connection that was there for so long was of use, if only to wait for calls.
cdef int64_t OF_USE_NS = 1_000_000_000


cdef void place_connect(EngineState *engine, Place *place, int64_t now) noexcept nogil:
    place.pause_ns = max(place.pause_ns, FIRST_PAUSE_NS)
    place.link = link_open(engine, place)
    if place.link is NULL:
        _failed(engine, place, b"out of memory", now)
        return
    _look_at(engine, place, now + engine.connect_timeout_ns)
    if place.link.phase == LOST:
        _down(engine, place.link, now)


cdef void _look_at(EngineState *engine, Place *place, int64_t at_ns) noexcept nogil:
    place.at_ns = at_ns
    engine.next_place_ns = min(engine.next_place_ns, at_ns)


cdef void _back_off(
    EngineState *engine, Place *place, const char *what, const char *reason, int64_t now
) noexcept nogil:
    """There is no connection, and the next attempt waits."""
    snprintf(place.reason, sizeof(place.reason), b"%s %.200s: %s", what, place.target.name, reason)
    place.failed = True
    _look_at(engine, place, now + place.pause_ns)
    place.pause_ns = min(2 * place.pause_ns, LONGEST_PAUSE_NS)


cdef void _failed(EngineState *engine, Place *place, const char *reason, int64_t now) noexcept nogil:
    """An attempt to connect was in vain. Where it was the last of the host's addresses, so is a call of each
    of those that wait for it.
    """
    cdef Entry *entry
    cdef bint starved = True
    cdef int taken = TAKEN
    place.address += 1
    if place.address < place.target.address_count:
        _look_at(engine, place, now)
        return
    place.address = 0
    _back_off(engine, place, b"cannot connect to", reason, now)
    if engine.ending or not engine.begun or engine.pace != CLOSED_LOOP:
        return
    entry = place.idle.first
    while entry is not NULL and taken == TAKEN:
        taken = call_refuse(engine, place, 0, &starved)
        entry = entry.next
    engine.starved = engine.starved or taken == STARVED
    engine.used_up = engine.used_up or taken == USED_UP


cdef void _ready(EngineState *engine, Place *place, int64_t now) noexcept nogil:
    place.link.ready_ns = now
    place.at_ns = 0
    place.failed = False
    if place.was_ready:
        if engine.measuring:
            store(&engine.reconnects, engine.reconnects + 1)
    else:
        place.was_ready = True
        engine.settling -= 1
    place_touch(engine, place)


cdef void _replace(EngineState *engine, Place *place, Link *link, int64_t now) noexcept nogil:
    """Its connection takes no more calls: have another one."""
    cdef bint was_ready = place.at_ns == 0
    place.link = NULL
    if not was_ready:
        _failed(engine, place, link.reason, now)
    elif link.served or now - link.ready_ns >= OF_USE_NS:
        place.pause_ns = FIRST_PAUSE_NS
        _look_at(engine, place, now)
    else:
        # One that was of no use is not replaced over and over without a pause.
        _back_off(engine, place, b"lost the connection to", link.reason, now)


cdef void _down(EngineState *engine, Link *link, int64_t now) noexcept nogil:
    """It is lost: so are the calls on it."""
    cdef Place *place = link.place
    session_lost(link.session)
    link_events(engine, link, now)
    if place.link is link:
        _replace(engine, place, link, now)
    link_bury(engine, link)


cdef void link_check(EngineState *engine, Link *link, int64_t now) noexcept nogil:
    """After something happened to a connection: its place follows."""
    cdef Place *place = link.place
    if link.phase == LOST:
        if link.descriptor >= 0 or place.link is link:
            _down(engine, link, now)
        return
    if link.phase == READY:
        if place.at_ns != 0:
            _ready(engine, place, now)
        if link.session.next_stream_id == 0:
            link.phase = DRAINING
    if link.phase == DRAINING:
        if place.link is link:
            _replace(engine, place, link, now)
        if link.calls == 0:
            session_terminate(link.session, NGHTTP2_NO_ERROR)
            link_flush(engine, link)
            link_lose(link, b"")
            _down(engine, link, now)


cdef void places_tend(EngineState *engine, int64_t now) noexcept nogil:
    cdef Place *place
    cdef size_t i
    cdef char[64] reason
    cdef double seconds
    if now < engine.next_place_ns:
        return
    engine.next_place_ns = INT64_MAX
    for i in range(engine.place_count):
        place = &engine.places[i]
        if place.at_ns == 0:
            continue
        if now < place.at_ns:
            engine.next_place_ns = min(engine.next_place_ns, place.at_ns)
        elif place.link is not NULL:
            seconds = <double>engine.connect_timeout_ns * 1e-9
            snprintf(reason, sizeof(reason), b"no answer within %g s", seconds)
            link_lose(place.link, reason)
            _down(engine, place.link, now)
        else:
            place_connect(engine, place, now)
