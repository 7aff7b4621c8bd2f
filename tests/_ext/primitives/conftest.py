from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import pytest
from hypothesis import settings

from tai_grpc._ext.primitives.clock import FrozenClock

# How long an example takes is no property of the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

T = TypeVar("T")
THREADS = 8


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock() as frozen:
        yield frozen


@pytest.fixture
def hammer() -> Iterator[Callable[[Callable[[], T]], list[T]]]:
    """Run a function in 8 threads that all start together; return what each returned."""
    with ThreadPoolExecutor(THREADS) as pool:

        def run(work: Callable[[], T]) -> list[T]:
            start = Barrier(THREADS)

            def wait_and_work() -> T:
                start.wait()
                return work()

            return [future.result() for future in [pool.submit(wait_and_work) for _ in range(THREADS)]]

        yield run
