"""Metadata both ways: order, repeated keys, binary values, what is illegal."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode

from aio.link import BASIC, Link, Stuck, chat, failure, path, read_all, split, unary

PAIRS = (
    ("word", "one"),
    ("word", "two"),
    ("number-3_x.y", "4"),
    ("empty", ""),
    ("text", "all of !\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"),
    ("raw-bin", b"\x00\x01\xfe\xff"),
    ("raw-bin", b""),
    ("raw-bin", b"a,b"),
)


def received(pairs: Any) -> list[tuple[str, str | bytes]]:
    """Return what the peer's user sent: all but what the transport adds."""
    return [(key, value) for key, value in pairs if key != "user-agent"]


def by_key(pairs: Any) -> dict[str, list[str | bytes]]:
    """Group by key: a transport may reorder keys, never the values of one."""
    grouped: dict[str, list[str | bytes]] = {}
    for key, value in received(pairs):
        grouped.setdefault(key, []).append(value)
    return grouped


@pytest.mark.parametrize("kind", ["tuple", "list", "Metadata"])
async def test_invocation_metadata_arrives(link: Link, kind: str) -> None:
    seen: list[Any] = []

    async def look(request: bytes, context: Any) -> bytes:
        seen.append(context.invocation_metadata())
        return request

    made: dict[str, Any] = {"tuple": PAIRS, "list": list(PAIRS), "Metadata": link.rpc.Metadata(*PAIRS)}
    channel = await link.open({"Look": unary(look)})
    await channel.unary_unary(path("Look"))(b"", metadata=made[kind])
    assert by_key(seen[0]) == by_key(PAIRS)


async def test_invocation_metadata_is_a_tuple_of_named_pairs(link: Link) -> None:
    seen: list[Any] = []

    async def look(request: bytes, context: Any) -> bytes:
        seen.append(context.invocation_metadata())
        return request

    channel = await link.open({"Look": unary(look)})
    await channel.unary_unary(path("Look"))(b"", metadata=(("a", "1"),))
    assert isinstance(seen[0], tuple)
    assert {pair.key: pair.value for pair in seen[0]} == dict(seen[0])
    assert dict(seen[0])["a"] == "1"
    assert dict(seen[0])["user-agent"].startswith("grpc-python")


