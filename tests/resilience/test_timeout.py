"""Deadlines: how long a call may take, and how a handler's deadline holds for what it calls."""

import asyncio
import math
import time
from typing import Any

import pytest

from tai_grpc.config import TimeoutConfig
from tai_grpc.errors import ConfigError, DeadlineError
from tai_grpc.resilience.timeout import current_deadline, deadline_scope, effective_timeout, within_current

CONFIG = TimeoutConfig(default_timeout=30.0, max_timeout=60.0)
HOUR = 3600.0


@pytest.mark.parametrize(("asked", "got"), [(None, 30.0), (5.0, 5.0), (60, 60.0), (61.0, 60.0), (0.0, 0.0)])
def test_outside_of_a_handler_a_call_has_what_it_asks_for_within_the_maximum(
    asked: float | None, got: float
) -> None:
    assert effective_timeout(asked, CONFIG) == got


@pytest.mark.parametrize("asked", [-1.0, math.nan, math.inf, 604_801.0, True, "5", [1]])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(asked: Any) -> None:
    with pytest.raises(ConfigError, match=r"^timeout=.* from 0 to 604800$"):
        effective_timeout(asked, CONFIG)


def test_a_call_made_in_a_handler_has_no_more_time_than_the_handler_has_left() -> None:
    with deadline_scope(time.monotonic() + 10.0):
        assert 0.0 < effective_timeout(None, CONFIG) <= 10.0
        assert 0.0 < effective_timeout(HOUR, CONFIG) <= 10.0
        assert 0.0 < within_current(HOUR) <= 10.0


def test_a_call_made_in_a_handler_may_ask_for_less() -> None:
    with deadline_scope(time.monotonic() + HOUR):
        assert effective_timeout(5.0, CONFIG) == 5.0
        assert effective_timeout(None, CONFIG) == 30.0
        assert within_current(5.0) == 5.0


def test_a_handler_without_time_left_makes_no_call() -> None:
    with deadline_scope(time.monotonic()):
        with pytest.raises(DeadlineError, match="the deadline of the handler that makes this call"):
            effective_timeout(None, CONFIG)
        with pytest.raises(DeadlineError, match="the deadline of the handler that makes this call"):
            within_current(5.0)


def test_the_earliest_of_nested_deadlines_holds() -> None:
    with deadline_scope(20.0):
        with deadline_scope(10.0):
            assert current_deadline() == 10.0
            with deadline_scope(15.0):
                assert current_deadline() == 10.0
        assert current_deadline() == 20.0


def test_a_scope_without_a_deadline_keeps_the_one_that_holds() -> None:
    with deadline_scope(None):
        assert current_deadline() is None
        assert within_current(HOUR) == HOUR
    with deadline_scope(10.0), deadline_scope(None):
        assert current_deadline() == 10.0


def test_a_scope_ends_with_its_block_even_by_an_exception() -> None:
    with pytest.raises(LookupError), deadline_scope(10.0):
        raise LookupError
    assert current_deadline() is None


async def test_tasks_and_threads_started_in_a_handler_have_its_deadline_and_keep_their_own() -> None:
    async def nested(deadline: float) -> float | None:
        with deadline_scope(deadline):
            await asyncio.sleep(0)
            return current_deadline()

    with deadline_scope(10.0):
        started = [asyncio.create_task(nested(deadline)) for deadline in (5.0, 15.0)]
        in_thread = await asyncio.to_thread(current_deadline)
    assert current_deadline() is None
    assert await asyncio.gather(*started) == [5.0, 10.0]
    assert in_thread == 10.0
