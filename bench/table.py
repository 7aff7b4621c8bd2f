"""What a run consists of, in the order of the table of figures to reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.harness import promises
from bench.harness.processes import PeerFailedError
from bench.harness.results import Figure, Promise, Row
from bench.harness.run import Rows, Run
from bench.peers.rpc.protocol import NotBuiltError
from bench.rows import calls, compiled, load, memory, objects, packages


@dataclass(frozen=True)
class Section:
    """What `--rows` chooses: rows that are measured together."""

    promise: Promise
    """What the rows are for, the first of them at least."""
    rows: Rows
    seconds: float
    """How long it takes on two cores of 2024, for a first idea of what is left."""
    quick_seconds: float

    def expected(self, *, quick: bool) -> float:
        return self.quick_seconds if quick else self.seconds

    def measure(self, name: str, run: Run) -> Iterator[Row]:
        """Yield the rows; one that says why if no more of them can be had, as the rest of a run goes on."""
        try:
            yield from self.rows(run)
        except (NotBuiltError, PeerFailedError) as error:
            row = Row(
                name, "could not be measured", self.promise, [Figure("tai-grpc", "", absent=str(error))]
            )
            row.judge(f"{name} measured", 1, None, "")
            yield row


def _breaker(run: Run) -> Iterator[Row]:
    yield from compiled.breaker(run)
    yield from packages.breakers(run)


def _primitives(run: Run) -> Iterator[Row]:
    yield from compiled.primitives(run)
    yield from packages.others(run, promises.PRIMITIVES)


SECTIONS: Final = {
    "breaker": Section(promises.BREAKER, _breaker, 15, 7),
    "primitives": Section(promises.PRIMITIVES, _primitives, 35, 12),
    "picks": Section(promises.PRIMITIVES, compiled.pick_of_many, 15, 6),
    "balancer-share": Section(promises.BALANCER_SHARE, compiled.balancer_share, 10, 6),
    "unary": Section(promises.UNARY, calls.unary, 45, 15),
    "streaming": Section(promises.STREAMING, calls.streaming, 70, 30),
    "single-client": Section(promises.SINGLE_CLIENT, calls.single_client, 40, 15),
    "ten-clients": Section(promises.TEN_CLIENTS, load.ten_clients, 115, 42),
    "connections": Section(promises.CONNECTIONS, memory.idle, 100, 25),
    "memory": Section(promises.MEMORY, memory.in_flight, 40, 15),
    "objects": Section(promises.MEMORY, objects.objects, 15, 8),
    "resilience": Section(promises.RESILIENCE, calls.resilience, 15, 5),
    "load-generators": Section(promises.GENERATORS, load.load_generators, 40, 18),
}
