"""Rich conversations as the bytes of one side, and an application that answers them as a seed decides.

The same three parts serve hypothesis, the fuzz target and the attacks: `capture` makes the bytes that a peer
sends to a session, `mutated` spoils them, and `Application` is what runs on top of the session.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import Any, Literal

from tai_grpc._ext.http2.sansio import Session
from wire import frames
from wire.frames import OK_TRAILERS, REQUEST, RESPONSE, Peer, changed

Role = Literal["client", "server"]
Event = tuple[Any, ...]

CALLS = 6
"""How many calls a client's application starts before anything comes in; a capture answers these."""


def capture(role: Role, seed: int) -> bytes:
    """What a peer of a session of `role` sends: settings, interleaved calls, and whatever else may come."""
    rng = random.Random(seed)
    peer = Peer()
    values = rng.choice([{}, {}, {3: rng.randrange(1, 5)}, {4: rng.choice([0, 1, 1000, 1 << 20])}])
    said = [frames.settings(values), frames.settings(ack=True)]
    runs = [list(_stream(role, peer, rng, 2 * i + 1)) for i in range(rng.randrange(1, CALLS + 1))]
    # Header blocks are encoded when they are sent, so that the tables of both sides agree.
    opened = 0
    while runs:
        # A client's streams begin in order.
        run = runs[rng.randrange(min(len(runs), opened + 1))]
        opened = max(opened, runs.index(run) + 1)
        said.append(run.pop(0)())
        if not run:
            opened -= 1
            runs.remove(run)
        if rng.random() < 0.3:
            said.append(_aside(rng))
    if rng.random() < 0.2:
        said.append(
            frames.goaway(rng.choice([0, 1, 3]) if role == "client" else 0, rng.choice([0, 2, 11]), b"bye")
        )
    return (frames.PREFACE if role == "server" else b"") + b"".join(said)


def _aside(rng: random.Random) -> bytes:
    """A frame that has nothing to do with calls."""
    return rng.choice(
        [
            frames.ping(rng.randbytes(8)),
            frames.ping(rng.randbytes(8), ack=True),
            frames.window_update(0, rng.randrange(1, 100_000)),
            frames.settings({4: rng.randrange(200_000)}),
            frames.settings({3: rng.randrange(10), 6: rng.randrange(20_000)}),
            frames.settings({1: rng.choice([0, 100, 4096, 65_536])}),
            frames.priority(rng.randrange(1, 30), 0, 7),
            frames.raw(rng.randrange(11, 256), rng.randrange(256), rng.randrange(9), rng.randbytes(9)),
        ]
    )


def _fields(rng: random.Random) -> list[tuple[str, str]]:
    return rng.choice(
        [
            [],
            [],
            [("k", "v" * rng.randrange(50))],
            [("k", "1"), ("k", "2"), ("x-bin", "AQ==")],
            [("big", "v" * rng.randrange(3000))],
            [("x-bin", "@@@")],
            [(f"k{i}", "v") for i in range(rng.randrange(150))],
            [("grpc-timeout", rng.choice(["1S", "5m", "nonsense", "99999999H"]))],
            [("grpc-encoding", rng.choice(["gzip", "identity", "snappy"]))],
            [("grpc-accept-encoding", "gzip,deflate , identity,x")],
        ]
    )


def _body(rng: random.Random, stream_id: int) -> Iterator[Callable[[], bytes]]:
    octets = b"".join(
        frames.message(rng.randbytes(rng.choice([0, 1, 10, 100, 3000])), compressed=rng.random() < 0.1)
        for _ in range(rng.randrange(4))
    )
    if rng.random() < 0.1:
        octets += rng.choice([b"\0\xff\xff\xff\xff", b"\5\0\0\0\0", b"\0\0"])
    while octets:
        size = rng.choice([1, 3, 50, 5000])
        piece, octets = octets[:size], octets[size:]
        padding = rng.choice([None, None, None, 0, 7])
        yield lambda piece=piece, padding=padding: frames.data(stream_id, piece, padding=padding)  # type: ignore[misc]
        if rng.random() < 0.1:
            yield lambda: frames.window_update(stream_id, rng.randrange(1, 1000))


def _stream(role: Role, peer: Peer, rng: random.Random, stream_id: int) -> Iterator[Callable[[], bytes]]:
    if role == "server":
        fields = [*REQUEST, *_fields(rng)]
        if rng.random() < 0.1:
            fields = list(
                changed(fields, rng.choice([{":method": "GET"}, {"content-type": "x/y"}, {":path": "x"}]))
            )
        yield lambda: peer.headers(stream_id, fields, piece=rng.choice([16_384, 200]))
        yield from _body(rng, stream_id)
        yield rng.choice(
            [
                lambda: frames.data(stream_id, b"", end=True),
                lambda: frames.data(stream_id, b"", end=True),
                lambda: frames.reset(stream_id, rng.choice([0, 8, 7])),
                lambda: peer.headers(stream_id, [("trailer", "x")], end=True),
                lambda: b"",
            ]
        )
        return
    if rng.random() < 0.2:
        yield lambda: peer.headers(stream_id, [(":status", "100"), ("x", "y")])
    kind = rng.random()
    if kind < 0.15:
        yield lambda: peer.headers(stream_id, [*RESPONSE, *_fields(rng), ("grpc-status", "5")], end=True)
        return
    if kind < 0.3:
        status = rng.choice(["404", "503", "200"])
        yield lambda: peer.headers(
            stream_id, changed(RESPONSE, {":status": status, "content-type": "text/html"})
        )
        yield lambda: frames.data(stream_id, b"<html>", end=True)
        return
    yield lambda: peer.headers(stream_id, [*RESPONSE, *_fields(rng)])
    yield from _body(rng, stream_id)
    trailers = [*OK_TRAILERS, ("grpc-message", "%41%zz"), *_fields(rng)]
    yield rng.choice(
        [
            lambda: peer.headers(stream_id, trailers, end=True),
            lambda: peer.headers(stream_id, trailers, end=True),
            lambda: frames.data(stream_id, b"", end=True),
            lambda: frames.reset(stream_id, rng.choice([0, 7, 8, 11])),
            lambda: peer.headers(stream_id, [("more", "headers")]),
        ]
    )


