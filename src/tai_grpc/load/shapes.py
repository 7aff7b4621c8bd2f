"""The shapes that a rate can have over time, in ghz's terms, as schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from tai_grpc.checks import MAX_RATE, MAX_SECONDS, check_float
from tai_grpc.errors import ConfigError
from tai_grpc.load.plan import MAX_SEGMENTS, Arrivals, Schedule, Segment

SHAPES: Final = ("const", "step", "line")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a rate changes: from `start` calls/s by `step` at a time.

    It stays the same once it is at `end`, or after `max_duration` seconds if that comes first; then it is at
    `end` at once, where there is one. One that falls to 0 is the end of the schedule.
    """

    start: float
    step: float
    end: float | None = None
    step_duration: float | None = None
    """Seconds that each step of a "step" takes; the `step` of a "line" is that of a second."""
    max_duration: float | None = None

    def __post_init__(self) -> None:
        check_float("load-start", self.start, 0.0, MAX_RATE)
        check_float("load-step", self.step, -MAX_RATE, MAX_RATE)
        if self.step == 0:
            raise ConfigError("load-step", self.step, "calls/s to go up by, or down by when it is negative")
        if self.end is not None:
            check_float("load-end", self.end, 0.0, MAX_RATE)
            if self.end == self.start or (self.end > self.start) != (self.step > 0):
                accepted = f"a rate that steps of {self.step:g} from {self.start:g} come to"
                raise ConfigError("load-end", self.end, accepted)
        elif self.step < 0 and self.start == 0:
            raise ConfigError("load-start", self.start, "a rate above 0 to go down from")
        if self.step_duration is not None:
            check_float("load-step-duration", self.step_duration, 0.0, MAX_SECONDS, above=True)
        if self.max_duration is not None:
            check_float("load-max-duration", self.max_duration, 0.0, MAX_SECONDS, above=True)

    @property
    def last(self) -> float:
        """The rate beyond which the steps do not go."""
        return self.bounded(math.copysign(math.inf, self.step))

    def bounded(self, rate: float) -> float:
        """Return a rate, but none that is beyond the last one."""
        if self.step > 0:
            return min(rate, MAX_RATE if self.end is None else self.end)
        return max(rate, self.end or 0.0)


def constant(rate: float, arrivals: Arrivals = Arrivals.UNIFORM) -> Schedule:
    """Return a schedule of one rate, in calls/s, that does not end.

    Raises:
        ConfigError: the rate is out of its range.
    """
    check_float("rps", rate, 0.0, MAX_RATE, above=True)
    return Schedule(segments=(Segment(None, rate, rate),), arrivals=arrivals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """How much of a schedule a run needs: `calls` after `warmup` seconds, and `duration` seconds at most.

    A rate that goes up and up needs no parts beyond that.
    """

    calls: int | None = None
    warmup: float = 0.0
    duration: float | None = None

    def is_met(self, time: float, calls: float) -> bool:
        """Whether `time` seconds in which `calls` were due after the warm-up are enough."""
        if self.duration is not None and time >= self.warmup + self.duration:
            return True
        return self.calls is not None and calls >= self.calls


def steps(change: Change, need: Need, arrivals: Arrivals = Arrivals.UNIFORM) -> Schedule:
    """Return a schedule that stays at each rate for `step_duration`, the first one included.

    Raises:
        ConfigError: `step_duration` is not there, or more parts are needed than a schedule has.
    """
    if change.step_duration is None:
        raise ConfigError("load-step-duration", None, "how long each step takes, like 5s")
    limit = math.inf if change.max_duration is None else change.max_duration
    segments: list[Segment] = []
    time = calls = 0.0
    rate, last = change.start, change.last
    while rate != last and time < limit and not need.is_met(time, calls):
        duration = min(change.step_duration, limit - time)
        segments.append(Segment(duration, rate, rate))
        if len(segments) == MAX_SEGMENTS:
            accepted = f"at most {MAX_SEGMENTS} steps: take a greater load-step, or give a load-end"
            raise ConfigError("load-schedule", "step", accepted)
        if time >= need.warmup:
            calls += duration * rate
        time += duration
        if duration == change.step_duration:
            # Not added up: a thousand steps of 0.1 are 100.
            rate = change.bounded(change.start + len(segments) * change.step)
    is_over = rate == last or time >= limit
    return _with_last(segments, _after(change, rate) if is_over else rate, arrivals)


def line(change: Change, arrivals: Arrivals = Arrivals.UNIFORM) -> Schedule:
    """Return a schedule whose rate changes evenly, by `step` in a second."""
    longest = MAX_SECONDS if change.max_duration is None else change.max_duration
    duration = min((change.last - change.start) / change.step, longest)
    end = change.bounded(change.start + change.step * duration)
    return _with_last([Segment(duration, change.start, end)], _after(change, end), arrivals)


def _after(change: Change, rate: float) -> float:
    """Return the rate at which the schedule goes on once it has changed to `rate`."""
    return rate if change.end is None else change.end


def _with_last(segments: list[Segment], rate: float, arrivals: Arrivals) -> Schedule:
    if rate > 0:
        segments.append(Segment(None, rate, rate))
    return Schedule(segments=tuple(segments), arrivals=arrivals)
