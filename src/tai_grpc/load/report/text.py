"""Durations, shares and foreign text, as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_GAP: Final = "   "


def printable(text: str) -> str:
    """Return foreign text, an error's or a name, on one line and without what a terminal would obey."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def plural(count: int, noun: str) -> str:
    """`count` and its noun: "1 call", "2,000 calls"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def share(part: int, whole: int) -> str:
    """`part` of `whole` in per cent."""
    return f"{part / whole:.2%}".replace("%", " %") if whole else "0.00 %"


def encodable(text: str) -> str:
    """Return text that UTF-8 can hold: what an argument had of other bytes becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def columns(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the rows, indented, with their cells one below the other."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  " + _GAP.join(cells).rstrip()
