"""The options of `tai-grpc load`: ghz's, by ghz's names, and some more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final, TypeVar

import click

from tai_grpc.cli import params
from tai_grpc.cli.grouped import Heading
from tai_grpc.cli.load import config_file
from tai_grpc.cli.load.ghz import LEFT_OUT
from tai_grpc.cli.security import SECURITY, Security
from tai_grpc.load.plan import Arrivals, AtEnd
from tai_grpc.load.shapes import SHAPES

_F = TypeVar("_F", bound=Callable[..., Any])

SUMMARY: Final = "summary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(Security):
    """What the command line said, by the options' names. Durations are seconds, None where there is none."""

    hosts: tuple[str, ...]
    config: str | None
    # the method
    call: str | None
    proto: str | None
    import_paths: str | None
    protoset: str | None
    reflect_metadata: tuple[str, ...]
    # the requests
    data: str | None
    data_file: str | None
    binary: bool
    binary_file: str | None
    metadata: tuple[str, ...]
    metadata_file: str | None
    enable_compression: bool
    disable_template_functions: bool
    disable_template_data: bool
    stream_interval: float | None
    stream_call_count: int
    stream_call_duration: float | None
    stream_dynamic_messages: bool
    # the load
    concurrency: int
    total: int
    duration: float | None
    max_duration: float | None
    duration_stop: str
    timeout: float | None
    warmup: float | None
    rps: float
    load_schedule: str
    load_start: float | None
    load_end: float | None
    load_step: float | None
    load_step_duration: float | None
    load_max_duration: float | None
    arrivals: str | None
    closed: bool
    in_flight_at_any_time: bool
    # the connections
    connections: int | None
    connect_timeout: float
    cpus: int
    processes: int | None
    via: tuple[str, ...]
    max_recv_message_size: int
    # the report
    output: str
    form: str
    name: str
    tags: str
    fail_if: tuple[str, ...]


def _form(text: str) -> str:
    from tai_grpc.load.report import FORMATS  # noqa: PLC0415 - numpy is not loaded to print the help

    if text not in FORMATS:
        raise click.BadParameter(f"{text!r}: expected one of {', '.join(FORMATS)}")
    return text


