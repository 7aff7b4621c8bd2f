"""What concerns the whole connection: GOAWAY, the drain, requests that wait, pings, loss, events' order."""

from __future__ import annotations

import gc
import random

import pytest

from tai_grpc._ext.http2.sansio import Session
from tai_grpc._ext.primitives.clock import FrozenClock
from wire import frames
from wire.ends import End, Event, client, server
from wire.frames import OK_TRAILERS, RESPONSE

UNAVAILABLE = 14


def ends(end: End) -> dict[int, tuple[int, bool]]:
    """Status and "unprocessed" of each call that ended."""
    return {event[1]: (event[2], event[7]) for event in end.of_kind("ended")}


# --- Requests that wait ---


def test_requests_over_the_peers_limit_wait_their_turn() -> None:
    end = client(settings={3: 2})
    ids = [end.session.request(f"/a/{i}") for i in range(5)]
    assert ids == [1, 3, 5, 7, 9]
    end.hear()

    def sent() -> list[int]:
        return [each.stream_id for each in frames.of_kind(end.heard, "headers")]

    assert sent() == [1, 3]
    end.say(end.peer.answer(3))
    assert sent() == [1, 3, 5]
    end.say(frames.settings({3: 3}))
    assert sent() == [1, 3, 5, 7]
    end.say(frames.settings({3: 0}), end.peer.answer(1), end.peer.answer(5), end.peer.answer(7))
    assert sent() == [1, 3, 5, 7]
    end.say(frames.settings({3: 1}))
    assert sent() == [1, 3, 5, 7, 9]
    assert [end.headers(i)[0][":path"] for i in ids] == [f"/a/{i}" for i in range(5)]


def test_a_request_that_waits_is_sent_whole(clock: FrozenClock) -> None:
    """With the time that is then left of its own."""
    end = client(settings={3: 0})
    end.session.request("/a/b", metadata=[("k", "v"), ("x-bin", b"\0")], timeout=1, encoding="gzip")
    end.session.send_message(1, b"x" * 10)
    end.session.half_close(1)
    end.hear()
    assert not frames.of_kind(end.heard, "headers")
    clock.advance(0.4)
    end.say(frames.settings({3: 1}))
    fields = end.headers(1)[0]
    assert (fields["k"], fields["x-bin"], fields["grpc-timeout"]) == ("v", "AA", "600000u")
    assert fields["grpc-encoding"] == "gzip"
    assert frames.messages(frames.body(end.heard, 1)) == [b"x" * 10]
    end.say(end.peer.answer(1, b"y"))
    assert ends(end) == {1: (0, False)}


def test_a_request_that_is_given_up_while_it_waits_is_never_sent_and_leaves_nothing() -> None:
    end = client(settings={3: 1})
    for _ in range(1001):
        end.session.request("/a/b")
    end.hear()
    for stream_id in range(3, 1999, 2):
        end.session.reset(stream_id, frames.CANCEL)
    assert end.session.streams == 3
    end.say(end.peer.answer(1))
    assert [each.stream_id for each in frames.of_kind(end.heard, "headers")] == [1, 1999]
    assert end.resets() == [frames.NO_ERROR]
    assert list(ends(end)) == [1]


def test_goaway_ends_requests_that_wait_at_once() -> None:
    """Though the stream that they wait for goes on."""
    end = client(settings={3: 1})
    for _ in range(4):
        end.session.request("/a/b")
    end.session.reset(5, frames.CANCEL)
    end.hear()
    events = end.say(frames.goaway(1, frames.NO_ERROR, b"bye"))
    assert events[0] == ("goaway", 0, 0, b"bye")
    assert ends(end) == {3: (UNAVAILABLE, True), 7: (UNAVAILABLE, True)}
    assert end.session.streams == 1
    with pytest.raises(RuntimeError):
        end.session.request("/a/b")
    end.say(end.peer.answer(1, b"x"))
    assert ends(end)[1] == (0, False)
    assert not end.session.alive


def test_goaway_ends_what_the_peer_did_not_process() -> None:
    end = client()
    for _ in range(3):
        end.session.request("/a/b")
    end.hear()
    end.say(frames.goaway(3, frames.NO_ERROR))
    assert ends(end) == {5: (UNAVAILABLE, True)}
    end.say(frames.goaway(1, frames.ENHANCE_YOUR_CALM, b"too_many_pings"))
    assert ends(end) == {5: (UNAVAILABLE, True), 3: (UNAVAILABLE, True)}
    assert end.of_kind("goaway")[1][2:] == (frames.ENHANCE_YOUR_CALM, b"too_many_pings")


