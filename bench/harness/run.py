"""One run: how long it measures, who takes part, and rounds in which all take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.harness.peers import Peers
from bench.harness.processes import PeerFailedError
from bench.harness.progress import Progress
from bench.harness.results import Figure, Row
from bench.peers.rpc.protocol import Figures, NotBuiltError
from bench.percentiles import PERCENTILES, field, supported

Measure = Callable[[float], Figures]
"""Measures for about so many seconds."""

Rows = Callable[["Run"], Iterator[Row]]
"""Measures rows, one after the other."""

WARM_UP: Final = 0.2
"""How much of a round's time each is run beforehand."""


@dataclass(frozen=True)
class Plan:
    """How much is measured. Rounds are of `seconds` for each contender."""

    rounds: int
    seconds: float
    idle_connections: int
    held_calls: int
    repeats: int
    """How often a process is started anew to see its memory."""

    def method(self, parts: int = 1) -> str:
        """Say how figures come about by `Run.rounds`."""
        return (
            f"the median of {self.rounds * parts} rounds of {self.seconds / parts:g} s, in which all take "
            "turns, +- how far one was off it at most"
        )


FULL: Final = Plan(rounds=5, seconds=0.6, idle_connections=10_000, held_calls=10_000, repeats=2)
QUICK: Final = Plan(rounds=2, seconds=0.25, idle_connections=2_000, held_calls=2_000, repeats=1)


@dataclass
class Run:
    plan: Plan
    peers: Peers
    progress: Progress
    interrupted: bool = False
    """Whether nothing more is to be measured: the row that is made now is the last."""

    @contextmanager
    def until_interrupted(self) -> Iterator[None]:
        """Let the block end at an interruption, for a row of what it has found by then."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True

    def rounds(
        self,
        what: str,
        measures: Mapping[str, Measure],
        unit: str,
        value: str,
        also: Mapping[str, str],
        *,
        better: str = "",
        parts: int = 1,
    ) -> list[Figure]:
        """Let all measure in turns, round after round, and return what each came to.

        `value` is the name of the figure that counts, `also` the names of others by what they are called, and
        `better` that of how many times better ours was, where the contender knows. Not all need have them,
        and a percentile of too few calls is left out. Rounds are divided into `parts`, for a difference that
        is small beside what the machine does from one second to the next.
        Who fails is out, with the reason; the others go on. Interrupted, all have the rounds that are whole.

        Raises:
            KeyboardInterrupt: there is none.
        """
        found: dict[str, list[Figures]] = {who: [] for who in measures}
        out: dict[str, Figure] = {}
        with self.until_interrupted():
            for number in range(self.plan.rounds * parts + 1):
                for who, measure in measures.items():
                    if who in out:
                        continue
                    turn = f"round {number} of {self.plan.rounds * parts}" if number else "warming up"
                    self.progress.show(f"{what}: {turn}, {who}")
                    try:
                        figures = measure(self.plan.seconds * (1 / parts if number else WARM_UP))
                    except (NotBuiltError, PeerFailedError) as error:
                        out[who] = absent(who, unit, error)
                    else:
                        if number:
                            found[who].append(figures)
        whole = min((len(rounds) for who, rounds in found.items() if who not in out), default=0)
        if self.interrupted and not whole:
            raise KeyboardInterrupt
        return [
            out[who]
            if who in out
            else Figure(
                who,
                unit,
                [figures[value] for figures in rounds],
                {label: _middle(rounds, name) for label, name in also.items() if name in told(rounds)},
                better=[figures[better] for figures in rounds] if better in rounds[0] else (),
            )
            for who, rounds in ((who, rounds[:whole]) for who, rounds in found.items())
        ]


def absent(who: str, unit: str, error: NotBuiltError | PeerFailedError) -> Figure:
    """Return what stands in a row for a contender that has no figure."""
    not_built = isinstance(error, NotBuiltError)
    said = f"{'not built' if not_built else 'failed'}: {error}"
    return Figure(who, unit, absent=said, not_built=not_built)


def _middle(rounds: list[Figures], name: str) -> float:
    return median(figures[name] for figures in rounds)


def told(rounds: Sequence[Figures]) -> set[str]:
    """Return the names of the figures, without the percentiles that all calls together are too few for."""
    names = set(rounds[0])
    if "calls" not in names:
        return names
    calls = sum(figures["calls"] for figures in rounds)
    return names - {field(each) for each in PERCENTILES if each not in supported(calls)}
