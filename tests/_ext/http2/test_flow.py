"""Messages and their framing, windows in both directions, and what a stream holds at most."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import frames
from wire.ends import End, Event, client, server
from wire.frames import REQUEST, RESPONSE, changed
from wire.heap import in_use

RESOURCE_EXHAUSTED, INTERNAL = 8, 13
WINDOW = 65_535


def opened(**arguments: object) -> End:
    """A server with one call that may go on sending."""
    end = server(**arguments)
    end.say(end.peer.headers(1))
    return end


def received(end: End, stream_id: int = 1) -> list[bytes]:
    return [event[2] for event in end.of_kind("message") if event[1] == stream_id]


# --- Framing ---


@given(st.lists(st.binary(max_size=50), max_size=8), st.data())
def test_data_frames_have_nothing_to_do_with_messages(payloads: list[bytes], draw: st.DataObject) -> None:
    octets = b"".join(map(frames.message, payloads))
    cuts = draw.draw(st.lists(st.integers(0, len(octets)), max_size=10).map(sorted))
    end = opened()
    pieces = [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    end.say(*(frames.data(1, piece, end=i == len(pieces) - 1) for i, piece in enumerate(pieces)))
    assert received(end) == payloads
    assert end.events[-1] == ("half_closed", 1)


def test_messages_in_one_read_and_the_end_without_one() -> None:
    end = opened()
    end.say(frames.data(1, frames.message(b"") * 3 + frames.message(b"x")), frames.data(1, b"", end=True))
    assert received(end) == [b"", b"", b"", b"x"]
    assert end.of_kind("half_closed") == [("half_closed", 1)]


def test_padding_belongs_to_no_message() -> None:
    end = opened()
    for padding in (0, 1, 200, 255):
        end.say(frames.data(1, frames.message(b"x" * padding), padding=padding))
    assert [len(each) for each in received(end)] == [0, 1, 200, 255]


def test_compressed_messages_say_so() -> None:
    end = server()
    end.say(end.peer.headers(1, changed(REQUEST, {"grpc-encoding": "gzip"})))
    end.say(frames.data(1, frames.message(b"z", compressed=True) + frames.message(b"plain")))
    assert end.of_kind("message") == [("message", 1, b"z", True), ("message", 1, b"plain", False)]


@pytest.mark.parametrize(
    ("octets", "status", "text"),
    [
        (b"\2\0\0\0\1x", INTERNAL, "neither 0 nor 1"),
        (b"\1\0\0\0\1x", INTERNAL, "compressed"),
        (b"\0\xff\xff\xff\xff", RESOURCE_EXHAUSTED, "4294967295"),
        (b"\0\0\x40\0\1", RESOURCE_EXHAUSTED, "Received message larger than max (4194305 vs. 4194304)"),
    ],
)
def test_a_prefix_that_cannot_be_is_judged_before_its_message(octets: bytes, status: int, text: str) -> None:
    end = opened()
    (event,) = end.say(frames.data(1, octets))
    assert event[:3] == ("failed", 1, status)
    assert text in event[3]
    assert end.say(frames.data(1, b"what follows is dropped")) == []
    end.session.finish(1, status, event[3])
    end.hear()
    assert end.headers(1)[0]["grpc-status"] == str(status)
    assert end.take() == [("closed", 1, 0)]


@pytest.mark.parametrize("octets", [b"\0\0\0\0", b"\0\0\0\0\5ab"])
def test_a_request_that_ends_within_a_message(octets: bytes) -> None:
    end = opened()
    (event,) = end.say(frames.data(1, octets, end=True))
    assert event[:3] == ("failed", 1, INTERNAL)


def test_what_comes_in_one_read_with_a_breach_is_told_before_it() -> None:
    end = opened()
    end.say(frames.data(1, frames.message(b"good") + b"\7\0\0\0\0" + frames.message(b"never")))
    assert [event[0] for event in end.events[2:]] == ["message", "failed"]


def test_messages_of_every_size_arrive_whole_in_both_directions() -> None:
    rng = random.Random(1)
    sizes = [0, 1, 4, 5, 16_378, 16_379, 16_380, 65_530, 65_536, 1_000_000, 4 << 20]
    payloads = [rng.randbytes(size) for size in sizes]
    one, other = End("client", begin=False), End("server", begin=False)
    one.session.request("/a/b")
    for payload in payloads:
        one.session.send_message(1, payload)
    one.session.half_close(1)
    echoed: list[bytes] = []

    def echo(event: Event) -> None:
        if event[0] == "message":
            other.session.send_message(1, event[2])
        elif event[0] == "half_closed":
            other.session.finish(1)

    while not one.of_kind("ended"):
        other.session.receive_data(one.session.data_to_send())
        other.take(echo)
        one.session.receive_data(other.session.data_to_send())
        echoed += [event[2] for event in one.take() if event[0] == "message"]
    assert echoed == payloads
    assert received(other) == payloads


# --- What comes in ---


def test_a_message_larger_than_the_window_does_not_stall() -> None:
    """Its bytes are given back as they come, while none before it waits to be read."""
    end = opened(window_bytes=WINDOW, auto_read=False)
    whole = frames.message(b"x" * (1 << 20))
    window = WINDOW
    for at in range(0, len(whole), 16_000):
        piece = whole[at : at + 16_000]
        assert len(piece) <= window
        window -= len(piece)
        before = len(end.heard)
        end.say(frames.data(1, piece))
        window += sum(each.number for each in frames.of_kind(end.heard[before:], "window_update", 1))
    assert received(end) == [b"x" * (1 << 20)]


def test_what_waits_to_be_read_is_withheld_from_the_peer() -> None:
    end = opened(window_bytes=WINDOW, auto_read=False)
    message = frames.message(b"x" * 995)
    window = WINDOW
    sent = 0
    while len(message) <= window:
        end.say(frames.data(1, message))
        window -= len(message)
        sent += 1
        window += sum(each.number for each in frames.of_kind(end.heard, "window_update", 1))
    assert sent == WINDOW // 1000
    assert not frames.of_kind(end.heard, "window_update", 1)
    # The connection's own window opens all the same: 16 MiB, less than half of it used.
    for _ in range(sent):
        end.session.message_read(1, 995)
    end.hear()
    assert sum(each.number for each in frames.of_kind(end.heard, "window_update", 1)) > WINDOW // 2


def test_one_stream_that_is_read_slowly_does_not_stop_the_others() -> None:
    end = server(window_bytes=WINDOW, connection_window_bytes=WINDOW, auto_read=False)
    for stream_id in range(1, 41, 2):
        end.say(end.peer.headers(stream_id))
        for _ in range(3):
            end.say(frames.data(stream_id, frames.message(b"x" * 15_000)))
    given = sum(each.number for each in frames.of_kind(end.heard, "window_update", 0))
    assert len(received(end, 39)) == 3
    assert given > 20 * 3 * 15_005 - WINDOW


def test_more_than_the_window_is_a_breach() -> None:
    end = opened(window_bytes=WINDOW, auto_read=False)
    for _ in range(5):
        end.say(frames.data(1, frames.message(b"x" * 15_000)))
    assert end.resets(1) == [frames.FLOW_CONTROL_ERROR] or end.goaway().code == frames.FLOW_CONTROL_ERROR


def test_what_is_withheld_is_given_back_when_the_call_ends() -> None:
    """The connection's window loses nothing over 100 calls that are never read."""
    end = server(connection_window_bytes=WINDOW, auto_read=False)
    window = WINDOW
    for stream_id in range(1, 201, 2):
        end.heard.clear()
        end.say(end.peer.headers(stream_id), frames.data(stream_id, frames.message(b"x" * 10_000)))
        end.session.finish(stream_id, 0)
        end.hear()
        window += sum(each.number for each in frames.of_kind(end.heard, "window_update", 0)) - 10_005
        assert window > 0
    assert end.session.streams == 0


