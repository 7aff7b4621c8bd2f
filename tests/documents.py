"""The programs and commands in the project's documents."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SERVER = "127.0.0.1:50051"
"""The address that documents use for a server that runs."""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: where it begins, its language and its text."""

    where: str
    language: str
    text: str


def blocks(document: str, language: str) -> list[Block]:
    """Return a document's blocks in one language."""
    text = (ROOT / document).read_text()
    return [
        Block(f"{document}:{text.count(chr(10), 0, match.start()) + 1}", match[1], match[2])
        for match in _BLOCK.finditer(text)
        if match[1] == language
    ]


def commands(document: str, program: str) -> list[str]:
    """Return the commands of a document's console blocks that call `program`."""
    lines = "".join(block.text for block in blocks(document, "console")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith(f"$ {program} ")]
