"""Where channels connect to and servers listen: names, addresses, sockets in the file system."""

import socket
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from aio.link import BASIC, Link, failure, path, unary


def ipv6_works() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not ipv6_works(), reason="this machine has no IPv6 loopback")


async def peer(request: bytes, context: Any) -> bytes:
    name: str = context.peer()
    return name.encode()


async def listen(link: Link, address: str) -> int:
    server = link.make_server({**BASIC, "Peer": unary(peer)})
    port: int = server.add_insecure_port(address)
    await server.start()
    return port


async def echoes(link: Link, target: str) -> bool:
    response: bytes = await link.channel(target).unary_unary(path("Echo"))(b"x")
    return response == b"x"


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:{port}",
        "localhost:{port}",
        "dns:///localhost:{port}",
        "dns:localhost:{port}",
        "dns:///127.0.0.1:{port}",
        "ipv4:127.0.0.1:{port}",
    ],
)
async def test_hosts_and_ports(link: Link, target: str) -> None:
    port = await listen(link, "127.0.0.1:0")
    assert await echoes(link, target.format(port=port))


@needs_ipv6
@pytest.mark.parametrize("target", ["[::1]:{port}", "ipv6:[::1]:{port}", "dns:///[::1]:{port}"])
async def test_ipv6(link: Link, target: str) -> None:
    port = await listen(link, "[::1]:0")
    channel = link.channel(target.format(port=port))
    name = await channel.unary_unary(path("Peer"))(b"")
    # grpc.aio writes the brackets percent-encoded.
    assert name.startswith((b"ipv6:[::1]:", b"ipv6:%5B::1%5D:"))


@needs_ipv6
@pytest.mark.parametrize("address", ["[::]:0", "localhost:0"])
async def test_an_address_of_both_families_serves_both(link: Link, address: str) -> None:
    port = await listen(link, address)
    assert await echoes(link, f"127.0.0.1:{port}")
    assert await echoes(link, f"[::1]:{port}")


async def test_every_address_of_the_host(link: Link) -> None:
    port = await listen(link, "0.0.0.0:0")
    assert await echoes(link, f"127.0.0.1:{port}")


@pytest.mark.parametrize("target", ["unix:{path}", "unix://{path}"])
@pytest.mark.parametrize("address", ["unix:{path}", "unix://{path}"])
async def test_a_socket_in_the_file_system(
    link: Link, tmp_path_factory: pytest.TempPathFactory, address: str, target: str
) -> None:
    # A socket's path may have about a hundred bytes.
    place = tmp_path_factory.mktemp("s") / "s"
    server = link.make_server({**BASIC, "Peer": unary(peer)})
    assert server.add_insecure_port(address.format(path=place)) > 0
    await server.start()
    channel = link.channel(target.format(path=place))
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    assert (await channel.unary_unary(path("Peer"))(b"")).startswith(b"unix:")
    await server.stop(None)
    assert not place.exists()


async def test_a_socket_left_behind_does_not_keep_a_server_from_listening(link: Link, tmp_path: Path) -> None:
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place))
    assert await listen(link, f"unix:{place}") > 0
    assert await echoes(link, f"unix:{place}")


async def test_of_several_addresses_one_that_answers_is_taken(link: Link, unused_tcp_port: int) -> None:
    port = await listen(link, "127.0.0.1:0")
    assert await echoes(link, f"ipv4:127.0.0.1:{unused_tcp_port},127.0.0.1:{port}")
    assert await echoes(link, f"ipv4:127.0.0.1:{port},127.0.0.1:{unused_tcp_port}")


async def test_another_address_is_taken_when_the_first_goes_away(link: Link) -> None:
    first = link.make_server(BASIC)
    first_port = first.add_insecure_port("127.0.0.1:0")
    await first.start()
    second_port = await listen(link, "127.0.0.1:0")
    channel = link.channel(f"ipv4:127.0.0.1:{first_port},127.0.0.1:{second_port}")
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    await first.stop(None)
    assert await channel.unary_unary(path("Echo"))(b"y", wait_for_ready=True) == b"y"


async def test_a_name_that_does_not_resolve_is_unavailable(link: Link) -> None:
    channel = link.channel("dns:///no.such.host.invalid:1")
    error = await failure(channel.unary_unary(path("Echo"))(b""))
    assert error.code() is StatusCode.UNAVAILABLE
    assert "no.such.host.invalid" in error.details()


@pytest.mark.parametrize("target", ["ipv4:nonsense", ""])
async def test_a_target_that_is_none_fails(link: Link, target: str) -> None:
    """It is refused at once. Defect of grpc.aio: it fails every call instead."""
    if not link.is_grpcio:
        with pytest.raises(ValueError, match="target"):
            link.channel(target)
        return
    channel = link.channel(target)
    error = await failure(channel.unary_unary(path("Echo"))(b""))
    assert error.code() is StatusCode.UNKNOWN


async def test_the_peer_of_a_call_is_an_address(link: Link) -> None:
    port = await listen(link, "127.0.0.1:0")
    name = await link.channel(f"127.0.0.1:{port}").unary_unary(path("Peer"))(b"")
    scheme, host, its_port = name.decode().split(":")
    assert (scheme, host) == ("ipv4", "127.0.0.1")
    assert int(its_port) != port


async def test_the_authority_may_be_set(link: Link) -> None:
    """The handler does not see it; a server that checks names would."""
    port = await listen(link, "127.0.0.1:0")
    options = (("grpc.default_authority", "some.service.example"),)
    channel = link.channel(f"127.0.0.1:{port}", options=options)
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
