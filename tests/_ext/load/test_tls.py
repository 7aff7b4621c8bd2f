"""TLS: whom the engine trusts, how it shows itself, what is said when either side does not like the other."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from _ext.load.rig import OK, UNAVAILABLE, Rig, Run, echo, made, source, target_of, until
from aio.certificates import Certificates
from aio.implementations import IMPLEMENTATIONS
from tai_grpc._ext.load.tls import TlsContext
from tai_grpc.errors import ConfigError


def server_credentials(rig: Rig, certificates: Certificates, client_ca: bytes | None = None) -> Any:
    module = importlib.import_module(IMPLEMENTATIONS[rig.rpc.__name__])
    pairs = [(certificates.server_key, certificates.server_chain)]
    return module.ssl_server_credentials(pairs, client_ca, client_ca is not None)


async def serve(
    rig: Rig, certificates: Certificates, *, client_ca: bytes | None = None, **handlers: Any
) -> str:
    credentials = server_credentials(rig, certificates, client_ca)
    rig.server, address = await rig.link.serve(made({"unary": echo, **handlers}), credentials=credentials)
    return address


def secure(rig: Rig, address: str, context: TlsContext, name: str = "localhost", **settings: Any) -> Run:
    target = target_of(address, tls=context, server_name=name)
    return rig.engine([target], settings.pop("source", source(100)), **settings)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", ""])
async def test_calls_go_over_tls_to_a_server_of_a_trusted_authority(
    rig: Rig, certificates: Certificates, name: str
) -> None:
    address = await serve(rig, certificates)
    context = TlsContext(ca=certificates.authority)
    assert context.verifies
    run = await secure(rig, address, context, name, connections=3, concurrency=9).connect()
    await run.run()
    assert run.statuses == {OK: 100}


async def test_large_messages_go_both_ways(rig: Rig, certificates: Certificates) -> None:
    address = await serve(rig, certificates)
    calls = source(20, fixed=(((b"x" * 1_000_000,), ()),))
    context = TlsContext(ca=certificates.authority)
    run = await secure(rig, address, context, source=calls, concurrency=4).connect()
    await run.run()
    assert run.statuses == {OK: 20}
    assert run.engine.bytes_sent > 20_000_000
    assert run.engine.bytes_received > 20_000_000


async def test_streams_go_over_tls(rig: Rig, certificates: Certificates) -> None:
    async def chat(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    address = await serve(rig, certificates, chat=chat)
    target = target_of(address, tls=TlsContext(ca=certificates.authority), server_name="localhost")
    run = rig.engine([target], source(10), name="chat", stream_messages=500)
    await (await run.connect()).run()
    assert run.statuses == {OK: 10}
    assert run.engine.messages_received == 5000


async def test_a_client_shows_its_certificate(rig: Rig, certificates: Certificates) -> None:
    seen: list[Any] = []

    async def unary(request: bytes, context: Any) -> bytes:
        seen.append(context.auth_context()["x509_common_name"])
        return request

    address = await serve(rig, certificates, client_ca=certificates.authority, unary=unary)
    context = TlsContext(
        ca=certificates.authority, certificate=certificates.client_chain, key=certificates.client_key
    )
    run = await secure(rig, address, context, source=source(1)).connect()
    await run.run()
    assert run.statuses == {OK: 1}
    assert seen == [[b"worker"]]


async def test_a_client_without_the_certificate_that_is_asked_for_is_told_so(
    rig: Rig, certificates: Certificates
) -> None:
    """With TLS 1.3 the server says so after the client's handshake is done."""
    address = await serve(rig, certificates, client_ca=certificates.authority)
    run = secure(rig, address, TlsContext(ca=certificates.authority))
    with pytest.raises(ConnectionError, match=r": (TLS: .*certificate|the peer closed it|Connection)"):
        await run.connect()


async def test_a_refusal_by_the_server_is_not_taken_for_its_certificate_being_refused(
    rig: Rig, certificates: Certificates
) -> None:
    address = await serve(rig, certificates, client_ca=certificates.authority)
    run = secure(rig, address, TlsContext(verify=False))
    with pytest.raises(ConnectionError) as refused:
        await run.connect()
    assert "self-signed" not in str(refused.value)
    assert "issuer" not in str(refused.value)


async def test_a_server_of_a_stranger_is_not_trusted(rig: Rig, certificates: Certificates) -> None:
    address = await serve(rig, certificates)
    run = secure(rig, address, TlsContext(ca=certificates.stranger))
    with pytest.raises(ConnectionError, match=r"cannot connect to .*: TLS: unable to get local issuer cert"):
        await run.connect()


async def test_a_server_of_no_system_authority_is_not_trusted(rig: Rig, certificates: Certificates) -> None:
    address = await serve(rig, certificates)
    run = secure(rig, address, TlsContext())
    with pytest.raises(ConnectionError, match=r": TLS: (unable to get|self.signed)"):
        await run.connect()


