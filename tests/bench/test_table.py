"""What a run consists of, and what the command offers of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench.harness.peers import Peers
from bench.harness.processes import PeerFailedError
from bench.harness.progress import Progress
from bench.harness.promises import PROMISES, UNARY
from bench.harness.results import FAILED, Row
from bench.harness.run import QUICK, Run
from bench.paths import RESULTS
from bench.table import Section


def test_the_last_whole_run_took_less_than_ten_minutes() -> None:
    took = re.search(r"UTC, (\d+) s", RESULTS.read_text())
    assert took is not None
    assert int(took[1]) < 600


def test_what_cannot_be_measured_has_failed_and_the_run_goes_on() -> None:
    def rows(run: Run) -> Iterator[Row]:
        yield Row("first", "calls", UNARY, [])
        raise PeerFailedError("compiled calls ended")

    run = Run(QUICK, Peers(), Progress({}))
    first, second = Section(UNARY, rows, 1, 1).measure("unary", run)
    assert first.name == "first"
    assert (second.name, second.figures[0].absent) == ("unary", "compiled calls ended")
    assert [target.verdict for target in second.targets] == [FAILED]


def test_no_promise_is_stated_twice() -> None:
    assert len({promise.what for promise in PROMISES}) == len(PROMISES)


def test_a_promise_says_its_limits_as_numbers() -> None:
    for promise in PROMISES:
        assert "{" not in promise.ours
        assert set(promise.limits) == set(re.findall(r"{(\w+)", promise.said))
