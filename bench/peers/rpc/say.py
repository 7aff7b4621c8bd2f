"""The lines that a peer's process answers with."""

import json
import sys
from collections.abc import Mapping

from bench.peers.rpc.protocol import Tally


def say(what: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def answer(tally: Tally, line: str) -> Mapping[str, object]:
    """What a server's process says to a line that it was sent."""
    match line.strip():
        case "handled":
            return {"handled": tally.handled}
        case "holding":
            return {"holding": tally.holding}
        case "release":
            tally.release()
            return {"released": True}
        case unknown:
            raise ValueError(f"a server is asked handled, holding or release, not {unknown!r}")
