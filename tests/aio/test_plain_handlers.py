"""Plain functions as handlers: they run in threads."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from grpc import StatusCode

from aio.link import (
    BASIC,
    Handlers,
    Link,
    broken,
    chat,
    collect,
    failure,
    path,
    read_all,
    split,
    unary,
    until,
)


def plain_echo(request: bytes, context: Any) -> bytes:
    return request


def plain_split(request: bytes, context: Any) -> Iterator[bytes]:
    for byte in request:
        yield bytes((byte,))


def plain_join(requests: Iterator[bytes], context: Any) -> bytes:
    return b"".join(requests)


def plain_mirror(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    yield from requests


PLAIN: Handlers = {
    "Echo": unary(plain_echo),
    "Split": split(plain_split),
    "Join": collect(plain_join),
    "Chat": chat(plain_mirror),
}


@pytest.mark.parametrize("pooled", [True, False])
async def test_plain_functions_run_in_threads(link: Link, pooled: bool) -> None:
    with ThreadPoolExecutor(4) as pool:
        channel = await link.open(PLAIN, migration_thread_pool=pool if pooled else None)
        assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
        assert await read_all(channel.unary_stream(path("Split"))(b"abc")) == [b"a", b"b", b"c"]
        assert await channel.stream_unary(path("Join"))([b"a", b"b"]) == b"ab"
        assert await read_all(channel.stream_stream(path("Chat"))([b"a", b"b"])) == [b"a", b"b"]
        await link.aclose()


async def test_the_pool_is_where_plain_functions_run(link: Link) -> None:
    names: list[str] = []

    def note(request: bytes, context: Any) -> bytes:
        names.append(threading.current_thread().name)
        return request

    def note_each(request: bytes, context: Any) -> Iterator[bytes]:
        names.append(threading.current_thread().name)
        yield request

    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        handlers: Handlers = {"Note": unary(note), "Each": split(note_each)}
        channel = await link.open(handlers, migration_thread_pool=pool)
        await channel.unary_unary(path("Note"))(b"")
        await read_all(channel.unary_stream(path("Each"))(b""))
        await link.aclose()
    assert [name.startswith("mine") for name in names] == [True, True]


async def test_a_plain_function_does_not_stop_the_loop(link: Link) -> None:
    release = threading.Event()

    def block(request: bytes, context: Any) -> bytes:
        release.wait(20)
        return request

    channel = await link.open({"Block": unary(block), **BASIC})
    call = channel.unary_unary(path("Block"))(b"blocked")
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    release.set()
    assert await call == b"blocked"


async def test_a_plain_handlers_context(link: Link) -> None:
    seen: dict[str, Any] = {}

    def look(request: bytes, context: Any) -> bytes:
        seen["peer"] = context.peer()
        seen["metadata"] = dict(context.invocation_metadata())["word"]
        seen["remaining"] = context.time_remaining()
        seen["identities"] = (context.peer_identities(), context.peer_identity_key())
        context.add_callback(lambda: seen.setdefault("called", True))
        context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last", "2"),))
        return request

    channel = await link.open({"Look": unary(look)})
    call = channel.unary_unary(path("Look"))(b"x", metadata=(("word", "yes"),), timeout=20)
    assert await call == b"x"
    assert tuple(await call.initial_metadata()) == (("first", "1"),)
    assert tuple(await call.trailing_metadata()) == (("last", "2"),)
    assert seen["peer"].startswith("ipv4:127.0.0.1:")
    assert seen["metadata"] == "yes"
    assert 0 < seen["remaining"] < 21  # a timeout may be rounded up on its way
    assert seen["identities"] == (None, None)
    await until(lambda: "called" in seen)


async def test_plain_handlers_abort_set_codes_and_fail(link: Link) -> None:
    def abort(request: bytes, context: Any) -> bytes:
        context.abort(StatusCode.ABORTED, "plainly", (("why", "so"),))
        raise AssertionError

    def set_code(request: bytes, context: Any) -> bytes:
        context.set_code(StatusCode.NOT_FOUND)
        context.set_details("nothing")
        return b""

    def fail(request: bytes, context: Any) -> bytes:
        raise ValueError("went wrong")

    def fail_stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        raise ValueError("went wrong")

    handlers: Handlers = {"Abort": unary(abort), "SetCode": unary(set_code), "Fail": unary(fail)}
    channel = await link.open({**handlers, "FailStream": split(fail_stream)})
    error = await failure(channel.unary_unary(path("Abort"))(b""))
    assert (error.code(), error.details()) == (StatusCode.ABORTED, "plainly")
    assert tuple(error.trailing_metadata()) == (("why", "so"),)
    error = await failure(channel.unary_unary(path("SetCode"))(b""))
    assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "nothing")
    error = await failure(channel.unary_unary(path("Fail"))(b""))
    assert (error.code(), error.details()) == (
        StatusCode.UNKNOWN,
        "Unexpected <class 'ValueError'>: went wrong",
    )
    messages, error = await broken(channel.unary_stream(path("FailStream"))(b""))
    assert (messages, error.code()) == ([b"1"], StatusCode.UNKNOWN)


async def test_a_plain_generator_aborts_half_way(link: Link) -> None:
    """Defect of grpc.aio: the status may reach the client only when something else ends the call."""

    def abort(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        context.abort(StatusCode.ABORTED, "half way")

    channel = await link.open({"Abort": split(abort)})
    call = channel.unary_stream(path("Abort"))(b"", timeout=0.5 if link.is_grpcio else 20)
    messages, error = await broken(call)
    assert messages == [b"1"]
    assert error.code() is StatusCode.ABORTED or (
        link.is_grpcio and error.code() is StatusCode.DEADLINE_EXCEEDED
    )


async def test_a_plain_function_may_return_any_iterable(link: Link) -> None:
    def listed(request: bytes, context: Any) -> list[bytes]:
        return [b"1", b"2"]

    channel = await link.open({"Listed": split(listed)})
    assert await read_all(channel.unary_stream(path("Listed"))(b"")) == [b"1", b"2"]
