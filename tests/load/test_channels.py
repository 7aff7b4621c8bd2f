"""Reflection over whatever a server asks of its callers: TLS, a client's certificate, a token, a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from aio.certificates import Certificates
from load.echo import POOL, SERVICE, Echo
from tai_grpc.errors import ConfigError
from tai_grpc.load.channels import open_blocking_channel
from tai_grpc.load.methods import Method, find_method
from tai_grpc.load.plan import TlsPlan
from tai_grpc.load.reflection import details_of, status_of
from tai_grpc.status import Metadata
from transports import transport

__all__ = ["transport"]  # each test here runs on each of them


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


class _Token(grpc.aio.ServerInterceptor):
    """Lets calls with the token through."""

    async def intercept_service(
        self, continuation: Callable[..., Any], details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        found: grpc.RpcMethodHandler[Any, Any] | None = await continuation(details)
        if ("authorization", "Bearer right") in (details.invocation_metadata or ()):
            return found

        async def refuse(_: Any, context: Any) -> AsyncIterator[Any]:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
            yield

        return grpc.stream_stream_rpc_method_handler(refuse)


@asynccontextmanager
async def _served(
    credentials: grpc.ServerCredentials | None, address: str = "127.0.0.1:0", *, token: bool = False
) -> AsyncIterator[str]:
    server = grpc.aio.server(interceptors=(_Token(),) if token else None)
    server.add_generic_rpc_handlers((Echo().handlers(),))
    enable_server_reflection((SERVICE,), server, pool=POOL)
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield address if address.startswith("unix:") else f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def _server_tls(certificates: Certificates, *, mutual: bool = False) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(certificates.server_key, certificates.server_chain)],
        root_certificates=certificates.authority if mutual else None,
        require_client_auth=mutual,
    )


async def _found(
    address: str, tls: TlsPlan | None = None, *, authority: str | None = None, metadata: Metadata = ()
) -> Method:
    def find() -> Method:
        with open_blocking_channel(address, tls=tls, authority=authority) as channel:
            return find_method(channel, f"{SERVICE}/Unary", timeout=10, metadata=metadata)

    return await asyncio.to_thread(find)


async def test_a_server_with_tls_is_asked_when_its_authority_is_trusted(certificates: Certificates) -> None:
    async with _served(_server_tls(certificates)) as address:
        method = await _found(address, TlsPlan(ca=certificates.authority))
    assert method.name == "Unary"


async def test_a_name_may_be_given_for_the_certificate_and_another_for_the_calls(
    certificates: Certificates,
) -> None:
    tls = TlsPlan(ca=certificates.authority, server_name="localhost")
    async with _served(_server_tls(certificates)) as address:
        assert await _found(address, tls, authority="elsewhere.example")


@pytest.mark.parametrize("name", ["authority", "stranger"])
async def test_a_certificate_that_does_not_fit_is_refused(certificates: Certificates, name: str) -> None:
    """Either of another name, or of an authority that is not trusted."""
    tls = TlsPlan(
        ca=getattr(certificates, name), server_name="other.example" if name == "authority" else None
    )
    async with _served(_server_tls(certificates)) as address:
        with pytest.raises(grpc.RpcError) as failure:
            await _found(address, tls)
    assert status_of(failure.value) is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_may_be_left_unchecked(certificates: Certificates, transport: str) -> None:
    tls = TlsPlan(verify=False)
    async with _served(_server_tls(certificates)) as address:
        if transport == "native":
            assert await _found(address, tls)
            return
        with pytest.raises(ConfigError, match="skipTLS=True: expected the native transport"):
            await _found(address, tls)


async def test_a_server_may_ask_for_a_certificate(certificates: Certificates) -> None:
    ours = TlsPlan(
        ca=certificates.authority, certificate=certificates.client_chain, key=certificates.client_key
    )
    async with _served(_server_tls(certificates, mutual=True)) as address:
        assert await _found(address, ours)
        with pytest.raises(grpc.RpcError):
            await _found(address, TlsPlan(ca=certificates.authority))


async def test_a_token_goes_with_the_questions() -> None:
    async with _served(None, token=True) as address:
        assert await _found(address, metadata=(("authorization", "Bearer right"),))
        with pytest.raises(grpc.RpcError) as failure:
            await _found(address, metadata=(("authorization", "Bearer wrong"),))
    assert status_of(failure.value) is grpc.StatusCode.UNAUTHENTICATED
    assert details_of(failure.value) == "no token"


async def test_a_server_on_a_socket_is_asked(tmp_path: Path) -> None:
    async with _served(None, f"unix:{tmp_path}/s") as address:
        assert await _found(address)


async def test_texts_that_are_no_certificates_are_refused_by_name(transport: str) -> None:
    if transport == "grpcio":
        return  # which says nothing of them
    for tls, field in (
        (TlsPlan(ca=b"nothing"), "cacert"),
        (TlsPlan(certificate=b"nothing", key=b"nothing"), "cert, key"),
    ):
        with pytest.raises(ConfigError, match=f"^{field}='what was given': expected"):
            await _found("127.0.0.1:1", tls)
