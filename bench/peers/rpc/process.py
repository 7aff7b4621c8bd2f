"""One peer in one role: `python -m bench.peers.rpc.process PEER server|client PORT [FOLDER OF CERTIFICATES]`.

See `bench.peers.rpc.protocol` for what is said on standard input and output.
"""

import os
import resource
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from bench.peers.rpc import tasks, threads
from bench.peers.rpc.protocol import Asynchronous, NotBuiltError, Peer, Tls
from bench.peers.rpc.say import say


def main(name: str, role: str, port: str, folder: str | None = None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    tls = Tls(Path(folder)) if folder else None
    try:
        module = import_module(f"bench.peers.rpc.transports.{name}")
        peer: Peer = module.PEER
        say({"versions": {package: version(package) for package in peer.packages}})
        if isinstance(peer, Asynchronous):
            tasks.run(peer, role, int(port), tls)
        else:
            threads.run(peer, role, int(port), tls)
    except (ImportError, NotBuiltError) as error:
        if isinstance(error, ImportError) and (error.name or "bench").startswith("bench"):
            raise
        say({"not_built": str(error).partition(" (")[0]})  # without the path that Python adds
    sys.stdout.flush()
    # A peer's own threads may take their time, and nothing is left to do.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
