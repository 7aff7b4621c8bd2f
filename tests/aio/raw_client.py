"""A client that speaks HTTP/2 frame by frame, for what no honest client does."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import Final, NamedTuple, Self

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


def encoded(frame: Frame) -> bytes:
    size = struct.pack(">I", len(frame.payload))[1:]
    return size + struct.pack(">BBI", frame.kind, frame.flags, frame.stream) + frame.payload


def fields(pairs: Iterable[tuple[str, str]]) -> bytes:
    """A header block, each field literal and never indexed (RFC 7541, 6.2.3); texts are short."""
    return b"".join(
        b"\x10" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in pairs
    )


def request(path: str, *more: tuple[str, str]) -> bytes:
    own = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )
    return fields((*own, *more))


def message(data: bytes, compressed: int = 0) -> bytes:
    return struct.pack(">BI", compressed, len(data)) + data


class RawClient:
    """One connection. It acknowledges nothing by itself."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    def send(self, *frames: Frame) -> None:
        self.send_bytes(b"".join(map(encoded, frames)))

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    def hello(self) -> None:
        """Send the preface and the first SETTINGS, and acknowledge the server's."""
        self.send_bytes(PREFACE)
        self.send(Frame(SETTINGS, 0, 0, b""), Frame(SETTINGS, ACK, 0, b""))

    def call(self, stream: int, path: str, data: bytes = b"", *more: tuple[str, str]) -> None:
        """Send a unary request."""
        self.send(
            Frame(HEADERS, END_HEADERS, stream, request(path, *more)),
            Frame(DATA, END_STREAM, stream, message(data)),
        )

    async def frame(self) -> Frame | None:
        """Return the next frame; None when the server has closed the connection."""
        try:
            head = await self._reader.readexactly(9)
            size = int.from_bytes(head[:3], "big")
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            return Frame(kind, flags, stream, await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def next(self, kind: int, *, flags: int = 0) -> Frame:
        """Return the next frame of this kind with these flags."""
        while (frame := await self.frame()) is not None:
            if frame.kind == kind and frame.flags & flags == flags:
                return frame
        raise ConnectionError(f"the connection ended before a frame of kind {kind}")

    async def closed(self) -> list[Frame]:
        """Wait until the server closes; return what it said before."""
        said = []
        while (frame := await self.frame()) is not None:
            said.append(frame)
        return said