def split(octets: bytes) -> list[bytes]:
    """The preface and the frames of what a peer sent; the last may be cut off."""
    found = []
    if octets.startswith(frames.PREFACE):
        found.append(frames.PREFACE)
        octets = octets[len(frames.PREFACE) :]
    while octets:
        size = 9 + (struct.unpack(">I", b"\0" + octets[:3])[0] if len(octets) >= 3 else 0)
        found.append(octets[:size])
        octets = octets[size:]
    return found


def mutated(octets: bytes, rng: random.Random) -> bytes:
    """Spoil some of it: frames twice, gone, moved, with other heads; bits flipped, bytes gone or added."""
    parts = split(octets)
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        at = rng.randrange(len(parts)) if parts else 0
        how = rng.randrange(12)
        if not parts:
            break
        if how == 0:
            parts.insert(at, parts[rng.randrange(len(parts))])
        elif how == 1:
            parts.pop(at)
        elif how == 2:
            other = rng.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif how == 3:
            parts.insert(at, _aside(rng))
        elif how == 4:
            parts[at:at] = [parts[at]] * rng.choice([2, 20])
        elif how == 5 and len(parts[at]) >= 9:
            # Another head: kind, flags or stream, with a length that is right.
            head = bytearray(parts[at])
            which = rng.choice([3, 4, 8, 8, 5])
            head[which] = rng.choice([rng.randrange(256), rng.randrange(10)])
            parts[at] = bytes(head)
        else:
            parts[at] = _spoiled(parts[at], rng, how)
    return b"".join(parts)


def _spoiled(part: bytes, rng: random.Random, how: int) -> bytes:
    if not part:
        return part
    octets = bytearray(part)
    at = rng.randrange(len(octets))
    if how in (6, 7, 8):
        octets[at] ^= 1 << rng.randrange(8)
    elif how == 9:
        del octets[at : at + rng.randrange(1, 10)]
    elif how == 10:
        octets[at:at] = rng.randbytes(rng.randrange(1, 10))
    else:
        octets[at] = rng.choice([0, 0xFF, 0x7F, 0x80])
    return bytes(octets)


class Application:
    """What runs on a session: it does something at each event, as a seed and the event decide."""

    def __init__(self, role: Role, seed: int, **limits: Any) -> None:
        self.role = role
        self.seed = seed
        self.session = Session(role, **limits)
        self.events: list[Event] = []
        self.open: set[int] = set()
        self.over: set[int] = set()
        if role == "client":
            for i in range(CALLS):
                self._start(i)

    def _start(self, i: int) -> None:
        rng = random.Random(self.seed + i)
        stream_id = self.session.request("/a/b", metadata=[("k", "v")], timeout=rng.choice([None, 1.0]))
        self.open.add(stream_id)
        self.session.send_message(stream_id, b"x" * rng.choice([0, 10, 5000]))
        if rng.random() < 0.7:
            self.session.half_close(stream_id)

    def feed(self, octets: bytes) -> None:
        """Give the session bytes, and act on each event before the next is taken, as a shell does."""
        self.session.receive_data(octets)
        self.react()

    def react(self) -> None:
        while (event := self.session.next_event()) is not None:
            self.events.append(event)
            self._check(event)
            self._act(event)

    def _check(self, event: Event) -> None:
        """Events of a stream are told from its request to its end, and none after it."""
        kind, stream_id = event[:2]
        if stream_id == 0:
            return
        if stream_id in self.over:
            raise AssertionError(f"{event} after the stream's end")
        if kind == "request":
            self.open.add(stream_id)
        elif stream_id not in self.open and kind != "closed":
            raise AssertionError(f"{event} of a stream that did not begin")
        if kind in ("closed", "ended"):
            self.over.add(stream_id)
            self.open.discard(stream_id)

    def _act(self, event: Event) -> None:
        kind, stream_id = event[:2]
        if stream_id == 0 or stream_id in self.over:
            return
        rng = random.Random(f"{self.seed} {event!r}")
        if self.role == "client":
            if kind in ("response", "message") and rng.random() < 0.1:
                self.open.discard(stream_id)
                self.over.add(stream_id)
                self.session.reset(stream_id, frames.CANCEL)
            return
        act = rng.random()
        try:
            if kind == "failed" or (kind == "half_closed" and act < 0.8) or act < 0.1:
                self.session.finish(stream_id, rng.randrange(17), "é%" * rng.randrange(3), [("t-bin", b"\0")])
            elif act < 0.2:
                self.session.send_headers(stream_id, [("early", "1")], rng.choice(["identity", "gzip"]))
            elif act < 0.4:
                self.session.send_message(stream_id, b"y" * rng.choice([0, 10, 70_000]))
                self.session.tell_writable(stream_id)
            elif act < 0.45:
                self.session.reset(stream_id, frames.CANCEL)
        except RuntimeError as error:
            # It was finished or reset before.
            if "has ended" not in str(error):
                raise

    def send(self, at_most: int = 1 << 30) -> bytes:
        octets = self.session.data_to_send(at_most)
        self.react()
        return octets
