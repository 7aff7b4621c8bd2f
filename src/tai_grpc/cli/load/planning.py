"""Makes the plan of a run from what the command line says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import grpc
from click.core import ParameterSource

from tai_grpc.checks import MAX_CONCURRENCY, check_int
from tai_grpc.cli import params
from tai_grpc.cli.failure import Failure
from tai_grpc.cli.load.config_file import HOSTS
from tai_grpc.cli.load.options import Options
from tai_grpc.cli.load.waiting import waiting
from tai_grpc.cli.rpc_failure import rpc_failure
from tai_grpc.errors import ConfigError
from tai_grpc.load.channels import open_blocking_channel
from tai_grpc.load.metadata import parse_metadata
from tai_grpc.load.methods import Method, find_method, method_of
from tai_grpc.load.payload import parse_string_map
from tai_grpc.load.plan import (
    MAX_THREADS,
    MAX_TIMEOUT,
    Arrivals,
    AtEnd,
    LoadPlan,
    Schedule,
    Streaming,
    TlsPlan,
)
from tai_grpc.load.protos import compile_proto, read_protoset
from tai_grpc.load.reflection import status_of
from tai_grpc.load.requests import Data, make_requests
from tai_grpc.load.shapes import Change, Need, constant, line, steps
from tai_grpc.status import Metadata

_SHAPE_OPTIONS: Final = ("load_start", "load_step", "load_end", "load_step_duration", "load_max_duration")


class _NotBegunError(Failure):
    """Nothing was measured yet."""

    exit_code = 2


def make_plan(ctx: click.Context, options: Options) -> LoadPlan:
    """Return the plan; asks the server for its descriptors when no file has them.

    Raises:
        click.UsageError: options are missing, or do not go together.
        ConfigError: a value is out of its range.
        RequestError: there is no such method, or the data does not fit it.
        Failure: the server cannot be asked.
    """
    hosts = _hosts(ctx, options)
    if options.call is None:
        raise click.UsageError("--call is missing: the method, like --call tai.v1.Governor/HealthCheck")
    given = _Given(ctx)
    connections, threads = _sizes(options, len(hosts))
    total, duration = _amount(given, options)
    warmup = options.warmup or 0.0
    schedule = _schedule(given, options, Need(calls=total, warmup=warmup, duration=duration))
    streaming = Streaming(
        interval=options.stream_interval or 0.0,
        messages=options.stream_call_count or None,
        duration=options.stream_call_duration,
    )
    tls = options.tls_plan()
    metadata = _metadata(options)
    data = _data(given, options, metadata, streaming)
    labels = parse_string_map(options.tags, "tags")
    method = _method(given, options, hosts[0], tls, metadata)
    return LoadPlan(
        hosts=hosts,
        method=method,
        requests=make_requests(method, data),
        tls=tls,
        authority=options.authority,
        gzip=options.enable_compression,
        concurrency=options.concurrency,
        total=total,
        duration=duration,
        at_end=AtEnd.WAIT if options.duration_stop == AtEnd.WAIT.value else AtEnd.CLOSE,
        schedule=schedule,
        closed=options.closed,
        warmup=warmup,
        timeout=options.timeout or MAX_TIMEOUT,
        connections=connections,
        connect_timeout=options.connect_timeout,
        threads=threads,
        max_message_bytes=options.max_recv_message_size,
        streaming=streaming,
        name=options.name,
        tags=labels,
    )


class _Given:
    """Which options were given, and where: the command line goes before a --config file."""

    def __init__(self, ctx: click.Context) -> None:
        self._ctx = ctx
        self._names = {param.name: param.opts[-1] for param in ctx.command.params}

    def one_of(self, *names: str) -> str | None:
        """Return which one of options that do not go together was given, or None.

        Raises:
            click.UsageError: two of them were, in the same place.
        """
        for source in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP):
            found = [name for name in names if self._source(name) is source and self._is_on(name)]
            if len(found) > 1:
                first, second = self._names[found[0]], self._names[found[1]]
                raise click.UsageError(f"{first} and {second} do not go together: give one of them")
            if found:
                return found[0]
        return None

    def any_of(self, *names: str) -> str | None:
        """Return the first one of these options that was given, as it is written, or None."""
        return next((self._names[name] for name in names if self._source(name) and self._is_on(name)), None)

    def _source(self, name: str) -> ParameterSource | None:
        source = self._ctx.get_parameter_source(name)
        return source if source in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP) else None

    def _is_on(self, name: str) -> bool:
        """A flag that is false, or a duration of 0, is as if it were not there."""
        return self._ctx.params.get(name) not in (None, False, ())


def _hosts(ctx: click.Context, options: Options) -> tuple[str, ...]:
    # Not every click takes an argument that is not given from the default map.
    given = options.hosts or (ctx.default_map or {}).get(HOSTS, ())
    hosts = [
        params.address(host.strip().removeprefix("dns:///"))
        for each in given
        for host in each.split(",")
        if host.strip()
    ]
    if not hosts:
        raise click.UsageError("a HOST:PORT is missing, like 127.0.0.1:50051")
    return tuple(hosts)


def _sizes(options: Options, hosts: int) -> tuple[int, int]:
    """Return how many connections there are, and how many threads a process has.

    Connections are as many as were asked for, or else one a host and one a thread. A thread that would be
    without a connection is left out: ghz has no such limit, and --cpus in its config files.
    """
    check_int("cpus", options.cpus, 1, MAX_THREADS)
    check_int("concurrency", options.concurrency, 1, MAX_CONCURRENCY)
    processes = max(1, (options.processes or 0) + len(options.via))
    connections = options.connections
    if connections is None:
        needed = max(hosts, processes)
        if options.concurrency < needed:  # an error is about what was given, and not about connections
            accepted = f"at least one a host and a process ({needed})"
            raise ConfigError("concurrency", options.concurrency, accepted)
        connections = min(max(hosts, options.cpus * processes), options.concurrency)
    return connections, min(options.cpus, max(1, connections // processes))


def _amount(given: _Given, options: Options) -> tuple[int | None, float | None]:
    """Return how many calls are made and how long, None where that is not what ends the run."""
    match given.one_of("duration", "max_duration"):
        case "duration":
            return None, options.duration
        case "max_duration":
            return options.total, options.max_duration
    return options.total, None


def _schedule(given: _Given, options: Options, need: Need) -> Schedule | None:
    arrivals = Arrivals.UNIFORM if options.arrivals is None else Arrivals(options.arrivals)
    shape = options.load_schedule
    if shape == "const":
        if (other := given.any_of(*_SHAPE_OPTIONS)) is not None:
            raise click.UsageError(f"{other} goes with --load-schedule step or line")
        if options.rps:
            return constant(options.rps, arrivals)
        if (other := given.any_of("arrivals", "closed", "in_flight_at_any_time")) is not None:
            raise click.UsageError(f"{other} goes with a rate: give -r or --load-schedule too")
        return None
    if options.rps:
        raise click.UsageError(f"-r is the rate of --load-schedule const; {shape} begins at --load-start")
    if options.load_start is None or options.load_step is None:
        raise click.UsageError(f"--load-schedule {shape} needs --load-start and --load-step")
    if shape == "line" and options.load_step_duration is not None:
        raise click.UsageError(
            "--load-step-duration goes with --load-schedule step; a line's step is a second's"
        )
    change = Change(
        start=options.load_start,
        step=options.load_step,
        end=options.load_end or None,  # as in ghz, where 0 is none
        step_duration=options.load_step_duration,
        max_duration=options.load_max_duration,
    )
    return line(change, arrivals) if shape == "line" else steps(change, need, arrivals)


def _metadata(options: Options) -> tuple[str, ...]:
    entries = list(options.metadata)
    if options.metadata_file:
        entries.append(params.read_file(options.metadata_file, "metadata-file"))
    return (*entries, *options.metadata_of_token())


def _data(given: _Given, options: Options, metadata: Sequence[str], streaming: Streaming) -> Data:
    text: str | None = None
    binary: bytes | None = None
    match given.one_of("data", "data_file", "binary", "binary_file"):
        case "data":
            text = params.read_data(options.data)
        case "data_file":
            text = params.read_file(options.data_file or "")
        case "binary":
            binary = params.read_bytes("-", "binary")
        case "binary_file":
            binary = params.read_bytes(options.binary_file or "", "binary-file")
    if options.stream_dynamic_messages and binary is not None:
        raise click.UsageError("--stream-dynamic-messages needs data with templates, not serialized messages")
    return Data(
        text=text,
        binary=binary,
        metadata=metadata,
        templates=not options.disable_template_data,
        functions=not options.disable_template_functions,
        workers=options.concurrency,
        dynamic=options.stream_dynamic_messages,
        stream_messages=streaming.messages,
    )


def _method(
    given: _Given, options: Options, host: str, tls: TlsPlan | None, metadata: Sequence[str]
) -> Method:
    call = options.call or ""
    match given.one_of("proto", "protoset"):
        case "proto":
            folders = [Path(each) for each in (options.import_paths or "").split(",") if each]
            return method_of(compile_proto(Path(options.proto or ""), folders), call, str(options.proto))
        case "protoset":
            return method_of(read_protoset(Path(options.protoset or "")), call, str(options.protoset))
    if options.import_paths:
        raise click.UsageError("--import-paths goes with --proto")
    return _from_server(options, host, tls, _reflection_metadata(options, metadata))


def _reflection_metadata(options: Options, metadata: Sequence[str]) -> Metadata:
    """What was given for it, or that of the calls but for templates, which need the method."""
    if options.reflect_metadata:
        return parse_metadata(options.reflect_metadata)
    return tuple((key, value) for key, value in parse_metadata(metadata) if "{{" not in str(value))


def _from_server(options: Options, host: str, tls: TlsPlan | None, metadata: Metadata) -> Method:
    call, timeout = options.call or "", options.connect_timeout
    try:
        with (
            waiting(f"asking {host} what {call} takes"),
            open_blocking_channel(host, tls=tls, authority=options.authority) as channel,
        ):
            return find_method(channel, call, timeout=timeout, metadata=metadata)
    except grpc.RpcError as error:
        said = rpc_failure(error, host, call, tls=tls is not None).message
        if status_of(error) is grpc.StatusCode.DEADLINE_EXCEEDED:
            said = f"{host}: no answer to reflection within {timeout:g} s (--connect-timeout)"
        raise _NotBegunError(said) from None
