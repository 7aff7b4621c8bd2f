from collections.abc import Callable

import pytest

from tai_grpc._ext.primitives.counter import Counter
from tai_grpc.errors import ConfigError


def test_it_counts() -> None:
    counter = Counter()
    assert counter.value == 0
    counter.add()
    counter.add(41)
    assert counter.value == 42
    assert repr(counter) == "<Counter 42>"


def test_eight_threads_lose_no_count(hammer: Callable[[Callable[[], None]], list[None]]) -> None:
    counter = Counter()

    def work() -> None:
        for _ in range(999_000):
            counter.add()
        counter.add(1_000)

    hammer(work)
    assert counter.value == 8 * 1_000_000


def test_a_full_counter_says_so_and_keeps_its_count() -> None:
    counter = Counter()
    for _ in range(63):
        counter.add(2**56)
    counter.add(2**56 - 1)
    with pytest.raises(OverflowError, match="full"):
        counter.add()
    assert counter.value == 2**62 - 1


def test_nothing_to_count_is_no_error() -> None:
    """As of `add(len(batch))` for a batch that is empty."""
    counter = Counter()
    counter.add(0)
    assert counter.value == 0


@pytest.mark.parametrize("n", [-1, 2**56 + 1, 2**64, 1.0, True, None, "1"])
def test_a_wrong_count_is_refused_and_not_counted(n: int) -> None:
    counter = Counter()
    with pytest.raises(ConfigError, match=r"n=.*an int from 0 to 72057594037927936"):
        counter.add(n)
    assert counter.value == 0


def test_counters_together_count_apart(hammer: Callable[[Callable[[], None]], list[None]]) -> None:
    counters = Counter.together(8)
    with pytest.raises(ConfigError, match=r"count=9: expected an int from 1 to 8"):
        Counter.together(9)

    def work() -> None:
        for _ in range(10_000):
            for number, counter in enumerate(counters, 1):
                counter.add(number)

    hammer(work)
    assert [counter.value for counter in counters] == [80_000 * number for number in range(1, 9)]


def test_a_counter_of_several_outlives_the_others() -> None:
    last = Counter.together(2).pop()
    last.add(3)
    assert last.value == 3
