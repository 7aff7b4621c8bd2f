"""h2load as the client: unary calls with gRPC's framing, and what the server says of them."""

import re
import shutil
import subprocess
from typing import Final

from bench.macro.peers import Server
from bench.macro.processes import CLIENTS, PeerFailedError, on
from bench.peers.rpc.echo import BUILD, SERVICE, TEXT, messages
from bench.peers.rpc.protocol import Figures, NotBuiltError

SECONDS: Final = 60.0
_FINISHED: Final = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
_SUCCEEDED: Final = re.compile(r"(\d+) succeeded")
_HEADERS: Final = ("-H", "content-type: application/grpc", "-H", "te: trailers")


def load(server: Server, *, calls: int, connections: int, streams: int, tls: bool = False) -> Figures:
    """Make so many calls, `streams` at a time on each connection.

    Returns how many a second there were, and what one took of the server's CPU, which others that use the
    machine do not change much.

    h2load takes any answer of HTTP/2 for a success, so the server is asked how many calls it handled.

    Raises:
        PeerFailedError: a call failed, or never reached a handler.
        NotBuiltError: there is no h2load here.
    """
    program = shutil.which("h2load")
    if program is None:
        raise NotBuiltError("no h2load here: install nghttp2-client")
    before, cpu = server.process.ask("handled")["handled"], server.process.cpu_seconds
    url = f"http{'s' if tls else ''}://127.0.0.1:{server.port}/{SERVICE}/Unary"
    body = _body()
    command = [
        program,
        "-n",
        str(calls),
        "-c",
        str(connections),
        "-m",
        str(streams),
        "-d",
        body,
        *_HEADERS,
        url,
    ]
    with on(CLIENTS):
        try:
            ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise PeerFailedError(f"{calls} calls took longer than {SECONDS:g} s") from None
    handled = server.process.ask("handled")["handled"] - before
    finished, succeeded = _FINISHED.search(ran.stdout), _SUCCEEDED.search(ran.stdout)
    if finished is None or succeeded is None:
        raise PeerFailedError(f"h2load: {(ran.stderr or ran.stdout).strip()}")
    if not int(succeeded[1]) == handled == calls:
        raise PeerFailedError(
            f"{calls} calls, h2load took {succeeded[1]} for good, {server.process.name} handled {handled}"
        )
    cpu = server.process.cpu_seconds - cpu
    return {"per_second": float(finished[1]), "cpu_us": cpu / calls * 1e6}


def _body() -> str:
    note = messages().Note(text=TEXT).SerializeToString()
    path = BUILD / "note.grpc"
    path.write_bytes(b"\0" + len(note).to_bytes(4, "big") + note)
    return str(path)
