"""`make soak` in its short form: a server and its channels leave nothing behind in one process."""

import subprocess
import sys
from pathlib import Path


def test_calls_cancels_and_reconnects_leave_nothing_behind() -> None:
    counts = ("--calls", "10000", "--cancels", "1000", "--reconnects", "100")
    command = [sys.executable, "-W", "error", str(Path(__file__).with_name("soak.py")), *counts]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    assert "10,000 calls, 1,000 cancels and 100 reconnects left nothing behind" in ran.stdout
