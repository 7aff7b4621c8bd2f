"""The sentence for a failed call."""

from __future__ import annotations

import re
from typing import Final

import grpc

from tai_grpc.cli.failure import Failure
from tai_grpc.cli.unreachable import advice
from tai_grpc.load.reflection import details_of, status_of

_NOT_RESOLVED: Final = re.compile(r"errors resolving|DNS resolution failed")
_NOT_CONNECTED: Final = re.compile(r"failed to connect to all addresses|" + _NOT_RESOLVED.pattern)


def rpc_failure(error: grpc.RpcError, address: str, method: str, *, tls: bool) -> Failure:
    """Return the sentence for a failed call; `tls`: it was asked for."""
    details = details_of(error)
    code = status_of(error)
    if code is grpc.StatusCode.UNAVAILABLE and _NOT_CONNECTED.search(details):
        why = _why(details)
        return Failure(f"cannot connect to {address}: {why}; {advice(why, tls=tls)}")
    return Failure(f"{method} at {address}: {code.name}: {details}")


def _why(details: str) -> str:
    """The last clause of the account, which is the operating system's own."""
    if _NOT_RESOLVED.search(details):
        return "its name is not known"
    why = re.sub(r" \(\d+\)$", "", details.strip()).rpartition(": ")[2]
    return why.lower().replace("_", " ").rstrip(".")
