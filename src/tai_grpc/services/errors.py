"""How a command is refused: one status code for each case, as in the table below.

| case | status |
|---|---|
| malformed, empty id, out of range | INVALID_ARGUMENT, naming the field |
| unknown id | NOT_FOUND |
| same id, different content | ALREADY_EXISTS |
| `expected_version` no longer so | ABORTED |
| wrong state, stale lease token | FAILED_PRECONDITION |
| a limit reached, a slow subscriber, too large | RESOURCE_EXHAUSTED |
| a revision that is compacted or in the future | OUT_OF_RANGE |
| the store is down | UNAVAILABLE |
"""

from __future__ import annotations

from tai_grpc.errors import TaiGrpcError
from tai_grpc.status import StatusCode


class ServiceError(TaiGrpcError):
    """A command is refused with `code`. Nothing was changed, and nothing of it is stored."""

    def __init__(self, code: StatusCode, details: str) -> None:
        self.code = code
        self.details = details
        super().__init__(f"{code.name}: {details}")


def invalid(field: str, problem: str) -> ServiceError:
    return ServiceError(StatusCode.INVALID_ARGUMENT, f"{field}: {problem}")


def too_large(field: str, problem: str) -> ServiceError:
    return ServiceError(StatusCode.RESOURCE_EXHAUSTED, f"{field}: {problem}")


def not_found(what: str) -> ServiceError:
    return ServiceError(StatusCode.NOT_FOUND, f"no {what}")


def already_exists(what: str) -> ServiceError:
    return ServiceError(StatusCode.ALREADY_EXISTS, f"{what} exists with a different content")


def wrong_state(problem: str) -> ServiceError:
    return ServiceError(StatusCode.FAILED_PRECONDITION, problem)
