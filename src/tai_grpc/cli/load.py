"""`tai-grpc load`: many calls of one method, and how long they took."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from typing import Final, TextIO

import click
import grpc
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tai_grpc.cli import params
from tai_grpc.cli.app import INTERRUPTED
from tai_grpc.cli.failure import Failure
from tai_grpc.cli.help import epilog
from tai_grpc.cli.interrupt import end_at_ctrl_c
from tai_grpc.cli.rpc_failure import rpc_failure
from tai_grpc.config import Transport
from tai_grpc.load.channels import open_blocking_channel
from tai_grpc.load.engine import EndReason, LoadResult, LoadRun
from tai_grpc.load.methods import Method, find_method
from tai_grpc.load.payload import parse_messages, parse_metadata, parse_string_map
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.report import Report, to_json, to_summary
from tai_grpc.transport.loop import run

_FORMATS: Final = {"summary": to_summary, "json": to_json}
_LATER_FORMATS: Final = ("csv", "pretty", "html", "prometheus")
_LOOKUP_TIMEOUT: Final = 20.0
_REFRESH: Final = 0.1


def _format(text: str) -> str:
    if text in _FORMATS:
        return text
    have = " and ".join(_FORMATS)
    if text in _LATER_FORMATS:
        raise click.BadParameter(f"{text} is not in this version, which has {have}")
    raise click.BadParameter(f"{text!r}: expected one of {have}")


@click.command(
    short_help="Put load on a unary method and measure it.",
    epilog=epilog(
        "tai-grpc load 127.0.0.1:50051 --call tai.v1.Governor/HealthCheck",
        "tai-grpc load 127.0.0.1:50051 --call tai.v1.Coordinator/SubmitSignal \\\n"
        """  -d '{"id":"s1","signal_type":"cpu"}' -c 10 -z 30s --connections 2""",
        "tai-grpc load 127.0.0.1:50051 --call tai.v1.Governor/HealthCheck -n 10000 -O json -o out.json",
    ),
)
@click.argument("host", type=params.address, metavar="HOST:PORT")
@click.option("--call", "name", required=True, metavar="PKG.SERVICE/METHOD", help="The method, a unary one.")
@click.option(
    "-d",
    "--data",
    metavar="JSON|@FILE|@",
    help="The request: JSON, @FILE to read it from a file, or @ to read it from stdin. Several requests (an "
    "array, or one after the other) are sent in turn. They are sent as they are: there are no templates. "
    "Default: an empty message.",
)
@click.option("-D", "--data-file", metavar="FILE", help="The same as -d @FILE.")
@click.option(
    "-m",
    "--metadata",
    multiple=True,
    metavar="JSON|KEY:VALUE",
    help="Call metadata; may be repeated. The value of a -bin key is base64.",
)
@click.option(
    "-c", "--concurrency", type=int, default=50, show_default=True, help="Workers: calls in flight at once."
)
@click.option("-n", "--total", type=int, default=200, show_default=True, help="Calls to make.")
@click.option(
    "-z",
    "--duration",
    type=params.timeout,
    metavar="DURATION",
    help="Make calls for this long, like 30s, instead of -n calls; those in flight then are waited for.",
)
@click.option(
    "-t",
    "--timeout",
    type=params.timeout,
    default="20s",
    show_default=True,
    metavar="DURATION",
    help="How long one call may take.",
)
@click.option(
    "--connections", type=int, default=1, show_default=True, help="Connections that the workers share."
)
@params.transport
@click.option(
    "-o",
    "--output",
    type=click.File("w", encoding="utf-8", lazy=False),
    default="-",
    help="Where the report goes. Default: stdout.",
)
@click.option(
    "-O",
    "--format",
    "form",
    type=_format,
    default="summary",
    show_default=True,
    metavar="|".join(_FORMATS),
    help="The report's form; json has ghz's keys, its durations are in nanoseconds.",
)
@click.option("--name", "title", default="", help="A name for the report.")
@click.option("--tags", default="{}", metavar="JSON", help="An object of strings, put into the JSON report.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    host: str,
    name: str,
    data: str | None,
    data_file: str | None,
    metadata: tuple[str, ...],
    concurrency: int,
    total: int,
    duration: float | None,
    timeout: float,
    connections: int,
    transport: Transport | None,
    output: TextIO,
    form: str,
    title: str,
    tags: str,
) -> None:
    """Make many calls of one unary method and report how long they took. The names are ghz's.

    The load is a closed loop: each of -c workers sends its next request when it has the last response. The
    time that requests would have queued while the server was slow is left out of the latencies, so they tell
    how the server does at this concurrency, not what users see at a given rate.

    Latencies are measured to the microsecond from just before a request is handed to the transport until its
    response is there, kept within 0.1 % in an HDR histogram, and cover the calls that ended with OK; failed
    ones are counted by status. One process and one core make the load: when that core is busy, the report is
    about the client. Connections are made before the clock starts.

    Ctrl-C ends the run with the report so far. The exit code is 1 when a call failed.
    """
    end_at_ctrl_c()
    if data is not None and data_file is not None:
        raise click.UsageError("give the data by -d or by -D, not by both")
    text = params.read_data(data) if data_file is None else params.read_file(data_file)
    pairs = parse_metadata(metadata)
    labels = parse_string_map(tags, "tags")
    try:
        with open_blocking_channel(host, transport) as channel:
            method = find_method(channel, name, timeout=_LOOKUP_TIMEOUT, metadata=pairs)
    except grpc.RpcError as error:
        raise rpc_failure(error, host, name) from None
    plan = LoadPlan(
        host=host,
        method=method,
        requests=_requests(method, text),
        metadata=pairs,
        concurrency=concurrency,
        total=total,
        duration=duration,
        timeout=timeout,
        connections=connections,
        transport=transport,
        name=title,
        tags=labels,
    )
    result = run(_load(plan))
    output.write(_FORMATS[form](Report.of(result)))
    output.flush()
    if result.end_reason is EndReason.CANCEL:
        ctx.exit(INTERRUPTED)
    if result.errors:
        failed = ", ".join(f"{count} {code}" for code, count in result.statuses.items() if code != "OK")
        raise Failure(f"{result.errors.total()} of {result.count} calls failed: {failed}")


def _requests(method: Method, text: str | None) -> tuple[bytes, ...]:
    if text is None:
        return (method.request_type().SerializeToString(),)
    return tuple(message.SerializeToString() for message in parse_messages(method, text))


async def _load(plan: LoadPlan) -> LoadResult:
    async with LoadRun(plan) as load:
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            # A second Ctrl-C ends the program.
            loop.remove_signal_handler(signal.SIGINT)
            load.stop()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        async with _progress(plan, load):
            return await load.run()


@contextlib.asynccontextmanager
async def _progress(plan: LoadPlan, load: LoadRun) -> AsyncIterator[None]:
    """Show how far the run is, on stderr when it is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[calls]} calls"),
        TimeElapsedColumn(),
    )
    whole = plan.total if plan.duration is None else plan.duration
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(plan.method.full_name, total=whole, calls=0)

        async def refresh() -> None:
            begin = time.monotonic()
            while True:
                calls = load.completed
                done = calls if plan.duration is None else time.monotonic() - begin
                bar.update(task, completed=done, calls=calls)
                await asyncio.sleep(_REFRESH)

        refreshing = asyncio.create_task(refresh())
        try:
            yield
        finally:
            refreshing.cancel()
