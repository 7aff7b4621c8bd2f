"""The same attacks over real sockets on a server in a process of its own, an honest client beside them."""

from __future__ import annotations

# ruff: noqa: ASYNC110 - conditions of another process, which no event here can tell
import asyncio
import gzip
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import pytest

from attacks.scripts import ATTACKS, ECHO, HELLO, HOLD, Attack, check_answers, request
from wire import frames
from wire.frames import Peer, Seen

ATTACKERS = 3
LIMIT = 120.0
"""Seconds that anything here may take; all of it takes far less."""
MOST_GROWTH_KIB = 100_000


class Server:
    """The server's process."""

    def __init__(self, *arguments: str) -> None:
        program = Path(__file__).with_name("attacked.py")
        self.process = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> str:
        """End it, and return what it said to standard error."""
        errors = self.process.communicate(timeout=LIMIT)[1]
        assert self.process.returncode == 0, errors
        return errors

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Any]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options) as channel:
            yield channel

    @asynccontextmanager
    async def honest(self) -> AsyncIterator[Callable[[], int]]:
        """A client that calls all the time, and is always answered; gives how often it was."""
        answered = 0

        async def call(channel: Any) -> None:
            nonlocal answered
            while True:
                payload = b"%d" % answered
                assert await channel.unary_unary(ECHO)(payload, timeout=LIMIT) == payload
                answered += 1
                await asyncio.sleep(0.002)

        async with self.channel() as channel:
            task = asyncio.ensure_future(call(channel))
            try:
                yield lambda: answered
            finally:
                failed = task.done()
                task.cancel()
                results = await asyncio.gather(task, return_exceptions=True)
            assert not failed, results
            assert answered > 0

    async def state(self, limit: float = LIMIT) -> dict[str, Any]:
        async with self.channel() as channel:
            found: dict[str, Any] = json.loads(
                await channel.unary_unary("/attacked/State")(b"", timeout=limit)
            )
            return found

    async def settled(self, before: dict[str, Any], limit: float = LIMIT) -> dict[str, Any]:
        """How it is once it has let go of all that the attack took."""
        async with asyncio.timeout(limit):
            while True:
                now = await self.state(limit)
                if now["running"] == 0 and now["descriptors"] <= before["descriptors"]:
                    return now
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    assert server.stop() == ""


