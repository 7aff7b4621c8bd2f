"""Calls that are due at a rate: when they are sent, what their latencies say, which are missed."""

from __future__ import annotations

import asyncio
import itertools
import time
from functools import partial
from typing import Any

import pytest

from _ext.load.rig import DEADLINE_EXCEEDED, OK, Rig, echo, run_all, source, starves, until
from tai_grpc._ext.load.source import Source

RATE = 500.0
STALL = 0.2


async def stalled(rig: Rig, **settings: Any) -> Any:
    """One connection, one call at a time, 500 a second, and a server that stands still for 200 ms."""
    served = 0

    async def unary(request: bytes, _context: Any) -> bytes:
        nonlocal served
        served += 1
        if served == 50:
            time.sleep(STALL)  # noqa: ASYNC251 - the whole server stands still
        return request

    address = await rig.serve(unary=unary)
    segments = ((None, RATE, RATE),)
    return await rig.run(address, source(400), segments=segments, concurrency=1, **settings)


async def test_a_servers_stall_is_in_the_latencies_of_all_calls_that_were_due_in_it(native: Rig) -> None:
    """100 calls were due meanwhile; half of them waited for 100 ms or more."""
    run = await stalled(native)
    assert run.statuses == {OK: 400}
    assert run.slower_than(STALL / 2) >= 40
    assert run.engine.send_lag.count == 400
    assert run.engine.send_lag.max >= STALL / 2 * 1e9


async def test_latencies_that_count_from_the_sending_hide_a_stall(native: Rig) -> None:
    """The one call that was under way has it, and the machine may have added few of its own."""
    run = await stalled(native, closed=True)
    assert run.statuses == {OK: 400}
    assert 1 <= run.slower_than(STALL / 2) <= 10
    assert run.engine.send_lag.max >= STALL / 2 * 1e9


@pytest.mark.parametrize("poisson", [False, True])
async def test_all_calls_of_a_schedule_are_made_and_then_it_ends(rig: Rig, poisson: bool) -> None:
    address = await rig.serve(unary=echo)
    segments = ((0.2, 500.0, 500.0), (0.1, 0.0, 0.0), (0.2, 500.0, 1500.0))
    run = await rig.run(address, source(), segments=segments, poisson=poisson, connections=2, seed=5)
    assert set(run.statuses) == {OK}
    if poisson:
        assert 200 < run.count < 400
    else:
        assert run.count == 300
    assert run.engine.send_lag.count == run.count
    assert (run.engine.missed, run.engine.timed_out) == (0, False)


async def test_a_total_ends_a_schedule_that_goes_on(rig: Rig) -> None:
    address = await rig.serve(unary=echo)
    run = await rig.run(address, source(77), segments=((None, 5000.0, 5000.0),))
    assert run.statuses == {OK: 77}
    assert run.engine.missed == 0


async def test_engines_that_share_a_schedule_make_its_calls_between_them(native: Rig) -> None:
    address = await native.serve(unary=echo)
    calls = source()
    runs = [
        native.engine(
            address, calls, segments=((0.3, 1000.0, 1000.0),), first_arrival=float(first), arrival_step=3.0
        )
        for first in range(3)
    ]
    for run in runs:
        await run.connect()
    await run_all(runs)
    assert [run.count for run in runs] == [100, 100, 100]


async def test_calls_that_were_due_before_the_end_and_not_sent_are_missed(rig: Rig) -> None:
    """The server answers nothing, two calls are allowed at a time, and 100 are due."""
    answer = asyncio.Event()

    async def unary(request: bytes, _context: Any) -> bytes:
        await answer.wait()
        return request

    address = await rig.serve(unary=unary)
    run = rig.engine(address, source(), segments=((0.1, 1000.0, 1000.0), (None, 1e-3, 1e-3)), concurrency=2)
    task = (await run.connect()).begin(seconds=0.3)
    await until(lambda: run.engine.timed_out)
    answer.set()
    await task
    # One more is due at 0.1 s, with the segment that follows.
    assert (run.statuses, run.engine.missed) == ({OK: 2}, 99)


