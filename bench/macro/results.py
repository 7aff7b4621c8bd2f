"""What a run found: rows of figures and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass
class Figure:
    """What one contender did, a value a round; or why there is none."""

    who: str
    unit: str
    values: Sequence[float] = ()
    also: dict[str, float] = field(default_factory=dict)
    """Further figures of the same rounds, by what they are called."""
    absent: str | None = None

    @property
    def middle(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        """How far a round was off the median at most, in percent of it."""
        middle = self.middle
        return max(abs(value - middle) for value in self.values) / middle * 100 if middle else 0.0


@dataclass
class Target:
    """What is to be reached: `value` at most or at least `limit`. `value` is None when it is not known."""

    what: str
    value: float | None
    limit: float
    at_most: bool
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "NOT BUILT"
        return "PASS" if (self.value <= self.limit if self.at_most else self.value >= self.limit) else "MISS"


@dataclass
class Row:
    name: str
    what: str
    figures: list[Figure]
    targets: list[Target] = field(default_factory=list)
    beside: str | None = None
    """Whose figure the others' are printed as multiples of."""

    def figure(self, who: str) -> Figure | None:
        """Return what a contender did; None when it took no part."""
        return next((each for each in self.figures if each.who == who and each.values), None)

    def ratio(self, who: str, to: str) -> float | None:
        """Return the median over the rounds of one contender's value to another's of the same round."""
        first, second = self.figure(who), self.figure(to)
        if first is None or second is None:
            return None
        return median(a / b for a, b in zip(first.values, second.values, strict=True))

    def at_most(self, who: str, limit: float, to: str) -> None:
        self.targets.append(Target(f"{who} <= {limit:g} x {to}", self.ratio(who, to), limit, True, "x"))

    def at_least(self, who: str, limit: float, to: str | None = None) -> None:
        """State a target: a multiple of another's figure, or a figure."""
        if to is not None:
            self.targets.append(Target(f"{who} >= {limit:g} x {to}", self.ratio(who, to), limit, False, "x"))
            return
        found = self.figure(who)
        unit = self.figures[0].unit
        value = None if found is None else found.middle
        self.targets.append(Target(f"{who} >= {limit:,.0f} {unit}", value, limit, False, unit))

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "figures": [
                {"who": each.who, "absent": each.absent}
                if not each.values
                else {
                    "who": each.who,
                    "unit": each.unit,
                    "median": each.middle,
                    "spread_percent": each.spread,
                    "values": list(each.values),
                    **({"also": each.also} if each.also else {}),
                    **({"ratio": self.ratio(each.who, self.beside)} if self.beside else {}),
                }
                for each in self.figures
            ],
            "beside": self.beside,
            "targets": [
                {"what": each.what, "value": each.value, "limit": each.limit, "verdict": each.verdict}
                for each in self.targets
            ],
        }
