"""Rounds, in which all contenders take turns."""

from __future__ import annotations

from io import StringIO

import pytest

from bench.harness.peers import Peers
from bench.harness.processes import PeerFailedError
from bench.harness.progress import Progress
from bench.harness.run import Plan, Run
from bench.peers.rpc.protocol import Figures, NotBuiltError

PLAN = Plan(rounds=3, seconds=1.0, idle_connections=1, held_calls=1, repeats=1)


@pytest.fixture
def run() -> Run:
    return Run(PLAN, Peers(), Progress({}, StringIO()))


def test_all_take_turns_and_the_warm_up_does_not_count(run: Run) -> None:
    turns: list[tuple[str, float]] = []

    def contender(who: str) -> Figures:
        turns.append((who, len(turns)))
        return {"us": float(len(turns)), "p99": 2.0, "better": 4.0}

    figures = run.rounds(
        "calls",
        {"a": lambda seconds: contender("a"), "b": lambda seconds: contender("b")},
        "us",
        "us",
        {"p99 us": "p99", "p50 us": "absent"},
        better="better",
    )
    assert [who for who, _ in turns] == ["a", "b"] * 4
    assert [figure.values for figure in figures] == [[3.0, 5.0, 7.0], [4.0, 6.0, 8.0]]
    assert [figure.also for figure in figures] == [{"p99 us": 2.0}] * 2
    assert [figure.better for figure in figures] == [[4.0] * 3, [4.0] * 3]


def test_a_percentile_of_too_few_calls_is_not_told(run: Run) -> None:
    """Of all rounds together: 1,500 calls have 150 beyond the 90th and 15 beyond the 99th."""

    def contender(seconds: float) -> Figures:
        return {"us": 1.0, "calls": 500.0, "p90_us": 2.0, "p99_us": 3.0, "cpu_us": 4.0}

    also = {"p90 us": "p90_us", "p99 us": "p99_us", "CPU us": "cpu_us"}
    [figure] = run.rounds("calls", {"a": contender}, "us", "us", also)
    assert figure.also == {"p90 us": 2.0, "CPU us": 4.0}


def test_rounds_are_divided_for_a_small_difference(run: Run) -> None:
    asked: list[float] = []

    def contender(seconds: float) -> Figures:
        asked.append(seconds)
        return {"us": 1.0}

    [figure] = run.rounds("calls", {"a": contender}, "us", "us", {}, parts=4)
    assert asked == [0.2, *[0.25] * 12]
    assert len(figure.values) == 12


def test_the_warm_up_is_shorter_than_a_round(run: Run) -> None:
    asked: list[float] = []

    def contender(seconds: float) -> Figures:
        asked.append(seconds)
        return {"us": 1.0}

    run.rounds("calls", {"a": contender}, "us", "us", {})
    assert asked == [0.2, 1.0, 1.0, 1.0]


def test_who_fails_is_out_with_the_reason_and_the_others_go_on(run: Run) -> None:
    rounds = 0

    def works(seconds: float) -> Figures:
        return {"us": 1.0}

    def missing(seconds: float) -> Figures:
        raise NotBuiltError("no go here")

    def dies(seconds: float) -> Figures:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise PeerFailedError("grpclib server ended")
        return {"us": 1.0}

    figures = run.rounds("calls", {"go": missing, "grpclib": dies, "ours": works}, "us", "us", {})
    assert [figure.absent for figure in figures] == [
        "not built: no go here",
        "failed: grpclib server ended",
        None,
    ]
    assert [len(figure.values) for figure in figures] == [0, 0, 3]
    assert [figure.not_built for figure in figures] == [True, False, False]


def test_an_interruption_leaves_the_rounds_that_all_have_made(run: Run) -> None:
    """A ratio is of values of the same round."""
    turns = 0

    def contender(seconds: float) -> Figures:
        nonlocal turns
        turns += 1
        if turns == 8:  # the second's third round
            raise KeyboardInterrupt
        return {"us": float(turns)}

    def missing(seconds: float) -> Figures:
        raise NotBuiltError("no go here")

    figures = run.rounds("calls", {"a": contender, "go": missing, "b": contender}, "us", "us", {})
    assert [list(figure.values) for figure in figures] == [[3.0, 5.0], [], [4.0, 6.0]]
    assert figures[1].absent == "not built: no go here"
    assert run.interrupted


@pytest.mark.parametrize("turn", [1, 2, 4])
def test_an_interruption_before_a_whole_round_leaves_nothing(run: Run, turn: int) -> None:
    turns = 0

    def contender(seconds: float) -> Figures:
        nonlocal turns
        turns += 1
        if turns == turn:
            raise KeyboardInterrupt
        return {"us": float(turns)}

    with pytest.raises(KeyboardInterrupt):
        run.rounds("calls", {"a": contender, "b": contender}, "us", "us", {})
