"""The transport of a client for threads: a blocking channel of `tai_grpc.aio` to one address."""

from __future__ import annotations

from grpc import StatusCode

from tai_grpc.aio._blocking import BlockingChannel, blocking_channel
from tai_grpc.aio._blocking_attempt import Attempt, code_of, unary
from tai_grpc.aio._blocking_keeper import RefusalError
from tai_grpc.aio._blocking_start import Arguments, Start
from tai_grpc.config import GrpcClientConfig
from tai_grpc.transport.base import CallOptions, Reply
from tai_grpc.transport.native import native_options


class BlockingTransport:
    """As `NativeTransport`, for threads. A server that stopped answering is noticed by those that wait."""

    def __init__(self, address: str, config: GrpcClientConfig) -> None:
        self._channel: BlockingChannel = blocking_channel(address, None, native_options(config))

    def unary(self, method: str, request: bytes, options: CallOptions) -> tuple[Reply, bool]:
        """Make one attempt of a call with one message each way; return its end, and whether the server's
        headers came before.
        """
        try:
            stream = unary(self._channel.keeper, self._start(method, request, options, single=True))
        except RefusalError as refusal:
            return Reply(refusal.code, refusal.details, sent=False), False
        message = stream.read() if stream.code == 0 else None
        reply = Reply(
            code_of(stream), stream.details, stream.initial_metadata(), stream.trailing_metadata(), message
        )
        if message is None and reply.code is StatusCode.OK:
            reply = reply._replace(
                code=StatusCode.INTERNAL, details="the server ended the call with OK and without a response"
            )
        return reply, stream.answered

    def stream(self, method: str, request: bytes | None, options: CallOptions, *, single: bool) -> Attempt:
        """Start an attempt of any other call; `single`: it has one response.

        Raises:
            RefusalError: it ended before it was sent.
        """
        return Attempt(self._channel.keeper, self._start(method, request, options, single=single))

    def _start(self, method: str, request: bytes | None, options: CallOptions, *, single: bool) -> Start:
        return self._channel.starter.start(method, request, Arguments(*options), single=single)

    def reconnect(self) -> None:
        """If the address could not be reached: have the next attempt try again."""
        self._channel.keeper.reset_backoff()

    def close(self, why: str) -> None:
        """End what is under way with CANCELLED and `why`, and disconnect."""
        self._channel.keeper.close(why)


def stream_reply(attempt: Attempt, message: bytes | None = None) -> Reply:
    """Describe how a stream's attempt has ended."""
    return Reply(
        attempt.code,
        attempt.details,
        attempt.initial_metadata(),
        attempt.trailing_metadata(),
        message,
        sent=attempt.connected(),
    )
