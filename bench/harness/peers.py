"""Who takes part, and the servers and clients of a run: started when first asked for."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from bench.harness.processes import CLIENTS, SERVERS, PeerFailedError, Process, free_port, python
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
_MADE_BY: Final = {"bench-tonic": ("tonic", "cargo"), "bench-go": ("grpc_go", "go")}


@dataclass
class Server:
    process: Process
    port: int


class Peers:
    """The servers and clients of one run; one that has failed is started again when it is next asked for."""

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
            NotBuiltError: the peer cannot be run here, or did not start.
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
            NotBuiltError: the peer cannot be run here, or did not start.
        """
        generate()
        port = free_port()
        name = f"{peer} server{' TLS' if tls else ''}"
        if peer in PROGRAMS:
            process = self._program(name, peer, port, self.tls if tls else None)
        else:
            process = self._python(name, peer, "server", port, tls=tls, cpu=SERVERS)
        self._started(process)
        return Server(process, port)

    def client(self, client: str, server: str, *, tls: bool = False) -> Process:
        """Return the client's process, connected to the server's.

        Raises:
            NotBuiltError: one of the two cannot be run here, or did not start.
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
            NotBuiltError: it cannot be run here, or did not start.
        """
        name = f"{client} client of {server.process.name}"
        process = self._python(name, client, "client", server.port, tls=tls, cpu=CLIENTS)
        self._started(process)
        return process

    def _python(self, name: str, peer: str, role: str, port: int, *, tls: bool, cpu: int) -> Process:
        certificates = [str(self.tls.folder)] if tls else []
        return python(name, "bench.peers.rpc.process", peer, role, str(port), *certificates, cpu=cpu)

    @staticmethod
    def _program(name: str, peer: str, port: int, tls: Tls | None) -> Process:
        program, *options = PROGRAMS[peer]
        if not program.exists():
            raise NotBuiltError(why_not_built(*_MADE_BY[program.name]))
        certificates = [str(tls.folder)] if tls else []
        return Process(name, [str(program), *options, str(port), *certificates], SERVERS)

    def _started(self, process: Process) -> None:
        try:
            process.until_ready()
        except PeerFailedError as error:
            raise NotBuiltError(str(error)) from error
        self._all.append(process)
        self.versions |= process.versions

    def end(self) -> None:
        for process in reversed(self._all):
            with suppress(PeerFailedError):
                process.end()


def why_not_built(program: str, tool: str) -> str:
    """Say why `make bench` has left no such program."""
    if shutil.which(tool) is None:
        return f"no {tool} here"
    log = BUILD / "logs" / f"{program}-build.log"
    if not log.exists():
        return "`make bench` builds it"
    return f"`make bench` could not build it: see {log.relative_to(BUILD.parents[1])}"
