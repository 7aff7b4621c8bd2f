"""What a run found: rows of figures and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

PASS: Final = "PASS"
MISS: Final = "MISS"
FAILED: Final = "FAILED"
NOT_BUILT: Final = "NOT BUILT"


@dataclass(frozen=True)
class Promise:
    """A line of the table of figures to reach: what, the mission's figure, and ours."""

    what: str
    mission: str
    said: str
    """Ours, with the names of `limits` in braces where these numbers stand."""
    limits: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def ours(self) -> str:
        return self.said.format(**self.limits)


def spread(values: Sequence[float]) -> float:
    """Return how far a value is off the median at most, in percent of it."""
    middle = median(values)
    return max(abs(value - middle) for value in values) / middle * 100 if middle else 0.0


@dataclass
class Figure:
    """What one contender did, a value a round; or why there is none."""

    who: str
    unit: str
    values: Sequence[float] = ()
    also: dict[str, float] = field(default_factory=dict)
    """Further figures of the same rounds, by what they are called."""
    absent: str | None = None
    """Why there is none."""
    not_built: bool = False
    """Whether that is because the contender is not to be had here; else it failed."""
    better: Sequence[float] = ()
    """How many times better ours was in each round, where a contender measured ours too: else the row works
    it out."""

    @property
    def middle(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        """How far a round was off the median at most, in percent of it."""
        return spread(self.values)


@dataclass
class Target:
    """What is to be reached: `value` at most or at least `limit`.

    `value` is None when it is not known: a peer is `not_built`, or else ours or a peer failed.
    """

    what: str
    value: float | None
    limit: float
    at_most: bool
    unit: str = ""
    not_built: bool = False

    @property
    def verdict(self) -> str:
        if self.value is None:
            return NOT_BUILT if self.not_built else FAILED
        return PASS if (self.value <= self.limit if self.at_most else self.value >= self.limit) else MISS

    @property
    def of_limit(self) -> float | None:
        """The value as a part of the limit; None where there is no such part."""
        return None if self.value is None or not self.limit else self.value / self.limit


@dataclass
class Row:
    name: str
    what: str
    promise: Promise
    figures: list[Figure]
    targets: list[Target] = field(default_factory=list)
    beside: str | None = None
    """The limit of what can be reached, whose figure the others' are given as multiples of."""
    ours: str | None = None
    """Who of them is ours, which the others are compared with."""
    more_is_better: bool = False
    uncompared: Sequence[str] = ()
    """Who of them is not to be compared with ours: measured by other means to see that these agree, or
    limited by a client that is not its own."""
    method: str = ""
    """How the figures came about."""
    note: str = ""

    def figure(self, who: str) -> Figure | None:
        """Return what a contender did; None when it took no part."""
        return next((each for each in self.figures if each.who == who and each.values), None)

    def not_built(self, who: str) -> bool:
        """Return whether a contender is not to be had here."""
        return any(each.who == who and each.not_built for each in self.figures)

    def ratio(self, who: str, to: str | None) -> float | None:
        """Return the median over the rounds of one contender's value to another's of the same round."""
        return _middle(self.ratios(who, to))

    def ratios(self, who: str, to: str | None) -> list[float]:
        """Return one contender's value to another's of the same round, for each; [] when not known."""
        first, second = self.figure(who), None if to is None else self.figure(to)
        if first is None or second is None or not all(second.values):
            return []
        return [a / b for a, b in zip(first.values, second.values, strict=True)]

    def more(self, who: str, to: str) -> float | None:
        """Return the median over the rounds of what one contender has more than another in the same round."""
        first, second = self.figure(who), self.figure(to)
        if first is None or second is None:
            return None
        return median(a - b for a, b in zip(first.values, second.values, strict=True))

    def better(self, figure: Figure) -> float | None:
        """Return how many times better ours is than a contender; None when that cannot be said."""
        return _middle(self.betters(figure))

    def betters(self, figure: Figure) -> Sequence[float]:
        """Return how many times better ours is in each round; [] when that cannot be said."""
        if figure.better or self.ours is None or figure.who in (self.ours, self.beside, *self.uncompared):
            return figure.better
        if self.more_is_better:
            return self.ratios(self.ours, figure.who)
        return self.ratios(figure.who, self.ours)

    def at_most(self, who: str, limit: float, to: str) -> None:
        self._multiple(who, limit, to, at_most=True)

    def at_least(self, who: str, limit: float, to: str | None = None) -> None:
        """State a target: a multiple of another's figure, or a figure."""
        if to is not None:
            self._multiple(who, limit, to, at_most=False)
            return
        found, unit = self.figure(who), self.figures[0].unit
        value = None if found is None else found.middle
        self.targets.append(Target(f"{who} >= {limit:,.0f} {unit}", value, limit, False, unit))

    def _multiple(self, who: str, limit: float, to: str, *, at_most: bool) -> None:
        what = f"{who} {'<=' if at_most else '>='} {limit:.3g} x {to}"
        not_built = self.figure(who) is not None and self.not_built(to)
        self.targets.append(Target(what, self.ratio(who, to), limit, at_most, "x", not_built))

    def judge(
        self,
        what: str,
        limit: float,
        value: float | None,
        unit: str,
        *,
        at_most: bool = True,
        not_built: bool = False,
    ) -> None:
        """State a target for a figure; None: there is none, as something failed or a peer is `not_built`."""
        self.targets.append(Target(what, value, limit, at_most, unit, not_built))


def _middle(values: Sequence[float]) -> float | None:
    return median(values) if values else None
