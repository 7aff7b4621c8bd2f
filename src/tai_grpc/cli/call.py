"""`tai-grpc call`: one call, JSON in and out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import click
import grpc
from google.protobuf.message import Message

from tai_grpc.cli import params
from tai_grpc.cli.failure import Failure
from tai_grpc.cli.help import epilog
from tai_grpc.cli.interrupt import end_at_ctrl_c
from tai_grpc.cli.rpc_failure import rpc_failure
from tai_grpc.cli.security import Security, with_security
from tai_grpc.config import Transport
from tai_grpc.load.channels import open_blocking_channel
from tai_grpc.load.errors import RequestError
from tai_grpc.load.exchange import BlockingChannel
from tai_grpc.load.metadata import parse_metadata
from tai_grpc.load.methods import Method, find_method
from tai_grpc.load.payload import format_message, parse_messages
from tai_grpc.status import Metadata

DEFAULT_TIMEOUT: Final = 20.0
EXIT_CODES: Final = (
    ("0", "the call ended with OK"),
    ("1", "the call failed, or what it brought cannot be written"),
    ("2", "the command line or the data is wrong, the method is unknown, the host cannot be reached"),
    ("130", "ended by Ctrl-C"),
)


@click.command(
    short_help="Make one call, JSON in and out.",
    epilog=epilog(
        "tai-grpc call 127.0.0.1:50051 tai.v1.Governor/HealthCheck",
        "tai-grpc call 127.0.0.1:50051 tai.v1.Governor/ProposePolicy \\\n"
        """  -d '{"id":"security-policy-1","policy_type":"security","rules":{"a":"b"}}'""",
        """tai-grpc call 127.0.0.1:50051 tai.v1.Governor/StreamPolicies -d '{"from_revision":1}'""",
        "tai-grpc call 127.0.0.1:50051 tai.v1.Scheduler/SubmitTask -d @task.json -m x-trace-id:42 -t 2s",
        codes=EXIT_CODES,
    ),
)
@click.argument("host", type=params.address, metavar="HOST:PORT")
@click.argument("method", metavar="PKG.SERVICE/METHOD")
@click.option(
    "-d",
    "--data",
    metavar="JSON|@FILE|@",
    help="The request: JSON, @FILE to read it from a file, or @ to read it from stdin. "
    "For a request stream several objects one after the other, or one array of them. "
    "Default: an empty message, or an empty stream.",
)
@click.option(
    "-m",
    "--metadata",
    multiple=True,
    metavar="KEY:VALUE",
    help="Call metadata, also as a JSON object; may be repeated. The value of a -bin key is base64.",
)
@click.option(
    "-t",
    "--timeout",
    type=params.timeout,
    metavar="DURATION",
    help="How long the call may take, like 20s, 1m30s or 250ms. Default: 20s, and no limit for a call "
    "whose responses are a stream.",
)
@params.transport
@with_security
@click.option("--emit-defaults", is_flag=True, help="Print the fields that have their default value too.")
def command(
    *,
    host: str,
    method: str,
    data: str | None,
    metadata: tuple[str, ...],
    timeout: float | None,
    emit_defaults: bool,
    transport: Transport | None,
    **security: Any,
) -> None:
    """Make one call and print its response as JSON.

    The types come from the server's reflection. When it has none, tai.v1.Governor, tai.v1.Coordinator,
    tai.v1.Scheduler and grpc.health.v1.Health are known all the same.

    Fields are named as in the proto or in camelCase, and printed as in the proto. int64 values are printed as
    strings and bytes as base64, as the protobuf JSON mapping says. A stream's responses are printed one a
    line, as they come.
    """
    end_at_ctrl_c()
    secured = Security(**security)
    tls = secured.tls_plan()
    pairs = parse_metadata((*metadata, *secured.metadata_of_token()))
    text = params.read_data(data)
    indent = None
    with open_blocking_channel(host, transport, tls=tls, authority=secured.authority) as channel:
        try:
            found = find_method(channel, method, timeout=timeout or DEFAULT_TIMEOUT, metadata=pairs)
            requests = _requests(found, text)
            if not found.server_streaming:
                indent = 2
                timeout = timeout or DEFAULT_TIMEOUT
            for response in _exchange(channel, found, requests, metadata=pairs, timeout=timeout):
                click.echo(format_message(found, response, defaults=emit_defaults, indent=indent))
        except grpc.RpcError as error:
            raise rpc_failure(error, host, method, tls=tls is not None) from None


def _requests(method: Method, data: str | None) -> list[Message]:
    if data is None:
        return [] if method.client_streaming else [method.request_type()]
    requests = parse_messages(method, data)
    if not method.client_streaming and len(requests) != 1:
        raise RequestError(f"{method.full_name} takes one request, and the data holds {len(requests)}")
    return requests


def _exchange(
    channel: BlockingChannel,
    method: Method,
    requests: Sequence[Message],
    *,
    metadata: Metadata,
    timeout: float | None,
) -> Iterator[Message]:
    exchange = channel.stream_stream(
        method.path,
        request_serializer=method.request_type.SerializeToString,
        response_deserializer=method.response_type.FromString,
    )
    count = 0
    for response in exchange(iter(requests), timeout=timeout, metadata=metadata):
        count += 1
        yield response
    if count != 1 and not method.server_streaming:
        raise Failure(f"{method.full_name}: the server gave {count} responses instead of one")