@pytest.fixture
def heap() -> Callable[[], int]:
    if in_use() == 0:
        pytest.skip("this heap does not say what is in use")
    return in_use


def test_a_message_costs_memory_as_it_arrives_not_as_it_is_announced(heap: Callable[[], int]) -> None:
    end = opened(max_message_bytes=-1)
    before = heap()
    end.say(frames.data(1, frames.message(b"x" * 100, length=0xFFFFFFFF)))
    assert heap() - before < 200_000


def test_a_stream_holds_no_more_than_its_window_and_a_message(heap: Callable[[], int]) -> None:
    end = opened(window_bytes=WINDOW, max_message_bytes=1 << 20, auto_read=False)
    before = heap()
    end.say(frames.data(1, frames.message(b"x" * 10)))  # waits, so that all the rest is withheld
    window = WINDOW - 15
    end.session.receive_data(frames.data(1, frames.message(b"y" * 16_000, length=1 << 20)[:16_000]))
    while window >= 16_000:
        end.session.receive_data(frames.data(1, b"y" * 16_000))
        window -= 16_000
    end.hear()
    assert not frames.of_kind(end.heard, "window_update", 1)
    assert heap() - before < 4 * WINDOW


def test_the_connection_waits_when_too_much_is_not_read_and_goes_on_once_it_is() -> None:
    """What all streams together hold is bounded as well."""
    end = server(
        window_bytes=1 << 20, connection_window_bytes=WINDOW, max_buffered_bytes=200_000, auto_read=False
    )
    message = frames.message(b"x" * 9_995)
    window, sent = WINDOW, 0
    for stream_id in range(1, 201, 2):
        end.say(end.peer.headers(stream_id))
    stream_ids = list(range(1, 201, 2)) * 2

    def send() -> int:
        """As many as the window allows, each on another stream."""
        nonlocal window, sent
        before = sent
        while window >= len(message) and sent < len(stream_ids):
            heard = len(end.heard)
            end.say(frames.data(stream_ids[sent], message))
            window += sum(each.number for each in frames.of_kind(end.heard[heard:], "window_update", 0))
            window -= len(message)
            sent += 1
        return sent - before

    assert 200_000 <= send() * 10_000 <= 200_000 + WINDOW + 10_000
    heard = len(end.heard)
    for stream_id in stream_ids[:10]:
        end.session.message_read(stream_id, 9_995)
    end.session.reset(stream_ids[10], frames.CANCEL)
    end.hear()
    window += sum(each.number for each in frames.of_kind(end.heard[heard:], "window_update", 0))
    assert 5 <= send() <= 20


