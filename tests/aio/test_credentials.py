"""TLS, client certificates, and call credentials."""

import threading
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from aio.certificates import Certificates
from aio.link import BASIC, Link, failure, path, unary

HANDLERS = dict(BASIC)


class Identity:
    """A handler that keeps what it is told about its caller."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    async def unary(self, request: bytes, context: Any) -> bytes:
        self.seen = {
            "identities": context.peer_identities(),
            "key": context.peer_identity_key(),
            "auth": context.auth_context(),
            "metadata": dict(context.invocation_metadata()),
        }
        return request


class Tls:
    """A TLS server of an Identity, and channels to it."""

    def __init__(self, link: Link, creds: Any, certificates: Certificates) -> None:
        self.link = link
        self.creds = creds
        self.certificates = certificates
        self.identity = Identity()
        self.target = ""

    async def serve(self, *, ask: bool = False) -> None:
        pairs = ((self.certificates.server_key, self.certificates.server_chain),)
        if ask:
            credentials = self.creds.ssl_server_credentials(pairs, self.certificates.authority, True)
        else:
            credentials = self.creds.ssl_server_credentials(pairs)
        handlers = {**HANDLERS, "Identity": unary(self.identity.unary)}
        _, address = await self.link.serve(handlers, credentials=credentials)
        self.target = f"localhost:{address.rpartition(':')[2]}"

    def channel(self, *call_credentials: Any, options: Any = (), **pems: bytes) -> Any:
        pems = {"root_certificates": self.certificates.authority, **pems}
        credentials = self.creds.ssl_channel_credentials(**pems)
        if call_credentials:
            credentials = self.creds.composite_channel_credentials(credentials, *call_credentials)
        return self.link.channel(self.target, credentials=credentials, options=options)

    async def ask(self, channel: Any, **options: Any) -> dict[str, Any]:
        await channel.unary_unary(path("Identity"))(b"", **options)
        return self.identity.seen


@pytest.fixture
def tls(link: Link, creds: Any, certificates: Certificates) -> Tls:
    return Tls(link, creds, certificates)


async def test_tls(tls: Tls) -> None:
    await tls.serve()
    channel = tls.channel()
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    assert await channel.stream_unary(path("Join"))([bytes(100_000)] * 5) == bytes(500_000)
    seen = await tls.ask(channel)
    assert seen["identities"] is None
    assert seen["key"] is None
    assert seen["auth"]["transport_security_type"] == [b"ssl"]
    assert all(isinstance(value, bytes) for values in seen["auth"].values() for value in values)


async def test_tls_by_address(tls: Tls) -> None:
    await tls.serve()
    tls.target = tls.target.replace("localhost", "127.0.0.1")
    assert await tls.channel().unary_unary(path("Echo"))(b"x") == b"x"


async def test_a_server_of_an_unknown_authority_is_refused(tls: Tls) -> None:
    await tls.serve()
    channel = tls.channel(root_certificates=tls.certificates.stranger)
    error = await failure(channel.unary_unary(path("Echo"))(b""))
    assert error.code() is StatusCode.UNAVAILABLE


async def test_a_server_of_another_name_is_refused(tls: Tls) -> None:
    await tls.serve()
    channel = tls.channel(options=(("grpc.ssl_target_name_override", "other.example"),))
    assert (await failure(channel.unary_unary(path("Echo"))(b""))).code() is StatusCode.UNAVAILABLE


async def test_the_name_to_expect_may_be_given(tls: Tls) -> None:
    await tls.serve()
    tls.target = tls.target.replace("localhost", "127.0.0.1")
    channel = tls.channel(options=(("grpc.ssl_target_name_override", "localhost"),))
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"


async def test_plain_and_tls_do_not_meet(tls: Tls) -> None:
    await tls.serve()
    plain = tls.link.channel(tls.target)
    assert (await failure(plain.unary_unary(path("Echo"))(b""))).code() is StatusCode.UNAVAILABLE
    _, address = await tls.link.serve(BASIC)
    tls.target = address
    assert (await failure(tls.channel().unary_unary(path("Echo"))(b""))).code() is StatusCode.UNAVAILABLE


async def test_a_clients_certificate_is_its_identity(tls: Tls) -> None:
    await tls.serve(ask=True)
    channel = tls.channel(
        private_key=tls.certificates.client_key, certificate_chain=tls.certificates.client_chain
    )
    seen = await tls.ask(channel)
    assert list(seen["identities"]) == [b"worker@example.org"]
    assert seen["key"] == "x509_subject_alternative_name"
    assert seen["auth"]["x509_common_name"] == [b"worker"]
    assert seen["auth"]["x509_subject_alternative_name"] == [b"worker@example.org"]
    assert seen["auth"]["x509_pem_cert"][0].startswith(b"-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize("who", ["nobody", "stranger"])
async def test_a_client_that_is_not_known_is_refused(tls: Tls, who: str) -> None:
    await tls.serve(ask=True)
    known = tls.certificates
    pems = {"private_key": known.stranger_key, "certificate_chain": known.stranger_chain}
    channel = tls.channel(**(pems if who == "stranger" else {}))
    assert (await failure(channel.unary_unary(path("Echo"))(b""))).code() is StatusCode.UNAVAILABLE


async def test_a_certificate_nobody_asked_for_is_no_identity(tls: Tls) -> None:
    await tls.serve()
    known = tls.certificates
    channel = tls.channel(private_key=known.client_key, certificate_chain=known.client_chain)
    assert (await tls.ask(channel))["identities"] is None


async def test_server_credentials_must_be_complete(creds: Any, certificates: Certificates) -> None:
    pairs = ((certificates.server_key, certificates.server_chain),)
    with pytest.raises(ValueError, match=r"(?i)root.certificates"):
        creds.ssl_server_credentials(pairs, None, True)
    with pytest.raises(ValueError, match=r"(?i)at least one"):
        creds.ssl_server_credentials(())


async def test_an_access_token_of_a_call(tls: Tls) -> None:
    await tls.serve()
    seen = await tls.ask(tls.channel(), credentials=tls.creds.access_token_call_credentials("secret"))
    assert seen["metadata"]["authorization"] == "Bearer secret"


async def test_an_access_token_of_a_channel(tls: Tls) -> None:
    await tls.serve()
    channel = tls.channel(tls.creds.access_token_call_credentials("secret"))
    for _ in range(2):
        seen = await tls.ask(channel)
        assert seen["metadata"]["authorization"] == "Bearer secret"


class Plugin(grpc.AuthMetadataPlugin):
    """Adds a pair, at once or from a thread, or fails."""

    def __init__(self, how: str = "at once") -> None:
        self.how = how
        self.asked: list[tuple[str, str]] = []

    def __call__(self, context: Any, callback: Any) -> None:
        self.asked.append((context.service_url, context.method_name))
        if self.how == "raises":
            raise ValueError("no token")
        answer = ((), ValueError("no token")) if self.how == "fails" else ((("own", "pair"),), None)
        if self.how == "from a thread":
            threading.Thread(target=callback, args=answer).start()
        else:
            callback(*answer)


@pytest.mark.parametrize("how", ["at once", "from a thread"])
async def test_a_metadata_plugin(tls: Tls, how: str) -> None:
    await tls.serve()
    plugin = Plugin(how)
    credentials = tls.creds.metadata_call_credentials(plugin)
    seen = await tls.ask(tls.channel(), credentials=credentials, metadata=(("mine", "too"),))
    assert seen["metadata"]["own"] == "pair"
    assert seen["metadata"]["mine"] == "too"
    assert plugin.asked == [(f"https://{tls.target}/test.Conformity", "Identity")]


@pytest.mark.parametrize("how", ["fails", "raises"])
async def test_a_metadata_plugin_that_fails_fails_the_call(tls: Tls, how: str) -> None:
    await tls.serve()
    credentials = tls.creds.metadata_call_credentials(Plugin(how))
    error = await failure(tls.channel().unary_unary(path("Echo"))(b"", credentials=credentials))
    assert error.code() is StatusCode.UNAVAILABLE
    assert "no token" in error.details()


async def test_call_credentials_add_up(tls: Tls) -> None:
    await tls.serve()
    token = tls.creds.access_token_call_credentials("secret")
    plugin = tls.creds.metadata_call_credentials(Plugin())
    of_channel = await tls.ask(tls.channel(token, plugin))
    of_call = await tls.ask(tls.channel(), credentials=tls.creds.composite_call_credentials(token, plugin))
    for seen in (of_channel, of_call):
        assert seen["metadata"]["authorization"] == "Bearer secret"
        assert seen["metadata"]["own"] == "pair"


async def test_call_credentials_are_refused_without_tls(link: Link, creds: Any) -> None:
    channel = await link.open(BASIC)
    token = creds.access_token_call_credentials("secret")
    with pytest.raises(link.rpc.UsageError, match="only valid on secure channels"):
        channel.unary_unary(path("Echo"))(b"", credentials=token)
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"


async def test_a_server_may_listen_plain_and_secure(
    link: Link, creds: Any, certificates: Certificates
) -> None:
    server = link.make_server(BASIC)
    plain = server.add_insecure_port("127.0.0.1:0")
    pairs = ((certificates.server_key, certificates.server_chain),)
    secure = server.add_secure_port("127.0.0.1:0", creds.ssl_server_credentials(pairs))
    await server.start()
    assert await link.channel(f"127.0.0.1:{plain}").unary_unary(path("Echo"))(b"x") == b"x"
    credentials = creds.ssl_channel_credentials(certificates.authority)
    channel = link.channel(f"127.0.0.1:{secure}", credentials=credentials)
    assert await channel.unary_unary(path("Echo"))(b"y") == b"y"
