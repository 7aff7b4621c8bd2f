"""The sentence for a failed call."""

from __future__ import annotations

import re
from typing import Final

import grpc

from tai_grpc.cli.failure import Failure, Unreachable
from tai_grpc.cli.unreachable import advice
from tai_grpc.load.reflection import details_of, status_of

_NOT_CONNECTED: Final = re.compile(
    r"failed to connect to all addresses|errors resolving|DNS resolution failed"
)
_MEANINGS: Final = (
    (re.compile(r"errors resolving|DNS resolution failed"), "its name is not known"),
    (re.compile("WRONG_VERSION_NUMBER"), "wrong version number"),
    (
        re.compile(r"(?:certificate is refused|CERTIFICATE_VERIFY_FAILED): (.+?)\.?(?:: OK)?$"),
        r"its certificate is refused: \1",
    ),
    (
        re.compile("Hostname Verification Check failed"),
        "its certificate is refused: it is for another name",
    ),
    (re.compile("the server closed it$|Socket closed$"), "it closed the connection at once"),
    # The last clause is the operating system's own.
    (re.compile(r"([^:]+?)(?: \(\d+\))?(?:: OK)?$"), r"\1"),
)
"""What the account of a failed connection says, on both transports, and what that means: the first counts."""


def rpc_failure(error: grpc.RpcError, address: str, method: str, *, tls: bool) -> Failure:
    """Return the sentence for a failed call; `tls`: it was asked for."""
    details = details_of(error)
    code = status_of(error)
    if code is grpc.StatusCode.UNAVAILABLE and _NOT_CONNECTED.search(details):
        why = _why(details.strip())
        return Unreachable(f"cannot connect to {address}: {why}; {advice(details, tls=tls)}")
    return Failure(f"{method} at {address}: {code.name}: {details}")


def _why(details: str) -> str:
    for said, meaning in _MEANINGS:
        if found := said.search(details):
            why = found.expand(meaning).strip()
            return why[:1].lower() + why[1:]
    return details