def test_the_notice_of_a_goaway_ends_nothing() -> None:
    end = client()
    end.session.request("/a/b")
    end.hear()
    end.say(frames.goaway(2**31 - 1))
    assert ends(end) == {}
    end.say(frames.ping(b"12345678"))
    assert frames.of_kind(end.heard, "ping")[0].ack
    end.say(end.peer.answer(1))
    assert ends(end) == {1: (0, False)}


def test_a_refused_stream_is_unprocessed_and_a_lost_one_only_when_it_never_left() -> None:
    end = client(settings={3: 2})
    for _ in range(3):
        end.session.request("/a/b")
    end.hear()
    end.say(frames.reset(1, frames.REFUSED_STREAM))
    end.session.request("/a/b")
    end.session.lost()
    end.take()
    assert ends(end) == {
        1: (UNAVAILABLE, True),
        3: (UNAVAILABLE, False),
        5: (UNAVAILABLE, False),
        7: (UNAVAILABLE, True),
    }


def test_a_request_before_the_first_settings_is_sent() -> None:
    end = End("client", begin=False)
    end.session.request("/a/b")
    end.hear()
    assert [each.kind for each in end.heard] == ["settings", "window_update", "headers"]


# --- The drain ---


def test_shutdown_lets_those_end_that_run_and_takes_what_was_on_its_way() -> None:
    end = server()
    end.say(end.peer.call(1))
    end.session.shutdown()
    end.session.shutdown()
    end.hear()
    notice, ping = end.heard[-2:]
    assert (notice.kind, notice.code, notice.number) == ("goaway", frames.NO_ERROR, 2**31 - 1)
    assert (ping.kind, ping.ack) == ("ping", False)
    assert end.say(end.peer.call(3))[0][:2] == ("request", 3)
    end.say(frames.ping(ping.data, ack=True))
    assert (end.goaway().number, end.goaway().code) == (3, frames.NO_ERROR)
    assert end.say(end.peer.call(5)) == []
    assert end.session.alive
    end.session.finish(1)
    end.hear()
    assert end.take() == [("closed", 1, 0)]
    end.session.finish(3)
    end.hear()
    assert end.take() == [("closed", 3, 0), ("served", 0)]
    assert not end.session.alive


def test_shutdown_of_an_idle_connection_is_served_at_once() -> None:
    end = server()
    end.session.shutdown()
    end.hear()
    assert end.session.alive
    assert end.say(frames.ping(end.heard[-1].data, ack=True)) == [("served", 0)]
    assert end.goaway().number == 0
    assert not end.session.alive


def test_another_pong_does_not_end_the_drain() -> None:
    end = server()
    end.session.shutdown()
    end.hear()
    assert end.say(frames.ping(b"87654321", ack=True)) != [("served", 0)]
    assert len(frames.of_kind(end.heard, "goaway")) == 1


# --- Pings ---


def test_a_ping_is_answered_and_ours_comes_back() -> None:
    end = client()
    end.say(frames.ping(b"abcdefgh"))
    assert [(each.data, each.ack) for each in frames.of_kind(end.heard, "ping")] == [(b"abcdefgh", True)]
    end.session.ping(77)
    end.hear()
    assert end.say(frames.ping(end.heard[-1].data, ack=True)) == [("pong", 0, 77)]


def test_answers_to_pings_that_nobody_sent_are_counted_and_not_told(clock: FrozenClock) -> None:
    end = client(glitch_burst=10)
    assert end.say(*(frames.ping(ack=True) for _ in range(10))) == []
    end.say(frames.ping(ack=True))
    assert end.goaway().code == frames.ENHANCE_YOUR_CALM


def test_pings_too_close_are_strikes_and_the_third_is_the_last(clock: FrozenClock) -> None:
    end = server()
    clock.advance(1.0)
    for _ in range(3):
        end.say(frames.ping())
    assert end.session.alive
    end.say(frames.ping())
    assert (end.goaway().code, end.goaway().data) == (frames.ENHANCE_YOUR_CALM, b"too_many_pings")
    assert end.session.problem == "too_many_pings"
    assert not end.session.alive


