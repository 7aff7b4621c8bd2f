"""TLS on the server's side: credentials, and what a client's certificate says of it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tai_grpc.aio._tls import load_authorities, load_pair, version_of
from tai_grpc.errors import ConfigError

# Of TLS 1.2, what HTTP/2 allows (RFC 9113, appendix A).
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

Pairs = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class ServerCertificateConfiguration:
    """Key and certificate chain pairs, and the authorities that clients' certificates must be of, as PEM."""

    private_key_certificate_chain_pairs: Pairs = field(repr=False)
    root_certificates: bytes | None = None


@dataclass(frozen=True, slots=True)
class ServerCredentials:
    """What makes a server's port a TLS port: see `ssl_server_credentials`."""

    context: ssl.SSLContext


def ssl_server_credentials(
    private_key_certificate_chain_pairs: Pairs,
    root_certificates: bytes | None = None,
    require_client_auth: bool = False,
    *,
    minimum_version: str = "TLSv1.3",
) -> ServerCredentials:
    """Return credentials for `add_secure_port`, of (private key, certificate chain) pairs, all PEM.

    Clients must then show a certificate of one of `root_certificates` if `require_client_auth`.

    Raises:
        ConfigError: there is no pair, or something is not the PEM that it should be, or the authorities are
            missing.
    """
    certificates = ServerCertificateConfiguration(private_key_certificate_chain_pairs, root_certificates)
    return ServerCredentials(_context(certificates, require_client_auth, minimum_version, ssl.SSLContext))


def ssl_server_certificate_configuration(
    private_key_certificate_chain_pairs: Pairs, root_certificates: bytes | None = None
) -> ServerCertificateConfiguration:
    """Return what `dynamic_ssl_server_credentials` and its fetcher deal with."""
    return ServerCertificateConfiguration(private_key_certificate_chain_pairs, root_certificates)


def dynamic_ssl_server_credentials(
    initial_certificate_configuration: ServerCertificateConfiguration,
    certificate_configuration_fetcher: Callable[[], ServerCertificateConfiguration | None],
    require_client_authentication: bool = False,
    *,
    minimum_version: str = "TLSv1.3",
) -> ServerCredentials:
    """Return credentials whose certificates may change: the fetcher is asked at the begin of each handshake.

    It returns None to keep what there is. One that raises, or returns what cannot be used, also keeps it;
    what it did wrong goes to the event loop's exception handler. It runs in the loop's thread: it must not
    block.

    Raises:
        ConfigError: see `ssl_server_credentials`.
    """

    def make(certificates: ServerCertificateConfiguration) -> ssl.SSLContext:
        return _context(certificates, require_client_authentication, minimum_version, ssl.SSLContext)

    first = make(initial_certificate_configuration)
    dynamic = _context(
        initial_certificate_configuration, require_client_authentication, minimum_version, _DynamicContext
    )
    assert isinstance(dynamic, _DynamicContext)  # noqa: S101
    dynamic.begin(first, certificate_configuration_fetcher, make)
    return ServerCredentials(dynamic)


class _DynamicContext(ssl.SSLContext):
    """A context that makes each connection with the newest certificates."""

    def begin(
        self,
        context: ssl.SSLContext,
        fetch: Callable[[], ServerCertificateConfiguration | None],
        make: Callable[[ServerCertificateConfiguration], ssl.SSLContext],
    ) -> None:
        self._current = context
        self._fetch = fetch
        self._make = make
        self.failed: Callable[[Exception], None] | None = None

    def wrap_bio(self, *arguments: Any, **settings: Any) -> ssl.SSLObject:
        try:
            certificates = self._fetch()
            if certificates is not None:
                self._current = self._make(certificates)
        except Exception as error:
            if self.failed is not None:
                self.failed(error)
        return self._current.wrap_bio(*arguments, **settings)


def _context(
    certificates: ServerCertificateConfiguration,
    require_client_auth: bool,
    minimum_version: str,
    kind: type[ssl.SSLContext],
) -> ssl.SSLContext:
    version = version_of(minimum_version)
    pairs = list(certificates.private_key_certificate_chain_pairs)
    if not pairs:
        raise ConfigError(
            "private_key_certificate_chain_pairs", pairs, "at least one (private key, certificate chain)"
        )
    context = kind(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = version
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["h2"])
    for number, (key, chain) in enumerate(pairs):
        load_pair(context, key, chain, f"private_key_certificate_chain_pairs[{number}]")
    if certificates.root_certificates is not None:
        load_authorities(context, certificates.root_certificates)
    if require_client_auth:
        if certificates.root_certificates is None:
            raise ConfigError(
                "root_certificates", None, "the root certificates of clients, as PEM, for require_client_auth"
            )
        context.verify_mode = ssl.CERT_REQUIRED
    return context


# --- What a certificate says ----------------------------------------------------------------------------

_SAN_NAMES: Final = {"DNS": "peer_dns", "URI": "peer_uri", "email": "peer_email", "IP Address": "peer_ip"}
# As RFC 4514 has them.
_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}


def describe_peer(connection: ssl.SSLObject | None) -> dict[str, list[bytes]]:
    """Return the authentication context of a connection, under grpc's names."""
    if connection is None:
        return {"transport_security_type": [b"insecure"], "security_level": [b"TSI_SECURITY_NONE"]}
    found: dict[str, list[bytes]] = {"transport_security_type": [b"ssl"]}
    encoded = connection.getpeercert(binary_form=True)
    if encoded:
        _describe_certificate(found, connection.getpeercert() or {}, encoded)
    found["security_level"] = [b"TSI_PRIVACY_AND_INTEGRITY"]
    found["ssl_session_reused"] = [b"true" if connection.session_reused else b"false"]
    found["ssl_tls_version"] = [(connection.version() or "").encode()]
    return found


def _describe_certificate(found: dict[str, list[bytes]], certificate: dict[str, Any], encoded: bytes) -> None:
    names = [pair for relative in certificate.get("subject", ()) for pair in relative]
    if names:
        text = ",".join(f"{_SHORT.get(name, name)}={value}" for name, value in reversed(names))
        found["x509_subject"] = [text.encode()]
    common = [value.encode() for name, value in names if name == "commonName"]
    if common:
        found["x509_common_name"] = common
    found["x509_pem_cert"] = [ssl.DER_cert_to_PEM_cert(encoded).encode()]
    alternatives = certificate.get("subjectAltName", ())
    if alternatives:
        found["x509_subject_alternative_name"] = [value.encode() for _, value in alternatives]
    for kind, value in alternatives:
        if kind in _SAN_NAMES:
            found.setdefault(_SAN_NAMES[kind], []).append(value.encode())
