"""One peer beside ours, in a process of its own: `python -m bench.peers.process NAME` prints JSON.

Each round times a compiled call that does nothing, our call and the peer's, one after the other, so all see
the same machine; the least of each counts, and what the loop itself takes is subtracted.
"""

import asyncio
import gc
import json
import sys
from importlib import import_module
from importlib.metadata import version

from bench.peers import ours
from bench.peers.breakers import inside_at_once
from bench.peers.protocol import SUBJECTS, Call, Peer
from bench.timing import Loop, looped
from tai_grpc._ext.primitives.noop import Noop

MAX_CALLS = 1_000
ROUND_NS = 2_000_000
ROUNDS = 100


def main(name: str) -> None:
    try:
        module = import_module(f"bench.peers.packages.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("bench", "tai_grpc"):
            raise
        print(json.dumps({"package": name, "version": None}))
        return
    peer: Peer = module.peer()
    beside = ours.peer()
    gc.collect()
    gc.disable()  # a collection of our own objects would count as somebody's call
    with asyncio.Runner() as runner:
        calls = {
            subject: measure(peer.calls[subject], beside.calls[subject], runner)
            for subject in SUBJECTS
            if subject in peer.calls
        }
    report: dict[str, object] = {
        "package": peer.package,
        "version": version(peer.package),
        "calls": calls,
    }
    if peer.breaker is not None:
        report["inside"] = inside_at_once(peer.breaker)
    print(json.dumps(report))


def loop_of(call: Call, calls: int, runner: asyncio.Runner) -> Loop:
    awaits = "await " in call.statement or "async " in call.statement
    return looped(call.statement, dict(call.names), calls, runner if awaits else None)


def calls_a_round(call: Call, runner: asyncio.Runner) -> int:
    """How many calls a round has: 1,000, or fewer of a slow one."""
    return max(1, min(MAX_CALLS, ROUND_NS // loop_of(call, 1, runner)()))


def measure(theirs: Call, mine: Call, runner: asyncio.Runner) -> dict[str, object]:
    calls = min(calls_a_round(call, runner) for call in (theirs, mine))
    loops = {
        "empty": looped("pass", {}, calls),
        "noop_ns": looped("noop.nothing()", {"noop": Noop()}, calls),
        "ours_ns": loop_of(mine, calls, runner),
        "ns": loop_of(theirs, calls, runner),
    }
    least = dict.fromkeys(loops, sys.maxsize)
    for _ in range(ROUNDS):
        for name, run in loops.items():
            least[name] = min(least[name], run())
    empty = least.pop("empty")
    return {"statement": theirs.statement, **{name: (ns - empty) / calls for name, ns in least.items()}}


if __name__ == "__main__":
    main(sys.argv[1])
