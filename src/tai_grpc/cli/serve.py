"""`tai-grpc serve`: the control plane on one address, until it is asked to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Literal

import click

from tai_grpc.cli import params
from tai_grpc.cli.failure import Failure
from tai_grpc.cli.help import epilog
from tai_grpc.config import GrpcServerConfig, Transport
from tai_grpc.observability.logging import configure_logging
from tai_grpc.resilience import Arena
from tai_grpc.server import GrpcServer, run_workers
from tai_grpc.server.workers import MAX_WORKERS
from tai_grpc.stores.memory import MemoryStore
from tai_grpc.transport.loop import run

_DEFAULTS: Final = GrpcServerConfig()
_LEVELS: Final = ("debug", "info", "warning", "error")
EXIT_CODES: Final = (
    ("0", "it was asked to stop, and did within --grace"),
    ("1", "the address cannot be listened on"),
    ("2", "the command line is wrong"),
)


def _store(text: str) -> str:
    if text != "memory":
        raise click.BadParameter(f"{text!r} is not in this version, whose only store is memory")
    return text


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise click.BadParameter(f"{text!r}: expected a number of processes from 1 to {MAX_WORKERS}")
    workers = int(text)
    if workers > 1 and not MemoryStore.shared:
        raise click.BadParameter(
            f"{workers} processes cannot share the store, which is in the memory of one: serve with 1"
        )
    return workers


@click.command(
    short_help="Serve the Governor, the Coordinator and the Scheduler.",
    epilog=epilog(
        "tai-grpc serve",
        "tai-grpc serve --listen 0.0.0.0:50051 --grace 30s --log-format json",
        "tai-grpc serve --listen unix:/run/tai.sock --transport grpcio",
        "tai-grpc serve --listen 127.0.0.1:0        # a free port: the first line of stdout names it",
        codes=EXIT_CODES,
    ),
)
@click.option(
    "--listen",
    type=params.address,
    default=_DEFAULTS.listen,
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; [IPV6]:PORT and unix:PATH too. Port 0 takes a free one.",
)
@click.option(
    "--store",
    type=_store,
    default="memory",
    show_default=True,
    metavar="memory",
    expose_value=False,
    help="Where the state is kept: in this process, and gone when it ends.",
)
@click.option(
    "--workers",
    type=_workers,
    default="1",
    show_default=True,
    metavar="N",
    help="Processes that serve on the one port. More than 1 would need a store that they can share, which "
    "this version does not have.",
)
@params.transport
@click.option(
    "--grace",
    type=params.duration,
    default=f"{_DEFAULTS.grace:g}s",
    show_default=True,
    metavar="DURATION",
    help="How long calls in flight may go on after SIGTERM or SIGINT.",
)
@click.option(
    "--max-timeout",
    type=params.timeout,
    default=f"{_DEFAULTS.max_timeout:g}s",
    show_default=True,
    metavar="DURATION",
    help="No call, a stream excepted, takes longer than this.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The form of the log lines on stderr.",
)
@click.option(
    "--log-level",
    type=click.Choice(_LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="The least that is logged; debug logs every call.",
)
def command(
    *,
    listen: str,
    workers: int,
    transport: Transport | None,
    grace: float,
    max_timeout: float,
    log_format: Literal["text", "json"],
    log_level: str,
) -> None:
    """Serve tai.v1.Governor, tai.v1.Coordinator and tai.v1.Scheduler, beside grpc.health.v1.Health and server
    reflection, until SIGTERM or SIGINT.

    One line on stdout says when it is ready, where, and with which services. When asked to stop it turns its
    health to NOT_SERVING, refuses new calls, lets those in flight finish within --grace, and exits with 0; a
    second signal ends it at once.
    """
    configure_logging(log_level.upper(), log_format)
    config = GrpcServerConfig(listen=listen, grace=grace, max_timeout=max_timeout, transport=transport)
    if workers == 1:
        run(_serve(config))
    else:
        _serve_by_workers(config, workers)


async def _serve(config: GrpcServerConfig) -> None:
    server = GrpcServer(config)
    try:
        await server.start()
    except OSError as error:
        raise Failure(str(error)) from None
    # Said only after `run` has taken over the signals: whoever waits for this line may send one at once.
    asyncio.get_running_loop().call_soon(_say_ready, server.address, server.service_names)
    await server.run()


def _serve_by_workers(config: GrpcServerConfig, workers: int) -> None:
    def make_server(arena: Arena) -> GrpcServer:
        return GrpcServer(config, arena=arena)

    try:
        run_workers(make_server, workers, ready=_say_ready)
    except OSError as error:
        raise Failure(str(error)) from None


def _say_ready(address: str, service_names: Sequence[str]) -> None:
    click.echo(f"tai-grpc: serving on {address}: {', '.join(service_names)}")
