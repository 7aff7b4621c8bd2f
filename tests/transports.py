"""The tests of what a transport carries run on each of them."""

from collections.abc import Iterator

import pytest

import tai_grpc.transport

TRANSPORTS = ("native", "grpcio")


@pytest.fixture(params=TRANSPORTS, autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make this transport the one that clients and servers take when nobody says which."""
    monkeypatch.setattr(tai_grpc.transport, "NATIVE_IS_BUILT", request.param == "native")
    yield request.param
