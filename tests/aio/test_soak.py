"""`make soak` in its short form: a server and its channels leave nothing behind in one process."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_calls_cancels_and_reconnects_leave_nothing_behind() -> None:
    counts = ("--calls", "10000", "--cancels", "1000", "--reconnects", "100")
    command = [sys.executable, "-W", "error", "-m", "bench.soak", *counts]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    assert "10,000 calls, 1,000 cancels and 100 reconnects left nothing behind" in ran.stdout
