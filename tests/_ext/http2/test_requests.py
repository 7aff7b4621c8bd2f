"""What a server makes of a request's headers."""

from __future__ import annotations

import pytest

from wire import frames
from wire.ends import End, client, server
from wire.frames import REQUEST, Fields, changed

UNKNOWN, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 2, 8, 12, 13


def trailers_only(end: End, stream_id: int = 1) -> dict[str, str]:
    """Its whole answer, when that is one block."""
    (headers,) = frames.of_kind(end.heard, "headers", stream_id)
    assert headers.end
    return dict(headers.fields)


def test_a_request_tells_path_metadata_and_timeout() -> None:
    end = server()
    fields = [
        *REQUEST,
        ("grpc-timeout", "2S"),
        ("user-agent", "x/1"),
        ("a", "1"),
        ("a", "2"),
        ("b-bin", "AQ"),
    ]
    (request, ended) = end.say(end.peer.call(1, fields=fields))
    metadata = (("user-agent", "x/1"), ("a", "1"), ("a", "2"), ("b-bin", b"\1"))
    assert request == ("request", 1, "/tai.Echo/Unary", metadata, 2.0)
    assert ended == ("half_closed", 1)


@pytest.mark.parametrize(
    "value", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"]
)
def test_content_types_of_grpc_are_taken(value: str) -> None:
    end = server()
    events = end.say(end.peer.call(1, fields=changed(REQUEST, {"content-type": value})))
    assert events[0][0] == "request"


@pytest.mark.parametrize(
    "value", [None, "text/html", "application/grpc-web", "application/grpcx", "application/grp", ""]
)
def test_another_content_type_is_415(value: str | None) -> None:
    end = server()
    events = end.say(end.peer.call(1, fields=changed(REQUEST, {"content-type": value})))
    assert trailers_only(end)[":status"] == "415"
    assert events == [("closed", 1, 0)]


def test_too_many_fields_are_said_to_be_too_many_whatever_was_not_read() -> None:
    """The content-type is among what comes behind the limit, and is not what is wrong."""
    end = server(max_header_bytes=1000)
    fields = [field for field in REQUEST if field[0] != "content-type"]
    fields += [("a", "x" * 1000), ("content-type", "application/grpc")]
    end.say(end.peer.call(1, fields=fields))
    answer = trailers_only(end)
    assert (answer[":status"], answer["grpc-status"]) == ("200", str(RESOURCE_EXHAUSTED))


def test_another_method_is_405() -> None:
    end = server()
    events = end.say(end.peer.call(1, fields=changed(REQUEST, {":method": "GET"})))
    assert trailers_only(end)[":status"] == "405"
    assert events == [("closed", 1, 0)]


def test_te_may_be_missing() -> None:
    end = server()
    assert end.say(end.peer.call(1, fields=changed(REQUEST, {"te": None})))[0][0] == "request"


@pytest.mark.parametrize(
    "value", ["1", "S", "123456789S", "1s", "-1S", "1.5S", "99999999999999999999999n", ""]
)
def test_a_timeout_that_is_none_is_refused_with_a_status(value: str) -> None:
    end = server()
    events = end.say(end.peer.call(1, fields=changed(REQUEST, {"grpc-timeout": value})))
    answer = trailers_only(end)
    assert (answer[":status"], answer["grpc-status"]) == ("200", str(INTERNAL))
    assert "grpc-timeout" in answer["grpc-message"]
    assert events == [("closed", 1, 0)]


def test_an_encoding_that_is_not_known_is_unimplemented_and_says_which_are() -> None:
    end = server()
    end.say(end.peer.call(1, fields=changed(REQUEST, {"grpc-encoding": "snappy"})))
    answer = trailers_only(end)
    assert answer["grpc-status"] == str(UNIMPLEMENTED)
    assert answer["grpc-accept-encoding"] == "identity, deflate, gzip"


def test_more_fields_than_the_limit_are_refused_before_anybody_sees_them() -> None:
    end = server(max_header_fields=20)
    fields: Fields = [*REQUEST, *((f"k{i}", "v") for i in range(14))]
    assert end.say(end.peer.call(1, fields=fields))[0][0] == "request"
    events = end.say(end.peer.call(3, fields=[*fields, ("one-more", "v")]))
    assert trailers_only(end, 3)["grpc-status"] == str(RESOURCE_EXHAUSTED)
    assert events == [("closed", 3, 0)]


def test_larger_metadata_than_the_limit_are_refused_and_the_connection_lives() -> None:
    end = server(max_header_bytes=2000)
    end.say(end.peer.call(1, fields=[*REQUEST, ("k", "v" * 2000)]))
    assert trailers_only(end)["grpc-status"] == str(RESOURCE_EXHAUSTED)
    assert end.say(end.peer.call(3))[0][0] == "request"


