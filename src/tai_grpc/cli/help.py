"""The part of a command's --help that comes after its options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

EXIT_CODES: Final = (
    ("0", "it worked"),
    ("1", "it could not be done: a call failed, an address cannot be listened on, a target is missed"),
    ("2", "it could not begin: the command line or its data is wrong, a host cannot be reached"),
    ("130", "ended by Ctrl-C (a server that has drained: 0)"),
)


def epilog(*examples: str, codes: Sequence[tuple[str, str]] = EXIT_CODES) -> str:
    """Return the examples and the exit codes, in a form that click does not wrap."""
    listed = [f"  {code:<5}{meaning}" for code, meaning in codes]
    lines = [f"  {line}" for example in examples for line in example.splitlines()]
    return "\n".join(["\b", "Examples:", *lines, "", "\b", "Exit codes:", *listed])
