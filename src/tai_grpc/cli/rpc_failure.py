"""The sentence for a failed call."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import grpc

from tai_grpc.cli.failure import Failure, Unreachable
from tai_grpc.load.reflection import details_of, status_of

_NOT_CONNECTED: Final = re.compile(
    r"failed to connect to all addresses|errors resolving|DNS resolution failed"
)


class _Cause(NamedTuple):
    """What the account of a failed connection says, what that means, and what can be done."""

    said: re.Pattern[str]
    meaning: str
    hint: str


_CERTIFICATE: Final = "--cacert names who signed it, --cname the name in it"
_CAUSES: Final = (
    _Cause(
        re.compile(r"errors resolving|DNS resolution failed"), "its name is not known", "is it spelled so?"
    ),
    _Cause(re.compile("WRONG_VERSION_NUMBER"), "it does not speak TLS", "leave the options of TLS out"),
    _Cause(
        re.compile(r"(?:certificate is refused|CERTIFICATE_VERIFY_FAILED): (.+?)\.?(?:: OK)?$"),
        r"its certificate is refused: \1",
        _CERTIFICATE,
    ),
    _Cause(
        re.compile("Hostname Verification Check failed"),
        "its certificate is refused: it is for another name",
        _CERTIFICATE,
    ),
    _Cause(
        re.compile("the server closed it$|Socket closed$"),
        "it closed the connection at once",
        "does it want TLS, or a certificate?",
    ),
    # The last clause is the operating system's own.
    _Cause(
        re.compile(r"([^:]+?)(?: \(\d+\))?(?:: OK)?$"),
        r"\1",
        "is the server running, and is this its address?",
    ),
)
"""The first one that is said counts."""


def rpc_failure(error: grpc.RpcError, address: str, method: str) -> Failure:
    """Return the sentence for a failed call."""
    details = details_of(error)
    code = status_of(error)
    if code is grpc.StatusCode.UNAVAILABLE and _NOT_CONNECTED.search(details):
        return _unreachable(address, details.strip())
    return Failure(f"{method} at {address}: {code.name}: {details}")


def _unreachable(address: str, details: str) -> Unreachable:
    for said, meaning, hint in _CAUSES:
        if found := said.search(details):
            why = found.expand(meaning).strip()
            return Unreachable(f"cannot reach {address}: {why[:1].lower()}{why[1:]}; {hint}")
    return Unreachable(f"cannot reach {address}: {details}")
