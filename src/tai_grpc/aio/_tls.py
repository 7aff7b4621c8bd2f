"""TLS on both sides: versions, and keys and certificates as PEM text, most of which ssl reads from files."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tai_grpc.errors import ConfigError

_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def version_of(name: str) -> ssl.TLSVersion:
    """Return the version that `minimum_version` names.

    Raises:
        ConfigError: it is neither of the two.
    """
    if name not in _VERSIONS:
        raise ConfigError("minimum_version", name, f"one of {', '.join(_VERSIONS)}")
    return _VERSIONS[name]


def load_authorities(context: ssl.SSLContext, pem: bytes) -> None:
    """Trust the authorities of a PEM text.

    Raises:
        ConfigError: it is not the PEM of certificates.
    """
    try:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError("root_certificates", "what was given", f"certificates as PEM ({error})") from None


def load_pair(context: ssl.SSLContext, key: bytes, chain: bytes, name: str) -> None:
    """Use a private key and its certificate chain, both PEM.

    Raises:
        ConfigError: they are not, or not of each other; says `name`, and nothing of the key.
    """
    try:
        with _as_file(chain + b"\n" + key) as path:
            context.load_cert_chain(path, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            name, "what was given", f"an unencrypted private key and its certificate chain, as PEM ({error})"
        ) from None


def _no_password() -> bytes:
    """Answer OpenSSL, which would ask at the terminal."""
    raise ValueError("the key is encrypted")


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """Show data as a file: in memory where the system can, else as one that is gone afterwards."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("tai-grpc", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as temporary:
            temporary.write(data)
            temporary.flush()
            yield temporary.name
