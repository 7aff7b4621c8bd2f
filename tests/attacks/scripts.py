"""Attacks on an HTTP/2 server as bytes, with what a correct one does: for the session and for real sockets.

Each is a generator of what the attacker writes, piece by piece, so that it can be sent until the server has
had enough. The first piece is the preface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from wire import frames
from wire.frames import REQUEST, Peer, Seen, changed

HELLO = frames.PREFACE + frames.settings() + frames.settings(ack=True)
ECHO, HOLD, BIG = "/attacked/Echo", "/attacked/Hold", "/attacked/Big"
ENOUGH = 30_000
"""Pieces after which an attack that nobody stopped ends."""


@dataclass(frozen=True)
class Attack:
    name: str
    say: Callable[[], Iterator[bytes]]
    code: int | None = None
    """That of the GOAWAY which ends the connection; None: it lives, and answers what is asked of it then."""
    reads: bool = True
    """Whether the attacker takes the answers."""
    answers: dict[int, str] = field(default_factory=dict, compare=False)
    """The grpc-status of streams, or "http NNN", or "reset N"."""


def request(path: str = ECHO, **more: str | None) -> frames.Fields:
    return changed(
        REQUEST, {":path": path, **{name.replace("_", "-"): value for name, value in more.items()}}
    )


def _ids() -> Iterator[int]:
    return (i for i in count(1, 2))


def _repeat(piece: Callable[[Peer, int], bytes], times: int = ENOUGH) -> Callable[[], Iterator[bytes]]:
    """The preface, then `piece` again and again, with another stream each time; some at a time."""

    def say() -> Iterator[bytes]:
        peer = Peer()
        yield HELLO
        ids = _ids()
        for _ in range(times // 50):
            yield b"".join(piece(peer, next(ids)) for _ in range(50))

    return say


def _once(piece: Callable[[Peer], bytes]) -> Callable[[], Iterator[bytes]]:
    def say() -> Iterator[bytes]:
        yield HELLO
        yield piece(Peer())

    return say


def _on_one_stream(frame: bytes, *, path: str = HOLD, times: int = ENOUGH) -> Callable[[], Iterator[bytes]]:
    """A call, then `frame` again and again."""

    def say() -> Iterator[bytes]:
        yield HELLO
        yield Peer().headers(1, request(path))
        for _ in range(times // 50):
            yield frame * 50

    return say


def _continuations(piece: bytes) -> Callable[[], Iterator[bytes]]:
    def say() -> Iterator[bytes]:
        yield HELLO
        yield frames.raw(1, 0, 1, Peer().block(request()))
        for _ in range(ENOUGH // 50):
            yield frames.raw(9, 0, 1, piece) * 50

    return say


def _bomb(size: int, times: int) -> Callable[[Peer], bytes]:
    """A large field once, then a byte for each time that it is meant again."""

    def piece(peer: Peer) -> bytes:
        first = peer.headers(1, [*request(), ("bomb", "x" * size)])
        return first + peer.headers_of(3, peer.block([*request(), *([("bomb", "x" * size)] * times)]))

    return piece


def _no_window(path: str, increments: bool) -> Callable[[], Iterator[bytes]]:
    def say() -> Iterator[bytes]:
        peer = Peer()
        yield frames.PREFACE + frames.settings({4: 0}) + frames.settings(ack=True)
        for stream_id in range(1, 401, 2):
            yield peer.headers(stream_id, request(path)) + peer.message(stream_id, b"x", end=True)
        if increments:
            for _ in range(20):
                yield b"".join(frames.window_update(stream_id, 1) for stream_id in range(1, 401, 2))

    return say


def _call(
    stream_id: int, path: str, octets: bytes, *, end: bool = True, **more: str
) -> Callable[[Peer], bytes]:
    def piece(peer: Peer) -> bytes:
        return peer.headers(stream_id, request(path, **more)) + frames.data(stream_id, octets, end=end)

    return piece


_UNKNOWN_PATHS = ("/unknown", "/attacked/Nothing", "//attacked/Echo", "/")
_BAD_PATHS = ("attacked/Echo", "", "*")


def _paths(peer: Peer) -> bytes:
    paths = [*_UNKNOWN_PATHS, *_BAD_PATHS]
    return b"".join(peer.headers(2 * i + 1, request(path), end=True) for i, path in enumerate(paths))


def _odd_requests(peer: Peer) -> bytes:
    whole = frames.message(b"x")
    odd: list[frames.Fields] = [
        request(content_type="text/plain"),
        request(content_type=None),
        changed(request(), {":method": "GET"}),
        request(grpc_timeout="soon"),
        request(grpc_encoding="snappy"),
        [*request(), ("x-bin", "@@@"), ("grpc-message", "%FF%zz")],
        request(te=None),
    ]
    return b"".join(
        peer.headers(2 * i + 1, fields) + frames.data(2 * i + 1, whole, end=True)
        for i, fields in enumerate(odd)
    )


PEER_FIELDS_300 = [(f"k{i}", "v") for i in range(300)]

ATTACKS = [
    Attack(
        "rapid reset (CVE-2023-44487)",
        _repeat(lambda peer, i: peer.headers(i, request(HOLD)) + frames.reset(i, frames.CANCEL)),
        frames.ENHANCE_YOUR_CALM,
    ),
    Attack(
        "rapid reset that reads nothing",
        _repeat(lambda peer, i: peer.headers(i, request(HOLD)) + frames.reset(i, frames.CANCEL)),
        frames.ENHANCE_YOUR_CALM,
        reads=False,
    ),
    Attack(
        "made you reset: windows that overflow (CVE-2025-8671)",
        _repeat(lambda peer, i: peer.headers(i, request(HOLD)) + frames.window_update(i, 2**31 - 1)),
        frames.ENHANCE_YOUR_CALM,
    ),
    Attack(
        "made you reset: malformed requests",
        _repeat(lambda peer, i: peer.headers(i, request("no-slash"))),
        frames.ENHANCE_YOUR_CALM,
    ),
    Attack(
        "made you reset: trailers that end nothing",
        _repeat(lambda peer, i: peer.headers(i, request(HOLD)) + peer.headers(i, [("x", "y")])),
        frames.ENHANCE_YOUR_CALM,
    ),
    Attack(
        "made you reset: a window opened by nothing",
        _repeat(lambda peer, i: peer.headers(i, request(HOLD)) + frames.window_update(i, 0)),
        frames.PROTOCOL_ERROR,
    ),
    Attack(
        "made you reset: data after the end",
        _repeat(lambda peer, i: peer.headers(i, request(HOLD), end=True) + frames.data(i, b"x")),
        frames.STREAM_CLOSED,
    ),
    Attack(
        "made you reset: headers after the end",
        _repeat(lambda peer, i: peer.headers(i, request(HOLD), end=True) + peer.headers(i, request(HOLD))),
        frames.STREAM_CLOSED,
    ),
    Attack(
        "made you reset: a stream that depends on itself",
        _once(lambda peer: peer.headers(1, request(HOLD)) + frames.raw(2, 0, 1, b"\0\0\0\1\7")),
        frames.PROTOCOL_ERROR,
    ),
    Attack(
        "made you reset: a priority of four bytes",
        _once(lambda peer: peer.headers(1, request(HOLD)) + frames.raw(2, 0, 1, b"\0\0\0\3")),
        frames.FRAME_SIZE_ERROR,
    ),
    Attack(
        "CONTINUATION flood (CVE-2024-27316)", _continuations(b"\0\1k\1v" * 100), frames.ENHANCE_YOUR_CALM
    ),
    Attack("empty CONTINUATION flood (CVE-2019-9518)", _continuations(b""), frames.ENHANCE_YOUR_CALM),
    Attack(
        "header bomb: a byte for 3,000 (CVE-2016-6581, CVE-2026-49975)",
        _once(_bomb(3000, 14_000)),
        frames.ENHANCE_YOUR_CALM,
    ),
    Attack("header bomb that just does not fit", _once(_bomb(3000, 10)), answers={3: "8"}),
    Attack(
        "header bomb: cookie crumbs",
        _once(lambda peer: peer.headers(1, [*request(), *([("cookie", "a=b")] * 8000)], end=True)),
        frames.ENHANCE_YOUR_CALM,
    ),
    Attack(
        "300 fields",
        _once(lambda peer: peer.headers(1, [*request(), *PEER_FIELDS_300], end=True)),
        answers={1: "8"},
    ),
    Attack(
        "huge metadata",
        _once(lambda peer: peer.headers(1, [*request(), ("k", "v" * 60_000)], end=True)),
        answers={1: "8"},
    ),
    Attack(
        "one field beyond all limits",
        _once(lambda peer: peer.headers(1, [*request(), ("k", "v" * 200_000)], end=True)),
        frames.COMPRESSION_ERROR,
    ),
    Attack(
        "PING flood that reads nothing (CVE-2019-9512)",
        _on_one_stream(frames.ping()),
        frames.ENHANCE_YOUR_CALM,
        reads=False,
    ),
    Attack(
        "answers to pings that nobody sent", _on_one_stream(frames.ping(ack=True)), frames.ENHANCE_YOUR_CALM
    ),
    Attack(
        "SETTINGS flood that reads nothing (CVE-2019-9515)",
        _on_one_stream(frames.settings({4: 1000})),
        frames.ENHANCE_YOUR_CALM,
        reads=False,
    ),
    Attack(
        "RST flood that reads nothing (CVE-2019-9514)",
        _repeat(lambda peer, i: peer.headers(i, request("no-slash")) + frames.reset(i, frames.CANCEL)),
        frames.ENHANCE_YOUR_CALM,
        reads=False,
    ),
    Attack("GOAWAY flood", _on_one_stream(frames.goaway(0)), frames.ENHANCE_YOUR_CALM),
    Attack("empty DATA churn (CVE-2019-9518)", _on_one_stream(frames.data(1, b"")), frames.ENHANCE_YOUR_CALM),
    Attack("DATA of padding alone", _on_one_stream(frames.data(1, b"", padding=5)), frames.ENHANCE_YOUR_CALM),
    Attack("PRIORITY churn (CVE-2019-9513)", _on_one_stream(frames.priority(5)), frames.ENHANCE_YOUR_CALM),
    Attack("windows that open by one byte", _on_one_stream(frames.window_update(0, 1))),
    Attack("frames of no known kind", _on_one_stream(frames.raw(0xAB, 0, 1, b"x" * 100))),
    Attack("no window (CVE-2019-9517)", _no_window(BIG, increments=False), reads=False),
    Attack("windows of one byte (CVE-2019-9511)", _no_window(BIG, increments=True), reads=False),
    Attack(
        "a reset of a stream that was never opened",
        _once(lambda _: frames.reset(7, 8)),
        frames.PROTOCOL_ERROR,
    ),
    Attack(
        "an answer to settings that nobody sent",
        _once(lambda _: frames.settings(ack=True)),
        frames.PROTOCOL_ERROR,
    ),
    Attack(
        "a field that is in no table",
        _once(lambda _: frames.raw(1, 5, 1, b"\xff\xff\x00")),
        frames.COMPRESSION_ERROR,
    ),
    Attack(
        "a frame over the limit", _once(lambda _: frames.raw(0, 0, 1, b"x" * 16_385)), frames.FRAME_SIZE_ERROR
    ),
    Attack(
        "a connection's window that overflows",
        _once(lambda _: frames.window_update(0, 2**31 - 1)),
        frames.FLOW_CONTROL_ERROR,
    ),
    Attack(
        "more streams than allowed",
        _repeat(lambda peer, i: peer.headers(i, request(HOLD)), times=2000),
        frames.PROTOCOL_ERROR,
    ),
    Attack(
        "a message of 4 GiB is announced",
        _once(_call(1, ECHO, b"\0\xff\xff\xff\xff", end=False)),
        answers={1: "8"},
    ),
    Attack("the end within a message", _once(_call(1, ECHO, b"\0\0\0\0\5ab")), answers={1: "13"}),
    Attack(
        "a message that is compressed with nothing",
        _once(_call(1, ECHO, frames.message(b"x", compressed=True))),
        answers={1: "13"},
    ),
    Attack(
        "paths that lead nowhere",
        _once(_paths),
        answers={
            **{2 * i + 1: "12" for i in range(len(_UNKNOWN_PATHS))},
            **{
                2 * i + 1: "reset 1"
                for i in range(len(_UNKNOWN_PATHS), len(_UNKNOWN_PATHS) + len(_BAD_PATHS))
            },
        },
    ),
    Attack(
        "odd requests",
        _once(_odd_requests),
        answers={1: "http 415", 3: "http 415", 5: "http 405", 7: "13", 9: "12", 11: "0", 13: "0"},
    ),
]


def check_answers(attack: Attack, heard: list[Seen]) -> None:
    """What was heard of the streams is what a correct server says."""
    for stream_id, expected in attack.answers.items():
        blocks = [dict(each.fields) for each in frames.of_kind(heard, "headers", stream_id)]
        resets = [each.code for each in frames.of_kind(heard, "reset", stream_id)]
        if expected.startswith("reset"):
            found = f"reset {resets[0]}" if resets else "nothing"
        elif expected.startswith("http"):
            found = f"http {blocks[0][':status']}" if blocks else "nothing"
        else:
            found = blocks[-1].get("grpc-status", "no status") if blocks else "nothing"
        if found != expected:
            raise AssertionError(f"{attack.name}: stream {stream_id} got {found}, not {expected}")