def test_messages_under_way_are_bounded_over_all_streams(heap: Callable[[], int]) -> None:
    """Each of them is within its limit, and its window open; a thousand of them are too much."""
    end = server(max_buffered_bytes=1 << 20)
    before = heap()
    part = frames.message(b"", length=4_000_000) + b"x" * 16_000
    for stream_id in range(1, 201, 2):
        end.say(end.peer.headers(stream_id))
    for _ in range(4):
        for stream_id in range(1, 201, 2):
            end.session.receive_data(frames.data(stream_id, part))
            part_follows = b"x" * 16_000
        end.take()
        end.hear()
        part = part_follows
    failed = end.of_kind("failed")
    assert 50 < len(failed) < 95
    assert failed[0][2] == RESOURCE_EXHAUSTED
    assert heap() - before < 6 << 20


def test_one_large_message_is_no_such_case() -> None:
    end = opened(max_buffered_bytes=100_000)
    whole = frames.message(b"x" * 3_000_000)
    end.say(*(frames.data(1, whole[at : at + 16_384]) for at in range(0, 900_000, 16_384)))
    end.say(*(frames.data(1, whole[at : at + 16_384]) for at in range(901_120, 1_800_000, 16_384)))
    end.say(*(frames.data(1, whole[at : at + 16_384]) for at in range(1_802_240, len(whole), 16_384)))
    assert [len(each) for each in received(end)] == [3_000_000]


# --- What goes out ---


def test_data_wait_for_the_peers_window_and_settings_change_it_mid_stream() -> None:
    end = server(settings={4: 1000})
    end.say(end.peer.call(1))
    end.session.send_message(1, b"x" * 99_995)
    end.session.finish(1)

    def sent() -> int:
        return len(frames.body(end.heard, 1))

    end.hear()
    assert sent() == 1000
    end.say(frames.settings({4: 3000}))
    assert sent() == 3000
    end.say(frames.settings({4: 500}))  # the window is now 2,500 below nothing
    end.say(frames.window_update(1, 2500))
    assert sent() == 3000
    end.say(frames.window_update(1, 1))
    assert sent() == 3001
    end.say(frames.window_update(1, 1_000_000))
    assert sent() == 65_535  # the connection's
    end.say(frames.window_update(0, 1_000_000))
    assert frames.messages(frames.body(end.heard, 1)) == [b"x" * 99_995]
    assert end.of_kind("closed") == [("closed", 1, 0)]


def test_a_window_that_overflows_resets_its_stream() -> None:
    end = server()
    end.say(end.peer.call(1))
    end.say(frames.window_update(1, 2**31 - 1))
    assert end.resets(1) == [frames.FLOW_CONTROL_ERROR]
    assert end.of_kind("closed") == [("closed", 1, frames.FLOW_CONTROL_ERROR)]
    assert end.say(end.peer.call(3))[0][0] == "request"