def _left_out(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value is not None and not ctx.resilient_parsing:
        name = param.opts[0].removeprefix("--")
        raise click.UsageError(f"{param.opts[0]} is not supported: {LEFT_OUT[name]}")


_method = Heading("The method")
_requests = Heading("The requests")
_streams = Heading("Streams")
_load = Heading("The load")
_rate = Heading("A rate: the open loop")
_connections = Heading("Connections")
_tls = Heading("TLS and authentication")
_report = Heading("The report")
_other = Heading("Other")

_OPTIONS: Final = (
    _method.option(
        "--call", metavar="PKG.SERVICE/METHOD", help="The method, of any of the four kinds. Required."
    ),
    _method.option(
        "--proto",
        metavar="FILE",
        help="A .proto file that declares it; needs tai-grpc[proto], or protoc. Without --proto and "
        "--protoset the server's reflection is asked; tai.v1 and grpc.health.v1 are known anyway.",
    ),
    _method.option(
        "-i",
        "--import-paths",
        metavar="DIR,...",
        help="Where the proto's imports are, besides its own folder and the working directory.",
    ),
    _method.option(
        "--protoset", metavar="FILE", help="A compiled FileDescriptorSet (protoc --descriptor_set_out)."
    ),
    _method.option(
        "--reflect-metadata",
        multiple=True,
        metavar="JSON|KEY:VALUE",
        help="Metadata of the questions to the server's reflection. Default: the calls'.",
    ),
    _requests.option(
        "-d",
        "--data",
        metavar="JSON|@FILE|@",
        help="The request, JSON with templates; @FILE reads a file, @ stdin. Several (an array, or one after "
        "the other) are sent in turn; to a request stream, all in each call. Default: an empty message.",
    ),
    _requests.option("-D", "--data-file", metavar="FILE", help="The same as -d @FILE."),
    _requests.option(
        "-b",
        "--binary",
        is_flag=True,
        help="The request is read from stdin, serialized: one message, or several, each after its length "
        "as a varint.",
    ),
    _requests.option("-B", "--binary-file", metavar="FILE", help="The same from a file."),
    _requests.option(
        "-m",
        "--metadata",
        multiple=True,
        metavar="JSON|KEY:VALUE",
        help="Call metadata, with templates in the values; may be repeated. A -bin key's value is base64.",
    ),
    _requests.option("-M", "--metadata-file", metavar="FILE", help="A JSON object of call metadata."),
    _requests.option("-e", "--enable-compression", is_flag=True, help="Compress the requests with gzip."),
    _requests.option(
        "--disable-template-functions", is_flag=True, help="Render variables only: no function is known."
    ),
    _requests.option("--disable-template-data", is_flag=True, help="Send {{ as it is: no templates."),
    _streams.option(
        "--stream-interval",
        type=params.optional_duration,
        metavar="DURATION",
        help="Wait so long between two messages of a request stream.",
    ),
    _streams.option(
        "--stream-call-count",
        type=int,
        default=0,
        metavar="N",
        help="Send so many messages in each call, the data's from the beginning again where it has fewer; "
        "give a response stream up after so many. Default: all of them, once.",
    ),
    _streams.option(
        "--stream-call-duration",
        type=params.optional_duration,
        metavar="DURATION",
        help="End the requests of each call after so long; give a response stream up then.",
    ),
    _streams.option(
        "--stream-dynamic-messages",
        is_flag=True,
        help="Render the templates anew for every message of a request stream, not once a call.",
    ),
    _load.option(
        "-c",
        "--concurrency",
        type=int,
        default=50,
        show_default=True,
        help="Calls in flight: so many workers, or with a rate at most so many.",
    ),
    _load.option("-n", "--total", type=int, default=200, show_default=True, help="Calls to make."),
    _load.option(
        "-z",
        "--duration",
        type=params.optional_duration,
        metavar="DURATION",
        help="Make calls for so long, like 30s or 5m, instead of -n.",
    ),
    _load.option(
        "-x",
        "--max-duration",
        type=params.optional_duration,
        metavar="DURATION",
        help="Make -n calls, but end after so long.",
    ),
    _load.option(
        "--duration-stop",
        type=click.Choice([*(each.value for each in AtEnd), "ignore"], case_sensitive=False),
        default=AtEnd.WAIT.value,
        show_default=True,
        help="Calls in flight when the time is over: wait for them, or (close, ignore) give them up, "
        "counted as abandoned. ghz's default is close, which leaves the slowest calls out and so flatters "
        "the percentiles.",
    ),
    _load.option(
        "-t",
        "--timeout",
        type=params.optional_duration,
        default="20s",
        show_default=True,
        metavar="DURATION",
        help="How long one call may take; 0: an hour, the most there is.",
    ),
    _load.option(
        "--warmup",
        type=params.optional_duration,
        metavar="DURATION",
        help="Make the same load for so long before anything is measured or counted.",
    ),
    _rate.option(
        "-r",
        "--rps",
        type=float,
        default=0.0,
        metavar="RATE",
        help="Calls a second. They are due whether or not others have been answered, and latencies count "
        "from when each was due.",
    ),
    _rate.option(
        "--load-schedule",
        type=click.Choice(SHAPES, case_sensitive=False),
        default=SHAPES[0],
        show_default=True,
        help="const: -r. step: from --load-start by --load-step every --load-step-duration. line: from "
        "--load-start evenly by --load-step a second. Both end at --load-end, or after --load-max-duration.",
    ),
    _rate.option("--load-start", type=float, metavar="RATE", help="Calls a second at the beginning."),
    _rate.option("--load-step", type=float, metavar="RATE", help="How much is added; below 0: taken away."),
    _rate.option("--load-end", type=float, metavar="RATE", help="Where it ends; the rate stays there."),
    _rate.option(
        "--load-step-duration",
        type=params.optional_duration,
        metavar="DURATION",
        help="How long each step takes.",
    ),
    _rate.option(
        "--load-max-duration",
        type=params.optional_duration,
        metavar="DURATION",
        help="How long the rate changes; then it stays, at --load-end if there is one.",
    ),
    _rate.option(
        "--arrivals",
        type=click.Choice([each.value for each in Arrivals], case_sensitive=False),
        help="Calls at equal distances, or at random ones, as from independent users. Default: uniform.",
    ),
    _rate.option(
        "--closed",
        is_flag=True,
        help="Count latencies from when each call was sent, as ghz does: waiting is left out.",
    ),
    _rate.option(
        "--async",
        "in_flight_at_any_time",
        is_flag=True,
        help="As in ghz, and how it is anyway: a rate does not wait for responses.",
    ),
    _connections.option(
        "--connections",
        type=int,
        metavar="N",
        help="Connections, spread over the hosts in turn. Default: one a host, and one a thread.",
    ),
    _connections.option(
        "--connect-timeout",
        type=params.timeout,
        default="10s",
        show_default=True,
        metavar="DURATION",
        help="How long making a connection may take, and each question to the server's reflection.",
    ),
    _connections.option(
        "--cpus",
        "--threads",
        type=int,
        default=1,
        show_default=True,
        help="Threads that make the load, a core each; in each process. No more than it has connections.",
    ),
    _connections.option(
        "--processes",
        type=int,
        metavar="N",
        help="Processes that make the load: calls, rate, concurrency and connections are divided among them, "
        "and their histograms added exactly. Default: this one.",
    ),
    _connections.option(
        "--via",
        multiple=True,
        metavar="COMMAND",
        help="Add a process on another machine, by a command that runs `tai-grpc` there, like 'ssh box'; may "
        "be repeated.",
    ),
    _connections.option(
        "--max-recv-message-size",
        type=params.size,
        default="64MiB",
        show_default=True,
        metavar="SIZE",
        help="The largest response that is taken, like 4MB.",
    ),
    *(_tls.option(*names, **attributes) for names, attributes in SECURITY),
    _report.option(
        "-o", "--output", default="-", metavar="FILE", help="Where the report goes. Default: stdout."
    ),
    _report.option(
        "-O",
        "--format",
        "form",
        type=_form,
        default=SUMMARY,
        show_default=True,
        metavar="FORM",
        help="summary, csv, json, pretty, html, prometheus, hlog (HdrHistogram's log) or hgrm (its "
        "percentiles). json has ghz's keys, in nanoseconds.",
    ),
    _report.option("--name", default="", help="A name for the report."),
    _report.option("--tags", default="{}", metavar="JSON", help="An object of strings, for the report."),
    _report.option(
        "--fail-if",
        multiple=True,
        metavar="CONDITION",
        help="End with exit code 1 when it is true, like p99.9>50ms, errors>0.1%, missed>0 or rps<10000 (of "
        "p50 to p100, avg, min, max, errors, missed, rps, count); may be repeated. Without one about "
        "errors, a call that fails does so.",
    ),
    _other.option(
        "--config",
        callback=config_file.apply,
        is_eager=True,
        metavar="FILE",
        help="A .json or .toml file of these options by their long names, and host, as in ghz. "
        "The command line goes before it.",
    ),
    *(
        click.option(f"--{name}", hidden=True, expose_value=False, callback=_left_out)
        for name in LEFT_OUT
        if name != "count-errors"
    ),
    click.option(
        "--count-errors",
        is_flag=True,
        flag_value=True,
        default=None,
        hidden=True,
        expose_value=False,
        callback=_left_out,
    ),
)


def options(function: _F) -> _F:
    """Decorate a command with all of them."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), function)
