"""gRPC status codes: what each says of the peer that sent it, and the error of a failed call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import grpc
from grpc import StatusCode

from tai_grpc.errors import DeadlineError, TaiGrpcError

__all__ = ["CallError", "LateCallError", "Metadata", "StatusCode"]

Metadata = tuple[tuple[str, str | bytes], ...]


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


class LateCallError(CallError, DeadlineError):
    """A call failed with DEADLINE_EXCEEDED, so it is a `DeadlineError` and a `TimeoutError` as well.

    Whether client or server was the first to notice is chance: they hold the same deadline.
    """