async def test_no_more_are_missed_than_the_total_leaves(rig: Rig) -> None:
    async def unary(request: bytes, _context: Any) -> bytes:
        await asyncio.Event().wait()
        return request

    address = await rig.serve(unary=unary)
    run = rig.engine(address, source(30), segments=((None, 1000.0, 1000.0),), concurrency=2, end_waits=False)
    await (await run.connect()).run(seconds=0.2)
    assert (run.statuses, run.engine.abandoned, run.engine.missed) == ({}, 2, 28)
    assert run.source.issued == 2


async def test_calls_of_the_warm_up_are_neither_measured_nor_missed(rig: Rig) -> None:
    address = await rig.serve(unary=echo)
    segments = ((0.2, 500.0, 500.0), (0.2, 1000.0, 1000.0))
    run = await rig.engine(address, source(), segments=segments).connect()
    await run.run(warmup=0.2, seconds=10)
    assert run.statuses == {OK: 200}
    assert run.engine.send_lag.count == 200


async def test_a_warm_up_that_could_not_be_sent_is_not_missed(native: Rig) -> None:
    async def unary(request: bytes, _context: Any) -> bytes:
        await asyncio.Event().wait()
        return request

    address = await native.serve(unary=unary)
    segments = ((0.1, 1000.0, 1000.0), (0.1, 500.0, 500.0), (None, 1e-3, 1e-3))
    run = native.engine(address, source(), segments=segments, concurrency=2, end_waits=False)
    await (await run.connect()).run(warmup=0.1, seconds=0.2)
    assert (run.statuses, run.engine.abandoned, run.engine.missed) == ({}, 0, 51)


async def test_a_latency_counts_from_when_a_call_was_due_and_its_timeout_from_when_it_was_sent(
    native: Rig,
) -> None:
    """Three calls are due at once and made one after the other; each may take 200 ms of its own."""
    begun = itertools.count()

    async def unary(request: bytes, _context: Any) -> bytes:
        if next(begun) == 0:
            await asyncio.Event().wait()
        return request

    address = await native.serve(unary=unary)
    run = native.engine(
        address,
        source(3),
        segments=((None, 1e6, 1e6),),
        concurrency=1,
        timeout_ns=200_000_000,
    )
    await (await run.connect()).run()
    assert run.statuses[DEADLINE_EXCEEDED] >= 1
    assert run.slower_than(0.199) == run.statuses.get(OK, 0)


async def test_calls_that_are_due_wait_for_requests_that_are_fed_late(native: Rig) -> None:
    address = await native.serve(unary=echo)
    calls = Source(total=3, fixed=None)
    run = await native.engine(address, calls, segments=((None, 1e6, 1e6),)).connect()
    task = run.begin()
    for number in range(3):
        await until(partial(starves, run, number))
        assert calls.feed((b"",), ())
    await task
    assert run.statuses == {OK: 3}
    assert calls.starved == 3


async def silent(request: bytes, _context: Any) -> bytes:
    await asyncio.Event().wait()
    return request


async def test_what_was_missed_is_told_though_the_run_is_stopped_after_its_end(native: Rig) -> None:
    """As by Ctrl-C while the last calls are waited for."""
    address = await native.serve(unary=silent)
    segments = ((0.1, 1000.0, 1000.0), (None, 1e-3, 1e-3))
    run = native.engine(address, source(), segments=segments, concurrency=2)
    task = (await run.connect()).begin(seconds=0.3)
    await until(lambda: run.engine.timed_out)
    run.engine.stop()
    await task
    assert (run.engine.abandoned, run.engine.missed) == (2, 99)


async def test_a_run_ends_with_its_last_call_not_with_the_next_arrival(native: Rig) -> None:
    """Ten calls in the first tenth of a second, then none for an hour; on two engines, half of them each."""
    address = await native.serve(unary=echo)
    segments = ((0.1, 100.0, 100.0), (3600.0, 0.0, 0.0), (None, 1.0, 1.0))
    calls = source(10)
    runs = [
        native.engine(address, calls, segments=segments, first_arrival=float(first), arrival_step=2.0)
        for first in range(2)
    ]
    for run in runs:
        await run.connect()
    await run_all(runs)
    assert [run.statuses for run in runs] == [{OK: 5}, {OK: 5}]
