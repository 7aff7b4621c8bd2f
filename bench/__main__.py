"""All figures to reach, beside those of others, in one run: `tai-grpc bench`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click

from bench.harness.interruption import Interruption
from bench.harness.machine import Others, machine, tools
from bench.harness.peers import Peers
from bench.harness.processes import CLIENTS, SERVERS
from bench.harness.progress import Progress
from bench.harness.results import Row
from bench.harness.run import FULL, QUICK, Run
from bench.paths import RESULTS
from bench.reports import as_html, as_json, as_markdown, as_text
from bench.reports.report import Report
from bench.table import SECTIONS, Section
from tai_grpc.cli.app import main
from tai_grpc.cli.failure import Failure
from tai_grpc.cli.files import check_writable, write
from tai_grpc.cli.help import epilog

FORMS: Final = {
    "json": as_json.whole,
    "markdown": as_markdown.whole,
    "html": as_html.whole,
}
QUICK_MINUTES: Final = round(sum(section.quick_seconds for section in SECTIONS.values()) / 60)
EXIT_CODES: Final = (
    ("0", "every target is reached, or of a peer that is not built"),
    ("1", "a target is missed, something that was to be measured failed, or the results cannot be written"),
    ("2", "the command line is wrong"),
    ("130", "ended by Ctrl-C, 143 by SIGTERM: with a report of what was found by then"),
)


@click.command(
    epilog=epilog(
        "tai-grpc bench                                  # everything, and bench/RESULTS.md: ten minutes",
        "tai-grpc bench --quick --rows unary --rows streaming",
        "tai-grpc bench --format html > figures.html",
        codes=EXIT_CODES,
    ),
)
@click.option(
    "--rows",
    multiple=True,
    type=click.Choice(list(SECTIONS)),
    metavar="ROW",
    help=f"Only this one; may be repeated. There are {', '.join(SECTIONS)}.",
)
@click.option("--quick", is_flag=True, help=f"A look in {QUICK_MINUTES} minutes, too short to be quoted.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", *FORMS]),
    default="text",
    show_default=True,
    help="The form of what is printed; text is printed row by row.",
)
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write the run there as Markdown. A whole run is written to bench/RESULTS.md of the checkout unless "
    "this is given; with --quick or --rows nothing is written unless it is.",
)
def command(*, rows: tuple[str, ...], quick: bool, form: str, results: Path | None) -> int:
    """Measure what this package promises, side by side with other packages and programs, on this machine.

    Every other implementation runs in a process of its own, servers on one CPU and clients on another, and
    all take turns in every round. One that is not installed or not built is named as such: `make bench`
    builds them all and then runs this command. On a terminal a line on stderr tells how far it is.

    The exit code is 1 when a target is missed, or could not be judged as something failed.
    """
    sections = {name: each for name, each in SECTIONS.items() if name in (rows or SECTIONS)}
    whole = len(sections) == len(SECTIONS) and not quick
    path = results or (RESULTS if whole else None)
    if path is not None:
        try:
            check_writable(path)
        except OSError as error:
            why = f"cannot write {path}: {error.strerror}"
            raise click.BadParameter(why, param_hint="--results") from None
    progress = Progress({name: each.expected(quick=quick) for name, each in sections.items()})
    others, peers, interruption = Others(), Peers(), Interruption()
    run = Run(QUICK if quick else FULL, peers, progress)
    found: list[Row] = []
    with interruption:
        try:
            for row in measured(sections, run):
                found.append(row)
                if form == "text":
                    print(*as_text.row(row), sep="\n", flush=True)
        except KeyboardInterrupt:
            pass  # what was found so far is worth saying
        finally:
            interruption.no_more()
            progress.clear()
            peers.end()
    report = Report(
        rows=found,
        plan=run.plan,
        machine=machine(),
        cpus={"servers": SERVERS, "clients": CLIENTS},
        versions={"tai-grpc": version("tai-grpc"), **tools(), **peers.versions},
        taken_by_others=others.share(),
        datetime=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        seconds=progress.seconds,
        command=" ".join(("tai-grpc bench", *(f"--rows {name}" for name in rows), *["--quick"] * quick)),
        whole=whole and interruption.number is None,
        interrupted=None if interruption.number is None else progress.part,
    )
    # The rows themselves have been printed as they came when the form is text.
    print(as_text.end(report) if form == "text" else FORMS[form](report), end="")
    if path is not None and (results or report.whole):
        try:
            write(path, as_markdown.whole(report))
        except OSError as error:
            raise Failure(f"cannot write {path}: {error.strerror}") from None
        click.echo(f"written: {path}", err=True)
    if interruption.number is not None:
        return 128 + interruption.number
    return 1 if report.missed else 0


def measured(sections: Mapping[str, Section], run: Run) -> Iterator[Row]:
    """Yield the rows of all sections as they come.

    Raises:
        KeyboardInterrupt: the run was interrupted; a row that could be made nevertheless has been yielded.
    """
    for name, section in sections.items():
        run.progress.begin(name)
        for row in section.measure(name, run):
            run.progress.clear()
            yield row
            if run.interrupted:
                raise KeyboardInterrupt


if __name__ == "__main__":
    sys.argv.insert(1, "bench")
    main()
