"""What a round of compiled calls comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat

import pytest

from bench.loops import Loop, least_of
from bench.micro.statements import STATEMENTS
from bench.peers import ours
from bench.peers.subjects import SUBJECTS
from bench.workers import compiled, package


def takes(*nanoseconds: int) -> Loop:
    """Return a loop that takes these times, and then the last of them again and again."""
    times: Iterator[int] = chain(nanoseconds, repeat(nanoseconds[-1]))
    return lambda: next(times)


def test_the_least_of_many_loops_counts() -> None:
    """What is more was somebody else's."""
    assert least_of({"call": takes(900, 500, 700), "noop": takes(300, 400)}, 0.0, rounds=3) == {
        "call": 500,
        "noop": 300,
    }


def test_all_loops_take_turns() -> None:
    turns: list[str] = []

    def loop(name: str) -> Callable[[], int]:
        def run() -> int:
            turns.append(name)
            return 1

        return run

    least_of({"empty": loop("empty"), "call": loop("call")}, 0.0, rounds=2)
    assert turns == ["empty", "call", "empty", "call"]


def test_the_empty_loop_is_subtracted_from_the_call_and_from_the_no_op() -> None:
    found = compiled.measure(
        {"empty": takes(1_000), "noop": takes(9_000), "call": takes(33_000, 25_000)}, seconds=0.0
    )
    assert found == {"ns": 24.0, "noop_ns": 8.0, "noops": 3.0}


def test_a_slow_call_is_beside_no_ops_in_loops_long_enough_to_be_told_from_nothing() -> None:
    loops = {
        "empty": takes(100),
        "ours": takes(1_100),
        "theirs": takes(4_100),
        "many empty": takes(1_000),
        "many no-ops": takes(11_000),
    }
    found = package.measure(2, loops, seconds=0.0)
    assert found == {"ns": 2000.0, "noop_ns": 10.0, "noops": 200.0, "better": 4.0}


@pytest.mark.parametrize(
    ("subject", "statement"),
    [
        ("take", "token bucket"),
        ("take_keyed", "token bucket by key"),
        ("record", "histogram record"),
        ("count", "retry budget, success"),
        ("backoff", "backoff, next"),
    ],
)
def test_one_call_is_beside_one_kind_of_no_op_in_all_rows(subject: str, statement: str) -> None:
    noop = STATEMENTS[statement].noop
    assert SUBJECTS[subject].noop.partition("(")[0] == noop.partition("(")[0]


def test_all_that_is_compared_is_measured_of_ours() -> None:
    assert set(ours.peer().calls) == set(SUBJECTS)
