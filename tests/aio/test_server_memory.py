"""Thousands of calls, cancels and connections leave no memory, no task and no descriptor behind."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest

from aio.link import BASIC, SERVICE, Stuck, path, until
from aio.raw_client import (
    ACK,
    DATA,
    END_HEADERS,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Frame,
    RawClient,
    encoded,
    message,
    request,
)
from tai_grpc import aio

MIB = 1 << 20
CANCEL = b"\0\0\0\x08"
ACKNOWLEDGED = b"\0\0\0\x04\x01\0\0\0\0"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def calls(port: int) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        echo = channel.unary_unary(path("Echo"))
        for _ in range(20):
            await asyncio.gather(*(echo(bytes(1000), timeout=20) for _ in range(100)))


async def streams(port: int) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(50):
            call = channel.stream_stream(path("Chat"))()
            for _ in range(10):
                await call.write(bytes(1000))
                await call.read()
            await call.done_writing()
            assert await call.read() is aio.EOF


async def cancels(port: int) -> None:
    """Of handlers that wait, with requests that were not read."""
    async with RawClient(port) as client:
        client.hello()
        await client.next(SETTINGS, flags=ACK)
        numbers = range(1, 1001, 2)
        for number in numbers:
            client.send(
                Frame(HEADERS, END_HEADERS, number, request(path("Collect"))),
                Frame(DATA, 0, number, message(bytes(1000))),
                Frame(RST_STREAM, 0, number, CANCEL),
            )
        client.call(1001, path("Echo"))
        await client.next(HEADERS)


async def connections(port: int) -> None:
    """Half of them leave in the middle of a request."""
    for number in range(100):
        async with RawClient(port) as client:
            client.hello()
            if number % 2:
                client.send(Frame(HEADERS, END_HEADERS, 1, request(path("Collect"))))
            await client.next(SETTINGS, flags=ACK)


@pytest.mark.parametrize("work", [calls, streams, cancels, connections])
async def test_nothing_grows(work: Any) -> None:
    stuck = Stuck()
    server: Any = aio.server()
    handlers = {**BASIC, "Collect": stuck.handlers()["Collect"]}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def rounds(count: int) -> tuple[int, int, int]:
        for _ in range(count):
            await work(port)
        await until(lambda: server._service.calls == 0 and not server._service.connections)
        stuck.context = None
        gc.collect()
        return resident_bytes(), len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())  # noqa: PTH208

    await rounds(4)
    memory, descriptors, tasks = await rounds(2)
    grown_to, descriptors_after, tasks_after = await rounds(8)
    assert grown_to - memory < 2 * MIB
    assert descriptors_after <= descriptors
    assert tasks_after == tasks
    await server.stop(None)


async def test_an_idle_connection_costs_at_most_24_kib() -> None:
    """Of resident memory; the session that nghttp2 makes is most of it."""
    server: Any = aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    clients: list[socket.socket] = []

    async def connect(count: int) -> int:
        """Connect, say hello, and return what the process then has; a bare socket costs next to nothing."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            clients.append(socket.create_connection(("127.0.0.1", port)))
            clients[-1].sendall(PREFACE + encoded(Frame(SETTINGS, 0, 0, b"")))
            clients[-1].setblocking(False)
            said = b""
            while ACKNOWLEDGED not in said:
                said += await loop.sock_recv(clients[-1], 4096)
        gc.collect()
        return resident_bytes()

    before = await connect(100)
    each = (await connect(1000) - before) / 1000
    assert len(server._service.connections) == 1100
    for client in clients:
        client.close()
    await until(lambda: not server._service.connections)
    await server.stop(None)
    assert each < 24 * 1024, f"{each:.0f} bytes"
