"""What status codes say of an endpoint, and the error of a failed call."""

import grpc
import pytest

from tai_grpc.config import CODE_OUTCOMES, CallOutcome
from tai_grpc.status import CallError, StatusCode

SPEAKS_AGAINST_THE_ENDPOINT = {
    StatusCode.OK: False,
    StatusCode.CANCELLED: False,
    StatusCode.UNKNOWN: True,
    StatusCode.INVALID_ARGUMENT: False,
    StatusCode.DEADLINE_EXCEEDED: True,
    StatusCode.NOT_FOUND: False,
    StatusCode.ALREADY_EXISTS: False,
    StatusCode.PERMISSION_DENIED: False,
    StatusCode.RESOURCE_EXHAUSTED: True,
    StatusCode.FAILED_PRECONDITION: False,
    StatusCode.ABORTED: False,
    StatusCode.OUT_OF_RANGE: False,
    StatusCode.UNIMPLEMENTED: False,
    StatusCode.INTERNAL: True,
    StatusCode.UNAVAILABLE: True,
    StatusCode.DATA_LOSS: True,
    StatusCode.UNAUTHENTICATED: False,
}


def failed(attempts: int = 1, endpoint: str = "127.0.0.1:50051") -> CallError:
    return CallError(
        StatusCode.UNAVAILABLE,
        "connection refused",
        method="tai.v1.Governor/GetPolicies",
        endpoint=endpoint,
        attempts=attempts,
        initial_metadata=[("tai-revision", "7")],
        trailing_metadata=[("key", "value"), ("key-bin", b"\xff")],
    )


def test_the_table_above_has_every_code() -> None:
    assert set(SPEAKS_AGAINST_THE_ENDPOINT) == set(StatusCode)


@pytest.mark.parametrize("code", StatusCode)
def test_which_codes_speak_against_the_endpoint(code: StatusCode) -> None:
    assert (CODE_OUTCOMES[code.name] is CallOutcome.FAILURE) == SPEAKS_AGAINST_THE_ENDPOINT[code]


def test_a_call_error_is_an_rpc_error_with_its_code_details_and_metadata() -> None:
    error: grpc.RpcError = failed()
    assert isinstance(error, CallError)
    assert error.code() is StatusCode.UNAVAILABLE
    assert error.details() == "connection refused"
    assert error.initial_metadata() == (("tai-revision", "7"),)
    assert error.trailing_metadata() == (("key", "value"), ("key-bin", b"\xff"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (failed(), "at 127.0.0.1:50051: UNAVAILABLE: connection refused (1 attempt)"),
        (failed(attempts=4), "at 127.0.0.1:50051: UNAVAILABLE: connection refused (4 attempts)"),
        (failed(attempts=0, endpoint=""), "at no endpoint: UNAVAILABLE: connection refused (0 attempts)"),
    ],
)
def test_a_call_error_names_method_endpoint_and_attempts(error: CallError, said: str) -> None:
    assert str(error) == f"tai.v1.Governor/GetPolicies {said}"
