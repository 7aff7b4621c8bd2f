import time

import pytest

from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.errors import ConfigError


def test_a_frozen_clock_begins_now_and_moves_only_by_advance() -> None:
    before = time.monotonic_ns()
    with FrozenClock() as clock:
        start = clock.now_ns
        assert before <= start <= time.monotonic_ns()
        assert clock.now_ns == start
        clock.advance(1.5)
        assert clock.now_ns == start + 1_500_000_000
        clock.advance(1e-9)
        assert clock.now_ns == start + 1_500_000_001
    assert before <= clock.now_ns <= time.monotonic_ns()


def test_only_one_clock_is_frozen_at_a_time() -> None:
    with FrozenClock(), pytest.raises(RuntimeError, match="frozen already"):
        FrozenClock().__enter__()


def test_a_running_clock_cannot_be_advanced() -> None:
    with pytest.raises(RuntimeError, match="enter the FrozenClock first"):
        FrozenClock().advance(1.0)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e9, "1", True])
def test_time_moves_forward_by_a_finite_step(clock: FrozenClock, seconds: float) -> None:
    with pytest.raises(ConfigError, match="seconds="):
        clock.advance(seconds)
