"""One attempt for code that retries by itself: its end is told, once, and nothing is raised."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from tai_grpc import aio
from tai_grpc._ext.aio.attempt import UnaryAttempt, unary_attempt

SERVICE = "test.Attempt"


async def echo(request: bytes, context: Any) -> bytes:
    await context.send_initial_metadata((("first", "1"),))
    context.set_trailing_metadata((("last-bin", b"\0"),))
    return request


async def refuse(request: bytes, context: Any) -> bytes:
    await context.abort(StatusCode.NOT_FOUND, "not here", (("why", "gone"),))
    raise AssertionError


async def stay(request: bytes, context: Any) -> bytes:
    await asyncio.Event().wait()
    return request


HANDLERS: dict[str, Any] = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    "Stay": grpc.unary_unary_rpc_method_handler(stay),
}


class Outcome:
    """The hook, and how often it was called."""

    def __init__(self) -> None:
        self.told: list[UnaryAttempt] = []
        self.ended = asyncio.Event()

    def __call__(self, attempt: UnaryAttempt) -> None:
        self.told.append(attempt)
        self.ended.set()

    async def of(self, channel: aio.Channel, method: str, request: bytes = b"x", **how: Any) -> UnaryAttempt:
        attempt = unary_attempt(channel.dispatcher, f"/{SERVICE}/{method}".encode(), request, self, **how)
        await self.ended.wait()
        assert self.told == [attempt]
        return attempt


async def serve() -> tuple[Any, str]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def test_an_answer() -> None:
    server, target = await serve()
    async with aio.insecure_channel(target) as channel:
        attempt = await Outcome().of(
            channel, "Echo", timeout_ns=60 * 10**9, metadata=(("k", "v"),), encoding=2
        )
        assert (attempt.status, attempt.text, attempt.response) == (0, "", b"x")
        assert [tuple(pair) for pair in attempt.initial] == [("first", "1")]
        assert [tuple(pair) for pair in attempt.trailing] == [("last-bin", b"\0")]
        assert attempt.sent
        assert not attempt.unprocessed
    await server.stop(None)


async def test_a_refusal() -> None:
    server, target = await serve()
    async with aio.insecure_channel(target) as channel:
        attempt = await Outcome().of(channel, "Refuse")
        assert (attempt.status, attempt.text, attempt.response) == (5, "not here", None)
        assert [tuple(pair) for pair in attempt.trailing] == [("why", "gone")]
        assert attempt.sent
    await server.stop(None)


async def test_nobody_there(unused_tcp_port: int) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{unused_tcp_port}") as channel:
        attempt = await Outcome().of(channel, "Echo")
        assert attempt.status == StatusCode.UNAVAILABLE.value[0]
        assert not attempt.sent
        assert attempt.unprocessed
        assert attempt.trailing == ()


async def test_a_deadline_and_a_cancellation() -> None:
    server, target = await serve()
    async with aio.insecure_channel(target) as channel:
        attempt = await Outcome().of(channel, "Stay", timeout_ns=30 * 10**6)
        assert (attempt.status, attempt.text) == (4, "Deadline Exceeded")
        outcome = Outcome()
        given_up = unary_attempt(channel.dispatcher, f"/{SERVICE}/Stay".encode(), b"", outcome)
        assert given_up.cancel()
        assert outcome.told == [given_up]
        assert given_up.status == 1
    await server.stop(None)


async def test_what_cannot_be_sent_is_an_error_at_once() -> None:
    async with aio.insecure_channel("localhost:1") as channel:
        method = f"/{SERVICE}/Echo".encode()
        with pytest.raises(ValueError, match="UPPER"):
            unary_attempt(channel.dispatcher, method, b"", None, metadata=(("UPPER", "v"),))
        with pytest.raises(ValueError, match="encoding"):
            unary_attempt(channel.dispatcher, method, b"", None, encoding=3)
    with pytest.raises(aio.UsageError, match="closed"):
        unary_attempt(channel.dispatcher, method, b"", None)


async def test_a_hook_that_fails_is_reported_and_harms_nothing() -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))

    def fail(attempt: UnaryAttempt) -> None:
        raise RuntimeError("mine")

    server, target = await serve()
    async with aio.insecure_channel(target) as channel:
        attempt = unary_attempt(channel.dispatcher, f"/{SERVICE}/Echo".encode(), b"", fail)
        assert await attempt.code() is StatusCode.OK
        assert [str(report["exception"]) for report in reports] == ["mine"]
        assert (await Outcome().of(channel, "Echo")).response == b"x"
    await server.stop(None)
