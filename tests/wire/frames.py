"""HTTP/2 frames, built and read with hyperframe and hpack: a peer that shares no code with the session."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME = 16_384

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 5, 6, 7, 8, 9
ENHANCE_YOUR_CALM, INADEQUATE_SECURITY = 11, 12

Fields = Sequence[tuple[str, str]]

REQUEST: Fields = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/tai.Echo/Unary"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
RESPONSE: Fields = ((":status", "200"), ("content-type", "application/grpc"))
OK_TRAILERS: Fields = (("grpc-status", "0"),)


def changed(fields: Fields, changes: dict[str, str | None]) -> Fields:
    """`fields` with others' values, further ones at the end; None takes one away."""
    kept = [(name, changes.get(name, value)) for name, value in fields]
    names = [name for name, _ in fields]
    further = [(name, value) for name, value in changes.items() if name not in names]
    return [(name, value) for name, value in [*kept, *further] if value is not None]


def message(payload: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """A gRPC message with its prefix, which may lie about the length."""
    return struct.pack(">BI", compressed, len(payload) if length is None else length) + payload


def raw(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A frame of any kind."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream_id) + payload


def data(stream_id: int, payload: bytes, *, end: bool = False, padding: int | None = None) -> bytes:
    frame = DataFrame(stream_id, payload, flags=["END_STREAM"] if end else [])
    if padding is not None:
        frame.flags.add("PADDED")
        frame.pad_length = padding
    return frame.serialize()


def settings(values: dict[int, int] | None = None, *, ack: bool = False) -> bytes:
    return SettingsFrame(0, settings=values or {}, flags=["ACK"] if ack else []).serialize()


def ping(opaque: bytes = b"\0" * 8, *, ack: bool = False) -> bytes:
    return PingFrame(0, opaque, flags=["ACK"] if ack else []).serialize()


def reset(stream_id: int, error_code: int) -> bytes:
    return RstStreamFrame(stream_id, error_code).serialize()


def window_update(stream_id: int, increment: int) -> bytes:
    return raw(8, 0, stream_id, struct.pack(">I", increment))  # hyperframe refuses 0


def goaway(last_stream_id: int, error_code: int = NO_ERROR, debug: bytes = b"") -> bytes:
    return GoAwayFrame(0, last_stream_id, error_code, debug).serialize()


def priority(stream_id: int, depends_on: int = 0, weight: int = 15) -> bytes:
    return PriorityFrame(stream_id, depends_on, weight).serialize()


@dataclass
class Seen:
    """A frame that was read; `fields` of a whole header block."""

    kind: str
    stream_id: int
    end: bool = False
    fields: tuple[tuple[str, str], ...] = ()
    data: bytes = b""
    code: int = 0
    number: int = 0
    ack: bool = False
    values: dict[int, int] = field(default_factory=dict)


class Peer:
    """One end's header tables: it builds header blocks and reads what the other end sends."""

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.decoder = Decoder(max_header_list_size=1 << 24)
        self._rest = b""
        self._block: tuple[int, bool, bytes] | None = None

    def block(self, fields: Iterable[tuple[str, str]], *, index: bool = True) -> bytes:
        made = [each if index else NeverIndexedHeaderTuple(*each) for each in fields]
        # hpack takes minutes for the Huffman code of what is large.
        return self.encoder.encode(made, huffman=sum(len(value) for _, value in made) < 10_000)

    def headers(
        self,
        stream_id: int,
        fields: Iterable[tuple[str, str]] = REQUEST,
        *,
        end: bool = False,
        piece: int = MAX_FRAME,
        index: bool = True,
    ) -> bytes:
        """A header block: one HEADERS, and as many CONTINUATION as pieces are left."""
        return self.headers_of(stream_id, self.block(fields, index=index), end=end, piece=piece)

    def headers_of(self, stream_id: int, block: bytes, *, end: bool = False, piece: int = MAX_FRAME) -> bytes:
        pieces = [block[i : i + piece] for i in range(0, len(block), piece)] or [b""]
        frames: list[Frame] = [HeadersFrame(stream_id, pieces[0], flags=["END_STREAM"] if end else [])]
        frames += [ContinuationFrame(stream_id, each) for each in pieces[1:]]
        frames[-1].flags.add("END_HEADERS")
        return b"".join(frame.serialize() for frame in frames)

    def call(self, stream_id: int, *payloads: bytes, fields: Fields = REQUEST, end: bool = True) -> bytes:
        """A request with its messages, each in a DATA frame of its own (or more, when it is large)."""
        made = [self.headers(stream_id, fields, end=end and not payloads)]
        for i, payload in enumerate(payloads):
            made.append(self.message(stream_id, payload, end=end and i == len(payloads) - 1))
        return b"".join(made)

    @staticmethod
    def message(stream_id: int, payload: bytes, *, end: bool = False) -> bytes:
        whole = message(payload)
        pieces = [whole[i : i + MAX_FRAME] for i in range(0, len(whole), MAX_FRAME)]
        return b"".join(
            data(stream_id, piece, end=end and i == len(pieces) - 1) for i, piece in enumerate(pieces)
        )

    def answer(self, stream_id: int, *payloads: bytes, trailers: Fields = OK_TRAILERS) -> bytes:
        """A whole answer: headers, messages, trailers."""
        made = [self.headers(stream_id, RESPONSE), *(self.message(stream_id, each) for each in payloads)]
        return b"".join([*made, self.headers(stream_id, trailers, end=True)])

    def read(self, octets: bytes) -> list[Seen]:
        """The frames in what the other end sent; the rest waits for the next call."""
        self._rest += octets
        if self._rest.startswith(PREFACE):
            self._rest = self._rest[len(PREFACE) :]
        seen: list[Seen] = []
        while len(self._rest) >= 9 and not PREFACE.startswith(self._rest):
            frame, length = Frame.parse_frame_header(memoryview(self._rest[:9]))
            if len(self._rest) < 9 + length:
                break
            frame.parse_body(memoryview(self._rest[9 : 9 + length]))
            self._rest = self._rest[9 + length :]
            if (one := self._seen(frame)) is not None:
                seen.append(one)
        return seen

    def _seen(self, frame: Frame) -> Seen | None:
        stream_id, ack = frame.stream_id, "ACK" in frame.flags
        if self._block is not None and not isinstance(frame, ContinuationFrame):
            raise AssertionError(f"{frame!r} within a header block")
        if isinstance(frame, HeadersFrame):
            return self._fragment(frame, "END_STREAM" in frame.flags, frame.data)
        if isinstance(frame, ContinuationFrame):
            if self._block is None:
                raise AssertionError("CONTINUATION without HEADERS")
            return self._fragment(frame, self._block[1], self._block[2] + frame.data)
        if isinstance(frame, DataFrame):
            return Seen("data", stream_id, end="END_STREAM" in frame.flags, data=frame.data)
        if isinstance(frame, SettingsFrame):
            return Seen("settings", 0, values=dict(frame.settings), ack=ack)
        if isinstance(frame, PingFrame):
            return Seen("ping", 0, data=frame.opaque_data, ack=ack)
        if isinstance(frame, RstStreamFrame):
            return Seen("reset", stream_id, code=frame.error_code)
        if isinstance(frame, GoAwayFrame):
            return Seen(
                "goaway", 0, code=frame.error_code, number=frame.last_stream_id, data=frame.additional_data
            )
        if isinstance(frame, WindowUpdateFrame):
            return Seen("window_update", stream_id, number=frame.window_increment)
        return Seen(type(frame).__name__, stream_id)

    def _fragment(self, frame: Frame, end: bool, block: bytes) -> Seen | None:
        if "END_HEADERS" not in frame.flags:
            self._block = (frame.stream_id, end, block)
            return None
        self._block = None
        fields = tuple((_text(name), _text(value)) for name, value in self.decoder.decode(block, raw=True))
        return Seen("headers", frame.stream_id, end=end, fields=fields)


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def of_kind(seen: Iterable[Seen], kind: str, stream_id: int | None = None) -> list[Seen]:
    return [each for each in seen if each.kind == kind and stream_id in (None, each.stream_id)]


def body(seen: Iterable[Seen], stream_id: int) -> bytes:
    """All DATA of a stream."""
    return b"".join(each.data for each in of_kind(seen, "data", stream_id))


def messages(octets: bytes) -> list[bytes]:
    """The messages in a stream's DATA."""
    found = []
    while octets:
        (length,) = struct.unpack(">I", octets[1:5])
        if len(octets) < 5 + length:
            raise AssertionError("a message is cut off")
        found.append(octets[5 : 5 + length])
        octets = octets[5 + length :]
    return found
