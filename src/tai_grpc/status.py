"""gRPC status codes: what each says of the peer that sent it, and the error of a failed call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import grpc
from grpc import StatusCode

from tai_grpc.config import CODE_OUTCOMES, Outcome
from tai_grpc.errors import TaiGrpcError

__all__ = ["ENDPOINT_FAILURES", "CallError", "Metadata", "StatusCode"]

Metadata = tuple[tuple[str, str | bytes], ...]

RESERVED_KEYS: Final = frozenset(
    {
        *("te", "host", "content-type", "content-length"),
        *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"),
        *("grpc-status", "grpc-message", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"),
    }
)
"""No metadata has these keys: they would be sent twice, or are not allowed in HTTP/2, so that the peer would
reset the stream."""

ENDPOINT_FAILURES: Final = frozenset(
    code for code in StatusCode if CODE_OUTCOMES[code.name] is Outcome.FAILURE
)
"""Codes that speak against the endpoint: see `config.CODE_OUTCOMES`."""


class CallError(TaiGrpcError, grpc.RpcError):
    """A call failed, after every retry that was allowed.

    The last attempt's status as in any `grpc.RpcError`, and which `endpoint` gave it ("" when none was
    reached), after how many `attempts` (those that could not connect among them; 0: no endpoint was asked).
    """

    def __init__(
        self,
        code: StatusCode,
        details: str,
        *,
        method: str,
        endpoint: str,
        attempts: int,
        initial_metadata: Iterable[tuple[str, str | bytes]] = (),
        trailing_metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> None:
        self._code = code
        self._details = details
        self._initial_metadata = tuple(initial_metadata)
        self._trailing_metadata = tuple(trailing_metadata)
        self.method = method
        self.endpoint = endpoint
        self.attempts = attempts
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"{method} at {endpoint or 'no endpoint'}: {code.name}: {details} ({tries})")

    def __reduce__(self) -> tuple[Callable[..., CallError], tuple[StatusCode, str]]:
        rebuild = partial(
            type(self),
            method=self.method,
            endpoint=self.endpoint,
            attempts=self.attempts,
            initial_metadata=self._initial_metadata,
            trailing_metadata=self._trailing_metadata,
        )
        return rebuild, (self._code, self._details)

    def code(self) -> StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def initial_metadata(self) -> Metadata:
        return self._initial_metadata

    def trailing_metadata(self) -> Metadata:  # type: ignore[override]  # the stubs' own tuple type is private
        return self._trailing_metadata
