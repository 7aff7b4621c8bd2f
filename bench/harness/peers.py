"""Who takes part, and the servers and clients of a run: started when first asked for."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from bench.harness.processes import CLIENTS, END_SECONDS, SERVERS, Process, python
from bench.paths import BUILD
from bench.peers.rpc.certificates import issue
from bench.peers.rpc.echo import generate
from bench.peers.rpc.protocol import NotBuiltError, Tls

OURS: Final = "tai_grpc.aio"
RESILIENT: Final = "tai_grpc.GrpcClient"
GRPCIO: Final = "grpcio aio"
PYGRPC: Final = "pygrpc-native"
TONIC: Final = "tonic"
TONIC_ONE_THREAD: Final = "tonic, current_thread"
BORROWED: Final = f"{PYGRPC} server, {GRPCIO} client"
"""It has no client of its own."""
LIMIT: Final = "TCP ping-pong"


@dataclass(frozen=True)
class Contender:
    """What a client is measured with: modules of bench.peers.rpc.transports, or programs built beforehand."""

    client: str
    server: str


CONTENDERS: Final = {
    LIMIT: Contender("tcp_ping_pong", "tcp_ping_pong"),
    OURS: Contender("tai_aio", "tai_aio"),
    RESILIENT: Contender("tai_client", "tai_aio"),
    GRPCIO: Contender("grpcio_aio", "grpcio_aio"),
    "grpcio sync": Contender("grpcio_sync", "grpcio_sync"),
    "grpclib": Contender("grpclib", "grpclib"),
    BORROWED: Contender("grpcio_aio", "pygrpc_native"),
}

SERVERS_UNDER_LOAD: Final = {
    OURS: "tai_aio",
    GRPCIO: "grpcio_aio",
    "grpcio sync": "grpcio_sync",
    "grpclib": "grpclib",
    PYGRPC: "pygrpc_native",
    TONIC: "tonic",
    TONIC_ONE_THREAD: "tonic_one_thread",
    "grpc-go": "grpc_go",
}

PROGRAMS: Final[dict[str, tuple[Path, *tuple[str, ...]]]] = {
    "tonic": (BUILD / "tonic" / "release" / "bench-tonic",),
    "tonic_one_thread": (BUILD / "tonic" / "release" / "bench-tonic", "--one-thread"),
    "grpc_go": (BUILD / "grpc_go" / "bench-go",),
}
"""Peers that are not Python: what `make bench` built, and what it is told first."""
_MADE_BY: Final = {
    "tonic": ("tonic", "cargo"),
    "tonic_one_thread": ("tonic", "cargo"),
    "grpc_go": ("grpc_go", "go"),
}
_PEER: Final = "bench.peers.rpc.process"
_ANY_PORT: Final = "0"
"""What a server is told, which says when it is ready where it listens: so none takes another's port."""


@dataclass(frozen=True)
class Server:
    process: Process

    @property
    def port(self) -> int:
        return self.process.port


class Peers:
    """The servers and clients of one run; one that has failed is started again when it is next asked for.

    One that is not built stays so for the run.
    """

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self._servers: dict[tuple[str, bool], Server | str] = {}
        self._clients: dict[tuple[str, str, bool], Process | str] = {}
        self._all: list[Process] = []

    @cached_property
    def tls(self) -> Tls:
        return issue(BUILD / "tls")

    def server(self, peer: str, *, tls: bool = False) -> Server:
        """Return the peer's server.

        Raises:
            NotBuiltError: the peer cannot be run here.
            PeerFailedError: it did not start.
        """
        key = (peer, tls)
        found = self._servers.get(key)
        if found is None or (isinstance(found, Server) and not found.process.runs):
            try:
                found = self.fresh_server(peer, tls=tls)
            except NotBuiltError as error:
                found = str(error)
            self._servers[key] = found
        if isinstance(found, str):
            raise NotBuiltError(found)
        return found

    def fresh_server(self, peer: str, *, tls: bool = False) -> Server:
        """Start a server that nothing else has used.

        Raises:
            NotBuiltError: the peer cannot be run here.
            PeerFailedError: it did not start.
        """
        generate()
        name = f"{peer} server{' TLS' if tls else ''}"
        certificates = self._certificates(tls=tls)
        if peer in PROGRAMS:
            process = Process(name, [*_program(peer), _ANY_PORT, *certificates], SERVERS)
        else:
            process = python(name, _PEER, peer, "server", _ANY_PORT, *certificates, cpu=SERVERS)
        return Server(self._started(process))

    def client(self, client: str, server: str, *, tls: bool = False) -> Process:
        """Return the client's process, connected to the server's.

        Raises:
            NotBuiltError: one of the two cannot be run here.
            PeerFailedError: one of the two did not start.
        """
        key = (client, server, tls)
        found = self._clients.get(key)
        if found is None or (isinstance(found, Process) and not found.runs):
            try:
                found = self.another_client(client, self.server(server, tls=tls), tls=tls)
            except NotBuiltError as error:
                found = str(error)
            self._clients[key] = found
        if isinstance(found, str):
            raise NotBuiltError(found)
        return found

    def another_client(self, client: str, server: Server, *, tls: bool = False) -> Process:
        """Start a client of a server.

        Raises:
            NotBuiltError: it cannot be run here.
            PeerFailedError: it did not start.
        """
        name = f"{client} client of {server.process.name}"
        arguments = (client, "client", str(server.port), *self._certificates(tls=tls))
        return self._started(python(name, _PEER, *arguments, cpu=CLIENTS, needs=server.process))

    def _certificates(self, *, tls: bool) -> list[str]:
        return [str(self.tls.folder)] if tls else []

    def _started(self, process: Process) -> Process:
        process.until_ready()
        self._all.append(process)
        self.versions |= process.versions
        return process

    def end(self) -> None:
        """End all of them, clients first, in the time that one may take."""
        for process in reversed(self._all):
            process.ask_no_more()
        end = time.monotonic() + END_SECONDS
        for process in reversed(self._all):
            process.end(max(0.0, end - time.monotonic()))


def _program(peer: str) -> list[str]:
    program, *options = PROGRAMS[peer]
    if not program.exists():
        raise NotBuiltError(why_not_built(*_MADE_BY[peer]))
    return [str(program), *options]


def why_not_built(program: str, tool: str) -> str:
    """Say why `make bench` has left no such program."""
    if shutil.which(tool) is None:
        return f"no {tool} here"
    log = BUILD / "logs" / f"{program}-build.log"
    if not log.exists():
        return "`make bench` builds it"
    return f"`make bench` could not build it: see {log.relative_to(BUILD.parents[1])}"