async def test_the_transports_own_headers_are_not_metadata(link: Link) -> None:
    seen: list[Any] = []

    async def look(request: bytes, context: Any) -> bytes:
        seen.append(dict(context.invocation_metadata()))
        return request

    channel = await link.open({"Look": unary(look)})
    call = channel.unary_unary(path("Look"))(b"", timeout=20)
    await call
    assert set(seen[0]) == {"user-agent"}
    assert tuple(await call.initial_metadata()) == ()
    assert tuple(await call.trailing_metadata()) == ()


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_metadata_comes_back(link: Link, kind: str) -> None:
    async def one(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata(PAIRS)
        context.set_trailing_metadata(PAIRS[::-1])
        return request

    async def many(request: bytes, context: Any) -> AsyncIterator[bytes]:
        await context.send_initial_metadata(PAIRS)
        yield request
        context.set_trailing_metadata(PAIRS[::-1])

    channel = await link.open({"One": unary(one), "Many": split(many)})
    if kind == "unary":
        call = channel.unary_unary(path("One"))(b"x")
        assert await call == b"x"
    else:
        call = channel.unary_stream(path("Many"))(b"x")
        assert await read_all(call) == [b"x"]
    initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
    assert isinstance(initial, link.rpc.Metadata)
    assert isinstance(trailing, link.rpc.Metadata)
    assert by_key(initial) == by_key(PAIRS)
    assert by_key(trailing) == by_key(PAIRS[::-1])


async def test_values_keep_their_blanks_within_and_lose_at_most_those_around(link: Link) -> None:
    """grpc.aio keeps blanks around a value, which HTTP does not promise."""
    seen: list[Any] = []

    async def look(request: bytes, context: Any) -> bytes:
        seen.append(dict(context.invocation_metadata())["a"])
        return request

    channel = await link.open({"Look": unary(look)})
    await channel.unary_unary(path("Look"))(b"", metadata=(("a", " b c "),))
    assert seen[0] in (" b c ", "b c")


async def test_many_and_large_pairs(link: Link) -> None:
    seen: list[Any] = []

    async def look(request: bytes, context: Any) -> bytes:
        seen.append(context.invocation_metadata())
        return request

    channel = await link.open({"Look": unary(look)})
    many = tuple((f"key-{number}", str(number) * 10) for number in range(60))
    await channel.unary_unary(path("Look"))(b"", metadata=many)
    assert by_key(seen[0]) == by_key(many)
    large = (("large-bin", bytes(range(256)) * 12),)
    await channel.unary_unary(path("Look"))(b"", metadata=large)
    assert by_key(seen[1]) == by_key(large)


ILLEGAL = {
    "upper case": ("Upper", "x"),
    "blank": ("a b", "x"),
    "empty key": ("", "x"),
    "pseudo header": (":path", "/x"),
    "not ASCII": ("a", "é"),
    "newline": ("a", "x\ny"),
    "NUL": ("a", "x\0y"),
    "text for -bin": ("a-bin", "text"),
    "a number": ("a", 1),
}


@pytest.mark.parametrize("name", ILLEGAL)
async def test_illegal_metadata_never_leaves_the_client(link: Link, name: str) -> None:
    """Raised where the call is made or where it is awaited; the channel goes on."""
    channel = await link.open(BASIC)
    with pytest.raises((TypeError, ValueError, link.rpc.BaseError, link.rpc.UsageError)):
        await channel.unary_unary(path("Echo"))(b"", metadata=(ILLEGAL[name],))
    assert await channel.unary_unary(path("Echo"))(b"x", metadata=(("legal", "x"),)) == b"x"


@pytest.mark.parametrize("where", ["initial", "trailing"])
@pytest.mark.parametrize("name", ["upper case", "empty key", "not ASCII", "newline", "text for -bin"])
async def test_illegal_metadata_never_leaves_the_server(link: Link, name: str, where: str) -> None:
    """The handler is told or the call ends as a failure of the server; the connection goes on.

    Defect of grpc.aio: text for a -bin key of trailing metadata is never answered.
    """

    told = False

    async def send(request: bytes, context: Any) -> bytes:
        nonlocal told
        try:
            if where == "initial":
                await context.send_initial_metadata((ILLEGAL[name],))
            else:
                context.set_trailing_metadata((ILLEGAL[name],))
        except (TypeError, ValueError):
            told = True
            raise
        return request

    channel = await link.open({"Send": unary(send), **BASIC})
    unanswered = link.is_grpcio and (name, where) == ("text for -bin", "trailing")
    error = await failure(channel.unary_unary(path("Send"))(b"", timeout=0.1 if unanswered else 20))
    if not unanswered:
        assert error.code() is (StatusCode.UNKNOWN if told else StatusCode.INTERNAL)
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"


@pytest.mark.parametrize("metadata", [None, (("a", 1),), ((1, "a"),), {"a": "1"}, ("ab",)])
async def test_metadata_of_the_wrong_shape_is_a_type_error_in_the_handler(link: Link, metadata: Any) -> None:
    raised: list[BaseException] = []

    async def send(request: bytes, context: Any) -> bytes:
        try:
            context.set_trailing_metadata(metadata)
        except TypeError as error:
            raised.append(error)
        return request

    channel = await link.open({"Send": unary(send)})
    assert await channel.unary_unary(path("Send"))(b"x") == b"x"
    assert len(raised) == 1


async def test_a_dict_as_metadata_is_the_callers_mistake(link: Link) -> None:
    """Our channel says what it takes."""
    channel = await link.open(BASIC)
    said = None if link.is_grpcio else r"expected \(key, value\) pairs, as a dict's items\(\) are: got str"
    metadata: Any = {"key": "value"}
    with pytest.raises((TypeError, ValueError), match=said):
        await channel.unary_unary(path("Echo"))(b"x", metadata=metadata)


@pytest.mark.parametrize("key", ["te", "content-type", "user-agent", "grpc-timeout"])
async def test_what_the_transport_sends_itself_is_not_taken_from_metadata(link: Link, key: str) -> None:
    """Left out, or refused as illegal; never a second header beside the transport's own.

    Defect of grpc.aio: a `grpc-timeout` in the metadata becomes the call's.
    """
    seen: list[Any] = []

    async def look(request: bytes, context: Any) -> bytes:
        seen.append(context.time_remaining())
        seen.extend(value for name, value in context.invocation_metadata() if name == key)
        return request

    channel = await link.open({"Look": unary(look)})
    try:
        assert await channel.unary_unary(path("Look"))(b"x", metadata=((key, "bad"),)) == b"x"
    except (TypeError, ValueError, link.rpc.BaseError):
        assert not link.is_grpcio
        return
    assert seen.pop(0) is None or link.is_grpcio
    assert "bad" not in seen


async def test_initial_metadata_can_be_sent_once(link: Link) -> None:
    raised: list[BaseException] = []

    async def twice(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata((("a", "1"),))
        try:
            await context.send_initial_metadata((("a", "2"),))
        except Exception as error:
            raised.append(error)
        return request

    channel = await link.open({"Twice": unary(twice)})
    call = channel.unary_unary(path("Twice"))(b"x")
    assert await call == b"x"
    assert tuple(await call.initial_metadata()) == (("a", "1"),)
    assert [type(error) for error in raised] == [link.rpc.UsageError]


async def test_initial_metadata_arrives_before_the_first_message(link: Link) -> None:
    release = asyncio.Event()

    async def slow(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await context.send_initial_metadata((("early", "yes"),))
        await release.wait()
        yield b"late"

    channel = await link.open({"Slow": chat(slow)})
    call = channel.stream_stream(path("Slow"))()
    assert tuple(await call.initial_metadata()) == (("early", "yes"),)
    release.set()
    assert await call.read() == b"late"
    await call.done_writing()
    assert await call.code() is StatusCode.OK


async def test_metadata_of_a_call_that_ends_without_any(link: Link, unused_tcp_port: int) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    call = channel.unary_unary(path("Unary"))(b"")
    waiting = asyncio.create_task(call.initial_metadata())
    await stuck.begun.wait()
    call.cancel()
    assert await waiting == link.rpc.Metadata()
    lost = link.channel(f"127.0.0.1:{unused_tcp_port}").unary_unary(path("Echo"))(b"")
    assert await lost.trailing_metadata() == link.rpc.Metadata()
    assert await lost.initial_metadata() == link.rpc.Metadata()


async def test_as_large_metadata_as_both_ends_allow_arrive(link: Link) -> None:
    """Beyond what a few frames hold; another call of the connection goes on meanwhile."""
    stuck = Stuck()
    options = [("grpc.max_metadata_size", 1 << 20), ("grpc.absolute_max_metadata_size", 1 << 20)]
    large = tuple((f"k{number}", "x" * 10_000) for number in range(30))

    async def mirrored(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata(large)
        return b"%d" % sum(len(value) for key, value in context.invocation_metadata() if key[0] == "k")

    _, target = await link.serve({**stuck.handlers(), "Mirror": unary(mirrored)}, options=options)
    channel = link.channel(target, options=options)
    other = channel.unary_unary(path("Unary"))(b"other")
    await stuck.begun.wait()
    call = channel.unary_unary(path("Mirror"))(b"", metadata=large)
    assert await call == b"300000"
    assert len([key for key, _ in await call.initial_metadata() if key.startswith("k")]) == 30
    stuck.release.set()
    assert await other == b"other"
