"""What figures are of: the machine, the code and what it was built with."""

from __future__ import annotations

import subprocess

from bench.harness.machine import machine, tools
from bench.paths import ROOT


def test_the_commit_and_the_compiler_are_known() -> None:
    found = machine()
    head = subprocess.run(
        ("git", "rev-parse", "HEAD"), cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    assert head.startswith(found["commit"])
    assert bool(found["commit"]) == (found["changed"] is not None)
    assert "-O" in found["compiled"] or "does not say" in found["compiled"]


def test_the_libraries_are_those_that_the_process_has_loaded() -> None:
    found = tools()
    assert set(found) >= {"nghttp2", "OpenSSL"}
    assert int(found["OpenSSL"].partition(".")[0]) >= 3
    assert found["nghttp2"][0].isdigit()