async def attack_once(port: int, attack: Attack, pieces: Sequence[bytes]) -> tuple[list[Seen], bool]:
    """Send them until the server closes or all is said; return what was heard, and whether it closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard: list[Seen] = []
    peer = Peer()
    done = asyncio.Event()

    async def read() -> None:
        try:
            while octets := await reader.read(1 << 16):
                heard.extend(peer.read(octets))
        except ConnectionError:
            pass  # a server that closes before it has read all resets the connection
        finally:
            done.set()

    reading = asyncio.ensure_future(read()) if attack.reads else None
    closed = False
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if done.is_set() or reader.at_eof():
                break
        if not attack.reads:
            # Only now, so that it learns whether it was cut off.
            reading = asyncio.ensure_future(read())
        if attack.code is not None:
            await done.wait()
            closed = True
        else:
            writer.write(frames.ping(b"are you?"))
            while not any(each.kind == "ping" and each.data == b"are you?" for each in heard):
                if done.is_set():
                    break
                await asyncio.sleep(0.01)
            await all_answered(attack, heard, done)
            closed = done.is_set()
    except ConnectionError:
        closed = True
    finally:
        writer.transport.abort()
        if reading is not None:
            reading.cancel()
            for error in await asyncio.gather(reading, return_exceptions=True):
                assert error is None or isinstance(error, asyncio.CancelledError), error
    return heard, closed


async def all_answered(attack: Attack, heard: list[Seen], done: asyncio.Event) -> None:
    while not done.is_set():
        over = {each.stream_id for each in heard if each.end or each.kind == "reset"}
        if over >= set(attack.answers):
            return
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_the_server_survives(server: Server, attack: Attack) -> None:
    """Alive, an honest client is always answered, memory is bounded, and all that it took is let go."""
    before = await server.state()
    pieces = tuple(attack.say())  # made before it begins: it shall not be slow
    async with asyncio.timeout(LIMIT), server.honest() as answered:
        results = await asyncio.gather(*(attack_once(server.port, attack, pieces) for _ in range(ATTACKERS)))
        now = answered()
        while answered() < now + 5:
            await asyncio.sleep(0.005)
        during = await server.state()
    after = await server.settled(before)
    for heard, closed in results:
        assert closed == (attack.code is not None)
        if goaways := frames.of_kind(heard, "goaway"):
            # Where resets wait to be written, streams count as open: then there are too many of them.
            assert goaways[-1].code in (attack.code, frames.PROTOCOL_ERROR)
        if not closed:
            check_answers(attack, heard)
    assert during["rss_kib"] < before["rss_kib"] + MOST_GROWTH_KIB
    assert during["most_running"] <= 1000 * ATTACKERS
    assert after["problems"] == []
    assert after["tasks"] <= before["tasks"]


@pytest.mark.parametrize(
    "octets",
    [b"", frames.PREFACE[:10], frames.PREFACE, HELLO + frames.raw(1, 0, 1, Peer().block(request()))],
    ids=["nothing", "half a preface", "no settings", "half a header block"],
)
async def test_who_does_not_go_on_is_cut_off(server: Server, octets: bytes) -> None:
    before = await server.state()
    async with asyncio.timeout(LIMIT), server.honest():
        connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        for _, writer in connections:
            writer.write(octets)
        for reader, writer in connections:
            try:
                while await reader.read(1 << 16):
                    pass
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()
    await server.settled(before)


async def test_who_drips_a_header_block_is_cut_off(server: Server) -> None:
    """A byte now and then does not make it last."""
    before = await server.state()
    async with asyncio.timeout(LIMIT), server.honest():
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HELLO)
        block = Peer().headers(1, [*request(), ("k", "v" * 5000)])
        reading = asyncio.ensure_future(reader.read(-1))
        try:
            for i in range(len(block)):
                writer.write(block[i : i + 1])
                await asyncio.wait([reading], timeout=0.05)
                if reading.done():
                    break
            assert reading.done()
        finally:
            writer.transport.abort()
            await asyncio.gather(reading, return_exceptions=True)
    await server.settled(before)


async def test_who_takes_nothing_is_cut_off(server: Server) -> None:
    """Its windows are wide open, and the socket full: `stall_timeout`."""
    before = await server.state()
    peer = Peer()
    async with asyncio.timeout(LIMIT), server.honest():
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(
            frames.PREFACE + frames.settings({4: 2**31 - 1}) + frames.window_update(0, 2**31 - 1 - 65_535)
        )
        stream_ids = iter(range(1, 10**6, 2))
        try:
            while not writer.transport.is_closing():
                octets = b"".join(
                    peer.call(i, b"x", fields=request("/attacked/Big")) for i in islice(stream_ids, 20)
                )
                writer.write(octets)
                await asyncio.sleep(0.005)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
    after = await server.settled(before)
    assert after["rss_kib"] < before["rss_kib"] + MOST_GROWTH_KIB


async def test_a_compressed_message_stops_at_the_limit(server: Server) -> None:
    """256 MiB of zeros in 256 KiB."""
    bomb = gzip.compress(b"\0" * (256 << 20), 1)
    before = await server.state()
    async with asyncio.timeout(LIMIT), server.honest():
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            peer = Peer()
            head = peer.headers(1, request(grpc_encoding="gzip"))
            octets = frames.message(bomb, compressed=True)
            writer.write(HELLO + head)
            for at in range(0, len(octets), 16_000):
                writer.write(frames.data(1, octets[at : at + 16_000], end=at + 16_000 >= len(octets)))
            heard: list[Seen] = []
            while not any(each.kind == "headers" and each.end for each in heard):
                heard += peer.read(await reader.read(1 << 16))
            writer.transport.abort()
            assert dict(frames.of_kind(heard, "headers", 1)[-1].fields)["grpc-status"] == "8"
    after = await server.settled(before)
    assert after["rss_kib"] < before["rss_kib"] + MOST_GROWTH_KIB


async def test_a_server_without_descriptors_goes_on_and_recovers() -> None:
    """64 in all, and 200 who connect."""
    server = Server("--descriptors", "64")
    try:
        before = await server.state()
        async with asyncio.timeout(2 * LIMIT), server.honest() as answered:
            while not answered():
                await asyncio.sleep(0.005)
            attackers = []
            for _ in range(200):
                try:
                    attackers.append(
                        await asyncio.wait_for(asyncio.open_connection("127.0.0.1", server.port), 0.2)
                    )
                except (OSError, TimeoutError):
                    break  # its queue of connections is full
            now = answered()
            while answered() < now + 5:
                await asyncio.sleep(0.005)
            for _, writer in attackers:
                writer.transport.abort()
        # It accepts, and lets go of, those who have gone as they come up in the line: some fifty a second.
        after = await server.settled(before, 4 * LIMIT)
        assert len(after["problems"]) < 200
    finally:
        server.stop()


async def test_held_calls_are_cancelled_when_their_connection_is_lost(server: Server) -> None:
    before = await server.state()
    peer = Peer()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(HELLO + b"".join(peer.headers(i, request(HOLD)) for i in range(1, 1001, 2)))
    async with asyncio.timeout(LIMIT):
        while (await server.state())["running"] < 500:
            await asyncio.sleep(0.01)
    writer.transport.abort()
    await server.settled(before)
