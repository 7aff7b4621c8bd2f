"""The figures of whole calls, beside other implementations, in one run: `python -m bench.macro --help`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from bench.macro import calls, load, memory, report
from bench.macro.machine import Others
from bench.macro.peers import Peers
from bench.macro.results import Row
from bench.macro.run import FULL, QUICK, Progress, Run

ROWS: Final[dict[str, Callable[[Run], Iterator[Row]]]] = {
    "unary": calls.unary,
    "streaming": calls.streaming,
    "single-client": calls.single_client,
    "resilience": calls.resilience,
    "ten-connections": load.ten_connections,
    "idle": memory.idle,
    "in-flight": memory.in_flight,
}


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    plan = QUICK if options.quick else FULL
    progress, others = Progress(), Others()
    peers = Peers()
    rows: list[Row] = []
    interrupted = False
    try:
        for name in options.rows or ROWS:
            for row in ROWS[name](Run(plan, peers, progress)):
                progress.clear()
                rows.append(row)
                print(*report.lines(row), "", sep="\n", flush=True)
    except KeyboardInterrupt:
        interrupted = True  # what was found so far is worth saying
    finally:
        progress.clear()
        peers.end()
    share = others.share()
    path = report.save(rows, plan, peers.versions, share, options.json)
    print(*report.circumstances(peers.versions, share), report.summary(rows), sep="\n")
    print(f"{progress.seconds:.0f} s; saved as {path}")
    if interrupted:
        return 128 + signal.SIGINT
    missed = any(target.verdict == "MISS" for row in rows for target in row.targets)
    return 1 if missed and options.fail_on_miss else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.macro", description=__doc__.partition(":")[0])
    parser.add_argument(
        "--rows", nargs="+", choices=list(ROWS), metavar="ROW", help=f"only these: {', '.join(ROWS)}"
    )
    parser.add_argument("--quick", action="store_true", help="a look in 90 seconds; too short to be quoted")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to save; .benchmarks by default")
    parser.add_argument("--fail-on-miss", action="store_true", help="exit 1 when a target is missed")
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
