"""The examples of ghz's documentation, and what cannot be a shape."""

from typing import Any

import pytest

from tai_grpc.errors import ConfigError
from tai_grpc.load.plan import Arrivals, Schedule, Segment
from tai_grpc.load.shapes import Change, Need, constant, line, steps

ENDLESS = Need(calls=None)


def _parts(schedule: Schedule) -> list[tuple[float | None, float, float]]:
    return [(each.duration, each.start, each.end) for each in schedule.segments]


def _steps(need: Need = ENDLESS, **change: Any) -> list[tuple[float | None, float]]:
    schedule = steps(Change(**{"step_duration": 5.0, **change}), need)
    assert all(each.start == each.end for each in schedule.segments)
    return [(each.duration, each.start) for each in schedule.segments]


def test_a_constant_rate_does_not_end() -> None:
    schedule = constant(250.5, Arrivals.POISSON)
    assert schedule.segments == (Segment(None, 250.5, 250.5),)
    assert schedule.arrivals is Arrivals.POISSON


def test_steps_go_up_to_their_end_and_stay_there() -> None:
    found = _steps(start=50.0, step=10.0, end=150.0)
    assert found == [(5.0, 50.0 + 10.0 * step) for step in range(10)] + [(None, 150.0)]


def test_steps_that_would_pass_their_end_stop_at_it() -> None:
    assert _steps(start=50.0, step=40.0, end=100.0) == [(5.0, 50.0), (5.0, 90.0), (None, 100.0)]


def test_steps_go_down() -> None:
    assert _steps(start=30.0, step=-10.0, end=10.0) == [(5.0, 30.0), (5.0, 20.0), (None, 10.0)]


def test_steps_that_fall_to_nothing_are_the_end() -> None:
    assert _steps(start=20.0, step=-10.0) == [(5.0, 20.0), (5.0, 10.0)]


def test_steps_for_a_time_stay_at_the_rate_they_have_come_to() -> None:
    assert _steps(start=50.0, step=10.0, max_duration=15.0) == [(5, 50), (5, 60), (5, 70), (None, 80.0)]
    assert _steps(start=50.0, step=10.0, max_duration=12.0) == [(5, 50), (5, 60), (2, 70), (None, 70.0)]


def test_after_their_time_steps_are_at_their_end_where_there_is_one() -> None:
    assert _steps(start=50.0, step=10.0, end=200.0, max_duration=10.0) == [(5, 50), (5, 60), (None, 200.0)]


def test_steps_go_on_for_as_long_as_the_run_needs_them() -> None:
    # 50 * 5 + 60 * 5 = 550 calls, and the third step's 350 are enough for 800.
    assert _steps(Need(calls=800), start=50.0, step=10.0) == [(5, 50), (5, 60), (5, 70), (None, 80.0)]
    # Those of the warm-up do not count.
    assert len(_steps(Need(calls=800, warmup=5.0), start=50.0, step=10.0)) == 5
    # Parts that the run does not come to are not made, wherever the steps would have ended.
    assert _steps(Need(calls=300), start=50.0, step=10.0, end=100.0) == [(5, 50), (5, 60), (None, 70.0)]
    assert _steps(Need(duration=6.0, warmup=1.0), start=50.0, step=10.0) == [(5, 50), (5, 60), (None, 70.0)]


def test_steps_do_not_add_errors_up() -> None:
    found = steps(Change(start=0.0, step=0.1, end=100.0, step_duration=1.0), ENDLESS).segments
    assert len(found) == 1001
    assert found[333].start == pytest.approx(33.3, rel=1e-12)


def test_there_is_a_limit_to_the_steps() -> None:
    with pytest.raises(ConfigError, match="load-schedule='step': expected at most 10000 steps"):
        _steps(start=0.0, step=1.0)


def test_a_line_goes_evenly_to_its_end_and_stays_there() -> None:
    schedule = line(Change(start=200.0, step=-2.0, end=100.0))
    assert _parts(schedule) == [(50.0, 200.0, 100.0), (None, 100.0, 100.0)]


def test_a_line_for_a_time_stays_at_the_rate_it_has_come_to() -> None:
    schedule = line(Change(start=5.0, step=5.0, max_duration=9.0))
    assert _parts(schedule) == [(9.0, 5.0, 50.0), (None, 50.0, 50.0)]


def test_a_line_without_an_end_goes_up_to_the_highest_rate_there_is() -> None:
    (ramp, last) = line(Change(start=0.0, step=100.0)).segments
    assert (ramp.duration, ramp.start, ramp.end) == (100_000.0, 0.0, 10_000_000.0)
    assert last == Segment(None, 10_000_000.0, 10_000_000.0)
    (slow, _) = line(Change(start=0.0, step=0.001)).segments
    assert slow.end == pytest.approx(0.001 * 7 * 86_400)


def test_a_line_that_falls_to_nothing_is_the_end() -> None:
    assert _parts(line(Change(start=100.0, step=-10.0))) == [(10.0, 100.0, 0.0)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start": -1.0, "step": 1.0}, "load-start=-1.0: expected a number from 0 to"),
        ({"start": 1.0, "step": 0.0}, "load-step=0.0: expected calls/s to go up by"),
        ({"start": 1.0, "step": float("nan")}, "load-step=nan"),
        (
            {"start": 1.0, "step": 1.0, "end": 1.0},
            "load-end=1.0: expected a rate that steps of 1 from 1 come to",
        ),
        ({"start": 9.0, "step": 1.0, "end": 2.0}, "load-end=2.0: expected a rate that steps"),
        ({"start": 1.0, "step": -1.0, "end": 2.0}, "load-end=2.0: expected a rate that steps"),
        ({"start": 0.0, "step": -1.0}, "load-start=0.0: expected a rate above 0 to go down from"),
        (
            {"start": 1.0, "step": 1.0, "step_duration": 0.0},
            "load-step-duration=0.0: expected a number above 0",
        ),
        (
            {"start": 1.0, "step": 1.0, "max_duration": -1.0},
            "load-max-duration=-1.0: expected a number above 0",
        ),
    ],
)
def test_what_is_no_change_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Change(**change)


def test_steps_need_their_duration() -> None:
    with pytest.raises(ConfigError, match="load-step-duration=None: expected how long each step takes"):
        steps(Change(start=1.0, step=1.0), ENDLESS)


def test_a_constant_rate_is_above_0() -> None:
    with pytest.raises(ConfigError, match=r"rps=0\.0: expected a number above 0"):
        constant(0.0)
