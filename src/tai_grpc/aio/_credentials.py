"""Credentials of channels and calls: grpcio's own, read, and TLS contexts made of them.

`grpc.ssl_channel_credentials(...)` and the like may be passed to `secure_channel` as they are; those of this
module are the same with a choice of TLS version.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc import CallCredentials, ChannelCredentials, StatusCode

from tai_grpc.aio._tls import load_authorities, load_pair, version_of
from tai_grpc.errors import ConfigError


class SslChannelCredentials(ChannelCredentials):
    """What `ssl_channel_credentials` gives."""

    def __init__(self, inner: ChannelCredentials, minimum_version: str) -> None:
        super().__init__(_inner(inner))
        self.minimum_version = minimum_version


def ssl_channel_credentials(
    root_certificates: bytes | None = None,
    private_key: bytes | None = None,
    certificate_chain: bytes | None = None,
    *,
    minimum_version: str = "TLSv1.3",
) -> SslChannelCredentials:
    """Return credentials for a channel over TLS.

    Args:
        root_certificates: PEM of the authorities that may have signed the server's certificate; None: the
            system's.
        private_key: PEM of the client's key, for mutual TLS.
        certificate_chain: PEM of the client's certificate and what leads from it to its root.
        minimum_version: "TLSv1.3" or "TLSv1.2".

    Raises:
        ConfigError: the version is neither, or of key and certificate only one is given.
    """
    version_of(minimum_version)
    if (private_key is None) is not (certificate_chain is None):
        raise ConfigError("private_key, certificate_chain", "one of them", "both or neither")
    inner = grpc.ssl_channel_credentials(root_certificates, private_key, certificate_chain)
    return SslChannelCredentials(inner, minimum_version)


def composite_channel_credentials(
    channel_credentials: ChannelCredentials, *call_credentials: CallCredentials
) -> ChannelCredentials:
    """Return channel credentials that send these call credentials with every call."""
    composed = grpc.composite_channel_credentials(channel_credentials, *call_credentials)
    if isinstance(channel_credentials, SslChannelCredentials):
        return SslChannelCredentials(composed, channel_credentials.minimum_version)
    return composed


@dataclass(frozen=True, slots=True)
class ChannelSecurity:
    """What channel credentials come to: TLS, or none, and call credentials for every call."""

    ssl_context: ssl.SSLContext | None
    call_credentials: tuple[CallCredentials, ...] = ()


def _inner(credentials: Any) -> Any:
    """Return grpcio's own object, whose fields can be read."""
    return credentials._credentials


def channel_security(credentials: ChannelCredentials) -> ChannelSecurity:
    """Return what these credentials come to.

    Raises:
        TypeError: they are not ChannelCredentials, or of a kind that is not supported.
        ConfigError: a certificate or key cannot be read.
    """
    if not isinstance(credentials, ChannelCredentials):
        raise TypeError(f"credentials must be a grpc.ChannelCredentials: got {type(credentials).__name__}")
    version = getattr(credentials, "minimum_version", "TLSv1.3")
    inner = _inner(credentials)
    calls: list[CallCredentials] = []
    while type(inner).__name__ == "CompositeChannelCredentials":
        calls[:0] = [CallCredentials(each) for each in inner._call_credentialses]
        inner = inner._channel_credentials
    kind = type(inner).__name__
    if kind == "InsecureChannelCredentials":
        context = None
    elif kind == "SSLChannelCredentials":
        if getattr(inner, "_private_key_signer", None) is not None:
            raise TypeError("credentials: a private key signer is not supported: give the private key")
        context = client_context(
            inner._pem_root_certificates, inner._private_key, inner._certificate_chain, version
        )
    else:
        raise TypeError(f"credentials: {kind} are not supported, only those of ssl_channel_credentials")
    return ChannelSecurity(context, tuple(calls))


