"""The command `tai-grpc load`."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from tai_grpc.cli.grouped import GroupedCommand
from tai_grpc.cli.help import epilog
from tai_grpc.cli.interrupt import end_at_ctrl_c
from tai_grpc.cli.load.options import Options, options

SUBCOMMANDS: Final = ("compare", "engine")

EXIT_CODES: Final = (
    ("0", "the load was made, and no --fail-if condition holds"),
    ("1", "one holds; or a call failed, and none is about errors; or the report cannot be written"),
    ("2", "the command line or the data is wrong, the method is unknown, a host or process is not reached"),
    ("130", "ended by Ctrl-C, 143 by SIGTERM: with the report so far"),
)


class _Load(GroupedCommand):
    """Is a subcommand when its first argument names one, which no host does."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and args[0] in SUBCOMMANDS:
            found: click.Command = import_module(f"tai_grpc.cli.load.{args[0]}").command
            return found.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(
    cls=_Load,
    short_help="Put load on a method and measure it.",
    epilog=epilog(
        "tai-grpc load 127.0.0.1:50051 --call tai.v1.Governor/HealthCheck",
        "tai-grpc load 127.0.0.1:50051 --call tai.v1.Coordinator/SubmitSignal -r 2000 -z 30s --warmup 5s \\\n"
        """  -d '{"id":"{{.UUID}}","signal_type":"cpu","priority":{{randomInt 1 9}}}' --fail-if 'p99>50ms'""",
        "tai-grpc load 10.0.0.1:443,10.0.0.2:443 --cacert ca.pem --bearer @token --proto orders.proto \\\n"
        "  --call shop.v1.Orders/Watch -D orders.json -c 100 --connections 10 -O html -o report.html",
        "tai-grpc load compare before.json after.json",
        codes=EXIT_CODES,
    ),
)
@click.argument("hosts", nargs=-1, metavar="HOST:PORT...")
@options
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Make many calls of one method and report how long they took. The options are ghz's, and some more.

    HOST:PORT is one server or several, also separated by commas; unix:PATH is a socket.

    Without a rate it is a closed loop: each of -c workers sends its next request when it has the last
    response, so the time that requests would have queued while the server was slow is left out. With a rate
    it is an open loop: calls are due at that rate, and a latency counts from when its call was due, as its
    user sees it. Calls that were due and could not be sent are reported.

    Data and metadata may have templates: {{.RequestNumber}} (from 0, the warm-up's too), {{.UUID}},
    {{.Timestamp}} (RFC 3339), {{.TimestampUnix}}, {{.TimestampUnixMilli}}, {{.TimestampUnixNano}},
    {{.WorkerID}} (the request's number modulo -c), {{.FullyQualifiedName}}, {{.ServiceName}},
    {{.MethodName}}, {{.InputName}}, {{.OutputName}}, {{.IsClientStreaming}}, {{.IsServerStreaming}};
    {{newUUID}}, {{randomString LENGTH}} and {{randomInt MIN MAX}} (MAX is not reached). They may stand in
    strings and where numbers stand.

    Latencies are in nanoseconds, kept within 0.1 % in an HDR histogram, and cover the calls that ended with
    OK; failed ones are counted by status. Connections are made before the clock starts.

    `tai-grpc load compare A.json B.json` says whether one report differs from another.
    """
    end_at_ctrl_c()
    # What makes and judges a load is imported when there is one, not to print the help.
    from tai_grpc.cli.load.running import run  # noqa: PLC0415

    run(ctx, Options(**values))