def test_as_large_metadata_as_the_limit_says_arrive_in_as_many_frames_as_they_need() -> None:
    end = server(max_header_bytes=1 << 20)
    fields: Fields = [*REQUEST, *((f"k{i}", "v" * 30_000) for i in range(20))]
    event = end.say(end.peer.call(1, fields=fields))[0]
    assert (event[0], len(event[3])) == ("request", 20)
    assert end.session.alive, end.session.problem


def test_the_limit_of_metadata_is_announced() -> None:
    end = server(max_header_bytes=2000, max_streams=7, window_bytes=100_000)
    settings = frames.of_kind(end.heard, "settings")[0].values
    assert settings == {3: 7, 4: 100_000, 6: 2000}


def test_metadata_that_are_too_large_to_be_sent_end_the_call() -> None:
    """nghttp2 drops a header block that is over its limit: the peer must not wait for it for ever."""
    end = server()
    end.say(end.peer.call(1))
    end.session.finish(1, 0, "", [("k", "v" * (1 << 21))])
    end.hear()
    assert end.resets(1) == [frames.INTERNAL_ERROR]
    assert end.take() == [("closed", 1, frames.INTERNAL_ERROR)]
    end.say(end.peer.call(3))
    end.session.send_message(3, b"answer")
    end.session.finish(3, 0, "", [("k", "v" * (1 << 21))])
    end.hear()
    assert frames.body(end.heard, 3) == frames.message(b"answer")
    assert end.resets(3) == [frames.INTERNAL_ERROR]
    end.say(end.peer.call(5))
    end.session.send_headers(5, [("k", "v" * (1 << 21))])
    end.session.send_message(5, b"never")
    end.hear()
    assert end.resets(5) == [frames.INTERNAL_ERROR]
    assert end.session.streams == 0


def test_a_request_with_too_large_metadata_is_not_to_be_tried_again() -> None:
    end = client()
    end.session.request("/a/b", metadata=[("k", "v" * (1 << 21))])
    end.hear()
    ((_, _, status, text, _, _, _, unprocessed),) = end.take()
    assert (status, unprocessed) == (RESOURCE_EXHAUSTED, False)
    assert "metadata" in text


def test_trailers_of_a_request_end_it() -> None:
    """gRPC has none, and HTTP/2 allows them."""
    end = server()
    end.say(end.peer.call(1, b"x", end=False))
    assert end.say(end.peer.headers(1, [("x-checksum", "1")], end=True)) == [("half_closed", 1)]


def test_many_fields_in_a_requests_trailers_are_bounded_too() -> None:
    end = server(max_header_bytes=4096)
    end.say(end.peer.call(1, b"x", end=False))
    end.say(end.peer.headers(1, [(f"k{i}", "v" * 100) for i in range(400)], end=True))
    assert end.goaway().code == frames.ENHANCE_YOUR_CALM


def test_an_answer_names_the_encodings_that_are_taken() -> None:
    end = server()
    end.say(end.peer.call(1))
    end.session.send_headers(1, [("k", "v")], "gzip")
    end.hear()
    assert end.headers(1)[0] == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-encoding": "gzip",
        "grpc-accept-encoding": "identity, deflate, gzip",
        "k": "v",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {":path": ""},
        {":path": "svc/m"},
        {":path": None},
        {":scheme": None},
        {":method": None},
        {"connection": "close"},
        {"te": "gzip"},
        {"Upper": "x"},
        {"content-length": "5"},
    ],
)
def test_a_request_that_is_no_http_is_reset_and_the_connection_lives(changes: dict[str, str | None]) -> None:
    end = server()
    events = end.say(end.peer.call(1, fields=changed(REQUEST, changes), end=True))
    assert [event for event in events if event[0] != "half_closed"] == [("closed", 1, frames.PROTOCOL_ERROR)]
    assert end.resets(1) == [frames.PROTOCOL_ERROR]
    assert end.say(end.peer.call(3))[0][0] == "request"


def test_paths_are_given_as_they_are() -> None:
    end = server()
    for stream_id, path in enumerate(["/unknown/path", "//svc/m", "/", "/a/b?c", "/%2e/x"]):
        request = end.say(end.peer.call(2 * stream_id + 1, fields=changed(REQUEST, {":path": path})))[0]
        assert request[2] == path


def test_header_blocks_arrive_in_pieces() -> None:
    end = server()
    parts = end.peer.headers(1, [*REQUEST, ("k", "v" * 500)], piece=100)
    assert end.say(parts)[0][3] == (("k", "v" * 500),)


def test_a_client_sends_what_grpc_asks_for() -> None:
    end = client()
    stream_id = end.session.request("/a/b", authority="example:1", metadata=[("k", "v")], encoding="gzip")
    end.hear()
    (fields,) = end.headers(stream_id)
    assert fields == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/a/b",
        ":authority": "example:1",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "tai-sansio",
        "grpc-accept-encoding": "identity, deflate, gzip",
        "grpc-encoding": "gzip",
        "k": "v",
    }