def client_context(
    roots: bytes | None, key: bytes | None, chain: bytes | None, minimum_version: str
) -> ssl.SSLContext:
    """Return a context for connections to servers that checks their certificate and name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = version_of(minimum_version)
    context.set_alpn_protocols(["h2"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if roots is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        load_authorities(context, roots)
    if key is not None and chain is not None:
        load_pair(context, key, chain, "private_key, certificate_chain")
    return context


class Authorizer:
    """Fetches the metadata of call credentials for each call of a channel, which waits for them.

    A plugin runs in the loop's thread pool; a fixed access token needs none.
    """

    def __init__(self, authority: str, always: Sequence[CallCredentials]) -> None:
        self._host = authority.removesuffix(":443")
        self._always = plugins_of(always)

    def __call__(self, call: Any, method: bytes, credentials: CallCredentials | None) -> None:
        """Have `call` go on with the metadata, or end it."""
        plugins = self._always
        if credentials is not None:
            plugins = (*plugins, *plugins_of((credentials,)))
        service, _, name = method.decode().rpartition("/")
        _Fetch(call, plugins, f"https://{self._host}{service}", name).next(())


class _Fetch:
    """The plugins of one call, one after the other."""

    def __init__(self, call: Any, plugins: Sequence[Any], service_url: str, method: str) -> None:
        self._call = call
        self._plugins = iter(plugins)
        self._service_url = service_url
        self._method = method
        self._metadata: list[tuple[str, str | bytes]] = []
        self._loop = asyncio.get_running_loop()

    def next(self, metadata: Sequence[tuple[str, str | bytes]] | None) -> None:
        self._metadata += metadata or ()
        plugin = next(self._plugins, None)
        if plugin is None:
            self._go_on()
            return
        answer = _Answer(self)
        run = functools.partial(plugin, self._service_url, self._method, answer)
        if _is_token(plugin):
            answer.loop = None
            run()
        else:
            self._loop.run_in_executor(None, _run, run, answer)

    def _go_on(self) -> None:
        try:
            self._call._proceed(self._metadata)
        except (TypeError, ValueError) as error:
            self._refuse(f"Illegal metadata: {error}")

    def take(self, metadata: Any, code: Any, details: Any) -> None:
        if code == 0:
            self.next(metadata)
        else:
            text = details.decode("utf-8", "replace") if isinstance(details, bytes) else str(details)
            self._refuse(f"Getting metadata from plugin failed with error: {text}")

    def _refuse(self, details: str) -> None:
        self._call._refuse(StatusCode.UNAVAILABLE.value[0], details)


class _Answer:
    """A plugin's callback, from any thread; the first answer counts."""

    def __init__(self, fetch: _Fetch) -> None:
        self.loop: asyncio.AbstractEventLoop | None = fetch._loop
        self._fetch: _Fetch | None = fetch

    def __call__(self, metadata: Any, code: Any, details: Any) -> None:
        fetch, self._fetch = self._fetch, None
        if fetch is None:
            return
        if self.loop is None:
            fetch.take(metadata, code, details)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the call with it
                self.loop.call_soon_threadsafe(fetch.take, metadata, code, details)


def _run(plugin: Callable[[], None], answer: _Answer) -> None:
    try:
        plugin()
    except Exception as error:
        answer(None, StatusCode.INTERNAL.value[0], repr(error))


def plugins_of(credentials: Sequence[CallCredentials]) -> tuple[Any, ...]:
    """Return the plugins of call credentials, composite ones taken apart.

    Raises:
        TypeError: one is of a kind that is not supported.
    """
    plugins: list[Any] = []
    for each in credentials:
        inner: Any = getattr(each, "_credentials", None)
        if hasattr(inner, "_call_credentialses"):
            plugins += plugins_of([CallCredentials(part) for part in inner._call_credentialses])
        elif hasattr(inner, "_metadata_plugin"):
            plugins.append(inner._metadata_plugin)
        else:
            kind = type(each if inner is None else inner).__name__
            raise TypeError(f"credentials: {kind} are not supported, only metadata plugins and access tokens")
    return tuple(plugins)


def _is_token(plugin: Any) -> bool:
    return type(getattr(plugin, "_metadata_plugin", None)).__name__ == "AccessTokenAuthMetadataPlugin"
