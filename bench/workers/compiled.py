"""Measures compiled calls in a process of its own: `python -m bench.workers.compiled`.

Answers a line of JSON, `{"statement": NAME IN bench.micro.statements, "seconds": S}`, with one. An empty
loop, the no-op and the call are timed one after the other again and again, so that all see the same machine;
the least of each counts, and what the loop itself takes is subtracted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Final

from bench.loops import Loop, least_of, looped, settle
from bench.micro.statements import STATEMENTS
from bench.peers.rpc.protocol import Figures
from bench.peers.rpc.say import say
from tai_grpc._ext.primitives.noop import Noop

CALLS: Final = 1_000
"""So few that many of the loops are not interrupted by anything."""
ROUNDS: Final = 20
"""At least, however little time there is."""


def main() -> None:
    settle()
    prepared: dict[str, Mapping[str, Loop]] = {}
    say({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        name = command["statement"]
        loops = prepared.setdefault(name, loops_of(name))
        say(measure(loops, command["seconds"]))


def loops_of(name: str) -> Mapping[str, Loop]:
    statement = STATEMENTS[name]
    return {
        "empty": looped("pass", {}, CALLS),
        "noop": looped(statement.noop, {"noop": Noop()}, CALLS),
        "call": looped(statement.call, dict(statement.names()), CALLS),
    }


def measure(loops: Mapping[str, Loop], seconds: float) -> Figures:
    least = least_of(loops, seconds, ROUNDS)
    ns, noop_ns = ((least[name] - least["empty"]) / CALLS for name in ("call", "noop"))
    return {"ns": ns, "noop_ns": noop_ns, "noops": ns / noop_ns}


if __name__ == "__main__":
    main()
