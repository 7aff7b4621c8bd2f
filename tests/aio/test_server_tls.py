"""TLS on the server's side, with grpcio's client: versions, ALPN, certificates of clients, and new ones."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from aio.certificates import Certificates
from aio.link import BASIC, SERVICE, path, unary
from tai_grpc import aio
from tai_grpc.errors import ConfigError


@asynccontextmanager
async def serving(credentials: Any, **handlers: Any) -> AsyncIterator[int]:
    server: Any = aio.server()
    every = {**BASIC, **handlers}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, every),))
    port: int = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)
    assert not server._service.connections


def pairs(certificates: Certificates) -> list[tuple[bytes, bytes]]:
    return [(certificates.server_key, certificates.server_chain)]


async def call(port: int, credentials: grpc.ChannelCredentials, method: str = "Echo") -> bytes:
    channel: Any
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        response: bytes = await channel.unary_unary(path(method))(b"x", timeout=20)
    return response


async def test_grpcios_client_calls_over_tls(certificates: Certificates) -> None:
    async with serving(aio.ssl_server_credentials(pairs(certificates))) as port:
        assert await call(port, grpc.ssl_channel_credentials(certificates.authority)) == b"x"


async def test_a_clients_certificate_says_who_it_is(certificates: Certificates) -> None:
    """Under the names, and in the form, that grpcio gives it."""
    seen: list[Any] = []

    async def who(request: bytes, context: Any) -> bytes:
        seen.append((context.peer_identity_key(), context.peer_identities(), context.auth_context()))
        return request

    def handler() -> Any:
        return unary(who)

    ours = aio.ssl_server_credentials(pairs(certificates), certificates.authority, True)
    theirs = grpc.ssl_server_credentials(pairs(certificates), certificates.authority, True)
    client = grpc.ssl_channel_credentials(
        certificates.authority, certificates.client_key, certificates.client_chain
    )
    async with serving(ours, Who=handler()) as port:
        await call(port, client, "Who")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Who": handler()}),))
    port = server.add_secure_port("127.0.0.1:0", theirs)
    await server.start()
    await call(port, client, "Who")
    await server.stop(None)
    (key, identities, auth), (their_key, their_identities, their_auth) = seen
    assert key == their_key
    assert identities == list(their_identities)
    assert auth["ssl_tls_version"] == [b"TLSv1.3"]
    # What grpcio's core alone knows of a connection.
    unknown = {"ssl_requested_server_name", "ssl_negotiated_key_exchange_group"}
    assert auth == {name: value for name, value in their_auth.items() if name not in unknown}


@pytest.mark.parametrize("who", ["nobody", "a stranger"])
async def test_who_has_no_certificate_of_the_authority_is_refused(
    certificates: Certificates, who: str
) -> None:
    called = False

    async def note(request: bytes, context: Any) -> bytes:
        nonlocal called
        called = True
        return request

    credentials = aio.ssl_server_credentials(pairs(certificates), certificates.authority, True)
    client = grpc.ssl_channel_credentials(
        certificates.authority,
        *(() if who == "nobody" else (certificates.stranger_key, certificates.stranger_chain)),
    )
    async with serving(credentials, Note=unary(note)) as port:
        with pytest.raises(grpc.RpcError) as caught:
            await call(port, client, "Note")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not called


def client_context(certificates: Certificates, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=certificates.authority.decode())
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
async def test_who_does_not_ask_for_h2_is_refused(
    certificates: Certificates, protocols: tuple[str, ...]
) -> None:
    async with serving(aio.ssl_server_credentials(pairs(certificates))) as port:
        reader, writer = await asyncio.open_connection(
            "localhost", port, ssl=client_context(certificates, *protocols), family=socket.AF_INET
        )
        with contextlib.suppress(ConnectionError):  # reset rather than closed: refused as well
            assert await reader.read() == b""
        writer.transport.abort()


@pytest.mark.parametrize(("minimum", "accepted"), [("TLSv1.3", False), ("TLSv1.2", True)])
async def test_tls_1_2_is_accepted_by_choice_alone(
    certificates: Certificates, minimum: str, accepted: bool
) -> None:
    credentials = aio.ssl_server_credentials(pairs(certificates), minimum_version=minimum)
    context = client_context(certificates, "h2")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(credentials) as port:
        connecting = asyncio.open_connection("localhost", port, ssl=context, family=socket.AF_INET)
        if not accepted:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await connecting
            return
        reader, writer = await connecting
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        assert await reader.readexactly(9)  # the head of SETTINGS
        writer.transport.abort()


async def test_certificates_that_change_are_used_from_the_next_handshake_on(
    certificates: Certificates,
) -> None:
    """A connection that stands goes on; a fetcher that fails, or gives rubbish, keeps what there is."""
    first = aio.ssl_server_certificate_configuration(pairs(certificates))
    second = aio.ssl_server_certificate_configuration(
        [(certificates.stranger_key, certificates.stranger_chain)]
    )
    answers: list[Any] = []
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))

    def fetch() -> Any:
        answer = answers.pop(0) if answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def shown(port: int) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return certificate

    def encoded(chain: bytes) -> bytes:
        return ssl.PEM_cert_to_DER_cert(chain.decode())

    async with serving(aio.dynamic_ssl_server_credentials(first, fetch)) as port:
        trusting = grpc.ssl_channel_credentials(certificates.authority)
        async with grpc.aio.secure_channel(f"localhost:{port}", trusting) as channel:
            echo: Any = channel.unary_unary(path("Echo"))
            assert await echo(b"x", timeout=20) == b"x"
            answers.append(second)
            assert await shown(port) == encoded(certificates.stranger_chain)
            assert await echo(b"y", timeout=20) == b"y"
        rubbish = aio.ssl_server_certificate_configuration([(b"no key", b"no chain")])
        answers += [ValueError("not now"), rubbish]
        for _ in range(2):
            assert await shown(port) == encoded(certificates.stranger_chain)
        answers.append(first)
        assert await shown(port) == encoded(certificates.server_chain)
    assert [type(problem["exception"]) for problem in problems] == [ValueError, ConfigError]


def test_credentials_that_cannot_be_used_are_refused_when_they_are_made(certificates: Certificates) -> None:
    key, chain = pairs(certificates)[0]
    for wrong in ([(b"", chain)], [(key, b"")], [(certificates.client_key, chain)]):
        with pytest.raises(ConfigError, match=r"private_key_certificate_chain_pairs\[0\]") as caught:
            aio.ssl_server_credentials(wrong)
        assert "PRIVATE" not in str(caught.value)
    with pytest.raises(ConfigError, match="at least one"):
        aio.ssl_server_credentials([])
    with pytest.raises(ConfigError, match="root_certificates"):
        aio.ssl_server_credentials([(key, chain)], b"no certificate")
    with pytest.raises(ConfigError, match="root_certificates"):
        aio.ssl_server_credentials([(key, chain)], b"\n")
    with pytest.raises(ConfigError, match="minimum_version"):
        aio.ssl_server_credentials([(key, chain)], minimum_version="SSLv3")
    assert key.decode() not in repr(aio.ssl_server_certificate_configuration([(key, chain)]))


def test_grpcios_opaque_credentials_are_refused_by_name(certificates: Certificates) -> None:
    server: Any = aio.server()
    with pytest.raises(TypeError, match=r"tai_grpc\.aio\.ssl_server_credentials"):
        server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pairs(certificates)))
