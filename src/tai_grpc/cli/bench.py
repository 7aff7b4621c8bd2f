"""`tai-grpc bench`: the command of a checkout's `bench`, which is no part of the installed package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click


class _NoCheckoutError(click.ClickException):
    exit_code = 2


def _checkout() -> Path:
    """Return the folder that has `bench`: where this package is installed from, or around the current."""
    for folder in _candidates():
        if (folder / "bench" / "__main__.py").is_file() and (folder / "src" / "tai_grpc").is_dir():
            return folder
    raise _NoCheckoutError(
        "the benchmarks are in a checkout of tai-grpc alone: run this in one, or `make bench` there"
    )


def _candidates() -> Iterator[Path]:
    yield Path(__file__).parents[3]
    yield Path.cwd()
    yield from Path.cwd().parents


@click.command(
    short_help="Measure every figure that is promised, beside others.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, *, arguments: tuple[str, ...]) -> object:
    sys.path.insert(0, str(_checkout()))
    measuring: click.Command = import_module("bench.__main__").command
    with measuring.make_context(ctx.info_name, list(arguments), parent=ctx.parent) as own:
        return measuring.invoke(own)
