import random
import subprocess
import sys
from itertools import islice

import pytest

from tai_grpc.config import HedgingPolicy, Jitter, RetryConfig
from tai_grpc.errors import ConfigError
from tai_grpc.resilience.backoff import Backoff, backoff


def high(_least: float, most: float) -> float:
    return most


@pytest.mark.parametrize("jitter", Jitter)
def test_its_waits_are_those_of_the_retries(jitter: Jitter) -> None:
    """Of all five jitters, one after the other: DECORRELATED needs the wait before."""
    config = RetryConfig(initial_backoff=0.1, max_backoff=1.0, jitter=jitter)
    uniform, same = random.Random(1).uniform, random.Random(1).uniform
    previous = 0.0
    for retry, wait in enumerate(islice(Backoff(config, uniform=uniform), 20), 1):
        previous = backoff(config, retry, previous, same)
        assert wait == previous


def test_after_a_reset_it_begins_anew() -> None:
    waits = Backoff(RetryConfig(initial_backoff=0.1, jitter=Jitter.DECORRELATED), uniform=high)
    first = list(islice(waits, 3))
    assert first == pytest.approx([0.1, 0.3, 0.9])
    assert waits.retries == 3
    waits.reset()
    assert waits.retries == 0
    assert list(islice(waits, 3)) == first


def test_it_is_of_use_without_grpc() -> None:
    code = (
        "import sys; import tai_grpc as tg; next(tg.Backoff()); tg.HedgingPolicy(0.1);"
        "assert 'grpc' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_hedging_policy_is_that_of_grfc_a6() -> None:
    policy = HedgingPolicy(0.05, 3, {"ABORTED"})
    assert (policy.hedging_delay, policy.max_attempts, policy.non_fatal_codes) == (0.05, 3, {"ABORTED"})
    assert HedgingPolicy(0.0) == HedgingPolicy(0.0, 2, {"UNAVAILABLE"})


@pytest.mark.parametrize("delay", [-0.1, float("nan"), float("inf"), 604_801.0, "1", True, None])
def test_the_hedging_delay_is_checked(delay: float) -> None:
    with pytest.raises(ConfigError, match=r"hedging_delay=.*: expected a number from 0 to 604800"):
        HedgingPolicy(delay)


@pytest.mark.parametrize("attempts", [1, 6, 2.0, True, None])
def test_the_number_of_attempts_is_checked(attempts: int) -> None:
    with pytest.raises(ConfigError, match=r"max_attempts=.*: expected an int from 2 to 5"):
        HedgingPolicy(0.1, attempts)


@pytest.mark.parametrize("codes", ["UNAVAILABLE", {"NOT_FOUND"}, {"OK"}, {14}, None])
def test_the_codes_that_are_not_fatal_are_checked(codes: set[str]) -> None:
    with pytest.raises(
        ConfigError, match=r"non_fatal_codes=.*: expected a set of codes that may be transient"
    ):
        HedgingPolicy(0.1, 2, codes)
