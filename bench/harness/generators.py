"""Programs that make unary calls: our load generator, h2load, ghz; and what the server says of them."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from bench.harness.peers import Server, why_not_built
from bench.harness.processes import CLIENTS, PeerFailedError, on
from bench.paths import BUILD
from bench.peers.rpc.echo import PROTO, SERVICE, TEXT, messages
from bench.peers.rpc.protocol import Figures, NotBuiltError, Tls
from bench.percentiles import PERCENTILES, field

SECONDS: Final = 60.0
_GHZ: Final = BUILD / "ghz" / "ghz"
_CALL: Final = f"{SERVICE}/Unary"
_DATA: Final = json.dumps({"text": TEXT})
_FINISHED: Final = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
_SUCCEEDED: Final = re.compile(r"(\d+) succeeded")


@dataclass(frozen=True)
class Load:
    """So many calls, `streams` at a time on each connection."""

    calls: int
    connections: int
    streams: int
    tls: Tls | None = None

    @property
    def in_flight(self) -> int:
        return self.connections * self.streams


@dataclass(frozen=True)
class Outcome:
    """What a program says of its run: how many calls were well, and its figures."""

    succeeded: int
    figures: Figures


@dataclass(frozen=True)
class Generator:
    """How a program is called, and what its output says."""

    name: str
    program: Callable[[], str]
    """Where it is; raises NotBuiltError."""
    arguments: Callable[[Server, Load], Sequence[str]]
    read: Callable[[str], Outcome]
    version: Callable[[], str]
    """What it says of its version, "" when it says nothing."""


def run(generator: Generator, server: Server, load: Load) -> Figures:
    """Make the calls, on the clients' CPU.

    Returns how many a second there were, latencies where the program tells them, and what a call took of the
    server's CPU and of the program's, which others that use the machine do not change much.

    A program may take any answer of HTTP/2 for a success, so the server is asked how many calls it handled.

    Raises:
        PeerFailedError: a call failed, or never reached a handler.
        NotBuiltError: the program is not there.
    """
    command = [generator.program(), *generator.arguments(server, load)]
    before, server_cpu, own_cpu = _handled(server), server.process.cpu_seconds, _children_seconds()
    with on(CLIENTS):
        try:
            ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise PeerFailedError(f"{load.calls} calls took longer than {SECONDS:g} s") from None
    own_cpu = _children_seconds() - own_cpu
    server_cpu = server.process.cpu_seconds - server_cpu
    handled = _handled(server) - before
    try:
        outcome = generator.read(ran.stdout)
    except (ValueError, LookupError):
        said = (ran.stderr or ran.stdout).strip().splitlines()
        raise PeerFailedError(f"{generator.name}: {''.join(said[-1:]) or 'said nothing'}") from None
    if not outcome.succeeded == handled == load.calls:
        raise PeerFailedError(
            f"{load.calls} calls, {generator.name} took {outcome.succeeded} for good, "
            f"{server.process.name} handled {handled}"
        )
    return outcome.figures | {
        "calls": load.calls,
        "cpu_us": server_cpu / load.calls * 1e6,
        "client_cpu_us": own_cpu / load.calls * 1e6,
    }


def versions() -> dict[str, str]:
    """Return the versions of those that are here and know theirs."""
    found: dict[str, str] = {}
    for generator in GENERATORS:
        with suppress(NotBuiltError):
            generator.program()
            found[generator.name] = generator.version()
    return {name: version for name, version in found.items() if version}


def _said(pattern: str, *command: str) -> str:
    """Return the first group of the pattern in what a command says."""
    if shutil.which(command[0]) is None:
        return ""
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    found = re.search(pattern, ran.stdout)
    return found[1] if found else ""


def _handled(server: Server) -> int:
    handled = server.process.ask("handled")["handled"]
    assert isinstance(handled, int)
    return handled


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _on_the_path(name: str, package: str) -> Callable[[], str]:
    def find() -> str:
        found = shutil.which(name)
        if found is None:
            raise NotBuiltError(f"no {name} here: install {package}")
        return found

    return find


def _ghz_program() -> str:
    if not _GHZ.exists():
        raise NotBuiltError(why_not_built("ghz", "go"))
    return str(_GHZ)


def _h2load_arguments(server: Server, load: Load) -> Sequence[str]:
    note = messages().Note(text=TEXT).SerializeToString()
    body = BUILD / "note.grpc"
    body.write_bytes(b"\0" + len(note).to_bytes(4, "big") + note)
    return (
        *("-n", str(load.calls), "-c", str(load.connections), "-m", str(load.streams)),
        *("-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"),
        f"http{'s' if load.tls else ''}://127.0.0.1:{server.port}/{_CALL}",
    )


def _read_h2load(text: str) -> Outcome:
    finished, succeeded = _FINISHED.search(text), _SUCCEEDED.search(text)
    if finished is None or succeeded is None:
        raise ValueError(text)
    return Outcome(int(succeeded[1]), {"per_second": float(finished[1])})


def _ghz_names(server: Server, load: Load) -> Sequence[str]:
    """The options of ghz, which are ours too."""
    return (
        *("--call", _CALL, "--proto", str(PROTO), "-d", _DATA),
        *("-c", str(load.in_flight), "--connections", str(load.connections), "-n", str(load.calls)),
        *(("--cacert", str(load.tls.authority)) if load.tls else ()),
        *("-O", "json", f"127.0.0.1:{server.port}"),
    )


def _read_ghz(text: str) -> Outcome:
    report: Mapping[str, Any] = json.loads(text)
    latencies = {each["percentage"]: each["latency"] for each in report["latencyDistribution"] or ()}
    return Outcome(
        report["statusCodeDistribution"].get("OK", 0),
        {"per_second": report["rps"]}
        | {field(each): latencies[each] / 1e3 for each in PERCENTILES if each in latencies},
    )


OURS: Final = Generator(
    "tai-grpc load",
    lambda: sys.executable,
    lambda server, load: ("-m", "tai_grpc.cli", "load", *_ghz_names(server, load)),
    _read_ghz,
    lambda: "",  # that of the package
)
H2LOAD: Final = Generator(
    "h2load",
    _on_the_path("h2load", "nghttp2-client"),
    _h2load_arguments,
    _read_h2load,
    lambda: _said(r"nghttp2/(\S+)", "h2load", "--version"),
)
GHZ: Final = Generator(
    "ghz",
    _ghz_program,
    lambda server, load: (*(() if load.tls else ("--insecure",)), *_ghz_names(server, load)),
    _read_ghz,
    # The program itself says "dev", as it was not built by its own makefile.
    lambda: _said(r"bojand/ghz\s+(v\S+)", "go", "version", "-m", str(_GHZ)),
)
GENERATORS: Final = (OURS, H2LOAD, GHZ)
