"""The one family of errors: what each is, says and carries, also on the other side of a process boundary."""

import copy
import pickle

import grpc
import pytest

from tai_grpc import errors
from tai_grpc.errors import (
    ArenaError,
    CircuitOpenError,
    ConcurrencyLimitedError,
    ConfigError,
    DeadlineError,
    RateLimitedError,
    StoreFullError,
    StoreUnavailableError,
    TaiGrpcError,
)
from tai_grpc.status import CallError, LateCallError, StatusCode

EXAMPLES: list[TaiGrpcError] = [
    TaiGrpcError("what went wrong"),
    ConfigError("rate", -1.0, "a number above 0"),
    ArenaError("orders.arena is not an arena"),
    CircuitOpenError("the breaker of a:1 is open", 2.5),
    RateLimitedError("more than 10 a second", 0.25),
    ConcurrencyLimitedError("the limit of concurrent calls (20) is reached"),
    DeadlineError("no time left"),
    StoreUnavailableError("the store is closed"),
    StoreFullError("limit reached: 3 tasks"),
    CallError(
        StatusCode.UNAVAILABLE,
        "connection refused",
        method="/pkg.Service/Method",
        endpoint="127.0.0.1:50051",
        attempts=3,
        initial_metadata=[("a", "1")],
        trailing_metadata=[("grpc-retry-pushback-ms", "10"), ("b-bin", b"\x00")],
    ),
    LateCallError(
        StatusCode.DEADLINE_EXCEEDED, "too late", method="pkg.Service/Method", endpoint="a:1", attempts=1
    ),
]


def test_the_examples_here_are_all_the_errors_there_are() -> None:
    defined = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    assert {type(example) for example in EXAMPLES} == defined | {CallError, LateCallError}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_is_caught_by_the_family_s_name(error: TaiGrpcError) -> None:
    with pytest.raises(TaiGrpcError):
        raise error


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_and_copying_with_all_that_it_carries(error: TaiGrpcError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (ConfigError, ValueError),
        (DeadlineError, TimeoutError),
        (CallError, grpc.RpcError),
        (LateCallError, CallError),
        (LateCallError, DeadlineError),
    ],
)
def test_errors_are_also_what_callers_catch_already(
    kind: type[TaiGrpcError], builtin: type[Exception]
) -> None:
    assert issubclass(kind, builtin)


def test_a_config_error_names_the_field_the_value_and_what_is_accepted() -> None:
    error = ConfigError("rate", -1.0, "a number above 0")
    assert str(error) == "rate=-1.0: expected a number above 0"
    assert (error.field, error.value, error.accepted) == ("rate", -1.0, "a number above 0")


@pytest.mark.parametrize("kind", [CircuitOpenError, RateLimitedError])
def test_a_refusal_says_when_to_come_back(kind: type[CircuitOpenError | RateLimitedError]) -> None:
    error = kind("refused", 2.5)
    assert (str(error), error.retry_after) == ("refused", 2.5)


def test_a_long_value_is_told_by_its_beginning() -> None:
    said = str(ConfigError("via", "a" * 1_000_000, "a command"))
    assert said.startswith("via='aaaa")
    assert said.endswith("...: expected a command")
    assert len(said) < 300
