"""A call on its way through the layers: what was asked for, and what the layers have found out so far."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import aclosing
from typing import Any

from grpc import StatusCode

from tai_grpc._ext.primitives.outbound import OutboundCall
from tai_grpc.status import CallError, LateCallError
from tai_grpc.transport.base import CallOptions, ClientTransport, Reply, StreamAttempt


def _ignore() -> None:
    """Stand in for `Invocation.proven` until there is an attempt."""


def call_error(call: OutboundCall, reply: Reply) -> CallError:
    """Return the error of a call that ended, or an attempt that failed, with `reply`."""
    kind = LateCallError if reply.code is StatusCode.DEADLINE_EXCEEDED else CallError
    return kind(
        reply.code,
        reply.details,
        method=call.method.removeprefix("/"),
        endpoint=call.endpoint,
        attempts=call.attempts,
        initial_metadata=reply.initial_metadata,
        trailing_metadata=reply.trailing_metadata,
    )


class Invocation(OutboundCall):
    """One call. `options.timeout` is what the caller asked for; what is left of it goes with each attempt."""

    __slots__ = ("options", "proven")

    def __init__(self, method: str, options: CallOptions, *, long_lived: bool) -> None:
        super().__init__(method, options.timeout, options.metadata, long_lived=long_lived)
        self.options = options
        self.proven: Callable[[], object] = _ignore
        """To be called, once or more, when the endpoint has answered and the attempt goes on."""


class UnaryInvocation(Invocation):
    """One request, one response.

    A failed attempt commits the call when its headers had an entry. Headers without one are not told apart
    from a response that has none; nobody has seen them, so another attempt does no harm.
    """

    __slots__ = ("request",)

    def __init__(self, method: str, options: CallOptions, request: bytes) -> None:
        super().__init__(method, options, long_lived=False)
        self.request = request

    async def perform(self, transport: ClientTransport, options: CallOptions) -> Reply:
        """Make one attempt, to its end."""
        reply = await transport.unary(self.method, self.request, options)
        self.committed = bool(reply.initial_metadata)
        return reply


class StreamInvocation(Invocation):
    """A stream of requests (`request` is None), of responses (`long_lived`), or both.

    With one request, the response's headers commit the call. A stream of requests is sent once: the call is
    committed when the first attempt's connection stands, and no request is taken before. So an endpoint that
    cannot be reached is left for another one, and nothing is kept to be sent again.
    """

    __slots__ = ("_failure", "opened", "request", "requests")

    def __init__(
        self,
        method: str,
        options: CallOptions,
        *,
        request: bytes | None = None,
        requests: AsyncGenerator[bytes, None] | None = None,
        long_lived: bool,
    ) -> None:
        super().__init__(method, options, long_lived=long_lived)
        self.request = request
        self.requests = requests
        self.opened: asyncio.Future[StreamAttempt] = asyncio.get_running_loop().create_future()
        """The attempt that the call is committed to."""
        self._failure: Exception | None = None

    async def perform(self, transport: ClientTransport, options: CallOptions) -> Reply:
        """Make one attempt, to its end."""
        attempt = transport.stream(self.method, self.request, options)
        pump: asyncio.Task[None] | None = None
        try:
            if self.request is None:
                self.committed = await attempt.connected()
            else:
                self.committed = await attempt.answered()
            if not self.committed:
                return await attempt.status()
            if self.request is not None:
                self.proven()
            self.opened.set_result(attempt)
            if self.requests is not None:
                pump = asyncio.create_task(self._pump(self.requests, attempt))
            message = None if self.long_lived else await attempt.read()
            reply = await attempt.status()
        finally:
            if pump is not None:
                pump.cancel()
            attempt.cancel()
        if self._failure is not None:
            raise self._failure
        if not self.long_lived and reply.code is StatusCode.OK and message is None:
            return reply._replace(code=StatusCode.INTERNAL, details="the server sent no response message")
        return reply._replace(message=message)

    async def _pump(self, requests: AsyncGenerator[bytes, None], attempt: StreamAttempt) -> None:
        """Send the requests. What their source raises ends the call, and is raised to the caller."""
        try:
            async with aclosing(requests):
                async for request in requests:
                    if not await attempt.write(request):
                        return
            await attempt.done_writing()
        except Exception as error:
            self._failure = error
            attempt.cancel()


async def as_async(
    requests: AsyncIterable[Any] | Iterable[Any], serialize: Callable[[Any], bytes]
) -> AsyncGenerator[bytes, None]:
    """Serialize what either kind of iterable yields."""
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield serialize(request)
    else:
        for request in requests:
            yield serialize(request)


AnyInvocation = UnaryInvocation | StreamInvocation
