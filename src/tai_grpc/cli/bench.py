"""`tai-grpc bench`: runs the benchmarks of a checkout, which are no part of the installed package."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from tai_grpc.cli.help import epilog

ROWS: Final = (
    "breaker",
    "primitives",
    "picks",
    "balancer-share",
    "unary",
    "streaming",
    "single-client",
    "ten-clients",
    "connections",
    "memory",
    "objects",
    "resilience",
    "load-generators",
)
FORMATS: Final = ("text", "json", "markdown", "html")


def _checkout() -> Path:
    """Return the folder that has `bench`: where this package is installed from, or around the current."""
    for folder in _candidates():
        if (folder / "bench" / "__main__.py").is_file() and (folder / "src" / "tai_grpc").is_dir():
            return folder
    raise click.UsageError(
        "the benchmarks are in a checkout of tai-grpc alone: run this in one, or `make bench` there"
    )


def _candidates() -> Iterator[Path]:
    yield Path(__file__).parents[3]
    yield Path.cwd()
    yield from Path.cwd().parents


@click.command(
    short_help="Measure every figure that is promised, beside others.",
    epilog=epilog(
        "tai-grpc bench                                  # everything, and bench/RESULTS.md: ten minutes",
        "tai-grpc bench --quick --rows unary --rows streaming",
        "tai-grpc bench --format html > figures.html",
    ),
)
@click.option(
    "--rows",
    multiple=True,
    type=click.Choice(ROWS),
    metavar="ROW",
    help=f"Only this one; may be repeated. There are {', '.join(ROWS)}.",
)
@click.option("--quick", is_flag=True, help="A look in two minutes, too short to be quoted.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="The form of what is printed; text is printed row by row.",
)
@click.option(
    "--results",
    type=click.Path(dir_okay=False, writable=True, resolve_path=True),
    metavar="PATH",
    help="Write the run there as Markdown. A whole run is written to bench/RESULTS.md of the checkout unless "
    "this is given; with --quick or --rows nothing is written unless it is.",
)
def command(*, rows: tuple[str, ...], quick: bool, form: str, results: str | None) -> None:
    """Measure what this package promises, side by side with other packages and programs, on this machine.

    Every other implementation runs in a process of its own, servers on one CPU and clients on another, and
    all take turns in every round. One that is not installed or not built is named as such: `make bench`
    builds them all and then runs this command. On a terminal a line on stderr tells how far it is.

    The exit code is 1 when a target is missed.
    """
    checkout = _checkout()
    arguments = [f"--rows={name}" for name in rows] + ["--quick"] * quick
    if form != "text":
        arguments.append(f"--format={form}")
    if results is not None:
        arguments.append(f"--results={results}")
    os.chdir(checkout)  # where Python finds `bench`
    os.execv(sys.executable, (sys.executable, "-m", "bench", *arguments))  # noqa: S606  # no shell is meant