@pytest.mark.parametrize(
    ("name", "problem"), [("elsewhere.example", "hostname mismatch"), ("127.0.0.2", "IP address mismatch")]
)
async def test_a_server_of_another_name_is_not_trusted(
    rig: Rig, certificates: Certificates, name: str, problem: str
) -> None:
    address = await serve(rig, certificates)
    run = secure(rig, address, TlsContext(ca=certificates.authority), name)
    with pytest.raises(ConnectionError, match=f": TLS: {problem}"):
        await run.connect()


async def test_without_verifying_any_server_will_do(rig: Rig, certificates: Certificates) -> None:
    address = await serve(rig, certificates)
    context = TlsContext(verify=False)
    assert not context.verifies
    run = await secure(rig, address, context, "elsewhere.example").connect()
    await run.run()
    assert run.statuses == {OK: 100}


async def test_a_server_without_tls_is_told_of(rig: Rig, certificates: Certificates) -> None:
    address = await rig.serve(unary=echo)
    run = secure(rig, address, TlsContext(ca=certificates.authority))
    with pytest.raises(ConnectionError, match=r": (TLS: wrong version number|the peer closed)"):
        await run.connect()


@asynccontextmanager
async def tls_peer(certificates: Certificates, folder: Path, protocols: list[str]) -> AsyncIterator[str]:
    """A server that shakes hands and says nothing."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    pem = folder / "server.pem"
    pem.write_bytes(certificates.server_key + certificates.server_chain)
    context.load_cert_chain(pem)
    if protocols:
        context.set_alpn_protocols(protocols)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("protocols", [[], ["http/1.1"]])
async def test_a_server_that_does_not_choose_http2_is_told_of(
    native: Rig, certificates: Certificates, tmp_path: Path, protocols: list[str]
) -> None:
    async with tls_peer(certificates, tmp_path, protocols) as address:
        run = secure(native, address, TlsContext(ca=certificates.authority))
        with pytest.raises(ConnectionError, match=r": (no HTTP/2: the peer chose no ALPN h2|TLS: .*no appl)"):
            await run.connect()


async def test_tls_that_loses_its_connection_is_made_again(rig: Rig, certificates: Certificates) -> None:
    address = await serve(rig, certificates)
    context = TlsContext(ca=certificates.authority)
    run = await secure(rig, address, context, source=source(), concurrency=4).connect()
    task = run.begin()
    await until(lambda: run.statuses.get(OK, 0) >= 50)
    await rig.server.stop(None)
    await until(lambda: any("cannot connect to" in str(text) for _, text, _ in run.engine.errors()))
    server = rig.link.make_server(made({"unary": echo}))
    server.add_secure_port(address, server_credentials(rig, certificates))
    await server.start()
    before = run.statuses[OK]
    await until(lambda: run.statuses[OK] >= before + 50)
    run.engine.stop()
    await task
    assert run.engine.reconnects == 1
    assert set(run.statuses) <= {OK, UNAVAILABLE, 1}


# --- What is no certificate -----------------------------------------------------------------------------


def test_what_is_no_pem_is_refused_by_its_name(certificates: Certificates) -> None:
    broken = certificates.authority.replace(b"M", b"!")
    cut = certificates.server_key[:200]
    refused: list[tuple[dict[str, Any], str]] = [
        ({"ca": b""}, "ca='0 bytes': expected certificates in PEM"),
        ({"ca": b"no PEM"}, "ca='6 bytes': expected certificates in PEM"),
        ({"ca": broken}, "ca=.*: expected certificates in PEM [(]"),
        ({"ca": certificates.authority + broken}, "ca=.*: expected certificates in PEM [(]"),
        ({"certificate": b"x", "key": b"y"}, "certificate='1 bytes': expected certificates in PEM"),
        (
            {"certificate": certificates.client_chain},
            "key=None: expected PEM, as certificate and key",
        ),
        ({"key": certificates.client_key}, "certificate=None: expected PEM"),
        ({"certificate": certificates.client_chain, "key": cut}, "key=.*: expected a private key in PEM"),
        (
            {"certificate": certificates.client_chain, "key": certificates.server_key},
            "key=.*: expected the certificate's private key [(]key values mismatch",
        ),
    ]
    for settings, message in refused:
        with pytest.raises(ConfigError, match=message):
            TlsContext(**settings)


def test_a_key_with_a_password_is_refused_without_asking_for_it(certificates: Certificates) -> None:
    key = load_pem_private_key(certificates.client_key, None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(ConfigError, match=r"key=.*: expected a private key in PEM, without a password"):
        TlsContext(certificate=certificates.client_chain, key=encrypted)
