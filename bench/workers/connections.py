"""Many connections of no peer in particular: `python -m bench.workers.connections PORT`.

HTTP/2 at its least, so that what a server needs for a connection or a call is measured without a client of
its own making beside it: frames are written by hand, and of answers only the ends are looked at. Answers
lines of JSON: `{"do": "open", "connections": N}`, `{"do": "unary"}` (a call on each, to its end),
`{"do": "hold"}` (begins one on each), `{"do": "ended"}` (waits for all), `{"do": "alive"}` (a ping to each).
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, cast

import uvloop

from bench.peers.rpc.echo import SERVICE, TEXT, messages
from bench.peers.rpc.say import say

AT_ONCE: Final = 64
"""How many connections are opened, or called on, at the same time: fewer than a listening socket's usual
backlog, and than the calls that grpcio lets wait before it refuses some."""
SECONDS: Final = 60.0

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_ACK = _END_STREAM = 1
_END_HEADERS: Final = 4
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113, section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def fields(path: str, authority: str) -> bytes:
    """A request's headers in HPACK without its table (RFC 7541): POST, http, and literals."""

    def text(value: str) -> bytes:
        return bytes((len(value),)) + value.encode()

    return (
        b"\x83\x86"
        + (b"\x04" + text(path) + b"\x01" + text(authority))
        + (b"\x0f\x10" + text("application/grpc") + b"\x00" + text("te") + text("trailers"))
    )


class Totals:
    """What all connections have seen, and who waits for a number of it."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._waits: list[tuple[str, int, asyncio.Future[None]]] = []

    def add(self, what: str) -> None:
        self.seen[what] += 1
        for wait in self._waits:
            name, count, future = wait
            if name == what and self.seen[what] == count:
                future.set_result(None)

    async def reach(self, what: str, count: int) -> None:
        if self.seen[what] >= count:
            return
        wait = (what, count, asyncio.get_running_loop().create_future())
        self._waits.append(wait)
        try:
            async with asyncio.timeout(SECONDS):
                await wait[2]
        except TimeoutError:
            raise TimeoutError(
                f"{what}: {self.seen[what]} of {count}, all in all {dict(self.seen)}"
            ) from None
        finally:
            self._waits.remove(wait)


class Connection(asyncio.Protocol):
    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._unread = b""
        self._stream = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(_PREFACE + frame(_SETTINGS, 0, 0))

    def connection_lost(self, error: Exception | None) -> None:
        self._totals.add("lost")

    def call(self, method: str) -> None:
        note = messages().Note(text=TEXT).SerializeToString()
        body = b"\0" + len(note).to_bytes(4, "big") + note
        headers = fields(f"/{SERVICE}/{method}", "127.0.0.1")
        self._stream += 2
        self._transport.write(
            frame(_HEADERS, _END_HEADERS, self._stream, headers)
            + frame(_DATA, _END_STREAM, self._stream, body)
        )

    def ping(self) -> None:
        self._transport.write(frame(_PING, 0, 0, b"inquiry."))

    def data_received(self, data: bytes) -> None:
        unread, at = self._unread + data, 0
        while len(unread) - at >= 9 and len(unread) - at >= (
            size := 9 + int.from_bytes(unread[at : at + 3], "big")
        ):
            self._handle(unread[at + 3], unread[at + 4], unread[at + 9 : at + size])
            at += size
        self._unread = unread[at:]

    def _handle(self, kind: int, flags: int, payload: bytes) -> None:
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._transport.write(frame(kind, _ACK, 0, payload if kind == _PING else b""))
            if kind == _SETTINGS:
                self._totals.add("opened")
        elif kind == _PING and payload == b"inquiry.":
            self._totals.add("alive")
        elif kind in (_HEADERS, _DATA) and flags & _END_STREAM:
            self._totals.add("ended")
        elif kind == _GOAWAY or (kind == _RST_STREAM and any(payload)):
            # A reset without an error code only says that the answer was complete.
            self._totals.add("refused")


class Connections:
    def __init__(self, port: int) -> None:
        self._port = port
        self._totals = Totals()
        self._all: list[Connection] = []
        self._called = 0

    async def do(self, command: dict[str, Any]) -> dict[str, int]:
        match command:
            case {"do": "open", "connections": int(count)}:
                for start in range(0, count, AT_ONCE):
                    await asyncio.gather(*(self._open() for _ in range(start, min(count, start + AT_ONCE))))
                await self._totals.reach("opened", len(self._all))
            case {"do": "unary"}:
                for start in range(0, len(self._all), AT_ONCE):
                    self._call("Unary", self._all[start : start + AT_ONCE])
                    await self._totals.reach("ended", self._called)
            case {"do": "hold"}:
                self._call("Hold", self._all)
            case {"do": "ended"}:
                await self._totals.reach("ended", self._called)
            case {"do": "alive"}:
                for connection in self._all:
                    connection.ping()
                await self._totals.reach("alive", len(self._all))
            case _:
                raise ValueError(f"connections cannot do {command}")
        return dict(self._totals.seen)

    def _call(self, method: str, connections: Sequence[Connection]) -> None:
        for connection in connections:
            connection.call(method)
        self._called += len(connections)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: Connection(self._totals), "127.0.0.1", self._port)
        self._all.append(made)


async def main(port: int) -> None:
    connections = Connections(port)
    say({"ready": True})
    while line := await asyncio.to_thread(sys.stdin.readline):
        say(await connections.do(json.loads(line)))


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(main(int(sys.argv[1])))