def test_pings_far_apart_are_no_strikes(clock: FrozenClock) -> None:
    end = server(min_ping_interval_ns=10_000_000_000)
    for _ in range(20):
        clock.advance(10.001)
        end.say(frames.ping())
    assert end.session.alive


def test_pings_that_follow_what_was_sent_to_the_peer_are_free(clock: FrozenClock) -> None:
    """grpc-go measures the way with one after each piece of data that it got."""
    end = server(glitch_burst=10)
    end.say(frames.window_update(0, 1 << 30))
    end.say(end.peer.call(1))
    for _ in range(200):
        end.session.send_message(1, b"x")
        end.hear()
        end.say(frames.ping())
    assert end.session.alive


# --- Events ---


def test_events_are_told_in_the_order_of_the_bytes() -> None:
    end = server()
    events = end.say(end.peer.call(1, b"a", b"b"), end.peer.call(3, b"c"), frames.reset(3, frames.CANCEL))
    assert [event[:2] for event in events] == [
        *(("request", 1), ("message", 1), ("message", 1), ("half_closed", 1)),
        *(("request", 3), ("message", 3), ("half_closed", 3), ("closed", 3)),
    ]


def kind_of(event: Event | None) -> object:
    return event and event[0]


def test_nothing_is_told_of_a_call_that_was_finished_or_reset_but_its_end() -> None:
    """However much of it came in the same read."""
    end = server()
    session = end.session
    session.receive_data(end.peer.call(1, b"a", b"b"))
    # As a shell does it: it looks at one event, acts, and takes the next.
    assert kind_of(session.next_event()) == "request"
    session.finish(1)
    assert session.next_event() is None
    end.hear()
    assert session.events_received() == [("closed", 1, 0)]

    other = client()
    other.session.request("/a/b")
    other.hear()
    other.session.receive_data(other.peer.answer(1, b"a", b"b"))
    assert kind_of(other.session.next_event()) == "response"
    other.session.reset(1, frames.CANCEL)
    assert other.session.next_event() is None


def test_events_outlive_the_bytes_that_they_came_with() -> None:
    end = server()
    octets = [
        end.peer.headers(1),
        frames.data(1, frames.message(b"one" * 50)),
        frames.data(1, frames.message(b"two")),
    ]
    for each in octets:
        end.session.receive_data(bytes(bytearray(each)))
    del octets, each
    gc.collect()
    assert [event[2] for event in end.take() if event[0] == "message"] == [b"one" * 50, b"two"]


def test_resets_tell_their_code_unsigned() -> None:
    end = server()
    end.say(end.peer.call(1, end=False), frames.reset(1, 0xFFFFFFFF))
    assert end.of_kind("closed") == [("closed", 1, 0xFFFFFFFF)]


def test_the_connections_loss_closes_every_call_at_the_server() -> None:
    end = server()
    end.say(end.peer.call(1), end.peer.call(3))
    end.session.send_message(1, b"x" * 100_000)
    end.hear()
    end.session.lost()
    assert end.take() == [("closed", 3, frames.CANCEL), ("closed", 1, frames.CANCEL)]
    assert end.session.data_to_send() == b""
    assert not end.session.receive_data(frames.ping())


def test_bytes_after_the_end_are_not_taken() -> None:
    end = server()
    end.say(b"GET / HTTP/1.1\r\n")
    assert not end.session.alive
    assert not end.session.receive_data(b"more")
    end.session.lost()
    assert end.take() == []


@pytest.mark.parametrize("kind", ["ping", "settings", "window_update", "unknown"])
def test_frames_of_the_wrong_size_or_kind(kind: str) -> None:
    wrong = {
        "ping": frames.raw(6, 0, 0, b"short"),
        "settings": frames.raw(4, 0, 0, b"short"),
        "window_update": frames.raw(8, 0, 0, b"xy"),
        "unknown": frames.raw(0xEE, 0xFF, 12345, b"whatever"),
    }[kind]
    end = server()
    end.say(wrong)
    if kind == "unknown":
        assert end.session.alive
    else:
        assert end.goaway().code == frames.FRAME_SIZE_ERROR


