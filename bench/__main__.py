"""All figures to reach, beside those of others, in one run: `tai-grpc bench`, or `python -m bench --help`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from bench.harness.machine import Others, machine, tools
from bench.harness.peers import Peers
from bench.harness.processes import CLIENTS, SERVERS
from bench.harness.progress import Progress
from bench.harness.results import Row
from bench.harness.run import FULL, QUICK, Plan, Run
from bench.paths import RESULTS
from bench.reports import as_html, as_json, as_markdown, as_text
from bench.reports.report import Report
from bench.table import SECTIONS

FORMS: Final = {
    "json": as_json.whole,
    "markdown": as_markdown.whole,
    "html": as_html.whole,
}


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    sections = {name: each for name, each in SECTIONS.items() if name in (options.rows or SECTIONS)}
    plan: Plan = QUICK if options.quick else FULL
    progress = Progress({name: each.expected(quick=options.quick) for name, each in sections.items()})
    others, peers = Others(), Peers()
    rows: list[Row] = []
    interrupted = False
    try:
        for name, section in sections.items():
            progress.begin(name)
            for row in section.measure(name, Run(plan, peers, progress)):
                progress.clear()
                rows.append(row)
                if options.format == "text":
                    print(*as_text.row(row), sep="\n", flush=True)
    except KeyboardInterrupt:
        interrupted = True  # what was found so far is worth saying
    finally:
        progress.clear()
        peers.end()
    report = Report(
        rows=rows,
        plan=plan,
        machine=machine(),
        cpus={"servers": SERVERS, "clients": CLIENTS},
        versions={"tai-grpc": version("tai-grpc"), **tools(), **peers.versions},
        taken_by_others=others.share(),
        datetime=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        seconds=progress.seconds,
        command=command(options),
        whole=len(sections) == len(SECTIONS) and not options.quick and not interrupted,
    )
    # The rows themselves have been printed as they came when the form is text.
    print(as_text.end(report) if options.format == "text" else FORMS[options.format](report), end="")
    for path in [options.results] if options.results else [RESULTS] if report.whole else []:
        path.write_text(as_markdown.whole(report))
        print(f"written: {path}", file=sys.stderr)
    if interrupted:
        return 128 + signal.SIGINT
    return 1 if report.missed else 0


def command(options: argparse.Namespace) -> str:
    """Return how the run was called, as far as it matters to what was found."""
    rows = [f"--rows {name}" for name in options.rows or ()]
    return " ".join(("tai-grpc bench", *rows, *["--quick"] * options.quick))


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it in one line, without the usage."""
        self.exit(2, f"{self.prog}: {message} (see: {self.prog} --help)\n")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="tai-grpc bench", description=__doc__.partition(":")[0] + ".")
    parser.add_argument(
        "--rows",
        action="append",
        choices=list(SECTIONS),
        metavar="ROW",
        help=f"only this one; may be repeated; there are {', '.join(SECTIONS)}",
    )
    parser.add_argument("--quick", action="store_true", help="a look in two minutes; too short to be quoted")
    parser.add_argument(
        "--format", choices=["text", *FORMS], default="text", help="what is printed; %(default)s"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="PATH",
        help="write the run there as Markdown; a whole run is written to bench/RESULTS.md by default",
    )
    return parser.parse_args(arguments)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
