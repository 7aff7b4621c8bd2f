"""A server and channels of tai_grpc.aio under calls, cancels and reconnects: nothing of them may stay behind.

`python tests/aio/soak.py` makes a million calls, cancels 100,000 and connects 10,000 times, in ten rounds
after one to get warm, and looks at the process after each: its memory, its descriptors, the tasks of its
loop, the objects of Python's collector. It ends with 1 when one of them has grown.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop

from tai_grpc import aio

ROUNDS: Final = 10
AT_ONCE: Final = 50
CHANNELS: Final = 16
"""So many that none of them resets 1,000 calls a second, which a server takes for an attack."""
REQUEST: Final = bytes(100)
METADATA: Final = (("a", "some value"), ("b-bin", b"\0\1"))
SECONDS: Final = 60.0
"""For one call, which takes milliseconds: what takes so long hangs."""

# What may come on top while nothing leaks.
MORE_BYTES: Final = 2 << 20
MORE_OBJECTS: Final = 200


@dataclass(frozen=True)
class Plan:
    calls: int
    cancels: int
    reconnects: int


@dataclass(frozen=True)
class Held:
    """What the process holds when nothing is under way."""

    resident_bytes: int
    descriptors: int
    tasks: int
    objects: int


def held() -> Held:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return Held(pages * resource.getpagesize(), descriptors, len(asyncio.all_tasks()), len(gc.get_objects()))


def grown(rounds: Sequence[Held]) -> list[str]:
    """What has grown by more than it may.

    What the allocator keeps goes up and down by how the calls fell together, so of the memory the least of
    each half counts.
    """
    half = len(rounds) // 2
    halves = (rounds[:half], rounds[half:])
    memory = [min(held.resident_bytes for held in part) for part in halves]
    before, after = (
        replace(held, resident_bytes=least)
        for held, least in zip((rounds[0], rounds[-1]), memory, strict=True)
    )
    limits = Held(MORE_BYTES, 0, 0, MORE_OBJECTS)
    names = ("bytes of memory", "descriptors", "tasks", "objects")
    values = zip(names, astuple(before), astuple(after), astuple(limits), strict=True)
    return [f"{name}: {old:,} -> {new:,}" for name, old, new, more in values if new - old > more]


class Handlers:
    """A method of every kind, and one that never answers. `waiting` calls are in that one."""

    def __init__(self) -> None:
        self.waiting = 0

    async def unary(self, request: bytes, context: Any) -> bytes:
        return request

    async def served(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield request

    async def collected(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in requests])

    async def echoed(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def wait(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self.waiting += 1
        try:
            yield b"begun"
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1

    async def refuse(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such thing", METADATA)
        return b""

    def registered(self) -> dict[str, Any]:
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Served": grpc.unary_stream_rpc_method_handler(self.served),
            "Collected": grpc.stream_unary_rpc_method_handler(self.collected),
            "Echoed": grpc.stream_stream_rpc_method_handler(self.echoed),
            "Wait": grpc.stream_stream_rpc_method_handler(self.wait),
            "Refuse": grpc.unary_unary_rpc_method_handler(self.refuse),
        }


async def two() -> AsyncIterator[bytes]:
    yield REQUEST
    yield REQUEST


async def call(channel: Any, number: int) -> None:
    """Make a call: of a hundred 96 are unary, the others one of each other kind and one that is refused."""
    options = {"timeout": SECONDS, "metadata": METADATA if number % 10 == 0 else ()}
    match number % 100:
        case 1:
            messages = channel.unary_stream("/soak.Test/Served")(REQUEST, **options)
            assert [message async for message in messages] == [REQUEST] * 3
        case 2:
            answer = await channel.stream_unary("/soak.Test/Collected")(two(), **options)
            assert answer == 2 * REQUEST
        case 3:
            messages = channel.stream_stream("/soak.Test/Echoed")(two(), **options)
            assert [message async for message in messages] == [REQUEST] * 2
        case 4:
            assert await channel.unary_unary("/soak.Test/Refuse")(REQUEST, **options).code() == (
                grpc.StatusCode.NOT_FOUND
            )
        case _:
            assert await channel.unary_unary("/soak.Test/Unary")(REQUEST, **options) == REQUEST


async def cancel(channel: Any, number: int) -> None:
    """Give a call up: before it is sent, while its handler waits, at its deadline, by forgetting it."""
    method = channel.stream_stream("/soak.Test/Wait")
    match number % 4:
        case 0:
            waiting = method(timeout=SECONDS)
            waiting.cancel()
            assert await waiting.code() is grpc.StatusCode.CANCELLED
        case 1:
            waiting = method(timeout=SECONDS)
            assert await waiting.read() == b"begun"
            waiting.cancel()
            assert await waiting.code() is grpc.StatusCode.CANCELLED
        case 2:
            waiting = method(timeout=0.01)
            assert await waiting.code() is grpc.StatusCode.DEADLINE_EXCEEDED, await waiting.details()
        case 3:
            assert await method(timeout=SECONDS).read() == b"begun"


async def reconnect(address: str, number: int) -> None:
    """Connect and call; end the connection with nothing, or with a call under way."""
    async with aio.insecure_channel(address) as channel:
        await call(channel, 0)
        if number % 2:
            waiting: Any = channel.stream_stream("/soak.Test/Wait")(timeout=SECONDS)
            assert await waiting.read() == b"begun"


async def many(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    numbers = iter(range(count))

    async def take_turns() -> None:
        for number in numbers:
            await work(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(take_turns())


async def soak(plan: Plan, say: Callable[[str], None]) -> list[str]:
    """Carry out the plan; return what has grown."""
    handlers = Handlers()
    server = aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_registered_method_handlers("soak.Test", handlers.registered())
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(aio.insecure_channel(address)) for _ in range(CHANNELS)]
        rounds: list[Held] = []
        begun = time.monotonic()
        for number in range(ROUNDS + 1):
            await many(plan.calls // ROUNDS, lambda i: call(channels[i % CHANNELS], i))
            await many(plan.cancels // ROUNDS, lambda i: cancel(channels[i % CHANNELS], i))
            await many(plan.reconnects // ROUNDS, lambda i: reconnect(address, i))
            async with asyncio.timeout(SECONDS):
                # The server hears of the last ones after their clients are done with them.
                while handlers.waiting:
                    gc.collect()
                    await asyncio.sleep(0.01)
            now = held()
            rounds.append(now)
            say(
                f"{f'round {number} of {ROUNDS}' if number else 'warm'}, {time.monotonic() - begun:.0f} s: "
                f"{now.resident_bytes / 2**20:.1f} MiB, {now.descriptors} descriptors, {now.tasks} tasks, "
                f"{now.objects:,} objects"
            )
    await server.stop(None)
    return grown(rounds)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python tests/aio/soak.py", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--cancels", type=int, default=100_000)
    parser.add_argument("--reconnects", type=int, default=10_000)
    plan = Plan(**vars(parser.parse_args(arguments)))

    def say(line: str) -> None:
        print(line, flush=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(soak(plan, say))
    if found:
        print(f"grown: {'; '.join(found)}", file=sys.stderr)
        return 1
    done = f"{plan.calls:,} calls, {plan.cancels:,} cancels and {plan.reconnects:,} reconnects"
    print(f"{done} left nothing behind")
    return 0


if __name__ == "__main__":
    sys.exit(main())
