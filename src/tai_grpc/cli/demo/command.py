"""Runs the steps, one after the other, and ends at the first that does not hold."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Final

import click
from rich.console import Console

from tai_grpc.cli import params
from tai_grpc.cli.demo import actions, failover, policies, tasks
from tai_grpc.cli.demo.checks import expect
from tai_grpc.cli.demo.display import Display
from tai_grpc.cli.demo.servers import Server, servers
from tai_grpc.cli.demo.stage import Stage, StepResult
from tai_grpc.cli.demo.table import make_table
from tai_grpc.cli.failure import Failure
from tai_grpc.cli.help import epilog
from tai_grpc.config import Transport
from tai_grpc.errors import TaiGrpcError
from tai_grpc.observability.logging import configure_logging
from tai_grpc.transport import chosen
from tai_grpc.transport.loop import run

_SERVERS: Final = 3
_TABLE_WIDTH: Final = 110
_TERMINATED: Final = 143
"""The exit code after SIGTERM or SIGHUP, which ends the demo as Ctrl-C does."""
_STEPS: Final[Sequence[tuple[str, str, Callable[[Stage], Awaitable[StepResult]]]]] = (
    ("policies", "propose, enforce, supersede and revoke, while a stream watches", policies.run),
    ("actions", "two consumer groups, one delivery handed back, one lease that runs out", actions.run),
    ("tasks", "1,000 by priority, some due later, some cancelled, run by workers", tasks.run),
    ("failover", "three endpoints under load, one of them killed and restarted", failover.run),
)
_HELP: Final = """Start three servers on loopback and drive every part of them through the client.

\b
  1. Policies are proposed, enforced, superseded and revoked, while a stream watches.
  2. Signals and actions reach two consumer groups; one delivery is handed back, one lease runs out.
  3. 1,000 tasks with priorities, some due later, some cancelled, are run by workers.
  4. Three endpoints are under load. One is ended by kill -9 and restarted: its breaker opens, the
     traffic moves, no call fails, the breaker half-opens and closes.

Each answer is checked. The exit code is 0 only if every step held; the first that did not says what was
expected and what was seen. The servers end with the demo, however it ends. It takes under a minute.
"""


@click.command(
    short_help="See every part at work, checked, in under a minute.",
    help=_HELP,
    epilog=epilog("tai-grpc demo", "tai-grpc demo --transport grpcio"),
)
@params.transport
@click.pass_context
def command(ctx: click.Context, *, transport: Transport | None) -> None:
    carrier = chosen(transport)
    # Some handlers fail as planned: what is wrong is said by the steps, not by the log.
    configure_logging(logging.CRITICAL)
    console = Console()
    if not console.is_terminal:
        console.width = _TABLE_WIDTH
    display = Display(console)
    begun = time.monotonic()
    try:
        with display.showing():
            results = run(_demo(display, carrier))
    except asyncio.CancelledError:
        ctx.exit(_TERMINATED)
    console.print(make_table(results))
    console.print(f"Every step held: {time.monotonic() - begun:.1f} s.", highlight=False)


async def _demo(display: Display, transport: Transport) -> list[StepResult]:
    if (task := asyncio.current_task()) is not None:
        # As Ctrl-C does: the servers are ended before this process is.
        for each in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(each, task.cancel)
    results = []
    async with AsyncExitStack() as stack:
        with _one_sentence("starting the servers"):
            running = await stack.enter_async_context(servers(_SERVERS, transport))
        for server in running:
            display.say(f"server on {server.address}, process {server.pid}, transport {transport}")
        for number, (name, what, step) in enumerate(_STEPS, 1):
            with display.step(number, len(_STEPS), name, what), _one_sentence(name, running):
                result = await step(Stage(running, transport, display))
                expect("calls that failed", result.refused, result.stats.failed)
                results.append(result)
        with _one_sentence("stopping the servers", running):
            for server in running:
                await server.stop()
    return results


@contextmanager
def _one_sentence(what: str, running: Sequence[Server] = ()) -> Iterator[None]:
    """Turn whatever keeps the block from holding into one sentence."""
    try:
        yield
    except (TaiGrpcError, ExceptionGroup) as error:
        cause: Exception = error
        while isinstance(cause, ExceptionGroup):
            cause = cause.exceptions[0]
        if not isinstance(cause, TaiGrpcError):
            raise
        logs = "".join(
            f"; the server on {server.address} logged: {server.log}" for server in running if server.log
        )
        raise Failure(f"{what} did not hold: {cause}{logs}") from None
