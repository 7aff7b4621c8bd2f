"""Calls of all kinds, in a closed loop: what reached the server, what came back, what was counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import pytest

from _ext.load.rig import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    NOT_FOUND,
    OK,
    RESOURCE_EXHAUSTED,
    UNKNOWN,
    Rig,
    echo,
    run_all,
    source,
    starves,
    target_of,
    until,
)
from tai_grpc._ext.load.source import Source
from tai_grpc.errors import ConfigError


async def test_every_call_that_is_counted_reached_the_server_and_none_else_did(rig: Rig) -> None:
    seen: Counter[bytes] = Counter()

    async def unary(request: bytes, _context: Any) -> bytes:
        seen[request] += 1
        return request * 2

    address = await rig.serve(unary=unary)
    calls = source(1003, fixed=(((b"one",), ()), ((b"",), ()), ((b"three" * 50_000,), ())))
    run = await rig.run(address, calls, connections=3, concurrency=10)
    assert run.statuses == {OK: 1003}
    assert seen == {b"one": 335, b"": 334, b"three" * 50_000: 334}
    assert (run.engine.messages_sent, run.engine.messages_received) == (1003, 1003)
    assert run.engine.bytes_sent > 334 * 250_000
    assert run.engine.bytes_received > 334 * 500_000
    assert run.engine.errors() == []
    assert not run.engine.timed_out


async def test_engines_on_threads_share_one_total(native: Rig) -> None:
    address = await native.serve(unary=echo)
    calls = source(5000)
    runs = [native.engine(address, calls, connections=2, concurrency=7) for _ in range(3)]
    for run in runs:
        await run.connect()
    await run_all(runs)
    assert sum(run.count for run in runs) == calls.issued == 5000


async def test_metadata_timeout_and_user_agent_reach_the_server(rig: Rig) -> None:
    seen: list[Any] = []

    async def unary(request: bytes, context: Any) -> bytes:
        seen.append((dict(context.invocation_metadata()), context.time_remaining()))
        return request

    address = await rig.serve(unary=unary)
    metadata = (("key", "value"), ("key-bin", b"\x00\xff"))
    calls = source(1, fixed=(((b"",), metadata),))
    await rig.run(address, calls, timeout_ns=30_000_000_000, user_agent="tai-load/1")
    ((received, remaining),) = seen
    assert received["key"] == "value"
    assert received["key-bin"] == b"\x00\xff"
    assert "tai-load/1" in received["user-agent"]
    assert 0 < remaining <= 30


async def test_failures_are_counted_by_status_and_by_what_the_server_said(rig: Rig) -> None:
    count = 0

    async def unary(request: bytes, context: Any) -> bytes:
        nonlocal count
        count += 1
        if count % 4 == 0:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: ü, 100%\n")
        if count % 4 == 1:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "")
        return request

    address = await rig.serve(unary=unary)
    run = await rig.run(address, source(400), concurrency=8)
    assert run.statuses == {OK: 200, NOT_FOUND: 100, RESOURCE_EXHAUSTED: 100}
    assert sorted(run.engine.errors()) == [
        (NOT_FOUND, "no such thing: ü, 100%\n", 100),
        (RESOURCE_EXHAUSTED, "", 100),
    ]


async def test_more_than_a_hundred_kinds_of_failure_are_counted_together(native: Rig) -> None:
    count = 0

    async def unary(request: bytes, context: Any) -> bytes:
        nonlocal count
        count += 1
        await context.abort(grpc.StatusCode.NOT_FOUND, f"no {count % 150}")
        return request

    address = await native.serve(unary=unary)
    run = await native.run(address, source(1500))
    errors = run.engine.errors()
    assert len(errors) == 101
    assert errors[-1] == (NOT_FOUND, "other errors", 500)
    assert run.statuses == {NOT_FOUND: 1500}


async def test_a_call_without_an_answer_ends_at_its_timeout_and_the_server_hears_of_it(rig: Rig) -> None:
    cancelled = 0

    async def unary(request: bytes, _context: Any) -> bytes:
        nonlocal cancelled
        if request == b"stay":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1
                raise
        return request

    address = await rig.serve(unary=unary)
    calls = source(40, fixed=(((b"stay",), ()), ((b"",), ()), ((b"",), ()), ((b"",), ())))
    run = await rig.run(address, calls, concurrency=10, timeout_ns=1_000_000_000)
    assert run.statuses == {OK: 30, DEADLINE_EXCEEDED: 10}
    assert {text for _, text, _ in run.engine.errors()} <= {"no answer within 1 s", "Deadline Exceeded"}
    await until(lambda: cancelled >= 10)


async def test_a_warm_up_is_made_and_not_measured(native: Rig) -> None:
    served = 0

    async def unary(request: bytes, _context: Any) -> bytes:
        nonlocal served
        served += 1
        return request

    address = await native.serve(unary=unary)
    run = native.engine(address, source(500), concurrency=3)
    await (await run.connect()).run(warmup=0.2)
    assert run.statuses == {OK: 500}
    assert run.engine.messages_sent == run.engine.messages_received == 500
    assert served > 500


async def test_an_end_lets_calls_in_flight_end_and_begins_no_others(rig: Rig) -> None:
    answer = asyncio.Event()
    waiting = 0

    async def unary(request: bytes, _context: Any) -> bytes:
        nonlocal waiting
        waiting += 1
        await answer.wait()
        return request

    address = await rig.serve(unary=unary)
    run = await rig.engine(address, source(), concurrency=5).connect()
    task = run.begin(seconds=0.2)
    await until(lambda: run.engine.timed_out)
    assert not task.done()
    answer.set()
    await task
    assert run.statuses == {OK: 5}
    assert waiting == 5


async def test_an_end_that_does_not_wait_abandons_calls_in_flight(rig: Rig) -> None:
    cancelled = 0

    async def unary(request: bytes, _context: Any) -> bytes:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return request

    address = await rig.serve(unary=unary)
    run = await rig.engine(address, source(), concurrency=5, end_waits=False).connect()
    await run.run(seconds=0.2)
    assert (run.statuses, run.engine.abandoned, run.engine.timed_out) == ({}, 5, True)
    await until(lambda: cancelled >= 5)


async def test_stop_ends_a_run_at_once(native: Rig) -> None:
    begun = asyncio.Event()

    async def unary(request: bytes, _context: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return request

    address = await native.serve(unary=unary)
    run = await native.engine(address, source(), concurrency=3).connect()
    task = run.begin()
    await begun.wait()
    await until(lambda: run.engine.in_flight >= 3)
    run.engine.stop()
    await task
    assert (run.statuses, run.engine.abandoned, run.engine.timed_out) == ({}, 3, False)


async def test_stop_before_the_beginning_makes_no_calls(native: Rig) -> None:
    address = await native.serve(unary=echo)
    run = await native.engine(address, source()).connect()
    run.engine.stop()
    await run.run()
    assert (run.statuses, run.source.issued) == ({}, 0)


async def test_hosts_are_called_in_turn_and_counted_apart(rig: Rig) -> None:
    counts: Counter[str] = Counter()

    def served(name: str) -> Any:
        async def unary(request: bytes, _context: Any) -> bytes:
            counts[name] += 1
            return request

        return unary

    addresses = [await rig.serve(unary=served(name)) for name in "abc"]
    targets = [target_of(address) for address in addresses]
    run = await rig.run(targets, source(600), connections=3, concurrency=3)
    assert run.statuses == {OK: 600}
    assert [target.statuses()[OK] for target in targets] == [counts[name] for name in "abc"]
    assert all(counts.values())


async def test_messages_are_sent_compressed_where_that_is_asked_for(rig: Rig) -> None:
    seen: list[bytes] = []

    async def unary(request: bytes, _context: Any) -> bytes:
        seen.append(request)
        return request

    address = await rig.serve(unary=unary)
    text = b"again and again " * 10_000
    run = await rig.run(address, source(3, fixed=(((text,), ()),), gzip=True), concurrency=1)
    assert run.statuses == {OK: 3}
    assert seen == [text] * 3
    assert run.engine.bytes_sent < len(text)


async def test_a_message_that_is_too_large_for_the_limit_is_a_failure(rig: Rig) -> None:
    async def unary(request: bytes, _context: Any) -> bytes:
        return request * 100

    address = await rig.serve(unary=unary)
    run = await rig.run(address, source(5, fixed=(((b"x" * 100,), ()),)), max_message_bytes=1000)
    assert run.engine.errors() == [
        (RESOURCE_EXHAUSTED, "Received message larger than max (10000 vs. 1000)", 5)
    ]


# --- Streams --------------------------------------------------------------------------------------------


async def _split(request: bytes, _context: Any) -> AsyncIterator[bytes]:
    for _ in range(5):
        yield request


async def _collect(requests: AsyncIterator[bytes], _context: Any) -> bytes:
    return b"".join([request async for request in requests])


async def _chat(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


MESSAGES = (((b"a", b"bb", b"x" * 30_000), ()),)


@pytest.mark.parametrize(("name", "sent", "received"), [("split", 1, 5), ("collect", 3, 1), ("chat", 3, 3)])
async def test_streams_send_and_receive_all_of_their_messages(
    rig: Rig, name: str, sent: int, received: int
) -> None:
    address = await rig.serve(split=_split, collect=_collect, chat=_chat)
    run = await rig.run(address, source(50, fixed=MESSAGES), name=name, concurrency=4, connections=2)
    assert run.statuses == {OK: 50}
    assert (run.engine.messages_sent, run.engine.messages_received) == (50 * sent, 50 * received)


@pytest.mark.parametrize("count", [1, 2, 7])
async def test_a_stream_sends_as_many_messages_as_it_is_told_in_their_order(rig: Rig, count: int) -> None:
    seen: list[list[bytes]] = []

    async def collect(requests: AsyncIterator[bytes], _context: Any) -> bytes:
        seen.append([request async for request in requests])
        return b""

    address = await rig.serve(collect=collect)
    fixed = (((b"a", b"b", b"c"), ()),)
    await rig.run(address, source(3, fixed=fixed), name="collect", stream_messages=count)
    assert seen == [[b"abc"[i % 3 : i % 3 + 1] for i in range(count)]] * 3


async def test_a_stream_sends_no_faster_than_the_server_reads(rig: Rig) -> None:
    """64 MB in one stream, whose queue holds some 64 KB at a time."""
    size = 0

    async def collect(requests: AsyncIterator[bytes], _context: Any) -> bytes:
        nonlocal size
        async for request in requests:
            size += len(request)
        return b""

    address = await rig.serve(collect=collect)
    calls = source(1, fixed=(((b"x" * 64_000,), ()),))
    run = await rig.run(address, calls, name="collect", stream_messages=1000)
    assert run.statuses == {OK: 1}
    assert size == 64_000_000


async def test_a_servers_stream_is_given_up_after_so_many_messages_as_ok(rig: Rig) -> None:
    ended = 0

    async def split(request: bytes, _context: Any) -> AsyncIterator[bytes]:
        nonlocal ended
        try:
            while True:
                yield request
                await asyncio.sleep(0)
        finally:
            ended += 1

    address = await rig.serve(split=split)
    run = await rig.run(address, source(10), name="split", stream_messages=4, concurrency=2)
    assert run.statuses == {OK: 10}
    assert run.engine.messages_received == 40
    await until(lambda: ended >= 10)


async def test_a_servers_stream_is_given_up_after_its_duration_as_ok(rig: Rig) -> None:
    async def split(request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield request
        await asyncio.Event().wait()

    address = await rig.serve(split=split)
    run = await rig.run(address, source(4), name="split", stream_duration_ns=100_000_000, concurrency=4)
    assert run.statuses == {OK: 4}
    assert run.engine.messages_received == 4
    assert run.slower_than(0.099) == 4


async def test_a_client_stream_ends_after_its_duration(rig: Rig) -> None:
    address = await rig.serve(chat=_chat)
    run = await rig.run(
        address,
        source(2),
        name="chat",
        stream_messages=1_000_000,
        stream_interval_ns=10_000_000,
        stream_duration_ns=200_000_000,
    )
    assert run.statuses == {OK: 2}
    assert 2 <= run.engine.messages_sent <= 42
    assert run.engine.messages_received == run.engine.messages_sent
    assert run.slower_than(0.199) == 2


async def test_an_interval_passes_between_two_messages_of_a_stream(rig: Rig) -> None:
    address = await rig.serve(collect=_collect)
    run = await rig.run(
        address, source(3), name="collect", stream_messages=5, stream_interval_ns=50_000_000, concurrency=3
    )
    assert run.engine.messages_sent == 15
    assert run.slower_than(0.199) == 3


async def test_a_stream_that_the_server_ends_early_sends_no_more(rig: Rig) -> None:
    async def collect(_requests: AsyncIterator[bytes], context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "enough")
        return b""

    address = await rig.serve(collect=collect)
    run = await rig.run(
        address, source(5), name="collect", stream_messages=1_000_000, stream_interval_ns=10_000_000
    )
    assert run.engine.errors() == [(NOT_FOUND, "enough", 5)]


async def test_an_answer_without_a_message_is_a_failure(rig: Rig) -> None:
    """The path is that of a server stream, which this engine takes for a unary call."""

    async def split(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for _ in range(0):
            yield b""

    async def chat(_requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        yield b""
        yield b""

    address = await rig.serve(split=split, chat=chat)
    run = await rig.run(address, source(2), name="split", server_streaming=False)
    assert run.engine.errors() == [(INTERNAL, "the server sent no response", 2)]
    run = await rig.run(address, source(2), name="chat", server_streaming=False)
    assert run.engine.errors() == [(INTERNAL, "the server sent more than one response", 2)]


# --- Fed from Python ------------------------------------------------------------------------------------


async def test_fed_requests_are_sent_each_once_and_in_order(rig: Rig) -> None:
    seen: list[bytes] = []

    async def unary(request: bytes, _context: Any) -> bytes:
        seen.append(request)
        return request

    address = await rig.serve(unary=unary)
    calls = Source(total=None, fixed=None, capacity=16)

    def feed() -> None:
        for number in range(1000):
            while not calls.feed((b"%d" % number,), ()):
                assert calls.wait_for_room(10)
        calls.close()

    run = await rig.engine(address, calls, concurrency=1).connect()
    task = run.begin()
    await asyncio.to_thread(feed)
    await task
    assert seen == [b"%d" % number for number in range(1000)]
    assert (calls.issued, calls.fed) == (1000, 1000)


async def test_calls_wait_for_requests_that_are_fed_late(rig: Rig) -> None:
    address = await rig.serve(unary=echo)
    calls = Source(total=4, fixed=None)
    run = await rig.engine(address, calls, concurrency=2).connect()
    task = run.begin()
    for number in range(4):
        await until(partial(starves, run, number))
        assert calls.feed((b"late",), ())
    await task
    assert run.statuses == {OK: 4}
    assert calls.starved >= 4


async def test_engines_that_starve_end_with_the_last_number(native: Rig) -> None:
    """One takes the last request; the other hears that nothing will come, without a close()."""
    address = await native.serve(unary=echo)
    calls = Source(total=10, fixed=None)
    runs = [await native.engine(address, calls, concurrency=3).connect() for _ in range(2)]
    task = asyncio.create_task(run_all(runs))
    for _ in range(10):
        assert calls.feed((b"",), ())
        await asyncio.sleep(0)
    await task
    assert sum(run.count for run in runs) == 10


def test_a_ring_holds_what_it_is_told_and_no_more() -> None:
    calls = Source(total=None, fixed=None, capacity=3, max_bytes=10_000)
    assert [calls.feed((b"",), ()) for _ in range(4)] == [True, True, True, False]
    assert not calls.wait_for_room(0)
    large = Source(total=None, fixed=None, capacity=100, max_bytes=10_000)
    assert large.feed((b"x" * 20_000,), ())
    assert not large.feed((b"",), ())
    calls.close()
    assert not calls.feed((b"",), ())
    assert not calls.wait_for_room(10)


def test_what_cannot_be_sent_is_refused_when_it_is_given() -> None:
    with pytest.raises(ValueError, match="metadata was invalid: key 'grpc-timeout'"):
        Source(total=1, fixed=(((b"",), (("grpc-timeout", "1S"),)),))
    with pytest.raises(TypeError, match="a message is bytes, not str"):
        Source(total=1, fixed=((("",), ()),))  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ConfigError, match=r"fixed=.*at least one request"):
        Source(total=1, fixed=())
    with pytest.raises(ConfigError, match="total=0"):
        Source(total=0, fixed=(((b"",), ()),))
    with pytest.raises(ConfigError, match="None for a source that is fed"):
        source(1).feed((b"",), ())


async def test_numbers_begin_and_step_as_processes_that_share_them_want(native: Rig) -> None:
    seen: list[bytes] = []

    async def unary(request: bytes, _context: Any) -> bytes:
        seen.append(request)
        return request

    address = await native.serve(unary=unary)
    fixed = tuple(((b"%d" % number,), ()) for number in range(5))
    await native.run(address, source(4, fixed=fixed, first=1, step=2), concurrency=1)
    assert seen == [b"1", b"3", b"0", b"2"]


async def test_a_method_that_is_not_there_is_unimplemented(rig: Rig) -> None:
    address = await rig.serve(unary=echo)
    run = await rig.run(address, source(3), path="/no.Such/Method")
    assert run.statuses == {12: 3}


async def test_a_handler_that_fails_is_unknown(native: Rig) -> None:
    async def unary(_request: bytes, _context: Any) -> bytes:
        raise ValueError("broken")

    address = await native.serve(unary=unary)
    run = await native.run(address, source(3))
    assert run.statuses == {UNKNOWN: 3}


async def test_large_responses_may_all_arrive_at_the_same_time(rig: Rig) -> None:
    """A hundred of a megabyte each, whose parts a server may send in turns."""

    async def unary(request: bytes, _context: Any) -> bytes:
        return bytes(1_000_000)

    address = await rig.serve(unary=unary)
    run = await rig.run(address, source(100), concurrency=100)
    assert run.statuses == {OK: 100}
