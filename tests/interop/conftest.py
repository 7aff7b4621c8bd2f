"""The interoperability cases of gRPC, in every direction between the implementations of tests/aio.

cases.py is the client's side, servicer.py the server's. An implementation is added in
tests/aio/implementations.py.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aio.certificates import Certificates
from aio.implementations import IMPLEMENTATIONS
from interop.cases import Client
from interop.generated import Generated, generated
from interop.servicer import make_servicer


@pytest.fixture(scope="session")
def protos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    """The messages and stubs of grpc.testing."""
    with generated(tmp_path_factory.mktemp("generated")) as made:
        yield made


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def secure(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=sorted(IMPLEMENTATIONS), ids=lambda name: f"server={name}")
async def port(
    request: pytest.FixtureRequest, secure: bool, protos: Generated, certificates: Certificates
) -> AsyncIterator[int]:
    """Serve the cases by an implementation, plain or with TLS; return the port."""
    rpc = importlib.import_module(request.param)
    server = rpc.server(options=(("grpc.so_reuseport", 0),))
    protos.services.add_TestServiceServicer_to_server(make_servicer(protos), server)
    if secure:
        creds = importlib.import_module(IMPLEMENTATIONS[request.param])
        pairs = ((certificates.server_key, certificates.server_chain),)
        bound = server.add_secure_port("127.0.0.1:0", creds.ssl_server_credentials(pairs))
    else:
        bound = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield bound
    await server.stop(None)


@pytest.fixture(params=sorted(IMPLEMENTATIONS), ids=lambda name: f"client={name}")
def client(
    request: pytest.FixtureRequest, secure: bool, port: int, protos: Generated, certificates: Certificates
) -> Client:
    """Return what opens channels of an implementation to that server."""
    rpc = importlib.import_module(request.param)
    creds = importlib.import_module(IMPLEMENTATIONS[request.param])

    def open_channel(port: int) -> Any:
        target = f"127.0.0.1:{port}"
        if secure:
            return rpc.secure_channel(target, creds.ssl_channel_credentials(certificates.authority))
        return rpc.insecure_channel(target)

    return Client(protos, port, open_channel, rpc.EOF)
