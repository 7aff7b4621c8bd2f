"""One worker of `run_workers`, in its own process: a server that lives until it is asked to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

from tai_grpc.errors import TaiGrpcError
from tai_grpc.resilience import Arena
from tai_grpc.server.counts import Slot
from tai_grpc.server.grpc_server import GrpcServer
from tai_grpc.server.ports import check_free
from tai_grpc.transport.loop import run

_log = logging.getLogger(__name__)

MakeServer = Callable[[Arena], GrpcServer]


class Serving(NamedTuple):
    """What a worker reports once it listens."""

    address: str
    service_names: Sequence[str]
    grace: float


class Assignment(NamedTuple):
    """What a worker is started for. `listen` is None for the first one: its config says where.

    `report` takes one `Serving`, or the error for which there is none; `lifeline` ends with the supervisor.
    """

    make_server: MakeServer
    arena: Arena
    slot: Slot
    listen: str | None
    report: Connection
    lifeline: Connection


def work(assignment: Assignment, foreign: Sequence[Connection]) -> None:
    """Be a worker. `foreign` are the supervisor's own ends of pipes. The signals are blocked on entry."""
    for connection in foreign:
        connection.close()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Ctrl-C reaches all processes of a terminal, and the supervisor passes it on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(run(_serve(assignment)))


async def _serve(assignment: Assignment) -> int:
    """Serve until SIGTERM or the end of the supervisor; return the exit code."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    # Nothing is ever sent on it: it is readable when it has ended.
    loop.add_reader(assignment.lifeline.fileno(), _orphaned, loop, assignment.lifeline, asked)
    try:
        server = await _started(assignment)
    except (TaiGrpcError, OSError) as error:
        assignment.report.send(error)
        return 1
    except Exception as error:
        _log.exception("worker %d did not start", assignment.slot.number)
        assignment.report.send(TaiGrpcError(f"{type(error).__name__}: {error}"))
        return 1
    with assignment.report as report:
        report.send(Serving(server.address, server.service_names, server.config.grace))
    await asked.wait()
    await server.stop()
    return 0


async def _started(assignment: Assignment) -> GrpcServer:
    server = assignment.make_server(assignment.arena)
    if not isinstance(server, GrpcServer):
        raise TaiGrpcError(f"make_server returned {server!r}: expected a GrpcServer")
    server._become_worker(assignment.slot, assignment.listen)
    if assignment.listen is None:
        check_free(server.config.listen)
    await server.start()
    return server


def _orphaned(loop: asyncio.AbstractEventLoop, lifeline: Connection, asked: asyncio.Event) -> None:
    loop.remove_reader(lifeline.fileno())
    _log.error("the supervisor is gone: stopping")
    asked.set()
