"""`tai-grpc load compare`: whether one run differs from another by more than noise."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from tai_grpc.cli.failure import Failure
from tai_grpc.cli.help import epilog
from tai_grpc.load.compare import Verdict, compare, to_json, to_text
from tai_grpc.load.report.saved import read_report

_EXIT_CODES: Final = (
    ("0", "they were compared"),
    ("1", "with --fail-if-worse: B is slower, in part or in all, or has more errors"),
    ("2", "the command line is wrong, or a file is no report"),
)
_WORSE: Final = (Verdict.SLOWER, Verdict.MIXED)


@click.command(
    short_help="Compare two saved reports.",
    epilog=epilog(
        "tai-grpc load 127.0.0.1:50051 --call tai.v1.Governor/HealthCheck -z 30s -O json -o before.json",
        "tai-grpc load 127.0.0.1:50051 --call tai.v1.Governor/HealthCheck -z 30s -O json -o after.json",
        "tai-grpc load compare before.json after.json --fail-if-worse",
        codes=_EXIT_CODES,
    ),
)
@click.argument("a", metavar="A.json", type=click.Path(path_type=Path))
@click.argument("b", metavar="B.json", type=click.Path(path_type=Path))
@click.option(
    "-O",
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The form of the comparison.",
)
@click.option("--fail-if-worse", is_flag=True, help="End with exit code 1 when B is worse than A.")
def command(*, a: Path, b: Path, form: str, fail_if_worse: bool) -> None:
    """Compare the reports of two runs, B with A, figure by figure.

    They are reports in JSON, as `tai-grpc load -O json` writes them; ghz's are read too. For each figure it
    is said where the difference is likely to lie, judged by how much the parts of each run differ among
    themselves.
    """
    comparison = compare(read_report(a), read_report(b))
    click.echo(to_json(comparison) if form == "json" else to_text(comparison), nl=False)
    worse = []
    if comparison.verdict in _WORSE:
        worse.append(comparison.verdict.value)
    if comparison.errors is Verdict.MORE_ERRORS:
        worse.append(f"has {comparison.errors.value}")
    if fail_if_worse and worse:
        raise Failure(f"{b} beside {a}: {', and '.join(worse)}")
