"""TLS and a token, as the commands that make calls take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from tai_grpc.cli import params
from tai_grpc.errors import ConfigError
from tai_grpc.load.plan import VISIBLE, TlsPlan

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """What the command line said of them, by the options' names."""

    tls: bool
    cacert: str | None
    cert: str | None
    key: str | None
    cname: str | None
    skip_tls: bool
    insecure: bool
    authority: str | None
    bearer: str | None

    def tls_plan(self) -> TlsPlan | None:
        """Return how TLS is used, with the files read; None where it was not asked for.

        Raises:
            click.UsageError: options do not go together, or a file cannot be read.
            ConfigError: a file is not PEM of what it should be.
        """
        asked = {
            "--tls": self.tls,
            "--cacert": self.cacert,
            "--cert": self.cert,
            "--key": self.key,
            "--cname": self.cname,
            "--skipTLS": self.skip_tls,
        }
        if not any(asked.values()):
            return None
        if self.insecure:
            other = next(name for name, value in asked.items() if value)
            raise click.UsageError(f"--insecure and {other} do not go together: give one of them")
        if bool(self.cert) is not bool(self.key):
            raise click.UsageError("--cert and --key go together: give both or neither")
        plan = TlsPlan(
            ca=_pem(self.cacert, "cacert"),
            certificate=_pem(self.cert, "cert"),
            key=_pem(self.key, "key"),
            verify=not self.skip_tls,
            server_name=self.cname,
        )
        self._check(plan)
        return plan

    def _check(self, plan: TlsPlan) -> None:
        """See that the texts can be used, in words that name their files."""
        from tai_grpc.load.channels import tls_context  # noqa: PLC0415 - grpc is not loaded to print the help
        from tai_grpc.transport import NATIVE_IS_BUILT  # noqa: PLC0415

        if not NATIVE_IS_BUILT:  # grpcio says nothing of them
            return
        try:
            tls_context(plan)
        except ConfigError as error:
            files = self.cacert if error.field == "cacert" else f"{self.cert}, {self.key}"
            raise ConfigError(error.field, files, error.accepted) from None

    def metadata_of_token(self) -> tuple[str, ...]:
        """Return the metadata that carries the token, if there is one, as `-m` takes it.

        Raises:
            click.BadParameter: it is no token, or its file cannot be read.
        """
        if not self.bearer:
            return ()
        token = self.bearer
        if token.startswith("@"):
            token = params.read_file(token[1:] or "-", "bearer").strip()
        if not VISIBLE.fullmatch(token):
            raise click.BadParameter(
                "expected a token of printable ASCII without spaces", param_hint="bearer"
            )
        return (f"authorization:Bearer {token}",)


def _authority(text: str) -> str | None:
    if text and not VISIBLE.fullmatch(text):
        raise click.BadParameter(f"{text!r}: expected printable ASCII without spaces")
    return text or None


def _pem(path: str | None, what: str) -> bytes | None:
    return params.read_bytes(path, what) if path else None


SECURITY: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (("--tls",), {"is_flag": True, "help": "Use TLS, trusting the system's authorities."}),
    (("--cacert",), {"metavar": "FILE", "help": "Use TLS, trusting these authorities (PEM)."}),
    (("--cert",), {"metavar": "FILE", "help": "Use TLS with this client certificate (PEM)."}),
    (("--key",), {"metavar": "FILE", "help": "Its private key (PEM, not encrypted)."}),
    (("--cname",), {"metavar": "NAME", "help": "Use TLS, and check the certificate for this name."}),
    (
        ("--skipTLS", "skip_tls"),
        {"is_flag": True, "help": "Use TLS without checking the server's certificate."},
    ),
    (("--insecure",), {"is_flag": True, "help": "Use no TLS: the default here, other than in ghz."}),
    (
        ("--authority",),
        {"type": _authority, "metavar": "NAME", "help": "The :authority of the calls. Default: the host."},
    ),
    (
        ("--bearer",),
        {
            "metavar": "TOKEN|@FILE",
            "help": "Send `authorization: Bearer TOKEN` with every call; @FILE reads the token from a file.",
        },
    ),
)
"""The options: their names, and the rest of what `click.option` takes."""


def with_security(function: _F) -> _F:
    """Decorate a command with all of them."""
    for names, attributes in reversed(SECURITY):
        function = click.option(*names, **attributes)(function)
    return function
