"""Deadlines: how a handler's deadline holds for what it calls."""

import asyncio

import pytest

from tai_grpc.resilience.timeout import current_deadline, deadline_scope


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
