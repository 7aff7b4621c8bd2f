"""One peer beside ours, in a process of its own: `python -m bench.workers.package NAME`, or `ours`.

Answers lines of JSON: `{"subjects": true}` with those of SUBJECTS that the peer has and its note,
`{"subject": ONE, "seconds": S}` with its figures, `{"inside": true}` with how many threads its breaker lets
in at once.

A compiled call that does nothing, our call and the peer's are timed one after the other again and again, so
that all see the same machine; the least of each counts, and what the loop itself takes is subtracted.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version

from bench.loops import Loop, least_of, looped, settle
from bench.peers import ours
from bench.peers.breakers import inside_at_once
from bench.peers.rpc.protocol import Figures
from bench.peers.rpc.say import say
from bench.peers.subjects import SUBJECTS, Call, Peer
from tai_grpc._ext.primitives.noop import Noop

MAX_CALLS = 1_000
LOOP_NS = 2_000_000
TRIES = 5
"""How often a single call is timed to see how many make a loop."""
ROUNDS = 10
"""At least, however little time there is."""


def main(name: str) -> None:
    try:
        peer: Peer = ours.peer() if name == "ours" else import_module(f"bench.peers.packages.{name}").peer()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("bench", "tai_grpc"):
            raise
        say({"not_built": "not installed"})
        return
    beside = ours.peer()
    settle()
    prepared: dict[str, tuple[int, Mapping[str, Loop]]] = {}
    say({"versions": {peer.package: version(peer.package)}})
    with asyncio.Runner() as runner:
        say({"ready": True})
        for line in sys.stdin:
            command = json.loads(line)
            match command:
                case {"subjects": True}:
                    say({"subjects": list(peer.calls), "note": peer.note})
                case {"inside": True}:
                    assert peer.breaker is not None
                    say(inside_at_once(peer.breaker))
                case {"subject": subject, "seconds": seconds}:
                    theirs, mine = peer.calls[subject], beside.calls[subject]
                    if subject not in prepared:
                        prepared[subject] = loops_of(theirs, mine, SUBJECTS[subject].noop, runner)
                    say(measure(*prepared[subject], seconds))
                    if not theirs.holds():
                        sys.exit(f"{peer.package}: what was measured is not {SUBJECTS[subject].what}")


def loops_of(theirs: Call, mine: Call, noop: str, runner: asyncio.Runner) -> tuple[int, Mapping[str, Loop]]:
    """Return the loops, and how many calls each makes: 1,000, or fewer of a slow one."""

    def loop_of(call: Call, calls: int) -> Loop:
        awaits = "await " in call.statement or "async " in call.statement
        return looped(call.statement, dict(call.names), calls, runner if awaits else None)

    slowest = max(min(once() for _ in range(TRIES)) for once in (loop_of(theirs, 1), loop_of(mine, 1)))
    calls = max(1, min(MAX_CALLS, LOOP_NS // slowest))
    return calls, {
        "empty": looped("pass", {}, calls),
        "ours": loop_of(mine, calls),
        "theirs": loop_of(theirs, calls),
        # A few of these could not be told from an empty loop.
        "many empty": looped("pass", {}, MAX_CALLS),
        "many no-ops": looped(noop, {"noop": Noop()}, MAX_CALLS),
    }


def measure(calls: int, loops: Mapping[str, Loop], seconds: float) -> Figures:
    least = least_of(loops, seconds, ROUNDS)
    noop = (least["many no-ops"] - least["many empty"]) / MAX_CALLS
    mine, theirs = ((least[name] - least["empty"]) / calls for name in ("ours", "theirs"))
    return {"ns": theirs, "noop_ns": noop, "noops": theirs / noop, "better": theirs / mine}


if __name__ == "__main__":
    main(sys.argv[1])
