"""How a client's call ends: statuses, resets, HTTP's own statuses, answers that break the protocol."""

from __future__ import annotations

import pytest

from wire import frames
from wire.ends import End, Event, client, server
from wire.frames import OK_TRAILERS, RESPONSE, changed

OK, CANCELLED, UNKNOWN, PERMISSION_DENIED, RESOURCE_EXHAUSTED = 0, 1, 2, 7, 8
UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 12, 13, 14, 16
BY_STATUS, BY_HTTP_STATUS, BY_RESET, BY_CONNECTION, BY_PROTOCOL = range(5)


def called(**arguments: object) -> End:
    end = client(**arguments)
    end.session.request("/a/b")
    end.session.half_close(1)
    end.hear()
    return end


def ended(end: End) -> Event:
    (event,) = end.of_kind("ended")
    return event


def test_status_message_and_trailers() -> None:
    end = called()
    end.say(
        end.peer.headers(1, [*RESPONSE, ("early", "1")]),
        end.peer.message(1, b"one"),
        end.peer.headers(
            1, [("grpc-status", "5"), ("grpc-message", "not%20f%C3%B6und"), ("late-bin", "AQ")], end=True
        ),
    )
    assert end.events[1:] == [
        ("response", 1, (("early", "1"),)),
        ("message", 1, b"one", False),
        ("ended", 1, 5, "not föund", (("late-bin", b"\1"),), BY_STATUS, 0, False),
    ]
    assert end.session.streams == 0


def test_trailers_only_has_no_initial_metadata() -> None:
    end = called()
    end.say(end.peer.headers(1, [*RESPONSE, ("grpc-status", "12"), ("k", "v")], end=True))
    assert end.events[1:] == [("ended", 1, UNIMPLEMENTED, "", (("k", "v"),), BY_STATUS, 0, False)]


@pytest.mark.parametrize(("said", "status"), [("17", 2), ("-1", 2), ("x", 2), ("", 2), ("16", 16), ("0", 0)])
def test_a_status_that_is_none_is_unknown(said: str, status: int) -> None:
    end = called()
    end.say(end.peer.headers(1, [*RESPONSE, ("grpc-status", said)], end=True))
    assert ended(end)[2] == status


