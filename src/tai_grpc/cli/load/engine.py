"""`tai-grpc load engine`: what `--processes` and `--via` start."""

from __future__ import annotations

import click


@click.command()
@click.pass_context
def command(ctx: click.Context) -> None:
    """Make a part of a load for `tai-grpc load`, which starts this and talks to it by stdin and stdout."""
    from tai_grpc.load.engine_process import serve  # noqa: PLC0415 - not every build has it

    ctx.exit(serve())
