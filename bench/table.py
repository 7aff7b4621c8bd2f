"""What a run consists of, in the order of the table of figures to reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench.harness.run import Rows
from bench.macro import calls, load, memory
from bench.micro import rows


@dataclass(frozen=True)
class Section:
    """What `--rows` chooses: rows that are measured together."""

    rows: Rows
    seconds: float
    """How long it takes on two cores of 2024, for a first idea of what is left."""
    quick_seconds: float

    def expected(self, *, quick: bool) -> float:
        return self.quick_seconds if quick else self.seconds


SECTIONS: Final = {
    "breaker": Section(rows.breaker, 10, 5),
    "primitives": Section(rows.primitives, 25, 10),
    "picks": Section(rows.pick_of_many, 10, 4),
    "balancer-share": Section(rows.balancer_share, 6, 4),
    "unary": Section(calls.unary, 45, 15),
    "streaming": Section(calls.streaming, 70, 30),
    "single-client": Section(calls.single_client, 40, 15),
    "ten-clients": Section(load.ten_clients, 110, 40),
    "connections": Section(memory.idle, 80, 20),
    "memory": Section(memory.in_flight, 40, 15),
    "objects": Section(rows.objects, 15, 8),
    "resilience": Section(calls.resilience, 8, 4),
    "load-generators": Section(load.load_generators, 35, 15),
}