@pytest.mark.parametrize(
    ("http", "status"),
    [
        *((200, UNKNOWN), (204, UNKNOWN), (302, UNKNOWN), (400, INTERNAL), (401, UNAUTHENTICATED)),
        *((403, PERMISSION_DENIED), (404, UNIMPLEMENTED), (418, UNKNOWN), (429, UNAVAILABLE)),
        *((431, INTERNAL), (500, UNKNOWN), (502, UNAVAILABLE), (503, UNAVAILABLE), (504, UNAVAILABLE)),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_http_statuses_without_a_grpc_status(http: int, status: int, whole: bool) -> None:
    end = called()
    fields = changed(RESPONSE, {":status": str(http)})
    end.say(end.peer.headers(1, fields, end=whole), b"" if whole else frames.data(1, b"<html>", end=True))
    assert ended(end)[2] == status if whole or http != 200 else INTERNAL


def test_the_grpc_status_counts_more_than_https() -> None:
    end = called()
    fields = [*changed(RESPONSE, {":status": "503"}), ("grpc-status", "7"), ("grpc-message", "no")]
    end.say(end.peer.headers(1, fields, end=True))
    assert ended(end)[2:4] == (7, "no")


def test_a_status_among_the_initial_metadata_is_not_the_calls() -> None:
    """It belongs into the trailers: without any, how the call went is not known."""
    end = called()
    end.say(
        end.peer.headers(1, [*RESPONSE, ("grpc-status", "0"), ("grpc-message", "early")]),
        frames.data(1, frames.message(b"x"), end=True),
    )
    assert ended(end)[2] != OK


def test_an_answer_of_another_content_type() -> None:
    end = called()
    end.say(end.peer.headers(1, [(":status", "200"), ("content-type", "text/html")]))
    assert ended(end)[2] == UNKNOWN
    assert end.resets(1) == [frames.CANCEL]


def test_interim_responses_are_skipped() -> None:
    end = called()
    end.say(
        end.peer.headers(1, [(":status", "100"), ("grpc-status", "5"), ("x", "interim")]),
        end.peer.headers(1, [(":status", "103"), ("content-type", "text/html"), ("link", "x")]),
        end.peer.answer(1, b"real"),
    )
    assert [event[0] for event in end.events[1:]] == ["response", "message", "ended"]
    assert end.of_kind("response")[0][2] == ()
    assert ended(end)[2] == OK


def test_interim_responses_without_end_are_given_up(clock: object) -> None:
    end = called(glitch_burst=100)
    end.say(*(end.peer.headers(1, [(":status", "100")]) for _ in range(101)))
    assert end.goaway().code == frames.ENHANCE_YOUR_CALM


def test_a_control_character_in_grpc_message_loses_nothing() -> None:
    """No input drops the message (PROTOCOL-HTTP2.md, Responses)."""
    end = called()
    end.say(
        end.peer.headers(1, [*RESPONSE, ("grpc-status", "5"), ("grpc-message", "a\tb\x01c%e4%zz")], end=True)
    )
    assert ended(end)[2:4] == (5, "a\tb\x01c�%zz")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        *((0, INTERNAL), (1, INTERNAL), (2, INTERNAL), (3, INTERNAL), (4, INTERNAL), (5, UNKNOWN)),
        *((6, INTERNAL), (7, UNAVAILABLE), (8, CANCELLED), (9, INTERNAL), (10, INTERNAL)),
        *((11, RESOURCE_EXHAUSTED), (12, PERMISSION_DENIED), (13, UNKNOWN), (0xFFFFFFFF, UNKNOWN)),
    ],
)
@pytest.mark.parametrize("when", ["before", "between"])
def test_what_a_reset_means(code: int, status: int, when: str) -> None:
    end = called()
    if when == "between":
        end.say(end.peer.headers(1, RESPONSE), end.peer.message(1, b"x"))
    end.say(frames.reset(1, code))
    assert ended(end)[2] == status
    assert ended(end)[5:] == (BY_RESET, code, code == frames.REFUSED_STREAM)
    assert end.session.streams == 0


def test_a_reset_after_the_status_changes_nothing() -> None:
    end = client()
    end.session.request("/a/b")
    end.hear()
    end.say(end.peer.answer(1, b"x"), frames.reset(1, frames.NO_ERROR))
    assert ended(end)[2] == OK


def test_a_status_before_the_client_is_done_stops_it() -> None:
    end = client()
    end.session.request("/a/b")
    end.session.send_message(1, b"x" * 200_000)
    end.hear()
    end.say(end.peer.answer(1))
    assert ended(end)[2] == OK
    assert end.resets(1) == [frames.NO_ERROR]
    assert end.session.streams == 0
    with pytest.raises(KeyError):
        end.session.send_message(1, b"more")


def test_headers_twice_are_a_breach() -> None:
    end = called()
    end.say(end.peer.headers(1, RESPONSE), end.peer.headers(1, [("x", "y")]))
    assert ended(end)[2] == INTERNAL


def test_data_before_headers_break_the_connection() -> None:
    end = called()
    end.say(end.peer.message(1, b"x"))
    assert end.goaway().code == frames.PROTOCOL_ERROR
    assert not end.session.alive
    assert end.session.problem == "the peer broke HTTP/2"
    end.session.lost()
    end.take()
    assert ended(end)[2:4] == (UNAVAILABLE, "the peer broke HTTP/2")


@pytest.mark.parametrize("bad", [b"\0\0\0\0\5ab", b"\0\0", b"\0\0\0\0\1"])
def test_an_answer_that_ends_within_a_message(bad: bytes) -> None:
    end = called()
    end.say(end.peer.headers(1, RESPONSE), frames.data(1, bad), end.peer.headers(1, OK_TRAILERS, end=True))
    assert ended(end)[2] == INTERNAL
    end = called()
    end.say(end.peer.headers(1, RESPONSE), frames.data(1, bad, end=True))
    assert ended(end)[2] == INTERNAL


