"""Connections: how they are made, what is said when they cannot be, and calls on those that are lost."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from _ext.load.rig import (
    DEADLINE_EXCEEDED,
    OK,
    UNAVAILABLE,
    Rig,
    echo,
    made,
    run_all,
    source,
    target_of,
    until,
)
from aio.peer import (
    CANCEL,
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    MAX_CONCURRENT_STREAMS,
    REFUSED_STREAM,
    SETTINGS,
    Peer,
    scripted,
)
from tai_grpc._ext.load.engine import Engine, Target
from tai_grpc.errors import ConfigError


async def complete(peer: Peer) -> int:
    """Wait until any call is whole; return its stream. Headers of several may come before their messages."""
    while True:
        frame = await peer.wait(DATA)
        if frame.flags & END_STREAM:
            return frame.stream


async def forever(peer: Peer) -> None:
    """Answer every call."""
    await peer.start()
    while True:
        peer.answer(await complete(peer))


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def at(family: int = socket.AF_INET, address: str = "127.0.0.1", port: int = 1) -> dict[str, Any]:
    return {"addresses": [(family, address, port)]}


# --- Making them ----------------------------------------------------------------------------------------


async def test_a_host_that_refuses_is_named(native: Rig, free_port: int) -> None:
    run = native.engine(f"127.0.0.1:{free_port}", source(1))
    with pytest.raises(ConnectionError, match=f"cannot connect to 127.0.0.1:{free_port}: Connection refused"):
        await run.connect()


async def test_one_of_several_hosts_that_refuses_is_named(native: Rig, free_port: int) -> None:
    address = await native.serve(unary=echo)
    run = native.engine([address, f"127.0.0.1:{free_port}"], source(1), connections=4)
    with pytest.raises(ConnectionError, match=f"cannot connect to 127.0.0.1:{free_port}: "):
        await run.connect()


async def test_a_unix_socket_that_is_not_there_is_named(native: Rig, tmp_path: Path) -> None:
    run = native.engine(f"unix:{tmp_path}/none", source(1))
    with pytest.raises(ConnectionError, match=r"^cannot connect to unix:.*/none: No such file or directory$"):
        await run.connect()


async def test_calls_go_over_a_unix_socket(rig: Rig, tmp_path: Path) -> None:
    server = rig.link.make_server(made({"unary": echo}))
    server.add_insecure_port(f"unix:{tmp_path}/socket")
    await server.start()
    run = await rig.run(f"unix:{tmp_path}/socket", source(100), connections=2)
    assert run.statuses == {OK: 100}


async def test_calls_go_over_ipv6(rig: Rig) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    server = rig.link.make_server(made({"unary": echo}))
    port = server.add_insecure_port("[::1]:0")
    await server.start()
    target = Target("v6", addresses=[(socket.AF_INET6, "::1", port)], authority="localhost")
    run = await rig.run([target], source(100))
    assert run.statuses == {OK: 100}


async def test_the_first_address_that_takes_a_connection_is_called(native: Rig, free_port: int) -> None:
    address = await native.serve(unary=echo)
    port = int(address.rpartition(":")[2])
    places = [(socket.AF_INET, "127.0.0.1", each) for each in (free_port, port, free_port)]
    target = Target("several", addresses=places, authority="localhost")
    run = await native.run([target], source(100), connections=3)
    assert run.statuses == {OK: 100}
    assert run.engine.reconnects == 0


async def test_a_host_of_which_no_address_takes_a_connection_is_named(native: Rig, free_port: int) -> None:
    places = [(socket.AF_INET, "127.0.0.1", free_port), (socket.AF_UNIX, "/no/such/socket", 0)]
    run = native.engine([Target("several", addresses=places, authority="localhost")], source(1))
    with pytest.raises(ConnectionError, match="cannot connect to several: No such file or directory"):
        await run.connect()


async def test_a_server_that_speaks_something_else_is_told_of(native: Rig) -> None:
    async def speak(peer: Peer) -> None:
        peer._writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.closed()

    async with scripted(speak) as scene:
        run = native.engine(scene.target, source(1))
        with pytest.raises(ConnectionError, match=": the peer broke HTTP/2"):
            await run.connect()


async def test_a_server_that_closes_at_once_is_told_of(native: Rig) -> None:
    async def leave(_peer: Peer) -> None:
        pass

    async with scripted(leave) as scene:
        run = native.engine(scene.target, source(1))
        with pytest.raises(ConnectionError, match=r": (the peer closed it|Connection reset)"):
            await run.connect()


async def test_a_server_that_says_nothing_takes_too_long(native: Rig) -> None:
    async def say_nothing(peer: Peer) -> None:
        await peer.closed()

    async with scripted(say_nothing) as scene:
        run = native.engine(scene.target, source(1))
        with pytest.raises(ConnectionError, match=r": no answer within 0\.\d+ s$"):
            await run.connect(0.2)


@pytest.mark.parametrize(("debug", "said"), [(b"", "GOAWAY$"), (b"too_many", "GOAWAY: too_many$")])
async def test_a_server_that_goes_away_at_once_is_told_of(native: Rig, debug: bytes, said: str) -> None:
    async def leave(peer: Peer) -> None:
        settings = struct.pack(">HBBBI", 0, 0, SETTINGS, 0, 0)
        goaway = struct.pack(">HBBBIII", 0, 8 + len(debug), GOAWAY, 0, 0, 0, ENHANCE_YOUR_CALM) + debug
        peer._writer.write(settings + goaway)  # at once, or the client is connected in between
        await peer.closed()

    async with scripted(leave) as scene:
        run = native.engine(scene.target, source(1))
        with pytest.raises(ConnectionError, match=f": the server said {said}"):
            await run.connect()


async def test_stop_ends_connecting(native: Rig) -> None:
    async def say_nothing(peer: Peer) -> None:
        await peer.closed()

    async with scripted(say_nothing) as scene:
        run = native.engine(scene.target, source(1))
        connecting = asyncio.create_task(run.connect())
        await scene.accepted.wait()
        run.engine.stop()
        with pytest.raises(ConnectionError, match="connecting was stopped"):
            await connecting


async def test_many_connections_are_made_at_once(rig: Rig) -> None:
    peers = set()

    async def unary(request: bytes, context: Any) -> bytes:
        peers.add(context.peer())
        return request

    address = await rig.serve(unary=unary)
    run = await rig.run(address, source(1000), connections=200, concurrency=200)
    assert run.statuses == {OK: 1000}
    assert len(peers) == 200


async def test_an_engine_goes_through_its_stages_once(native: Rig) -> None:
    address = await native.serve(unary=echo)
    run = native.engine(address, source(1))
    with pytest.raises(RuntimeError, match="connects once, then runs once, then is closed"):
        run.engine.run(begin_ns=1, measure_ns=1, end_ns=None)
    await run.connect()
    with pytest.raises(RuntimeError, match="connects once"):
        run.engine.connect(1)
    await run.run()
    run.engine.close()
    run.engine.close()
    assert run.statuses == {OK: 1}
    assert run.engine.errors() == []
    with pytest.raises(RuntimeError, match="connects once"):
        run.engine.run(begin_ns=1, measure_ns=1, end_ns=None)


async def test_an_engine_that_runs_is_not_closed(native: Rig) -> None:
    begun = asyncio.Event()

    async def unary(_request: bytes, _context: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    address = await native.serve(unary=unary)
    run = await native.engine(address, source()).connect()
    task = run.begin()
    await begun.wait()
    with pytest.raises(RuntimeError, match="stop it, and wait for run to return"):
        run.engine.close()
    run.engine.stop()
    await task


async def test_close_tells_the_server(native: Rig) -> None:
    told = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.start()
        await peer.closed()
        told.set()

    async with scripted(script) as scene:
        run = await native.engine(scene.target, source(1)).connect()
        run.engine.close()
        await told.wait()


# --- Losing them ----------------------------------------------------------------------------------------


async def test_calls_that_a_goaway_leaves_out_are_made_on_a_new_connection(native: Rig) -> None:
    async def leave(peer: Peer) -> None:
        await peer.start()
        peer.answer(await complete(peer))
        second, third = await complete(peer), await complete(peer)
        assert second < third
        peer.goaway(second)
        peer.answer(second)
        await peer.closed()

    async with scripted(leave, forever) as scene:
        run = await native.engine(scene.target, source(20), concurrency=2).connect()
        await run.run()
        assert run.statuses == {OK: 20}
        assert (run.engine.reconnects, scene.connections) == (1, 2)


async def test_a_goaway_in_an_open_loop_costs_no_call(native: Rig) -> None:
    async def leave(peer: Peer) -> None:
        await peer.start()
        first = await complete(peer)
        peer.goaway(first)
        peer.answer(first)
        await peer.closed()

    async with scripted(leave, leave, leave, forever) as scene:
        run = await native.run(scene.target, source(50), segments=((None, 500.0, 500.0),))
        assert run.statuses == {OK: 50}
        assert (run.engine.reconnects, scene.connections) == (3, 4)


async def test_a_refused_call_is_sent_once_more_and_that_is_counted(native: Rig) -> None:
    requests = 0

    async def refuse(peer: Peer) -> None:
        nonlocal requests
        await peer.start()
        while True:
            stream = await peer.request()
            requests += 1
            peer.reset(stream, REFUSED_STREAM)

    async with scripted(refuse) as scene:
        run = await native.run(scene.target, source(2), concurrency=1)
        assert run.engine.errors() == [
            (UNAVAILABLE, "Received RST_STREAM with error code 7 (REFUSED_STREAM)", 2)
        ]
        assert run.engine.sent_again == 2
    assert requests == 2 * 2


async def test_a_call_that_is_sent_again_keeps_when_it_began(native: Rig) -> None:
    refused = 0

    async def refuse(peer: Peer) -> None:
        nonlocal refused
        await peer.start()
        while True:
            stream = await complete(peer)
            refused += 1
            if refused == 1:
                await asyncio.sleep(0.15)
                peer.reset(stream, REFUSED_STREAM)
            else:
                peer.answer(stream)

    async with scripted(refuse) as scene:
        run = await native.run(scene.target, source(1), concurrency=1)
        assert run.statuses == {OK: 1}
        assert run.slower_than(0.149) == 1


async def test_calls_on_a_lost_connection_are_unavailable(native: Rig) -> None:
    async def leave(peer: Peer) -> None:
        await peer.start()
        peer.answer(await complete(peer))
        await complete(peer)

    async with scripted(leave, forever) as scene:
        run = await native.run(scene.target, source(10), concurrency=1)
        assert run.statuses == {OK: 9, UNAVAILABLE: 1}
        assert run.engine.errors()[0][1] in (
            "the connection was lost: the peer closed it",
            "the connection was lost: Connection reset by peer",
        )
        assert run.engine.reconnects == 1


@pytest.mark.parametrize("segments", [None, ((None, 500.0, 500.0),)], ids=["closed loop", "open loop"])
async def test_a_server_that_goes_down_and_comes_back_is_called_again(rig: Rig, segments: Any) -> None:
    address = await rig.serve(unary=echo)
    run = await rig.engine(address, source(), concurrency=4, connections=2, segments=segments).connect()
    task = run.begin()
    await until(lambda: run.statuses.get(OK, 0) >= 50)
    await rig.server.stop(None)
    await until(lambda: any("cannot connect to" in str(text) for _, text, _ in run.engine.errors()))
    server = rig.link.make_server(made({"unary": echo}))
    assert server.add_insecure_port(address)
    await server.start()
    before = run.statuses[OK]
    await until(lambda: not (run.statuses[OK] < before + 50 or run.engine.reconnects < 2))
    run.engine.stop()
    await task
    assert set(run.statuses) <= {OK, UNAVAILABLE, 1}


async def test_a_host_that_is_down_leaves_the_calls_of_an_open_loop_to_the_others(native: Rig) -> None:
    stays = await native.serve(unary=echo)
    goes = await native.serve(unary=echo)
    going = native.server
    targets = [target_of(stays), target_of(goes)]
    segments = ((None, 1000.0, 1000.0),)
    run = await native.engine(targets, source(), connections=2, segments=segments).connect()
    task = run.begin()
    await until(lambda: targets[1].statuses()[OK] >= 10)
    await going.stop(None)
    before = targets[0].statuses()[OK]
    await until(lambda: targets[0].statuses()[OK] >= before + 300)
    run.engine.stop()
    await task
    assert targets[0].statuses()[UNAVAILABLE] == 0
    # What was under way there, and no more.
    assert targets[1].statuses()[UNAVAILABLE] + targets[1].statuses()[1] <= 50


async def test_calls_end_at_once_while_no_host_is_up(native: Rig, free_port: int) -> None:
    """In an open loop they do not wait for the next attempt, nor for their timeout."""
    server = native.link.make_server(made({"unary": echo}))
    server.add_insecure_port(f"127.0.0.1:{free_port}")
    await server.start()
    run = native.engine(f"127.0.0.1:{free_port}", source(), segments=((1.0, 1000.0, 1000.0),), concurrency=2)
    await run.connect()
    await server.stop(None)
    await run.run()
    refused = sum(count for _, text, count in run.engine.errors() if str(text).startswith(("cannot", "lost")))
    assert run.statuses == {UNAVAILABLE: 1000}
    assert refused > 900


async def test_a_servers_max_age_costs_no_call(native: Rig) -> None:
    options = (("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 5000))
    _, address = await native.link.serve(made({"unary": echo}), options=options)
    run = await native.engine(address, source(), connections=3, concurrency=9).connect()
    task = run.begin()
    await until(lambda: run.engine.reconnects >= 9)
    run.engine.stop()
    await task
    assert set(run.statuses) == {OK}


@pytest.mark.parametrize("segments", [None, ((None, 2000.0, 2000.0),)], ids=["closed loop", "open loop"])
async def test_a_connection_without_stream_ids_left_is_replaced(
    native: Rig, streams_left: Any, segments: Any
) -> None:
    address = await native.serve(unary=echo)
    run = await native.engine(address, source(200), concurrency=8, connections=2, segments=segments).connect()
    streams_left.leave(run.engine, 20)
    await run.run()
    assert run.statuses == {OK: 200}
    assert run.engine.reconnects == 2


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_an_engine_leaves_no_descriptor_behind(native: Rig, free_port: int) -> None:
    address = await native.serve(unary=echo)
    before = descriptors()
    run = await native.run(address, source(100), connections=10)
    refused = native.engine(f"127.0.0.1:{free_port}", source(1), connections=3)
    with pytest.raises(ConnectionError):
        await refused.connect()
    assert descriptors() > before
    run.engine.close()
    refused.engine.close()
    # The server's ends of them close a little later.
    await until(lambda: descriptors() == before)


async def test_calls_wait_their_turn_where_the_server_allows_one_at_a_time(native: Rig) -> None:
    open_streams = most = 0

    async def one(peer: Peer) -> None:
        nonlocal open_streams, most
        await peer.start(((MAX_CONCURRENT_STREAMS, 1),))
        while True:
            stream = await complete(peer)
            open_streams += 1
            most = max(most, open_streams)
            await asyncio.sleep(0)
            open_streams -= 1
            peer.answer(stream)

    async with scripted(one) as scene:
        run = await native.run(scene.target, source(200), concurrency=20)
        assert run.statuses == {OK: 200}
    assert most == 1
    assert run.engine.stream_limit == 1


SLOW = 0.05


async def one_at_a_time(peer: Peer) -> None:
    """Allow one stream, and answer it after 50 ms."""
    await peer.start(((MAX_CONCURRENT_STREAMS, 1),))
    while True:
        stream = await complete(peer)
        await asyncio.sleep(SLOW)
        peer.answer(stream)


async def test_a_call_of_a_closed_loop_begins_when_the_server_has_a_stream_for_it(native: Rig) -> None:
    """Of ten callers nine wait at any time, which is in no latency."""
    async with scripted(one_at_a_time) as scene:
        run = await native.run(scene.target, source(12), concurrency=10)
        assert run.statuses == {OK: 12}
        assert run.slower_than(3 * SLOW) <= 1


@pytest.mark.parametrize("closed", [False, True], ids=["from due", "from sent"])
async def test_the_wait_for_a_stream_is_in_the_lag_and_in_no_timeout(native: Rig, closed: bool) -> None:
    """12 calls due at once take 600 ms one after the other, and none of them longer than its timeout."""
    async with scripted(one_at_a_time) as scene:
        run = await native.run(
            scene.target,
            source(12),
            concurrency=12,
            segments=((None, 10_000.0, 10_000.0),),
            closed=closed,
            timeout_ns=round(6 * SLOW * 1e9),
        )
        assert run.statuses == {OK: 12}
        assert run.engine.send_lag.max >= 10 * SLOW * 1e9
        assert (run.slower_than(6 * SLOW) >= 5) is not closed
        assert run.engine.stream_limit == 1


async def test_connections_with_a_stream_left_are_used_first(native: Rig) -> None:
    """One of two connections is stuck: the calls go over the other."""

    async def stuck(peer: Peer) -> None:
        await peer.start(((MAX_CONCURRENT_STREAMS, 1),))
        await complete(peer)
        await peer.closed()

    async with scripted(stuck, forever) as scene:
        run = native.engine(
            scene.target,
            source(100),
            connections=2,
            concurrency=4,
            segments=((None, 1000.0, 1000.0),),
        )
        task = (await run.connect()).begin()
        await until(lambda: run.count == 99)
        run.engine.stop()
        await task
        assert (run.statuses, run.engine.abandoned) == ({OK: 99}, 1)


async def test_a_limit_that_no_call_waits_for_is_not_told(native: Rig) -> None:
    async with scripted(one_at_a_time) as scene:
        run = await native.run(scene.target, source(3), concurrency=1)
        assert run.engine.stream_limit is None


async def test_calls_of_a_server_that_allows_no_stream_end_by_their_timeout(native: Rig) -> None:
    async def none(peer: Peer) -> None:
        await peer.start(((MAX_CONCURRENT_STREAMS, 0),))
        await peer.closed()

    async with scripted(none) as scene:
        run = await native.run(scene.target, source(3), concurrency=3, timeout_ns=50_000_000)
        assert run.statuses == {DEADLINE_EXCEEDED: 3}


async def test_a_reset_is_counted_as_what_it_says(native: Rig) -> None:
    async def reset(peer: Peer) -> None:
        await peer.start()
        while True:
            peer.reset(await complete(peer), CANCEL)

    async with scripted(reset) as scene:
        run = await native.run(scene.target, source(4))
        assert run.engine.errors() == [(1, "Received RST_STREAM with error code 8 (CANCEL)", 4)]


async def test_a_proxys_answer_is_counted_by_its_http_status(native: Rig) -> None:
    async def gateway(peer: Peer) -> None:
        await peer.start()
        while True:
            peer.headers(await complete(peer), ((":status", "502"),), end=True)

    async with scripted(gateway) as scene:
        run = await native.run(scene.target, source(4))
        assert run.engine.errors() == [(UNAVAILABLE, "Received http2 header with status: 502", 4)]


async def test_many_calls_may_be_given_up_on_one_connection(native: Rig) -> None:
    """Our own resets are no attack of the peer's."""

    async def unary(_request: bytes, _context: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    address = await native.serve(unary=unary)
    run = await native.run(address, source(1000), concurrency=200, timeout_ns=1_000_000)
    assert run.statuses == {4: 1000}


async def test_engines_of_a_process_stop_with_the_connection_down(native: Rig) -> None:
    address = await native.serve(unary=echo)
    calls = source(2000)
    runs = [await native.engine(address, calls, concurrency=2).connect() for _ in range(2)]
    task = asyncio.create_task(run_all(runs))
    await until(lambda: calls.issued >= 100)
    await native.server.stop(None)
    for run in runs:
        run.engine.stop()
    await task


# --- What is no engine ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"connections": 0}, "connections=0: expected an int from 1 to 10000"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"timeout_ns": 0}, "timeout_ns=0"),
        ({"stream_messages": -2}, "stream_messages=-2"),
        ({"segments": ()}, "segments=.*at least one"),
        ({"segments": ((None, 1.0, 1.0),), "arrival_step": 0.0}, "arrival_step=0.0"),
        ({"path": "a\0b"}, "path=.*without a null character"),
    ],
)
def test_settings_outside_their_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Engine([target_of("127.0.0.1:1")], source(1), **{"path": "/a/b", **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (at(address="localhost"), "address='localhost': expected a numeric address"),
        (at(address="::1"), "address='::1': expected a numeric address"),
        (at(port=65536), "port=65536"),
        (at(family=99), "family=99: expected AF_INET, AF_INET6 or AF_UNIX"),
        (at(family=socket.AF_UNIX, address="x" * 108), "a path of 1 to 107 bytes"),
        ({"addresses": []}, r"addresses=\[\]: expected at least one"),
        ({"highest_ns": 1}, "highest_ns=1"),
    ],
)
def test_targets_that_are_none_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Target("a", **{"authority": "a", **at(), **settings})


def test_an_engine_without_targets_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"targets=.*at least one Target"):
        Engine([], source(1), path="/a/b")


async def test_times_out_of_order_are_refused(native: Rig) -> None:
    address = await native.serve(unary=echo)
    run = await native.engine(address, source(1)).connect()
    with pytest.raises(ConfigError, match="measure_ns=1"):
        run.engine.run(begin_ns=2, measure_ns=1, end_ns=None)
    with pytest.raises(ConfigError, match="end_ns=1"):
        run.engine.run(begin_ns=2, measure_ns=2, end_ns=1)