def test_an_update_of_a_streams_window_by_nothing_ends_the_connection() -> None:
    end = server()
    end.say(end.peer.call(1), frames.window_update(1, 0))
    assert end.goaway().code == frames.PROTOCOL_ERROR
    assert not end.session.alive


@pytest.mark.parametrize("increment", [0, 2**31 - 1])
def test_a_window_update_of_the_connection_that_cannot_be_ends_it(increment: int) -> None:
    end = server()
    end.say(frames.window_update(0, increment))
    assert end.goaway().code == (frames.PROTOCOL_ERROR if increment == 0 else frames.FLOW_CONTROL_ERROR)
    assert not end.session.alive


def test_settings_that_overflow_a_window_reset_its_stream() -> None:
    end = server()
    end.say(end.peer.call(1))
    end.say(frames.window_update(1, 2**31 - 1 - 65_535), frames.settings({4: 100_000}))
    assert end.resets(1) == [frames.FLOW_CONTROL_ERROR]


def test_what_is_sent_at_once_is_bounded_and_nothing_is_lost() -> None:
    """A shell takes what it can write; a DATA frame that waits survives whatever happens meanwhile."""
    end = server(settings={4: 1 << 30})
    end.say(frames.window_update(0, 1 << 30))
    payload = random.Random(2).randbytes(1_000_000)
    end.say(end.peer.call(1))
    end.session.send_message(1, payload)
    end.session.finish(1)
    while octets := end.session.data_to_send(10_000):
        assert len(octets) < 10_000 + 16_384 + 100
        end.heard += end.peer.read(octets)
    assert frames.messages(frames.body(end.heard, 1)) == [payload]


@pytest.mark.parametrize("how", ["reset", "lost", "goaway", "our reset", "freed"])
def test_a_stream_may_end_while_its_data_frame_waits(how: str) -> None:
    """nghttp2 has the frame's head ready and asks for its bytes later."""
    end = server(settings={4: 1 << 30})
    end.say(frames.window_update(0, 1 << 30))
    end.say(end.peer.call(1))
    end.session.send_message(1, b"x" * 1_000_000)
    end.session.data_to_send(1)
    end.session.data_to_send(1)
    if how == "reset":
        end.session.receive_data(frames.reset(1, frames.CANCEL))
    elif how == "lost":
        end.session.lost()
    elif how == "goaway":
        end.session.receive_data(frames.goaway(0))
    elif how == "our reset":
        end.session.reset(1, frames.CANCEL)
    else:
        del end.session
        return
    end.take()
    while end.session.data_to_send(20_000):
        end.take()


def test_a_writer_is_told_when_little_is_queued() -> None:
    end = server(settings={4: 100_000})
    end.say(end.peer.call(1))
    end.session.send_message(1, b"x" * 120_000)
    end.session.tell_writable(1)
    end.hear()
    assert end.take() == []
    assert end.session.queued(1) == 120_005 - 65_535
    assert end.say(frames.window_update(0, 30_000)) == [("writable", 1)]
    assert end.say(frames.window_update(0, 3_000)) == []


def test_many_streams_share_the_connection() -> None:
    """Nobody is served only after another is done."""
    end = server(settings={4: 1 << 20})
    end.say(*(end.peer.call(stream_id) for stream_id in (1, 3, 5, 7)))
    for stream_id in (1, 3, 5, 7):
        end.session.send_message(stream_id, b"x" * 100_000)
    end.hear()
    assert all(len(frames.body(end.heard, stream_id)) > 10_000 for stream_id in (1, 3, 5, 7))


def test_requests_that_were_sent_wait_for_the_window_too() -> None:
    end = client(settings={4: 10})
    end.session.request("/a/b")
    end.session.send_message(1, b"x" * 100)
    end.session.half_close(1)
    end.hear()
    assert len(frames.body(end.heard, 1)) == 10
    end.say(frames.window_update(1, 1000))
    assert frames.messages(frames.body(end.heard, 1)) == [b"x" * 100]
    assert frames.of_kind(end.heard, "data", 1)[-1].end


def test_messages_come_after_the_headers_however_they_arrive() -> None:
    end = client()
    end.session.request("/a/b")
    end.hear()
    end.say(end.peer.headers(1, RESPONSE) + frames.data(1, frames.message(b"x")))
    assert [event[0] for event in end.events[1:]] == ["response", "message"]