def test_an_error_status_counts_more_than_a_message_that_was_cut_off() -> None:
    end = called()
    end.say(
        end.peer.headers(1, RESPONSE),
        frames.data(1, b"\0\0"),
        end.peer.headers(1, [("grpc-status", "8")], end=True),
    )
    assert ended(end)[2] == RESOURCE_EXHAUSTED


@pytest.mark.parametrize("encoding", [None, "identity", "snappy"])
def test_a_compressed_message_in_no_known_encoding(encoding: str | None) -> None:
    end = called()
    end.say(
        end.peer.headers(1, changed(RESPONSE, {"grpc-encoding": encoding})),
        frames.data(1, frames.message(b"x", compressed=True)),
    )
    assert ended(end)[2] == INTERNAL
    assert end.resets(1) == [frames.CANCEL]


@pytest.mark.parametrize("where", ["headers", "trailers", "only"])
def test_too_large_metadata_of_an_answer(where: str) -> None:
    end = called(max_header_bytes=2000)
    large = ("k", "v" * 2000)
    if where == "headers":
        end.say(end.peer.headers(1, [*RESPONSE, large]))
    elif where == "trailers":
        end.say(end.peer.headers(1, RESPONSE), end.peer.headers(1, [*OK_TRAILERS, large], end=True))
    else:
        end.say(end.peer.headers(1, [*RESPONSE, ("grpc-status", "0"), large], end=True))
    assert ended(end)[2] == RESOURCE_EXHAUSTED
    assert end.session.streams == 0
    end.session.request("/a/b")
    end.hear()
    end.say(end.peer.answer(3))
    assert end.of_kind("ended")[-1][2] == OK


def test_the_connections_loss_ends_every_call() -> None:
    end = called()
    end.session.request("/a/b")
    end.session.lost()
    assert [event[1:3] + event[5:6] + event[7:] for event in end.take()] == [
        (3, UNAVAILABLE, BY_CONNECTION, True),
        (1, UNAVAILABLE, BY_CONNECTION, False),
    ]
    assert end.session.data_to_send() == b""
    assert not end.session.alive
    with pytest.raises(RuntimeError):
        end.session.request("/a/b")


def test_a_server_always_says_the_status_without_leading_zeros() -> None:
    end = server()
    for stream_id, status in ((1, 0), (3, 5), (5, 16)):
        end.say(end.peer.call(stream_id))
        end.session.finish(stream_id, status, "grün" if status else "")
        end.hear()
        (fields,) = end.headers(stream_id)
        assert fields["grpc-status"] == str(status)
        assert fields.get("grpc-message") == ("gr%C3%BCn" if status else None)


def test_a_server_that_is_done_early_says_so_with_a_reset() -> None:
    end = server()
    end.say(end.peer.call(1, b"x", end=False))
    end.session.send_message(1, b"answer")
    end.session.finish(1, 0)
    end.hear()
    kinds = [each.kind for each in end.heard if each.stream_id == 1 and each.kind != "window_update"]
    assert kinds == ["headers", "data", "headers", "reset"]
    assert end.resets(1) == [frames.NO_ERROR]
    assert end.take() == [("closed", 1, frames.NO_ERROR)]


def test_metadata_go_before_a_status_without_messages() -> None:
    end = server()
    end.say(end.peer.call(1))
    end.session.send_headers(1, [("early", "1")])
    end.session.finish(1, 3, "bad", [("late", "2")])
    end.hear()
    assert end.headers(1)[0]["early"] == "1"
    assert end.headers(1)[1] == {"grpc-status": "3", "grpc-message": "bad", "late": "2"}
    assert not frames.of_kind(end.heard, "data", 1)


def test_a_finished_call_takes_nothing_more() -> None:
    end = server()
    end.say(end.peer.call(1))
    end.session.finish(1, 0)
    with pytest.raises(RuntimeError):
        end.session.finish(1, 0)
    with pytest.raises(RuntimeError):
        end.session.send_message(1, b"x")
    with pytest.raises(RuntimeError):
        end.session.send_headers(1)
