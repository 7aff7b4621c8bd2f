"""`make fuzz`: captures of conversations, spoiled, against the compiled session of both roles.

    python tests/_ext/http2/fuzz.py [--executions 1000000] [--seed 0] [--role client|server] [--input FILE]

One execution is one session with an application on it (see wire/captures.py) that gets one spoiled capture
in pieces. A finding is: an exception, an event out of place, more output or more streams than the limits
allow, memory that grows over the run, or an execution that takes longer than five seconds. A crash of the
process is one too: the input is kept in a file before each execution. The first finding stops the run; the
file has all that is needed to run it again.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import mmap
import random
import resource
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from wire.captures import Application, Role, capture, mutated
from wire.heap import in_use

ROLES: tuple[Role, ...] = ("server", "client")
CAPTURES = 300
LIMITS = {
    "max_streams": 20,
    "max_header_bytes": 4096,
    "max_message_bytes": 100_000,
    "window_bytes": 65_535,
    "connection_window_bytes": 100_000,
    "max_queued_frames": 200,
    "reset_burst": 50,
    "glitch_burst": 50,
}
MOST_OUTPUT = 2_000_000
"""Far beyond what the applications send: no input makes the session say this much."""
LONGEST_SECONDS = 5.0
MOST_GROWTH_KIB = 65_536


class FindingError(Exception):
    """What an execution must not do."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise FindingError(what)


def execute(role: Role, seed: int, octets: bytes) -> None:
    """One session, from its first byte to its end."""
    rng = random.Random(seed)
    application = Application(role, seed, **LIMITS)
    session = application.session
    said = 0
    try:
        while octets:
            size = rng.choice([1, 10, 100, 1000, 1000, 100_000])
            application.feed(octets[:size])
            octets = octets[size:]
            if rng.random() < 0.7:
                said += len(application.send(rng.choice([1 << 30, 1 << 30, 1, 1000])))
            require(session.streams <= LIMITS["max_streams"] + 10, f"{session.streams} streams")
            if not session.alive and rng.random() < 0.5:
                break
        if rng.random() < 0.2:
            if role == "server":
                session.shutdown()
            else:
                session.ping(5)
        for _ in range(3):
            said += len(application.send())
        require(said <= MOST_OUTPUT, f"{said} bytes of output")
        if rng.random() < 0.7:
            session.lost()
            application.react()
            require(session.streams == 0, f"{session.streams} streams are left")
            require(not application.open, f"streams {application.open} were never ended")
    except (FindingError, AssertionError):
        raise
    except Exception as error:
        raise FindingError(f"{type(error).__name__}: {error}") from error


def fuzz(
    executions: int, seed: int = 0, roles: tuple[Role, ...] = ROLES, *, last: Path, progress: bool = False
) -> None:
    """Run; raise what is found, with the input in `last`.

    Raises:
        FindingError: with what was seen.
    """
    rng = random.Random(seed)
    corpus = {role: [capture(role, seed * CAPTURES + i) for i in range(CAPTURES)] for role in roles}
    began = told = time.monotonic()
    memory = 0
    with last.open("w+b") as file:
        file.truncate(1 << 20)
        # Survives a crash of the process: the pages are the file's.
        with mmap.mmap(file.fileno(), 1 << 20) as kept:
            for i in range(executions):
                role = roles[i % len(roles)]
                one = rng.getrandbits(32)
                octets = mutated(rng.choice(corpus[role]), rng) if rng.random() < 0.98 else rng.randbytes(200)
                head = json.dumps({"role": role, "seed": one, "size": len(octets)}).encode() + b"\n"
                kept[: len(head) + len(octets)] = head + octets
                start = time.monotonic()
                execute(role, one, octets)
                now = time.monotonic()
                if now - start > LONGEST_SECONDS:
                    raise FindingError(f"one execution took {now - start:.1f} s")
                if i == min(executions // 10, 20_000):
                    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                if progress and (now - told > 5 or i == executions - 1):
                    told = now
                    print(f"{i + 1:,} of {executions:,}, {(i + 1) / (now - began):,.0f} a second", flush=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    if grown > MOST_GROWTH_KIB and in_use() != 0:  # a sanitizer keeps for a while what was freed
        raise FindingError(f"memory grew by {grown} KiB")
    last.unlink()


def again(path: Path) -> None:
    """Run a saved input."""
    head, octets = path.read_bytes().split(b"\n", 1)
    given = json.loads(head)
    execute(given["role"], given["seed"], octets[: given["size"]])


def main() -> int:
    parser = argparse.ArgumentParser(description="Spoiled conversations against the compiled HTTP/2 session.")
    parser.add_argument("--executions", type=int, default=1_000_000, help="how many (default: 1000000)")
    parser.add_argument("--seed", type=int, default=0, help="what decides all of it (default: 0)")
    parser.add_argument("--role", choices=["client", "server"], help="only this end (default: both)")
    parser.add_argument("--input", type=Path, help="run one saved input instead")
    given = parser.parse_args()
    faulthandler.enable()
    if given.input is not None:
        again(given.input)
        print("nothing was found")
        return 0
    last = Path(f"fuzz-http2-{given.seed}.input")
    print(f"the input under way is in {last}", flush=True)
    roles = (given.role,) if given.role else ROLES
    try:
        fuzz(given.executions, given.seed, roles, last=last, progress=True)
    except (FindingError, AssertionError):
        traceback.print_exc()
        print(f"found with seed {given.seed}; run it again with: {sys.argv[0]} --input {last}")
        return 1
    print("nothing was found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
