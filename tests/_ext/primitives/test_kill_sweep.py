"""A process that is killed at any store of an operation: see kill_sweep.py, which does it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("kill_sweep.py")


def test_whoever_is_killed_at_any_store_leaves_an_operation_done_or_not_done(
    compiled: Callable[[str], Any], kill_at_every: str
) -> None:
    """What is left is as before or as after, or, where an operation has several parts, some of them are done.

    And the survivor can open the memory, carry out the same operation, and finds what that makes of it.
    """
    module = compiled("marked").__file__
    command = [sys.executable, str(PROGRAM), module, kill_at_every]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    seen = json.loads(ended.stdout)
    if "refused" in seen:
        pytest.skip(seen["refused"])
    assert {name: each["wrong"] for name, each in seen.items() if each["wrong"]} == {}
    assert len(seen) > 50
    for name, each in seen.items():
        assert each["kills"] == sum(each["left"].values()) > each["stores"], name
        assert each["stores"] <= 20 < each["instructions"], name
    # What a process changes while it makes an entry shows at once or not at all.
    assert seen["create an entry"]["left"] == {"before": seen["create an entry"]["stores"], "after": 1}