# --- Memory ---


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_session_may_go_with_streams_open_and_events_not_taken(role: str) -> None:
    """The sanitizer's build sees what is freed twice or used after."""
    for how in range(6):
        end = End("client" if role == "client" else "server")
        if role == "client":
            for _ in range(200):  # more than nghttp2 takes
                stream_id = end.session.request("/a/b", metadata=[("k", "v" * 100)])
                end.session.send_message(stream_id, b"x" * 1000)
            if how:
                end.session.data_to_send(10_000 if how == 5 else 1 << 20)
            octets = end.peer.headers(1, [*RESPONSE, ("k", "v")]) + end.peer.message(1, b"y" * 100)
            octets += frames.data(1, frames.message(b"z" * 1000)[:500])
            octets += end.peer.headers(3, [*RESPONSE, *OK_TRAILERS, ("t", "x")], end=True)
        else:
            octets = end.peer.call(1, b"a" * 100, b"b") + end.peer.headers(3)
            octets += frames.data(3, frames.message(b"z" * 1000)[:500])
            if how:
                end.say(octets)
                octets = end.peer.call(5, b"x")
                end.session.send_message(1, b"x" * 100_000)
                end.session.send_headers(3, [("k", "v" * 500)])
                end.session.finish(3, 1, "x" * 500, [("k", "v" * 500)])
                end.session.data_to_send(1000 if how == 5 else 1 << 20)
        end.session.receive_data(octets)
        if how == 2:
            end.session.next_event()
        if how == 3:
            end.session.lost()
        if how == 4:
            end.session.lost()
            end.session.next_event()
        del end
        gc.collect()


def test_streams_outlive_their_session() -> None:
    """What a shell holds is of no use any more, and harmless."""
    for role in ("client", "server"):
        end = End("client" if role == "client" else "server")
        if role == "client":
            for _ in range(150):
                end.session.request("/a/b")
        else:
            end.say(end.peer.call(1, b"x"))
        end.hear()
        ids = list(range(1, 300, 2)) if role == "client" else [1]
        end.session.begin_anew()
        session = end.session
        for stream_id in ids:
            for use, arguments in (
                (session.send_message, (b"x",)),
                (session.half_close, ()),
                (session.finish, ()),
                (session.send_headers, ()),
            ):
                with pytest.raises(RuntimeError):
                    use(stream_id, *arguments)
            session.message_read(stream_id, 10)
            session.reset(stream_id, frames.CANCEL)


def test_a_session_that_is_part_of_a_cycle_goes() -> None:
    class Holder:
        session: Session
        me: object

    holder = Holder()
    holder.me = holder
    holder.session = Session("client")
    holder.session.request("/a/b")
    del holder
    gc.collect()


def ended(end: End) -> set[int]:
    return {event[1] for event in end.of_kind("ended")}


def exchange(one: End, other: End) -> None:
    """Until neither has anything to say."""
    while octets := one.session.data_to_send():
        other.session.receive_data(octets)
        other.take()
        one.session.receive_data(other.session.data_to_send())
        one.take()


def test_ten_thousand_calls_leave_no_stream() -> None:
    """Of those that end as they should, and of those that either side gives up at any time."""
    rng = random.Random(3)
    one, other = End("client", begin=False), End("server", begin=False, reset_burst=10_000)
    for _ in range(500):
        one.events.clear()
        other.events.clear()
        exchange(one, other)
        ids = [one.session.request("/a/b", metadata=[("k", "v")]) for _ in range(20)]
        for stream_id in ids:
            one.session.send_message(stream_id, b"x" * rng.randrange(100))
            if rng.randrange(4):
                one.session.half_close(stream_id)
        if rng.randrange(3):
            exchange(one, other)
        given_up = rng.sample([i for i in ids if i not in ended(one)], 5)
        for stream_id in given_up:
            one.session.reset(stream_id, frames.CANCEL)
        if rng.randrange(3):
            exchange(one, other)
        closed = {event[1] for event in other.of_kind("closed")}
        for stream_id in [event[1] for event in other.of_kind("request") if event[1] not in closed]:
            if rng.randrange(5) == 0:
                other.session.reset(stream_id, frames.CANCEL)
            else:
                other.session.send_message(stream_id, b"y")
                other.session.finish(stream_id, rng.randrange(3))
        one.session.receive_data(other.session.data_to_send())
        one.take()
        exchange(one, other)
        for stream_id in set(ids) - ended(one) - set(given_up):
            one.session.reset(stream_id, frames.CANCEL)
    exchange(one, other)
    assert one.session.streams == other.session.streams == 0
