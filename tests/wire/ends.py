"""One end is a session of ours, the other a scripted peer: what each says to the other, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from tai_grpc._ext.http2.sansio import Session
from wire import frames
from wire.frames import Peer, Seen

Event = tuple[Any, ...]


class End:
    """A session and the peer that talks to it; `say` gives the session bytes, and returns its events."""

    def __init__(
        self,
        role: Literal["client", "server"],
        *,
        settings: dict[int, int] | None = None,
        auto_read: bool = True,
        begin: bool = True,
        **limits: int,
    ) -> None:
        self.session = Session(role, auto_read=auto_read, **limits)
        self.peer = Peer()
        self.heard: list[Seen] = []
        self.events: list[Event] = []
        if begin:
            preface = frames.PREFACE if role == "server" else b""
            self.say(preface + frames.settings(settings) + frames.settings(ack=True))

    def say(self, *parts: bytes, react: Callable[[Event], object] | None = None) -> list[Event]:
        """Give it bytes; `react` to each event; return the events, also those that its output brings."""
        self.session.receive_data(b"".join(parts))
        events = self.take(react)
        self.hear()
        return events + self.take(react)

    def take(self, react: Callable[[Event], object] | None = None) -> list[Event]:
        events = []
        while (event := self.session.next_event()) is not None:
            events.append(event)
            if react is not None:
                react(event)
        self.events += events
        return events

    def hear(self) -> list[Seen]:
        """What the session sends now, as frames."""
        seen = self.peer.read(self.session.data_to_send())
        self.heard += seen
        return seen

    def goaway(self) -> Seen:
        """The last GOAWAY that it said."""
        self.hear()
        return frames.of_kind(self.heard, "goaway")[-1]

    def headers(self, stream_id: int) -> list[dict[str, str]]:
        return [dict(each.fields) for each in frames.of_kind(self.heard, "headers", stream_id)]

    def resets(self, stream_id: int | None = None) -> list[int]:
        return [each.code for each in frames.of_kind(self.heard, "reset", stream_id)]

    def of_kind(self, kind: str) -> list[Event]:
        return [event for event in self.events if event[0] == kind]


def server(**arguments: Any) -> End:
    return End("server", **arguments)


def client(**arguments: Any) -> End:
    return End("client", **arguments)
