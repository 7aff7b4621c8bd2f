"""Rows of compiled calls: each is beside a no-op that is named."""

from __future__ import annotations

import pytest

from bench.harness.run import Run
from bench.micro.statements import BREAKERS, PICKS_OF_FEW, STATEMENTS
from bench.rows import compiled


def test_a_row_and_its_target_name_the_no_op(run: Run) -> None:
    [row] = compiled.breaker(run)
    assert [figure.who for figure in row.figures] == list(BREAKERS)
    for figure in row.figures:
        noop = STATEMENTS[figure.who].noop
        assert list(figure.also) == [f"x {noop}", f"{noop} ns"]
        assert figure.also[f"x {noop}"] > 0
    [target] = row.targets
    assert target.what == "check <= 2 x noop.nothing()"
    assert target.value == row.figures[0].also["x noop.nothing()"]
    assert "noop.nothing()" in row.method


def test_each_round_is_of_another_process_and_the_first_warms_up_too() -> None:
    with compiled.processes() as ask:
        measure, other = ask("check"), ask("counter")
        seen = []
        for _ in range(3):
            for each in (measure, other):
                each(0.0)
                assert ask._process is not None
                seen.append(ask._process)
    first, second = seen[0], seen[4]
    assert seen == [first] * 4 + [second] * 2
    assert first is not second
    assert not any(process.runs for process in seen)


def test_a_pick_of_few_is_beside_no_ops_in_one_row_alone(run: Run) -> None:
    """Two ratios of one statement would be two verdicts."""
    [row] = compiled.pick_of_many(run)
    assert {figure.who for figure in row.figures} & set(PICKS_OF_FEW)
    assert all(figure.also == {} for figure in row.figures)


@pytest.mark.parametrize("name", compiled.JUDGED)
def test_what_is_judged_is_measured(name: str) -> None:
    assert name in STATEMENTS
